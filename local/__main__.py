"""Starts a command, in the private environment when it needs one."""

import sys

if sys.version_info < (3, 10):
    sys.exit("Landfall's local stack needs Python 3.10 or newer; this is {}.{}.".format(*sys.version_info))

from local import cli  # noqa: E402  (an older Python cannot even read the other modules)

sys.exit(cli.main(sys.argv[1:]))
