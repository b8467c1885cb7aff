"""Image files: PNG (8 and 16 bit), JPEG, TIFF (8 and 16 bit, float).

What a file holds beside the pixels (colour profile, EXIF, resolution) goes with the image
into the result.  Files are written whole or not at all.

A file may come from anywhere: what it declares is looked at before anything is decoded, and
whatever a decoder raises becomes a ValueError that names the file.
"""

from __future__ import annotations

import errno
import math
import os
import secrets
import stat
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from dipfast import declared

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

__all__ = [
    "ImageFile",
    "check_output",
    "open_regular",
    "read_image",
    "report_path",
    "write_atomically",
    "write_image",
]

_SUFFIXES = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".tif": "TIFF",
    ".tiff": "TIFF",
}
_DTYPES = {
    "PNG": ("uint8", "uint16"),
    "JPEG": ("uint8",),
    "TIFF": (
        *("uint8", "uint16", "uint32", "int8", "int16", "int32"),
        *("float16", "float32", "float64"),
    ),
}
# Photometric interpretations of TIFF whose numbers are not how bright something is.
_NO_BRIGHTNESS = ("PALETTE", "MASK", "SEPARATED", "CIELAB", "ICCLAB", "ITULAB")
_PILLOW_METADATA = ("icc_profile", "exif", "dpi")
_ORIENTATION = 0x0112

# Kinds of TIFF that tifffile would understand and that are never one image, or whose metadata
# would lead it to other files, or into loops as long as they say.
_NOT_INTERPRETED = (
    *("avs", "bif", "eer", "indica", "lsm", "mmstack", "ndpi", "ndtiff", "ome", "philips"),
    *("qpi", "scanimage", "scn", "stk", "svs"),
)


@dataclass(frozen=True)
class ImageFile:
    """An image as it was in a file.

    Attributes
    ----------
    image
        Array (H, W), or with one more axis for the channels; no alpha.
    channel_axis
        The axis of the channels; None if there is none.
    alpha
        Opacity (H, W), or None; it is passed through to the result.
    metadata
        What else to keep, for :func:`write_image`.
    """

    image: np.ndarray[Any, Any]
    channel_axis: int | None = None
    alpha: np.ndarray[Any, Any] | None = None
    metadata: dict[str, Any] = field(default_factory=dict)


def open_regular(path: str | Path) -> BinaryIO:
    """Open a file for reading, and refuse what might block or never end (a pipe, a device).

    A symbolic link to a regular file is followed.

    Raises
    ------
    OSError
        If it cannot be opened (FileNotFoundError, IsADirectoryError, ...).
    ValueError
        If it is no regular file.
    """
    path = Path(path)
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise ValueError(f"cannot read {path}: it is not a regular file")
    return path.open("rb")


def read_image(path: str | Path) -> ImageFile:
    """Read one image.

    Raises
    ------
    OSError
        If the file cannot be read (FileNotFoundError, IsADirectoryError, ...).
    ValueError
        If it is not an image of a format that is known, is damaged, holds more than one, or
        would decode to more than :data:`declared.LARGEST_IMAGE` bytes or than memory holds.
    """
    path = Path(path)
    with open_regular(path) as stream:
        try:
            return _read(stream)
        except MemoryError as error:
            reason = "memory does not suffice for what it declares"
            raise ValueError(f"cannot read {path}: {reason}") from error
        except Exception as error:
            # Those of the operating system have a number; but EINVAL is what it says to a
            # decoder that was sent to a place that no file has.
            if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
                raise OSError(error.errno, error.strerror, str(path)) from error
            # A decoder may quote what it read, at any length and with any control characters.
            text = str(error)[:300] or type(error).__name__
            reason = "".join(sign if sign.isprintable() else " " for sign in text)
            raise ValueError(f"cannot read {path}: {reason}") from error


