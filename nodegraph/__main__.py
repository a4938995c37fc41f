"""`python -m nodegraph`."""

from nodegraph.cli import main

main()
