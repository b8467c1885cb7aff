"""Options that the command line has beside those of the tasks: files, and what is printed.

They are described in the same form as :mod:`dipfast.settings.settings`, and read in the same way.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict

from dipfast.settings.names import Boundary, NoiseKind, TaskName
from dipfast.settings.option import option

__all__ = [
    "FILES",
    "NOT_TYPED",
    "OWN_OPTIONS",
    "POSITIONAL",
    "CompareRequest",
    "DenoiseOwn",
    "InfoRequest",
    "InpaintOwn",
    "OwnOptions",
    "Request",
    "RestoreOwn",
    "StudioRequest",
    "ToolRequest",
    "TvRequest",
]

FileName: TypeAlias = str | Path


class OwnOptions(BaseModel):
    """Hold the options of the command line itself, for every command."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    image: FileName = option(
        ...,
        "The image: PNG, JPEG, TIFF, NumPy (.npy), FITS, Zarr, WebP, AVIF, HEIC, BMP, PGM, PPM, "
        "DICOM or camera RAW, 8 or 16 bit or float; - is standard input.",
        expected="a file name",
        role="image",
    )
    output: FileName = option(
        ...,
        "Where to write the result. Its settings go to OUT.json. If IN is a folder, or a pattern "
        "in quotes such as 'scans/*.tif', a folder too: every picture is restored. With - it goes "
        "to standard output in the format of IN, or as PNG where that is JPEG.",
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
    series: bool = option(
        False,
        "IN is a folder of DICOM slices, one series: restore them as one stack, into a new folder.",
        role="local",
    )
    workers: int | None = option(
        None,
        "Of folders: restore so many pictures at once, each in a process of its own with its share "
        "of the cores. Needs dipfast[cluster].",
        expected="a whole number from 1 up",
        role="local",
    )
    scheduler: str | None = option(
        None,
        "Of folders: the address of a scheduler of Dask, such as tcp://10.0.0.1:8786, whose "
        "workers restore the pictures. They find files under the same names. Needs "
        "dipfast[cluster].",
        expected="an address",
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
        "coding; auto is yes for a JPEG of quality 60 and less where nothing is said of noise, of "
        "outliers, the range or of a fit, and no curves, strip, tiles or checkpoint are asked for.",
        choices=("auto", "yes", "no"),
    )


class InpaintOwn(OwnOptions):
    """Hold the options of the command line itself for ``dipfast inpaint``."""

    mask: Any = option(
        None,
        "Which pixels are missing: a picture of the same size, white on black or strokes on a "
        "clear layer; alpha, those of IN that are not opaque; value:V, those of IN of value V; or "
        "color:R,G,B or color:#rrggbb, those of that colour. Without it, those that are NaN.",
        expected="a file name, alpha, value:V or color:R,G,B",
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
    boundary: Boundary = option(
        "unknown",
        "What lies beyond the border of the image; unknown suits cameras, which saw what goes on.",
    )


class ToolRequest(BaseModel):
    """Hold what was typed of a command that is no task: all its options are its own.

    Attributes
    ----------
    command
        The command, and the module of this package that does it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)
    command: ClassVar[str]


class InfoRequest(ToolRequest):
    """Hold what was typed of ``dipfast info``."""

    command = "info"

    files: tuple[FileName, ...] = option(
        ...,
        "Images: PNG, JPEG, TIFF, NumPy (.npy), FITS, Zarr, WebP, AVIF, HEIC, BMP, PGM, PPM, DICOM "
        "or camera RAW, 8 or 16 bit or float.",
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


class TvRequest(ToolRequest):
    """Hold what was typed of ``dipfast tv``."""

    command = "tv"

    image: FileName = option(..., "The image.", expected="a file name", role="image")
    output: FileName = option(
        ..., "Where to write the result.", expected="a file name", role="local"
    )
    weight: float | None = option(
        None,
        "Weight of total variation: larger is smoother, 0 changes nothing. Without it, that for "
        "the noise, which is 0.8 (with joint colours 1.2, anisotropic 0.6) times its standard "
        "deviation.",
        expected="a number from 0 up",
        unit="of the image",
    )
    sigma: float | Literal["auto"] = option(
        "auto",
        "Standard deviation of the noise, of which the weight is made.",
        expected="'auto' or a number from 0 up",
        unit="of the image",
    )
    kind: Literal["isotropic", "anisotropic"] = option(
        "isotropic", "Kind of total variation; isotropic joins the edges of three colours."
    )
    tol: float = option(
        1e-4, "Relative duality gap at which it ends.", expected="a number from 0 up"
    )
    max_num_iter: int = option(1000, "Iterations at most.", expected="a whole number from 1 up")
    reference: FileName | None = option(
        None, "The clean image, to report PSNR.", expected="a file name", role="image"
    )
    force: bool = option(False, "Replace files that exist.", role="local")
    json_: bool = option(False, "Print the report as JSON, and nothing else.", role="local")


class CompareRequest(ToolRequest):
    """Hold what was typed of ``dipfast compare``."""

    command = "compare"

    files: tuple[FileName, ...] = option(
        ...,
        "Images of the same size. Without --reference, the others are compared with the first.",
        expected="file names",
        role="image",
    )
    reference: FileName | None = option(
        None,
        "The clean image, which all are compared with.",
        expected="a file name",
        role="image",
    )
    data_range: Any = option(
        None,
        "R for values from 0 to R, or the pair DARKEST,BRIGHTEST, for PSNR and SSIM. Without it, "
        "0 to 255 for 8 bits; 0 to 65535 for 16 bits that use them (from 16384 up); 0 to 1 for "
        "floats in [0, 1] that fill half of it; and for anything else from the least to the "
        "largest value of the image that is compared with.",
        expected="a positive number or a pair (darkest, brightest)",
        unit="of the image",
    )
    picture: FileName | None = option(
        None,
        "Draw the images side by side, with their differences below, into this picture.",
        expected="a file name",
        role="local",
    )
    force: bool = option(False, "Replace files that exist.", role="local")
    json_: bool = option(
        False, "Print one line of JSON for each image, and nothing else.", role="local"
    )


class StudioRequest(ToolRequest):
    """Hold what was typed of ``dipfast studio``."""

    command = "studio"

    files: tuple[FileName, ...] = option(
        (), "A picture to begin with.", expected="a file name", role="image"
    )
    port: int | None = option(
        None,
        "The port of the page; without it, the first free one from 8765 on.",
        expected="a whole number from 1 to 65535",
        role="local",
    )
    host: str = option(
        "127.0.0.1",
        "The address to listen at. Other computers reach the page at another one than 127.0.0.1, "
        "with a token that is printed.",
        expected="an address of this computer",
        role="local",
    )
    open_: bool = option(True, "Open the page in a browser.", role="local")


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
"""The option that takes any number of names, and what the help calls each."""

NOT_TYPED = {"channel_axis", "stack_axis", "image_shape", "snapshots"}
"""Options of the tasks that are not typed: a file tells the first three, and --strip the last."""


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
