"""File formats: a table with a row for each, and a module for each that reads and writes it.

A new format is a module with the functions of :class:`FormatModule` in this folder and a row in
:data:`FORMATS`.  Formats import no other format; what several share is in modules whose names
begin with an underscore, as is what would make the module of a format too long.
"""

from __future__ import annotations

from pathlib import Path

from dipfast.images.files.formats.format import Format, FormatModule
from dipfast.images.files.image_file import ImageFile

__all__ = [
    "FORMATS",
    "Format",
    "FormatModule",
    "all_names",
    "all_suffixes",
    "by_content",
    "by_metadata",
    "by_name",
    "by_suffix",
    "longest_signature",
    "suffixes_that_hold",
]

FORMATS: tuple[Format, ...] = (
    Format(
        name="PNG",
        module=".png",
        suffixes=(".png",),
        signatures=(b"\x89PNG\r\n\x1a\n",),
        dtypes=("uint8", "uint16"),
        channels=(1, 3),
        opacity=True,
        metadata=("png",),
    ),
    Format(
        name="JPEG",
        module=".jpeg",
        suffixes=(".jpg", ".jpeg"),
        signatures=(b"\xff\xd8\xff",),
        dtypes=("uint8",),
        channels=(1, 3),
        opacity=False,
    ),
    Format(
        name="TIFF",
        module=".tiff",
        suffixes=(".tif", ".tiff"),
        signatures=(b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
        dtypes=(
            *("uint8", "uint16", "uint32", "int8", "int16", "int32"),
            *("float16", "float32", "float64"),
        ),
        channels=None,
        opacity=True,
        metadata=("ome", "imagej", "tags"),
    ),
    Format(
        name="NumPy",
        module=".numpy_arrays",
        # An archive (.npz) with one array is read, but not written.
        suffixes=(".npy",),
        signatures=(b"\x93NUMPY", b"PK\x03\x04"),
        dtypes=(
            *("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"),
            *("float16", "float32", "float64"),
        ),
        channels=(1, 2, 3, 4),
        opacity=False,
        metadata=("array",),
    ),
    Format(
        name="FITS",
        module=".fits",
        suffixes=(".fits", ".fit", ".fts"),
        signatures=(b"SIMPLE  =",),
        dtypes=(
            *("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"),
            *("float32", "float64"),
        ),
        channels=(1, 3, 4),
        opacity=False,
        metadata=("fits",),
        extra="fits",
    ),
)
"""The formats that are read and written, in the order in which messages name them."""


def by_name(name: str) -> Format:
    """Return the format of this name.

    Parameters
    ----------
    name
        Name of a row.

    Returns
    -------
    Format
        The row.

    Raises
    ------
    KeyError
        If there is no such row.
    """
    return {row.name: row for row in FORMATS}[name]


def by_suffix(path: Path) -> Format | None:
    """Return the format that the ending of a file name says.

    Parameters
    ----------
    path
        Path of a file, which need not exist.

    Returns
    -------
    Format or None
        The row, None if no format has the ending.
    """
    suffix = path.suffix.lower()
    return next((row for row in FORMATS if suffix in row.suffixes), None)


def by_content(head: bytes) -> Format | None:
    """Return the format that the first bytes of a file say.

    Parameters
    ----------
    head
        The first bytes, :func:`longest_signature` of them at least if the file has so many.

    Returns
    -------
    Format or None
        The row, None if no format begins so.
    """
    return next((row for row in FORMATS if head.startswith(row.signatures)), None)


def by_metadata(key: str) -> Format | None:
    """Return the only format that holds a kind of metadata.

    Parameters
    ----------
    key
        Key of :attr:`ImageFile.metadata`.

    Returns
    -------
    Format or None
        The row, None if the metadata are not bound to one format.
    """
    return next((row for row in FORMATS if key in row.metadata), None)


def longest_signature() -> int:
    """Return how many bytes of a file are needed to tell its format.

    Returns
    -------
    int
        Length of the longest signature.
    """
    return max(len(signature) for row in FORMATS for signature in row.signatures)


def all_names() -> str:
    """Return the names of all formats for a message.

    Returns
    -------
    str
        The names, with "or" before the last.

    Examples
    --------
    >>> all_names()
    'PNG, JPEG, TIFF, NumPy or FITS'
    """
    *others, last = (row.name for row in FORMATS)
    return f"{', '.join(others)} or {last}" if others else last


def all_suffixes() -> str:
    """Return the endings of all formats for a message.

    Returns
    -------
    str
        The endings, with commas between them.

    Examples
    --------
    >>> all_suffixes()
    '.png, .jpg, .jpeg, .tif, .tiff, .npy, .fits, .fit, .fts'
    """
    return ", ".join(suffix for row in FORMATS for suffix in row.suffixes)


def suffixes_that_hold(image: ImageFile) -> str:
    """Return the endings of the formats that can hold an image, for a message.

    Parameters
    ----------
    image
        An image of the type, channels and opacity in question.

    Returns
    -------
    str
        The endings, with "or" between them; empty if no format can hold the image.
    """
    return " or ".join(suffix for row in FORMATS if not row.lacks(image) for suffix in row.suffixes)
