"""`python -m lrc_lib`: see `lrc_lib.cli.commands`."""

import sys

from lrc_lib.cli.commands import main

if __name__ == "__main__":
    sys.exit(main())
