"""What ``dipfast compare`` does: tell how far images are from another one, and draw it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dipfast.apps.cli import figures
from dipfast.apps.cli.commands import FUNCTIONS, option_name
from dipfast.apps.cli.exits import DONE
from dipfast.apps.cli.options import CompareRequest
from dipfast.apps.cli.pictures import check_size, depths_of, of_depth
from dipfast.apps.cli.words import Words, one_line
from dipfast.apps.cli.work import check_output
from dipfast.errors import InputError
from dipfast.settings.option import options_of

if TYPE_CHECKING:
    from dipfast.images.files import ImageFile

__all__ = ["run", "words_of"]

# Pixels of the longer side of a picture among several.
_LARGEST = 640
_GAP, _LABEL = 8, 20
# A difference of so many times the root mean square of the first image is white or black.
_CONTRAST = 4.0


def run(request: CompareRequest) -> int:
    """Do what was asked for, and return the exit code."""
    from dipfast.images import files

    first, *further = request.files
    if request.reference is None and not further:
        raise InputError("two images are needed, got one; name another FILE, or --reference")
    clean_path, paths = (
        (first, further) if request.reference is None else (request.reference, request.files)
    )
    clean = files.read_image(clean_path)
    others = [files.read_image(path).stacked_as(clean) for path in paths]
    depths: set[int] = set()
    if request.data_range is None:
        clean, others, depths = _in_one_unit(clean, others)
    images = [_like(other, path, clean, clean_path, request) for other, path in zip(others, paths)]
    if request.picture is not None:
        resolved = Path(request.picture).resolve()
        if resolved in {Path(path).resolve() for path in (clean_path, *paths)}:
            raise InputError(f"--picture would overwrite {request.picture}; choose another name")
        check_output(request.picture, overwrite=request.force)
    (low, high), source = figures.range_for(clean.image, request.data_range)
    width = high - low
    found = [figures.compare(image, clean.arranged(), width) for image in images]
    for path, each in zip(paths, found):
        if request.json_:
            about = {"file": str(path), "reference": str(clean_path), "data_range": width}
            print(json.dumps({**about, **each.report()}))
        else:
            print(one_line(f"{path}: {each.line()}"))
    if not request.json_:
        notes = [f"range {width:.6g} ({source})", *clean.remarks]
        # What differs, such as which part of a file was read.
        notes += [
            f"{path}: {remark}"
            for path, other in zip(paths, others)
            for remark in other.remarks
            if remark not in clean.remarks
        ]
        if len(depths) > 1:
            *less, most = sorted(depths)
            notes.append(f"numbers of {' and '.join(map(str, less))} bits are stretched to {most}")
        if clean.stack_axes:
            notes.append(f"means over {clean.described_stack()}")
        if any(each.alpha is not None for each in (clean, *others)):
            notes.append("opacity does not count")
        print(one_line(f"against {clean_path}; {'; '.join(notes)}"))
    if request.picture is not None:
        names = [Path(path).name for path in (clean_path, *paths)]
        drawn = _draw(clean, images, names, found, (low, high))
        files.write_image(request.picture, drawn, channel_axis=2, overwrite=request.force)
    return DONE


def words_of() -> Words:
    """Return the words of the command line for what the library says."""
    names = {name: option_name(name) for name in options_of(CompareRequest) if name != "files"}
    return Words(names, {}, FUNCTIONS, [])


def _in_one_unit(
    clean: ImageFile, others: list[ImageFile]
) -> tuple[ImageFile, list[ImageFile], set[int]]:
    """Return images in uint16 with their numbers in one unit, and the depths that they had.

    Some formats fill 16 bits, and others hold numbers of 10 or 12 bits as they are: they are
    brought to the largest depth, which loses nothing.
    """
    pictures = [clean, *others]
    found = depths_of(*pictures)
    depths = {bits for bits in found if bits is not None}
    most = max(depths, default=0)
    clean, *others = (
        picture if bits is None else of_depth(picture, bits, most)
        for picture, bits in zip(pictures, found)
    )
    return clean, others, depths


def _like(
    image: ImageFile, path: Any, clean: ImageFile, clean_path: Any, request: CompareRequest
) -> Any:
    """Return the pixels of an image, which must be in the form of the one to compare with."""
    check_size("FILE", str(path), image, clean, str(clean_path))
    channels, expected = (
        1 if each.channel_axis is None else each.image.shape[each.channel_axis]
        for each in (image, clean)
    )
    if channels != expected:
        raise InputError(
            f"{path} has {channels} channels and {clean_path} has {expected}; convert one of them"
        )
    mine, other = image.image.dtype, clean.image.dtype
    if not (mine == other or mine.kind == other.kind == "f") and request.data_range is None:
        raise InputError(
            f"{path} is {mine} and {clean_path} is {other}, whose values may be in other units; "
            "if they are in the same one, --data-range says what it is"
        )
    if image.stack_shape != clean.stack_shape:
        raise InputError(
            f"{path} holds {image.described_stack() or 'one image'}, and {clean_path} holds "
            f"{clean.described_stack() or 'one image'}"
        )
    return image.arranged()


# --- the picture -------------------------------------------------------------------------


def _draw(
    clean: ImageFile,
    images: Sequence[Any],
    names: Sequence[str],
    found: Sequence[figures.Figures],
    ends: tuple[float, float],
) -> Any:
    """Return the images side by side, with their differences below, as (H, W, 3) of 8 bits.

    The values ``ends`` are black and white.
    """
    # Of a stack the first plane is drawn.
    planes = [each.reshape(-1, *each.shape[-3:])[0] for each in (clean.arranged(), *images)]
    shown = [_tile(each, ends) for each in planes]
    unit = max((each.rms for each in found), default=0.0) * _CONTRAST or 1.0
    away = [
        _tile(each.astype(np.float64) - planes[0].astype(np.float64), (-unit, unit))
        for each in planes[1:]
    ]
    blank = np.full_like(shown[0], 255)
    labels = [names[0], *(f"{n}  {f.psnr:.2f} dB" for n, f in zip(names[1:], found))]
    below = ["", *(f"difference, white is +{unit:.3g}" for _ in away)]
    rows = [_row(shown, labels), _row([blank, *away], below)]
    return np.concatenate(rows)


def _tile(planes: Any, ends: tuple[float, float]) -> Any:
    """Return an image (H, W, C) small enough, as (H, W, 3) of 8 bits."""
    from dipfast.images import display

    pixels = display.reduce(display.to_8_bits(planes, ends), _LARGEST)
    return pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)


def _row(tiles: Sequence[Any], labels: Sequence[str]) -> Any:
    """Return pictures side by side, each with its label above."""
    parts = []
    for tile, label in zip(tiles, labels):
        part = np.concatenate([_text(label, tile.shape[1]), tile])
        parts += [np.full((len(part), _GAP, 3), 255, np.uint8), part]
    row = np.concatenate(parts[1:], axis=1)
    return np.concatenate([row, np.full((_GAP, row.shape[1], 3), 255, np.uint8)])


def _text(text: str, width: int) -> Any:
    """Return a line of text, black on white, cut where it is too long."""
    from PIL import Image, ImageDraw

    picture = Image.new("RGB", (width, _LABEL), "white")
    # The font that comes with Pillow may lack characters of a file name.
    shown = text.encode("ascii", "replace").decode()
    ImageDraw.Draw(picture).text((2, 4), shown, fill="black")
    return np.asarray(picture)
