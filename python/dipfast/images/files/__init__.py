"""Image files: PNG (8 and 16 bit), JPEG, TIFF (8 and 16 bit, float).

What a file holds beside the pixels (resolution and its unit, colour profile, EXIF, what ImageJ,
OME and GeoTIFF say) goes with the image into the result.  Files are written whole or not at all.

A file may come from anywhere: what it declares is looked at before anything is decoded, and
whatever a decoder raises becomes a ValueError that names the file.
"""

from __future__ import annotations

from dipfast.images.files.access import open_regular, report_path, write_atomically
from dipfast.images.files.image import ImageFile, Resolution
from dipfast.images.files.reading import read_image
from dipfast.images.files.writing import check_output, write_image

__all__ = [
    "ImageFile",
    "Resolution",
    "check_output",
    "open_regular",
    "read_image",
    "report_path",
    "write_atomically",
    "write_image",
]
