"""`python -m volar.cli` is `volar`."""

import sys

from volar.cli import main

sys.exit(main())
