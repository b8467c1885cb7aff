"""What restoring a picture takes, as far as the head of its file tells."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch

from dipfast.images.files import formats, open_regular
from dipfast.run.memory import estimate_direct, estimate_fit, sizes_of
from dipfast.settings.names import DIRECT_METHODS
from dipfast.settings.presets import get_preset
from dipfast.settings.settings import Settings, SuperResolveSettings, decide_method

__all__ = ["estimate_memory", "shape_of"]

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
            row = formats.by_content(stream.read(formats.longest_signature()))
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
        return 1, len(picture.getbands()), picture.height, picture.width


def _of_tiff(stream: Any) -> Shape:
    import tifffile

    with tifffile.TiffFile(stream) as tiff:
        page = tiff.pages.first
        rows, columns, channels = page.imagelength, page.imagewidth, page.samplesperpixel
        count = math.prod(tiff.series[0].shape)
        return max(count // (rows * columns * channels), 1), channels, rows, columns


def _of_numpy(stream: Any) -> Shape:
    from numpy.lib import format as npy

    version = npy.read_magic(stream)
    header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape = list(header(stream)[0])
    channels = 1
    if len(shape) > 2 and shape[-1] <= 4:
        *shape, channels = shape
    *stack, rows, columns = shape
    return math.prod(stack), channels, rows, columns


def _of_fits(stream: Any) -> Shape:
    from astropy.io import fits

    with fits.open(stream) as parts:
        shapes = [part.shape for part in parts if len(part.shape) > 1]
    *stack, rows, columns = shapes[0]
    return math.prod(stack), 1, rows, columns


_READERS = {"TIFF": _of_tiff, "NumPy": _of_numpy, "FITS": _of_fits}


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
    planes, channels, rows, columns = shape
    if isinstance(settings, SuperResolveSettings):
        rows, columns = settings.factor * rows, settings.factor * columns
    whole = 4 * _COPIES * planes * channels * rows * columns
    method: Any = decide_method(settings)
    image = (1, channels, rows, columns)
    need = estimate_direct(image, settings.task)
    if method in DIRECT_METHODS or not _is_on_cpu(settings):
        return _IDLE + whole + need
    preset = get_preset(settings.task, settings.quality, settings.preset, method)[1]
    side = settings.tile if isinstance(settings.tile, int) and settings.tile else max(rows, columns)
    tile = (min(rows, side), min(columns, side))
    fit = estimate_fit(**sizes_of(preset, (1, channels, *tile)))
    return _IDLE + whole + max(need, fit or 0)


def _is_on_cpu(settings: Settings) -> bool:
    """Return whether a fit takes memory of a worker, and not of its GPU."""
    if settings.device == "auto":
        return not torch.cuda.is_available()
    # A device that is wrong, or of another computer, is the worker's to find out.
    return str(settings.device).startswith("cpu")
