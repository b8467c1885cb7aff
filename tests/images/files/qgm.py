"""QGM, a made-up format for tests: PGM of 8 bits, as someone who adds a format would write it."""

from __future__ import annotations

import re
from typing import Any, BinaryIO

import numpy as np

from dipfast.errors import UnreadableFileError
from dipfast.images.files import ImageFile, limits

__all__ = ["read", "write"]


def read(stream: BinaryIO) -> ImageFile:
    """Read the one image of a QGM."""
    content = stream.read()
    head = re.match(rb"Q5 (\d+) (\d+) 255\n", content)
    if head is None:
        raise UnreadableFileError("its header is damaged")
    width, height = int(head[1]), int(head[2])
    limits.check_size(width, height, 1, 1)
    pixels = np.frombuffer(content, np.uint8, offset=head.end())
    return ImageFile(pixels.reshape(height, width))


def write(stream: BinaryIO, pixels: np.ndarray[Any, Any], like: ImageFile) -> list[str]:
    """Write an image as a QGM, and return in words what could not be kept."""
    height, width = pixels.shape
    stream.write(b"Q5 %d %d 255\n" % (width, height) + pixels.tobytes())
    return ["resolution"] if "resolution" in like.metadata else []
