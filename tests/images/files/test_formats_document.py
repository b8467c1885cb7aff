"""docs/formats.md: its tables say what the formats do when they are tried."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from dipfast.images.files import ImageFile, Resolution, read_image, write_image
from dipfast.images.files.formats import FORMATS, Format
from dipfast.images.files.formats._exif import Exif

DOCUMENT = Path(__file__).parents[3] / "docs" / "formats.md"
each_format = pytest.mark.parametrize("row", FORMATS, ids=lambda row: row.name)


def said(answer: bool) -> str:
    return "yes" if answer else "no"


def of_the_table(row: Format) -> str:
    """Return the line that the table of formats makes of a row."""
    endings = " ".join(f"`{suffix}`" for suffix in row.suffixes)
    if row.read_only:
        return f"| {row.name} | {endings} | only read | | | | `{row.extra}` |"
    channels = "any" if row.channels is None else ", ".join(map(str, row.channels))
    types = ", ".join(row.dtypes)
    extra = f"`{row.extra}`" if row.extra else ""
    opacity, stacks = said(row.opacity), said(row.stacks)
    return f"| {row.name} | {endings} | {types} | {channels} | {opacity} | {stacks} | {extra} |"


def tried(row: Format, folder: Path) -> str:
    """Return the line that is right if a picture with everything beside it is written and read."""
    tags = Image.Exif()
    tags[0x010F] = "Maker"
    tags[282], tags[283], tags[296] = 300.0, 200.0, 2
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    resolution = Resolution.of(300, 200, "inch")
    assert resolution is not None
    metadata = {
        "icc_profile": profile,
        "exif": Exif.read(tags.tobytes()),
        "resolution": resolution,
    }
    colours = row.channels is None or 3 in row.channels
    shape = (32, 32, 3) if colours else (32, 32)
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    path = folder / f"out{row.suffixes[0]}"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        write_image(path, pixels, like=ImageFile(pixels, 2 if colours else None, metadata=metadata))
    got = read_image(path)
    found = got.metadata.get("resolution")
    exif = got.metadata.get("exif")
    answers = {
        "pixels": np.array_equal(
            np.moveaxis(got.image, got.channel_axis or 0, -1) if colours else got.image, pixels
        ),
        "colour profile": got.metadata.get("icc_profile") == profile,
        "EXIF": exif is not None and exif.values().get(0x010F, (2, b""))[1].startswith(b"Maker"),
        "resolution": found is not None
        and abs(found.to("m").x / resolution.to("m").x - 1) < 1e-3
        and abs(found.to("m").y / resolution.to("m").y - 1) < 1e-3,
    }
    # What is lost is named, and what is kept is not.
    text = " ".join(str(each.message) for each in caught).partition("is without: ")[2]
    for name in ("colour profile", "EXIF", "resolution"):
        assert (name in text) != answers[name]
    return f"| {row.name} | {' | '.join(map(said, answers.values()))} |"


@each_format
def test_table_of_formats(row: Format) -> None:
    assert of_the_table(row) in DOCUMENT.read_text().splitlines()


@pytest.mark.parametrize(
    "row", [row for row in FORMATS if not row.read_only], ids=lambda row: row.name
)
def test_table_of_what_is_kept(row: Format, tmp_path: Path) -> None:
    assert tried(row, tmp_path) in DOCUMENT.read_text().splitlines()
