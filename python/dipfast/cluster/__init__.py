"""Many pictures on many workers, and arrays that are larger than memory: with Dask.

``engine.py`` opens a cluster and maps a function over orders, ``plugin.py`` is what runs on each
worker, ``sizes.py`` says what a picture takes before it is sent, ``record.py`` keeps what was done
in a folder, ``files.py`` restores collections of files, and ``arrays.py`` Dask arrays.
Scheduling, retries and the transport are those of Dask.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
