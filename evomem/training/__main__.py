"""`python -m evomem.training`: `evomem train`, for launchers that start modules."""

from __future__ import annotations

import sys

from evomem.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
