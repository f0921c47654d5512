"""Starts a command, in the private environment when it needs one."""

import sys

if sys.version_info < (3, 10):
    sys.exit("Landfall's local stack needs Python 3.10 or newer; this is {}.{}.".format(*sys.version_info))

# An older Python could not even read this.
from local import cli

sys.exit(cli.main(sys.argv[1:]))