def write_image(
    path: str | Path,
    image: np.ndarray[Any, Any],
    *,
    like: ImageFile | None = None,
    channel_axis: int | None = None,
    overwrite: bool = False,
) -> None:
    """Write one image, in the format that the ending of the name says.

    Parameters
    ----------
    path
        ``.png`` (uint8, uint16), ``.jpg`` (uint8) or ``.tif`` (these, other integers of up
        to 32 bits and floats).
    image
        Array (H, W), or with one more axis for 1, 3 or (TIFF) any number of channels.
        Without ``like``, the last of 2 or 4 channels is opacity in a PNG.
    like
        The file that the image was made from: its alpha and metadata are kept.
    channel_axis
        The axis of the channels; None takes it from ``like``, else the last one.
    overwrite
        Whether an existing file may be replaced.

    Raises
    ------
    FileExistsError
        If there is such a file already and overwrite is False.
    OSError
        If it cannot be written; an existing file is left as it was.
    ValueError
        If the format cannot hold the image.
    """
    path = Path(path)
    kind = _SUFFIXES.get(path.suffix.lower(), "")
    if channel_axis is None and like is not None:
        channel_axis = like.channel_axis
    pixels = image if channel_axis is None else np.moveaxis(image, channel_axis, -1)
    if like is not None or kind == "TIFF":
        axis = None if pixels.ndim == 2 else 2
        like = replace(like or ImageFile(pixels), image=pixels, channel_axis=axis)
    else:
        like = _split(pixels, {})
    check_output(path, like, overwrite=overwrite)
    pixels = like.image
    if like.alpha is not None:
        pixels = np.dstack([pixels, like.alpha.astype(pixels.dtype)])
    if pixels.ndim == 3 and pixels.shape[-1] == 1:
        pixels = pixels[..., 0]
    pixels = np.ascontiguousarray(pixels, dtype=pixels.dtype.newbyteorder("="))
    with write_atomically(path, overwrite=overwrite) as stream:
        if kind == "TIFF":
            _write_tiff(stream, pixels, like)
        elif pixels.dtype == np.uint16:
            _write_png16(stream, pixels, like)
        else:
            _write_with_pillow(stream, pixels, kind, like)


def check_output(
    path: str | Path,
    image: ImageFile | None = None,
    *,
    report: bool = False,
    overwrite: bool = False,
) -> None:
    """Find out, before any work is done, whether an image can be written there.

    Parameters
    ----------
    path
        See :func:`write_image`.
    image
        An image of the dtype, channels and alpha that will be written, if that is known.
    report
        Whether settings will be written beside it (:func:`report_path`).
    overwrite
        Whether an existing file may be replaced.

    Raises
    ------
    OSError, ValueError
        As :func:`write_image` would.
    """
    path = Path(path)
    kind = _SUFFIXES.get(path.suffix.lower())
    if kind is None:
        raise ValueError(
            f"cannot tell the format of {path} from its name; "
            f"it must end in one of {', '.join(_SUFFIXES)}"
        )
    if image is not None:
        _check_format(path, kind, image)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"the folder {path.parent} does not exist")
    for target in (path, report_path(path)) if report else (path,):
        try:
            there = target.lstat()  # of a link itself; a name that is too long is an OSError
        except FileNotFoundError:
            continue
        if stat.S_ISDIR(there.st_mode):
            raise IsADirectoryError(f"{target} is a folder, not a file name")
        if not overwrite:
            raise FileExistsError(f"{target} exists already")
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise PermissionError(
            f"cannot write into the folder {path.parent}: {error.strerror}"
        ) from error


def _check_format(path: Path, kind: str, image: ImageFile) -> None:
    dtype = image.image.dtype.name
    if dtype not in _DTYPES[kind]:
        endings = [suffix for suffix, other in _SUFFIXES.items() if dtype in _DTYPES[other]]
        raise ValueError(
            f"{kind} cannot hold {dtype} without loss, "
            + (f"{path} must be named {' or '.join(endings)}" if endings else "nor can the others")
        )
    axis = image.channel_axis
    channels = 1 if axis is None else image.image.shape[axis]
    if kind != "TIFF" and channels not in (1, 3):
        raise ValueError(f"{kind} cannot hold {channels} channels, {path} must be named .tif")
    if kind == "JPEG" and image.alpha is not None:
        raise ValueError(f"JPEG cannot hold transparency, {path} must be named .png or .tif")


