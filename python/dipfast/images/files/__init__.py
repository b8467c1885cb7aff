"""Image files of the formats in the table :data:`dipfast.images.files.formats.FORMATS`.

What a file holds beside the pixels (resolution and its unit, colour profile, EXIF, what ImageJ,
OME and GeoTIFF say) goes with the image into the result.  Files are written whole or not at all.

A file may come from anywhere: what it declares is checked before anything is decoded, and
whatever a decoder raises becomes an UnreadableFileError that names the file.
"""

from __future__ import annotations

from dipfast.images.files.image_file import ImageFile, Resolution
from dipfast.images.files.read import read_image, read_mask, read_single
from dipfast.images.files.safe import (
    check_place,
    list_folder,
    open_regular,
    report_path,
    write_atomically,
)
from dipfast.images.files.write import check_output, write_image

__all__ = [
    "ImageFile",
    "Resolution",
    "check_output",
    "check_place",
    "list_folder",
    "open_regular",
    "read_image",
    "read_mask",
    "read_single",
    "report_path",
    "write_atomically",
    "write_image",
]
