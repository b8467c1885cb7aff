"""Image files: PNG (8 and 16 bit), JPEG, TIFF (8 and 16 bit, float).

What a file holds beside the pixels (colour profile, EXIF, resolution) goes with the image
into the result.  Files are written whole or not at all.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

__all__ = ["ImageFile", "check_output", "read_image", "write_atomically", "write_image"]

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
    "TIFF": ("uint8", "uint16", "float16", "float32", "float64"),
}
_PILLOW_METADATA = ("icc_profile", "exif", "dpi")


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


def read_image(path: str | Path) -> ImageFile:
    """Read one image.

    Raises
    ------
    OSError
        If the file cannot be read (FileNotFoundError, IsADirectoryError, ...).
    ValueError
        If it is not an image of a format that is known, or holds more than one.
    """
    path = Path(path)
    with path.open("rb") as stream:
        head = stream.read(32)
    try:
        if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
            return _read_tiff(path)
        if head.startswith(b"\x89PNG\r\n\x1a\n") and head[24:25] == b"\x10":
            return _read_png16(path)
        return _read_with_pillow(path)
    except (OSError, MemoryError):
        raise
    except Exception as error:
        raise ValueError(f"cannot read {path}: {error}") from error


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
        ``.png`` (uint8, uint16), ``.jpg`` (uint8) or ``.tif`` (these and floats).
    image
        Array (H, W), or with one more axis for 1, 3 or (TIFF) any number of channels.
    like
        The file that the image was made from: its alpha and metadata are kept.
    channel_axis
        The axis of the channels, if ``like`` does not say.
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
    like = like or ImageFile(image, channel_axis)
    check_output(path, image.dtype, overwrite=overwrite)
    axis = like.channel_axis
    pixels = image if axis is None else np.moveaxis(image, axis, -1)
    if like.alpha is not None:
        pixels = np.dstack([pixels, like.alpha.astype(image.dtype)])
    if pixels.ndim == 3 and pixels.shape[-1] == 1:
        pixels = pixels[..., 0]
    pixels = np.ascontiguousarray(pixels)
    kind = _SUFFIXES[path.suffix.lower()]
    if kind != "TIFF" and pixels.ndim == 3 and pixels.shape[-1] > 4:
        raise ValueError(f"{kind} cannot hold {pixels.shape[-1]} channels; choose .tif")
    with write_atomically(path) as stream:
        if kind == "TIFF":
            _write_tiff(stream, pixels, like)
        elif pixels.dtype == np.uint16:
            _write_png16(stream, pixels)
        else:
            _write_with_pillow(stream, pixels, kind, like)


def check_output(path: str | Path, dtype: Any = None, *, overwrite: bool = False) -> None:
    """Find out, before any work is done, whether an image can be written there.

    Raises
    ------
    FileExistsError, FileNotFoundError, PermissionError, ValueError
        As :func:`write_image` would.
    """
    path = Path(path)
    kind = _SUFFIXES.get(path.suffix.lower())
    if kind is None:
        raise ValueError(
            f"cannot tell the format of {path} from its name; "
            f"it must end in one of {', '.join(_SUFFIXES)}"
        )
    if dtype is not None and str(dtype) not in _DTYPES[kind]:
        raise ValueError(
            f"{kind} cannot hold {dtype} without loss, {path} must be named "
            + " or ".join(s for s, k in _SUFFIXES.items() if str(dtype) in _DTYPES[k])
        )
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder, not a file name")
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists already")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"the folder {path.parent} does not exist")
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise PermissionError(
            f"cannot write into the folder {path.parent}: {error.strerror}"
        ) from error


@contextmanager
def write_atomically(path: str | Path) -> Iterator[BinaryIO]:
    """A stream whose content takes the place of ``path`` at the end, if all went well.

    A symbolic link is replaced, not followed.
    """
    path = Path(path)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        # mkstemp makes files private; give the result what any new file would have.
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


# --- formats -----------------------------------------------------------------------------


def _split(pixels: np.ndarray[Any, Any], metadata: dict[str, Any]) -> ImageFile:
    """Take alpha off (H, W, 2) and (H, W, 4)."""
    if pixels.ndim == 2:
        return ImageFile(pixels, None, None, metadata)
    if pixels.shape[-1] in (2, 4):
        alpha = pixels[..., -1]
        pixels = pixels[..., 0] if pixels.shape[-1] == 2 else pixels[..., :-1]
        return ImageFile(pixels, None if pixels.ndim == 2 else 2, alpha, metadata)
    return ImageFile(pixels, 2, None, metadata)


def _read_with_pillow(path: Path) -> ImageFile:
    from PIL import Image, UnidentifiedImageError

    try:
        opened = Image.open(path, formats=("PNG", "JPEG"))
    except UnidentifiedImageError:
        raise ValueError("it is not a PNG, JPEG or TIFF image") from None
    with opened:
        image: Image.Image = opened
        frames = getattr(image, "n_frames", 1)
        if frames > 1:
            raise ValueError(f"it holds {frames} images, expected one")
        metadata: dict[str, Any] = {
            key: image.info[key] for key in _PILLOW_METADATA if key in image.info
        }
        if image.mode == "P":
            image = image.convert("RGBA" if "transparency" in image.info else "RGB")
        elif image.mode == "1":
            image = image.convert("L")
        elif image.mode not in ("L", "LA", "RGB", "RGBA"):
            raise ValueError(f"pixels of the kind {image.mode} are not supported")
        return _split(np.array(image), metadata)


def _write_with_pillow(
    stream: BinaryIO, pixels: np.ndarray[Any, Any], kind: str, like: ImageFile
) -> None:
    from PIL import Image

    if kind == "JPEG" and like.alpha is not None:
        raise ValueError("JPEG cannot hold transparency; choose .png")
    options: dict[str, Any] = {"quality": 95, "subsampling": 0} if kind == "JPEG" else {}
    options.update(_known(like, *_PILLOW_METADATA))
    Image.fromarray(pixels).save(stream, kind, **options)


def _known(like: ImageFile, *keys: str) -> dict[str, Any]:
    return {key: like.metadata[key] for key in keys if key in like.metadata}


def _read_png16(path: Path) -> ImageFile:
    import imagecodecs

    return _split(imagecodecs.png_decode(path.read_bytes()), {})


def _write_png16(stream: BinaryIO, pixels: np.ndarray[Any, Any]) -> None:
    import imagecodecs

    stream.write(imagecodecs.png_encode(pixels))


def _read_tiff(path: Path) -> ImageFile:
    import tifffile

    with tifffile.TiffFile(path) as tiff:
        series = tiff.series[0]
        axes = series.axes
        pixels = series.asarray()
        page = tiff.pages.first
        metadata: dict[str, Any] = {"compressed": page.compression != 1}
        if page.tags.get("XResolution") and page.tags.get("YResolution"):
            metadata["resolution"] = page.get_resolution()
            metadata["resolutionunit"] = int(page.resolutionunit)
        icc = page.tags.get("InterColorProfile")
        if icc is not None:
            metadata["icc_profile"] = bytes(icc.value)
        single = [k for k, size in enumerate(pixels.shape) if size == 1 and axes[k] not in "YX"]
        axes = "".join(axis for k, axis in enumerate(axes) if k not in single)
        pixels = pixels.reshape([size for k, size in enumerate(pixels.shape) if k not in single])
        if len(tiff.series) > 1 or axes not in ("YX", "YXS", "SYX", "CYX", "YXC"):
            raise ValueError(
                f"it holds a stack (axes {axes}, shape {pixels.shape}), expected one image"
            )
        if axes == "YXS" and page.extrasamples and pixels.shape[-1] in (2, 4):
            return _split(pixels, metadata)
        axis = None if axes == "YX" else max(axes.find("S"), axes.find("C"))
        return ImageFile(pixels, axis, None, metadata)


def _write_tiff(stream: BinaryIO, pixels: np.ndarray[Any, Any], like: ImageFile) -> None:
    import tifffile

    options = _known(like, "resolution", "resolutionunit")
    options["compression"] = "zlib" if like.metadata.get("compressed") else None
    if "icc_profile" in like.metadata:
        options["iccprofile"] = like.metadata["icc_profile"]
    if pixels.ndim == 2:
        options["photometric"] = "minisblack"
    elif pixels.shape[-1] - (like.alpha is not None) == 3:
        options["photometric"] = "rgb"
        options["extrasamples"] = ["unassalpha"] if like.alpha is not None else None
    elif like.alpha is not None:
        options.update(photometric="minisblack", planarconfig="contig", extrasamples=["unassalpha"])
    else:  # any number of channels, one plane after the other, as microscopes write them
        pixels = np.ascontiguousarray(np.moveaxis(pixels, -1, 0))
        options.update(photometric="minisblack", metadata={"axes": "CYX"})
    tifffile.imwrite(stream, pixels, **options)
