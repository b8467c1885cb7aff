"""What restoring a picture takes, as far as the head of its file tells."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

import torch

from dipfast.images.files import formats, open_regular
from dipfast.images.files.formats.numpy_arrays import axes_of
from dipfast.run.memory import TILES, estimate_direct, estimate_fit, sizes_of
from dipfast.run.tile_jobs import SHARE_OF_MEMORY
from dipfast.run.volumes import most_together
from dipfast.settings.names import DIRECT_METHODS
from dipfast.settings.presets import get_preset
from dipfast.settings.settings import Settings, SuperResolveSettings, decide_method

__all__ = ["Need", "estimate_memory", "needs_of", "shape_of"]

# Bytes of a worker that has imported everything and does nothing: 760 MB were measured with a torch
# for CUDA.
_IDLE = 800_000_000
# Copies of all planes: as they were read, as tensors, the result, and what is written.
_COPIES = 4

# What Pillow calls formats that it has under other names.
_OF_NETPBM = {"PGM": "PPM"}

Shape = tuple[int, int, int, int]


def shape_of(path: str | Path) -> Shape | None:
    """Return planes, channels, rows and columns of a picture, without decoding it.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    tuple of int or None
        The shape (N, C, H, W); None where the head of the file does not tell.
    """
    try:
        with open_regular(path) as stream:
            # The name tells raw photographs from TIFFs, in front of whose pixels is a preview.
            row = formats.by_content(stream.read(formats.longest_signature()), Path(path))
            stream.seek(0)
            name = "" if row is None else row.name
            return _READERS[name](stream) if name in _READERS else _of_pillow(stream, name)
    except Exception:
        # A decoder may raise anything, and what is wrong is told when the file is read.
        return None


def _of_pillow(stream: Any, name: str) -> Shape:
    from PIL import Image

    Image.init()
    name = _OF_NETPBM.get(name, name.upper())
    # Image.open refuses large pictures that are read here, by a limit for the whole process.
    opened = Image.OPEN[name][0](stream, "") if name in Image.OPEN else Image.open(stream)
    with opened as picture:
        channels = 3 if picture.mode == "P" else len(picture.getbands())
        return 1, channels, picture.height, picture.width


def _of_tiff(stream: Any) -> Shape:
    import tifffile

    with tifffile.TiffFile(stream) as tiff:
        page = tiff.pages.first
        rows, columns, channels = page.imagelength, page.imagewidth, page.samplesperpixel
        count = math.prod(tiff.series[0].shape)
        planes = max(count // (rows * columns * channels), 1)
        is_palette = page.photometric == tifffile.PHOTOMETRIC.PALETTE
        return planes, 3 if is_palette else channels, rows, columns


def _of_raw(stream: Any) -> Shape:
    import rawpy

    with rawpy.imread(stream) as raw:
        return 1, 1 if raw.num_colors == 1 else 3, raw.sizes.iheight, raw.sizes.iwidth


def _of_numpy(stream: Any) -> Shape:
    from numpy.lib import format as npy

    version = npy.read_magic(stream)
    header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape = list(header(stream)[0])
    _, axis, _ = axes_of(tuple(shape))
    channels = 1 if axis is None else shape.pop(axis)
    *stack, rows, columns = shape
    return math.prod(stack), channels, rows, columns


def _of_fits(stream: Any) -> Shape:
    from astropy.io import fits

    with fits.open(stream) as parts:
        shapes = [part.shape for part in parts if len(part.shape) > 1]
    from dipfast.images.files.formats import fits as of_fits  # needs astropy

    shape, _ = of_fits.shape_of(tuple(shapes[0]))
    channels = shape[-3] if of_fits.has_channels(shape) else 1
    *stack, rows, columns = shape
    return math.prod(stack) // channels, channels, rows, columns


_READERS = {"TIFF": _of_tiff, "RAW": _of_raw, "NumPy": _of_numpy, "FITS": _of_fits}


def estimate_memory(settings: Settings, shape: Shape) -> int:
    """Return an estimate of what a worker takes to restore a picture, in bytes.

    Parameters
    ----------
    settings
        The settings of the task, as they were given.
    shape
        Planes, channels, rows and columns.

    Returns
    -------
    int
        Bytes of the whole process at its peak.  The memory of a GPU does not count.

    Examples
    --------
    >>> from dipfast.settings.settings import DenoiseSettings
    >>> fast = DenoiseSettings(quality="fast", device="cpu")
    >>> f"{estimate_memory(fast, (1, 3, 3000, 4000)) / 1e9:.1f} GB"
    '3.1 GB'
    """
    return needs_of(settings, shape).memory


class Need(NamedTuple):
    """Hold what a worker takes to restore a picture.

    Parameters
    ----------
    memory
        Bytes of the whole process at its peak.
    limit
        Bytes that are to count as available there, so that the picture is cut into tiles as it was
        estimated; None where nothing is decided by them.
    """

    memory: int
    limit: int | None = None


def needs_of(settings: Settings, shape: Shape, room: float = math.inf) -> Need:
    """Return what a worker takes to restore a picture, cut into tiles where it has to be.

    Parameters
    ----------
    settings
        The settings of the task, as they were given.
    shape
        Planes, channels, rows and columns.
    room
        The bytes of the largest worker; infinity, the default, for enough.

    Returns
    -------
    Need
        What it takes.  With ``tile="auto"`` that is the whole where it fits, else the first of
        :data:`dipfast.run.memory.TILES` that does; the whole, too, where none does.
    """
    planes, channels, rows, columns = shape
    factor = settings.factor if isinstance(settings, SuperResolveSettings) else 1
    rows, columns = factor * rows, factor * columns
    held = _IDLE + 4 * _COPIES * planes * channels * rows * columns
    method: Any = decide_method(settings)
    image = (most_together(settings, planes), channels, rows, columns)
    need = estimate_direct(image, settings.task)
    if method in DIRECT_METHODS or not _is_on_cpu(settings):
        return Need(held + need)
    preset = get_preset(settings.task, settings.quality, settings.preset, method)[1]

    def fit(side: int) -> int:
        tile = (min(rows, factor * side), min(columns, factor * side))
        return estimate_fit(**sizes_of(preset, (1, channels, *tile))) or 0

    longest = max(rows, columns) // factor
    if settings.tile != "auto":
        return Need(held + max(need, fit(settings.tile or longest)))
    whole = held + max(need, fit(longest))
    left = room - held
    if whole <= room or need > left:
        return Need(whole)
    for side in TILES:
        if side < longest and fit(side) <= SHARE_OF_MEMORY * left:
            return Need(held + max(need, fit(side)), int(left))
    return Need(whole)


def _is_on_cpu(settings: Settings) -> bool:
    """Return whether a fit takes memory of a worker, and not of its GPU."""
    if settings.device == "auto":
        return not torch.cuda.is_available()
    # A device that is wrong, or of another computer, is the worker's to find out.
    return str(settings.device).startswith("cpu")
