"""``python -m driftcheck``: the command, where no script of it is on PATH."""

import sys

# Python puts the working directory first, and what lies there may have the name of a module that is imported below.
if not sys.flags.safe_path:
    del sys.path[0]

from driftcheck.cli import main

main()
