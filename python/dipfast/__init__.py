"""dipfast: restore one image with no training data.

A network that was never trained is fitted to the one degraded image (Deep Image Prior),
in two stages: total variation first, details second.

>>> import dipfast
>>> result = dipfast.denoise(noisy)              # doctest: +SKIP
>>> result.image                                 # doctest: +SKIP
>>> dipfast.inpaint(image, mask)                 # doctest: +SKIP
>>> dipfast.super_resolve(image, 4)              # doctest: +SKIP
>>> dipfast.restore(image, operator)             # doctest: +SKIP

Importing dipfast imports neither torch nor NumPy; the first use of what needs them does.
"""

import lazy_loader

from dipfast._native import __version__
from dipfast.forks import mind_forks

# The public names, and where they are, are in the stub beside this file.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

mind_forks()
