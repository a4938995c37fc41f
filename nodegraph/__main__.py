"""The command `nodegraph`, and `python -m nodegraph`."""

from __future__ import annotations

import sys


def main() -> None:
    """Entry point of the command; leaves with SystemExit."""
    if sys.argv[1:2] == ["serve"]:
        # Without the command line of the others, which takes as long to load as the server may take to answer.
        from nodegraph.server.command import main as serve

        sys.exit(serve(sys.argv[2:]))
    from nodegraph.cli import main as others

    others()


if __name__ == "__main__":
    main()
