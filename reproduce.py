#!/usr/bin/env python3
"""`python reproduce.py OPTIONS` is `python -m lrc_lib reproduce OPTIONS`: see --help."""

import sys

from lrc_lib.cli.commands import main

if __name__ == "__main__":
    sys.exit(main(["reproduce", *sys.argv[1:]]))
