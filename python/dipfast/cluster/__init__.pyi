# The public names.  __init__.py imports each at its first use.

from .arrays import denoise_array
from .engine import connect
from .files import FileOutcome, restore_files

__all__ = ["FileOutcome", "connect", "denoise_array", "restore_files"]
