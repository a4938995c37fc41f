"""The command line: run, validate, plan, nodes, convert, models, serve.

Exit codes: 0, 1 where a run or its server failed, 2 for wrong input, 130 where it was interrupted.
A command is a module here, and one line in app.py.
"""

from nodegraph.cli.app import build_app, main

__all__ = ["build_app", "main"]
