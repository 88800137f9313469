"""`python -m evomem` is `evomem`."""

import sys

from evomem.cli import main

if __name__ == "__main__":
    sys.exit(main())
