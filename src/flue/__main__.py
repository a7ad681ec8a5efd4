"""`python -m flue`: the same as `flue`."""

from __future__ import annotations

import sys

from flue.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
