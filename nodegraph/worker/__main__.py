"""`python -m nodegraph.worker`."""

import sys

from nodegraph.worker.child import main

sys.exit(main())
