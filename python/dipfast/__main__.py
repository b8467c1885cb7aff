"""``python -m dipfast`` is the command ``dipfast``."""

import sys

from dipfast.apps.cli import main

sys.exit(main())
