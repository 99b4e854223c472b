"""`python -m arbiter` is the `arbiter` command."""

import sys

from arbiter.cli import main

if __name__ == "__main__":
    sys.exit(main())