@contextmanager
def write_atomically(path: str | Path, *, overwrite: bool = True) -> Iterator[BinaryIO]:
    """A stream whose content takes the place of ``path`` at the end, if all went well.

    A symbolic link is replaced, not followed.  Without ``overwrite``, a file that has come
    there in the meantime stays, and FileExistsError is raised.
    """
    path = Path(path)
    # A short name of its own, because that of the result may be as long as names can be.
    temporary = path.with_name(f".dipfast-{secrets.token_hex(8)}")
    mode = stat.S_IMODE(path.stat().st_mode) if path.is_file() else None
    try:
        with open(temporary, "xb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        if overwrite:
            if mode is not None:
                os.chmod(temporary, mode)
            os.replace(temporary, path)
        else:
            _put_where_nothing_is(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _put_where_nothing_is(temporary: Path, path: Path) -> None:
    try:
        os.link(temporary, path)  # refuses a name that is taken, which os.replace does not
    except OSError:  # taken, or a file system without hard links
        if os.path.lexists(path):
            raise FileExistsError(f"{path} exists already") from None
        os.replace(temporary, path)
    else:
        temporary.unlink()


def report_path(path: str | Path) -> Path:
    """Where the settings of the image at ``path`` are written: beside it, ``NAME.json``."""
    path = Path(path)
    return path.with_name(path.name + ".json")


# --- formats -----------------------------------------------------------------------------


def _read(stream: BinaryIO) -> ImageFile:
    size = os.fstat(stream.fileno()).st_size
    largest = 2 * declared.LARGEST_IMAGE
    if size > largest:
        has, expected = declared.readable_size(size), declared.readable_size(largest)
        raise ValueError(f"it has {has}, expected {expected} at most")
    head = stream.read(32)
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        declared.check_directories(stream, size)
        stream.seek(0)
        return _read_tiff(stream)
    stream.seek(0)
    # The classes of Pillow themselves, because Image.open has a limit for the whole process.
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        from PIL.PngImagePlugin import PngImageFile

        with PngImageFile(stream) as opened:
            if opened.size != struct.unpack(">II", head[16:24]):
                raise ValueError("it does not begin with its size")
            if head[24] == 16:
                return _read_png16(opened, stream)
            image = _read_with_pillow(opened)
        declared.check_png(stream)
        return image
    if head.startswith(b"\xff\xd8\xff"):
        from PIL.JpegImagePlugin import jpeg_factory

        jpeg = stream.read()
        declared.check_scans(jpeg)
        with jpeg_factory(BytesIO(jpeg)) as opened:
            if math.prod(opened.size) > declared.JPEG_PIXELS_PER_BYTE * len(jpeg):
                raise ValueError(
                    f"it declares {opened.width} x {opened.height} pixels, "
                    f"more than {len(jpeg)} bytes of JPEG can be"
                )
            return _read_with_pillow(opened)
    raise ValueError("it is not a PNG, JPEG or TIFF image")


def _split(pixels: np.ndarray[Any, Any], metadata: dict[str, Any]) -> ImageFile:
    """Take alpha off (H, W, 2) and (H, W, 4)."""
    if pixels.ndim == 2:
        return ImageFile(pixels, None, None, metadata)
    if pixels.shape[-1] in (2, 4):
        alpha = pixels[..., -1]
        pixels = pixels[..., 0] if pixels.shape[-1] == 2 else pixels[..., :-1]
        return ImageFile(pixels, None if pixels.ndim == 2 else 2, alpha, metadata)
    return ImageFile(pixels, 2, None, metadata)


def _read_with_pillow(opened: PillowImage) -> ImageFile:
    from PIL import ImageOps

    metadata = _load(opened, itemsize=1)
    # Turned as it is to be seen, because not every format can say so.
    image = ImageOps.exif_transpose(opened)
    if "exif" in metadata:
        metadata["exif"] = image.getexif().tobytes()
    if image.mode == "1":
        image = image.convert("L")
    if image.mode in ("P", "L", "RGB") and "transparency" in image.info:
        image = image.convert("LA" if image.mode == "L" else "RGBA")
    elif image.mode == "P":
        image = image.convert("RGB")
    elif image.mode not in ("L", "LA", "RGB", "RGBA"):
        raise ValueError(f"pixels of the kind {image.mode} are not supported")
    return _split(np.array(image), metadata)


def _load(image: PillowImage, itemsize: int) -> dict[str, Any]:
    """Check, decode, and return what to keep beside the pixels."""
    channels = 4 if image.mode == "P" else len(image.getbands())
    declared.check_size(*image.size, channels, itemsize)
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":  # a JPEG whose other images are by-products
        raise ValueError(f"it holds {frames} images, expected one")
    image.load()  # the chunks of a PNG may come after the pixels
    return {key: image.info[key] for key in _PILLOW_METADATA if key in image.info}


def _upright(pixels: np.ndarray[Any, Any], orientation: int) -> np.ndarray[Any, Any]:
    """Rows and columns (the first two axes) as the orientation tag of EXIF and TIFF asks."""
    if orientation in (5, 6, 7, 8):
        pixels = np.swapaxes(pixels, 0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels


def _write_with_pillow(
    stream: BinaryIO, pixels: np.ndarray[Any, Any], kind: str, like: ImageFile
) -> None:
    from PIL import Image

    options: dict[str, Any] = {"quality": 95, "subsampling": 0} if kind == "JPEG" else {}
    options.update(_known(like, *_PILLOW_METADATA))
    Image.fromarray(pixels).save(stream, kind, **options)


def _known(like: ImageFile, *keys: str) -> dict[str, Any]:
    return {key: like.metadata[key] for key in keys if key in like.metadata}


def _read_png16(opened: PillowImage, stream: BinaryIO) -> ImageFile:
    import imagecodecs

    # Pillow cuts pixels to 8 bits, but it knows what is beside them.
    metadata = _load(opened, itemsize=2)
    exif = opened.getexif()
    stream.seek(0)
    pixels = _upright(imagecodecs.png_decode(stream.read()), exif.pop(_ORIENTATION, 1))
    if "exif" in metadata:
        metadata["exif"] = exif.tobytes()
    return _split(pixels, metadata)


def _write_png16(stream: BinaryIO, pixels: np.ndarray[Any, Any], like: ImageFile) -> None:
    import imagecodecs

    # imagecodecs writes pixels only.  The chunks beside them come from a PNG of one pixel,
    # where they lie between the header and the only chunk of pixels.
    buffer = BytesIO()
    _write_with_pillow(buffer, np.zeros((1, 1), np.uint8), "PNG", like)
    donor, png = buffer.getvalue(), imagecodecs.png_encode(pixels)
    end_of_header = 8 + 25  # signature and IHDR
    stream.write(png[:end_of_header])
    stream.write(donor[end_of_header : donor.rindex(b"IDAT") - 4])
    stream.write(png[end_of_header:])


def _read_tiff(stream: BinaryIO) -> ImageFile:
    import tifffile

    known = tifffile.TIFF.FILE_FLAGS
    flags: Any = {f"is_{kind}": False for kind in _NOT_INTERPRETED if kind in known}
    with tifffile.TiffFile(stream, **flags) as tiff:
        if not tiff.series:
            raise ValueError("it holds no image, or the end is missing")
        series = tiff.series[0]
        page = tiff.pages.first
        kept = [k for k, size in enumerate(series.shape) if size > 1 or series.axes[k] in "YX"]
        axes = "".join(series.axes[k] for k in kept)
        shape = tuple(series.shape[k] for k in kept)
        if axes == "IYX" and page.is_ome and declared.are_channels(page.description, len(series)):
            axes = "CYX"
        if len(tiff.series) > 1 or axes not in ("YX", "YXS", "SYX", "CYX", "YXC"):
            raise ValueError(f"it holds a stack (axes {axes}, shape {shape}), expected one image")
        photometric = tifffile.PHOTOMETRIC(page.photometric).name
        colour = photometric in ("RGB", "YCBCR")
        negative = photometric == "MINISWHITE"
        if photometric in _NO_BRIGHTNESS or (negative and series.dtype.kind != "u"):
            raise ValueError(f"pixels of the kind {photometric} are not supported")
        declared.check_tiff(series, dict(zip(axes, shape)), stream)
        pixels = series.asarray().reshape(shape)
        orientation = page.tags.valueof(_ORIENTATION, 1)
        if orientation != 1:
            first = axes.index("Y")
            pixels = np.moveaxis(pixels, (first, first + 1), (0, 1))
            pixels = np.moveaxis(_upright(pixels, orientation), (0, 1), (first, first + 1))
        if negative:
            pixels = (1 << page.bitspersample) - 1 - pixels
        metadata: dict[str, Any] = {"compressed": page.compression != 1, "colour": colour}
        if page.tags.get("XResolution") and page.tags.get("YResolution"):
            metadata["resolution"] = page.get_resolution()
            metadata["resolutionunit"] = int(page.resolutionunit)
        icc = page.tags.get("InterColorProfile")
        if icc is not None:
            metadata["icc_profile"] = bytes(icc.value)
        if axes == "YX":
            return ImageFile(pixels, None, None, metadata)
        axis = max(axes.find("S"), axes.find("C"))
        # A fourth sample beside RGB is alpha even where the file does not say so; other
        # samples are where it says so.
        extra = page.extrasamples[-1] if page.extrasamples else 0
        if pixels.shape[axis] == (4 if colour else 2) and (colour or extra > 0):
            metadata["extrasample"] = int(extra)
            return _split(np.moveaxis(pixels, axis, -1), metadata)
        return ImageFile(pixels, axis, None, metadata)


def _write_tiff(stream: BinaryIO, pixels: np.ndarray[Any, Any], like: ImageFile) -> None:
    import tifffile

    options = _known(like, "resolution", "resolutionunit")
    options["compression"] = "zlib" if like.metadata.get("compressed") else None
    if "icc_profile" in like.metadata:
        options["iccprofile"] = like.metadata["icc_profile"]
    alpha = like.alpha is not None
    channels = 1 if pixels.ndim == 2 else pixels.shape[-1] - alpha
    colour = channels == 3 and like.metadata.get("colour", True)
    options["photometric"] = "rgb" if colour else "minisblack"
    if alpha:
        options["planarconfig"] = "contig"
        options["extrasamples"] = [like.metadata.get("extrasample", "unassalpha")]
    elif channels > 1 and not colour:
        # One plane after the other, as microscopes write them.
        pixels = np.ascontiguousarray(np.moveaxis(pixels, -1, 0))
        options["metadata"] = {"axes": "CYX"}
    tifffile.imwrite(stream, pixels, **options)
