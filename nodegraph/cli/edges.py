"""Where the command line meets the terminal: what is written, errors as messages and exit codes, Ctrl-C."""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from nodegraph.cli.options import BAD_INPUT, FAILED, INTERRUPTED
from nodegraph.errors import Cancelled, NodegraphError, Problem, RunError, ServerError


@contextmanager
def written() -> Iterator[None]:
    """See that what was printed is written, or say in one line why not; who reads may leave early, as `head` does."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # Closed by the caller: the next file that is opened would take its number, and be written into.
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Names hold letters that a terminal or a pipe may have no code for.
            stream.reconfigure(errors="backslashreplace")
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except OSError as error:
        # Python would try again at its end, and fail with a trace.
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  # it stays open to the end
        if not isinstance(error, BrokenPipeError):
            from nodegraph.report import show_problems

            place = f"cannot use {error.filename}" if error.filename else "the output cannot be written"
            show_problems([Problem("cannot_write", f"{place}: {error.strerror or error}.")])
        sys.exit(FAILED)


@contextmanager
def reported(json: bool = False) -> Iterator[None]:
    """Turn the errors that a person can mend into messages and exit codes."""
    try:
        yield
    except NodegraphError as error:
        from nodegraph.report import print_json, show_problems

        if json:
            print_json({"status": "invalid", "problems": [item.data() for item in error.problems]})
        else:
            show_problems(error.problems)
        sys.exit(FAILED if isinstance(error, (RunError, ServerError)) else BAD_INPUT)
    except Cancelled:
        sys.exit(INTERRUPTED)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


@contextmanager
def interruptible(token: Any) -> Iterator[None]:
    """The first Ctrl-C asks the run to stop at its next step, the second stops at once."""

    def interrupt(number: int, frame: Any) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        token.cancel()

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
