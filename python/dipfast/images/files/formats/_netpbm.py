"""What the formats of Netpbm share: their header, and pixels by Pillow."""

from __future__ import annotations

from io import BytesIO
from typing import Any, BinaryIO

import numpy as np
from PIL import Image
from PIL.PpmImagePlugin import PpmImageFile

from dipfast.errors import UnreadableFileError
from dipfast.images.files.formats._pillow import load

__all__ = ["read_pixels", "write_pixels"]

_Array = np.ndarray[Any, Any]

# The header is text, with comments of any length; so much of it is looked at.
_LONGEST_HEADER = 4096
# A number of more digits is too large for any image.
_MOST_DIGITS = 9


def read_pixels(stream: BinaryIO, whites: tuple[int, ...]) -> _Array:
    """Read the pixels of a PGM or PPM.

    Parameters
    ----------
    stream
        The file, at its beginning.
    whites
        The values of white that are read: with others Pillow would change all values.

    Returns
    -------
    ndarray
        (H, W) or (H, W, 3), uint8, or uint16 where white is more than 255.

    Raises
    ------
    UnreadableFileError
        If what the header declares is refused; the decoder may raise anything else.
    """
    white = _white(stream)
    if white not in whites:
        raise UnreadableFileError(
            f"its white is {white}, expected {' or '.join(map(str, whites))}; "
            "save it as PNG or TIFF first"
        )
    # Image.open of Pillow is avoided, because it has a limit of the size for the whole process.
    with PpmImageFile(stream) as opened:
        load(opened, itemsize=1 if white == 255 else 4)
        pixels = np.array(opened)
    return pixels if white == 255 else pixels.astype(np.uint16)


def _white(stream: BinaryIO) -> int:
    """Return the largest value that the header declares, and go back to the beginning."""
    head = stream.read(_LONGEST_HEADER)
    stream.seek(0)
    numbers: list[bytes] = []
    for line in head[2:].splitlines():
        numbers += line.partition(b"#")[0].split(maxsplit=3)
        if len(numbers) >= 3:
            break
    if len(numbers) < 3 or not all(n.isdigit() and len(n) <= _MOST_DIGITS for n in numbers[:3]):
        raise UnreadableFileError("its header is damaged, or too long")
    return int(numbers[2])


def write_pixels(stream: BinaryIO, pixels: _Array) -> None:
    """Write pixels as a PGM, or as a PPM if they are three channels.

    Parameters
    ----------
    stream
        Where to write.
    pixels
        Array (H, W) of uint8 or uint16, or (H, W, 3) of uint8.
    """
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "PPM")
    stream.write(buffer.getbuffer())
