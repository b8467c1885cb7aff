"""File formats: a table with a row for each, and a module for each that reads and writes it.

A new format is a module with the functions of :class:`FormatModule` in this folder and a row in
:data:`FORMATS`; of :class:`FolderModule`, if its images are folders.  Formats import no other
format; what several share is in modules whose names begin with an underscore, as is what would
make the module of a format too long.
"""

from __future__ import annotations

from pathlib import Path

from dipfast.images.files.formats.format import (
    FolderModule,
    Format,
    FormatModule,
    SeriesModule,
)
from dipfast.images.files.image_file import ImageFile

__all__ = [
    "FORMATS",
    "FolderModule",
    "Format",
    "FormatModule",
    "SeriesModule",
    "all_names",
    "all_suffixes",
    "by_content",
    "by_folder",
    "by_metadata",
    "by_name",
    "by_series",
    "by_suffix",
    "longest_signature",
    "suffixes_that_hold",
]

# What may follow the first two letters of a file of Netpbm.
_BLANKS = (b" ", b"\t", b"\r", b"\n")

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
        largest=65500,
        inks=True,
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
        stacks=True,
        inks=True,
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
        stacks=True,
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
        stacks=True,
    ),
    Format(
        name="Zarr",
        module=".zarr_stores",
        suffixes=(".zarr",),
        signatures=(),
        entries=("zarr.json", ".zgroup", ".zarray"),
        dtypes=(
            *("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"),
            *("float16", "float32", "float64"),
        ),
        channels=None,
        opacity=False,
        metadata=("zarr",),
        stacks=True,
    ),
    Format(
        name="WebP",
        module=".webp",
        suffixes=(".webp",),
        signatures=(),
        marks=((8, b"WEBPVP8"),),
        dtypes=("uint8",),
        channels=(1, 3),
        opacity=True,
        largest=16383,
    ),
    Format(
        name="AVIF",
        module=".avif",
        suffixes=(".avif",),
        signatures=(),
        marks=((4, b"ftypavif"), (4, b"ftypavis")),
        dtypes=("uint8",),
        channels=(1, 3),
        opacity=True,
        depths=(10, 12),
        largest=16384,
    ),
    Format(
        name="HEIC",
        module=".heif",
        suffixes=(".heic", ".heif"),
        signatures=(),
        marks=tuple(
            (4, b"ftyp" + brand)
            for brand in (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")
        ),
        dtypes=("uint8",),
        channels=(1, 3),
        opacity=True,
        depths=(10, 12),
        largest=16384,
        extra="heif",
    ),
    Format(
        name="BMP",
        module=".bmp",
        suffixes=(".bmp",),
        signatures=(b"BM",),
        dtypes=("uint8",),
        channels=(1, 3),
        opacity=False,
    ),
    Format(
        name="PGM",
        module=".pgm",
        suffixes=(".pgm",),
        signatures=tuple(kind + blank for kind in (b"P2", b"P5") for blank in _BLANKS),
        dtypes=("uint8", "uint16"),
        channels=(1,),
        opacity=False,
    ),
    Format(
        name="PPM",
        module=".ppm",
        suffixes=(".ppm",),
        signatures=tuple(kind + blank for kind in (b"P3", b"P6") for blank in _BLANKS),
        dtypes=("uint8",),
        channels=(1, 3),
        opacity=False,
    ),
    Format(
        name="DICOM",
        module=".dicom",
        suffixes=(".dcm", ".dicom"),
        signatures=(),
        marks=((128, b"DICM"),),
        dtypes=("uint8", "uint16", "int8", "int16"),
        channels=(1, 3),
        opacity=False,
        largest=65535,
        metadata=("dicom",),
        extra="dicom",
        stacks=True,
        series=True,
    ),
    Format(
        name="RAW",
        module=".raw",
        suffixes=(
            *(".dng", ".nef", ".nrw", ".cr2", ".cr3", ".arw", ".sr2", ".raf", ".orf", ".rw2"),
            *(".rwl", ".pef", ".srw", ".3fr", ".iiq", ".erf"),
        ),
        # Most of them are TIFFs of a kind, so that the name of the file has to tell.
        signatures=(
            *(b"II*\0", b"MM\0*", b"IIRO", b"IIRS", b"MMOR", b"IIU\0", b"FUJIFILMCCD-RAW"),
        ),
        marks=((4, b"ftypcrx "),),
        dtypes=(),
        channels=(),
        opacity=False,
        extra="raw",
        read_only=True,
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


def by_content(head: bytes, path: Path | None = None) -> Format | None:
    """Return the format that the first bytes of a file say.

    Parameters
    ----------
    head
        The first bytes, :func:`longest_signature` of them at least if the file has so many.
    path
        The path of the file.  Its ending decides where several formats begin so, as raw
        photographs do as TIFF does, and nowhere else.

    Returns
    -------
    Format or None
        The row, None if no format begins so.
    """
    rows = [row for row in FORMATS if row.begins(head)]
    named = None if path is None else by_suffix(path)
    return named if named in rows else next(iter(rows), None)


def by_folder(path: Path) -> Format | None:
    """Return the format that a folder is one image of.

    Parameters
    ----------
    path
        Path of anything.

    Returns
    -------
    Format or None
        The row, None if it is no folder, or one of many images.
    """
    return next((row for row in FORMATS if row.is_image(path)), None)


def by_series(image: ImageFile) -> Format | None:
    """Return the format of the series of files that a stack was read from.

    Parameters
    ----------
    image
        The stack.

    Returns
    -------
    Format or None
        The row, None if it was read from a single file.
    """
    rows = (row for row in FORMATS if row.series)
    found = (row for row in rows for key in row.metadata if _is_of_series(image, key))
    return next(found, None)


def _is_of_series(image: ImageFile, key: str) -> bool:
    """Return whether metadata are those of a series."""
    return bool(getattr(image.metadata.get(key), "of_series", False))


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
    return max(row.signature_length for row in FORMATS)


def all_names(*, folders: bool = True) -> str:
    """Return the names of all formats for a message.

    Parameters
    ----------
    folders
        Whether with those whose images are folders, as by default.

    Returns
    -------
    str
        The names, with "or" before the last.

    Examples
    --------
    >>> all_names()
    'PNG, JPEG, TIFF, NumPy, FITS, Zarr, WebP, AVIF, HEIC, BMP, PGM, PPM, DICOM or RAW'
    """
    *others, last = (row.name for row in FORMATS if folders or not row.entries)
    return f"{', '.join(others)} or {last}" if others else last


def all_suffixes(written: bool = False) -> str:
    """Return the endings of all formats for a message.

    Parameters
    ----------
    written
        Whether formats are left out that are only read.

    Returns
    -------
    str
        The endings, with commas between them.

    Examples
    --------
    >>> all_suffixes(written=True)
    '.png, .jpg, .jpeg, .tif, .tiff, .npy, .fits, .fit, .fts, .zarr, .webp, .avif, .heic, .heif,
    .bmp, .pgm, .ppm, .dcm, .dicom'
    """
    rows = (row for row in FORMATS if not (written and row.read_only))
    return ", ".join(suffix for row in rows for suffix in row.suffixes)


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
