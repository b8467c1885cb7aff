"""Options that the command line has beside those of the tasks: files, and what is printed.

They are described in the same form as :mod:`dipfast.settings.settings`, and read in the same way.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict

from dipfast.settings.names import Boundary, NoiseKind, TaskName
from dipfast.settings.option import option

__all__ = [
    "FILES",
    "NOT_TYPED",
    "OWN_OPTIONS",
    "POSITIONAL",
    "DenoiseOwn",
    "InfoRequest",
    "InpaintOwn",
    "OwnOptions",
    "Request",
    "RestoreOwn",
]

FileName: TypeAlias = str | Path


class OwnOptions(BaseModel):
    """Hold the options of the command line itself, for every command."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    image: FileName = option(
        ...,
        "The image: PNG, JPEG, TIFF, NumPy (.npy) or FITS, 8 or 16 bit or float.",
        expected="a file name",
        role="image",
    )
    output: FileName = option(
        ...,
        "Where to write the result. Its settings go to OUT.json. If IN is a folder, or a pattern "
        "in quotes such as 'scans/*.tif', a folder too: every picture is restored.",
        expected="a file name",
        role="local",
    )
    force: bool = option(False, "Replace files that exist.", role="local")
    suffix: str | None = option(
        None,
        "Of folders: what results have in their names before the ending, such as _clean.",
        expected="a part of a file name",
        role="local",
    )
    settings: FileName | None = option(
        None,
        "The report of an earlier result (OUT.json): its settings in place of the defaults.",
        expected="a file name",
        role="local",
    )
    reference: FileName | None = option(
        None,
        "The clean image, to report PSNR. It is never used to decide anything.",
        expected="a file name",
        role="image",
    )
    curves: FileName | None = option(
        None,
        "Draw loss and PSNR into this picture.",
        expected="a file name",
        role="local",
    )
    strip: FileName | None = option(
        None,
        "Draw images of several iterations, side by side, into this picture.",
        expected="a file name",
        role="local",
    )
    report: FileName | None = option(
        None,
        "Write a page with before, after, their difference, curves and settings to this file "
        "(.html), to be opened in a browser.",
        expected="a file name",
        role="local",
    )
    log_x: bool = option(False, "Logarithmic iterations in the curves.", role="local")
    json_: bool = option(False, "Print the report as JSON, and nothing else.", role="local")
    quiet: bool = option(False, "No progress bar.", role="local")


class DenoiseOwn(OwnOptions):
    """Hold the options of the command line itself for ``dipfast denoise``."""

    jpeg: Literal["auto", "yes", "no"] = option(
        "auto",
        "Whether what is to be taken out are the artefacts of JPEG, by what the file says of its "
        "coding; auto is yes for a JPEG of quality 60 and less where nothing is said of noise or "
        "of a fit.",
        choices=("auto", "yes", "no"),
    )


class InpaintOwn(OwnOptions):
    """Hold the options of the command line itself for ``dipfast inpaint``."""

    mask: Any = option(
        None,
        "Which pixels are missing: a picture of the same size, white on black or strokes on a "
        "clear layer; alpha, those of IN that are not opaque; or value:V, those of IN of value V. "
        "Without it, those that are NaN.",
        expected="a file name, alpha or value:V",
        role="image",
    )


class RestoreOwn(OwnOptions):
    """Hold the options of the command line itself for ``dipfast restore``."""

    blur: Any = option(
        ...,
        "What blurred the image, a point-spread function: gaussian:SIGMA (in pixels), box:SIZE, or "
        "a grey picture of it, which is scaled to the sum 1.",
        expected="a file name, gaussian:SIGMA or box:SIZE",
    )
    boundary: Boundary = option("reflect", "What lies beyond the border of the image.")


class InfoRequest(BaseModel):
    """Hold what was typed of ``dipfast info``, which is no task: all its options are its own."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    files: tuple[FileName, ...] = option(
        ...,
        "Images: PNG, JPEG, TIFF, NumPy (.npy) or FITS, 8 or 16 bit or float.",
        expected="file names",
        role="image",
    )
    noise: NoiseKind = option(
        "auto",
        "Kind of noise to look for, as 'dipfast denoise --help' explains; auto is what the image "
        "looks like.",
    )
    data_range: Any = option(
        None,
        "R for values from 0 to R, or the pair DARKEST,BRIGHTEST. Without it, 0 to 255 for 8 bits "
        "and for anything else from the least to the largest value.",
        expected="a positive number or a pair (darkest, brightest)",
        unit="of the image",
    )
    plot: FileName | None = option(
        None,
        "Draw values, spectrum, outliers, and noise over brightness of the one image into this "
        "picture.",
        expected="a file name",
        role="local",
    )
    force: bool = option(False, "Replace files that exist.", role="local")
    json_: bool = option(
        False, "Print one line of JSON for each image, and nothing else.", role="local"
    )


OWN_OPTIONS: dict[TaskName, type[OwnOptions]] = {
    "denoise": DenoiseOwn,
    "inpaint": InpaintOwn,
    "super_resolve": OwnOptions,
    "restore": RestoreOwn,
}
"""The class of the command line's own options for each task."""

POSITIONAL = {"image": "IN", "output": "OUT"}
"""Options that are typed without a name, and what the help calls them."""

FILES = {"files": "FILE"}
"""The option of ``dipfast info`` that takes all names, and what the help calls each."""

NOT_TYPED = {"channel_axis", "image_shape", "snapshots"}
"""Options of the tasks that are not typed: a file tells the first two, and --strip the third."""


@dataclass(frozen=True)
class Request:
    """Hold what was typed.

    Attributes
    ----------
    task
        The name of the function of the library.
    own
        The options of the command line itself.
    options
        The options of the task that were typed, and no others.
    typed
        The words after the name of the program, to be shown again.
    """

    task: TaskName
    own: OwnOptions
    options: dict[str, Any]
    typed: tuple[str, ...] = field(default=(), compare=False)
