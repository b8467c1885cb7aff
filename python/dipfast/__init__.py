"""dipfast: restore one image with no training data.

A network that was never trained is fitted to the one degraded image (Deep Image Prior),
in two stages: total variation first, details second.
"""

from dipfast import ops
from dipfast._native import __version__

__all__ = ["__version__", "ops"]
