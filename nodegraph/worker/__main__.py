"""`python -m nodegraph.worker`."""

import atexit
import os
import sys

from nodegraph.worker.child import main

status = main()
# The session is closed and the last message is sent. What an interpreter does at its end besides can take seconds with
# large native libraries in it; only what somebody registered is still due.
atexit._run_exitfuncs()
sys.stdout.flush()
sys.stderr.flush()
os._exit(status)
