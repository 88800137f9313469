"""`python -m evomem` is `evomem`."""

import sys

from evomem.cli import main

sys.exit(main())
