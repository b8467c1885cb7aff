"""``python -m dipfast`` is the command ``dipfast``."""

import sys

from dipfast.cli import main

sys.exit(main())
