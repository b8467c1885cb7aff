"""What ``dipfast info`` does: tell what images are, and what noise they have."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from dipfast.apps.cli.commands import FUNCTIONS, option_name
from dipfast.apps.cli.exits import DONE, FAILED
from dipfast.apps.cli.failures import told
from dipfast.apps.cli.options import InfoRequest
from dipfast.apps.cli.streams import say
from dipfast.apps.cli.words import Words, one_line
from dipfast.apps.cli.work import check_free
from dipfast.checks import check_data_range
from dipfast.errors import InputError
from dipfast.settings.jpeg import jpeg_quality
from dipfast.settings.settings import DenoiseSettings, takes_artefacts_out

if TYPE_CHECKING:
    from dipfast.images.files import ImageFile

__all__ = ["run", "words_of"]


def run(request: InfoRequest) -> int:
    """Tell of each image what was asked for, and return the exit code.

    It is that of the worst failure; the other images are told all the same.
    """
    if request.data_range is not None:
        check_data_range(request.data_range)
    if request.plot is not None:
        _check_plot(request.plot, request)
    codes = [told(partial(_tell, path, request), words_of(path)) for path in request.files]
    # Of the codes of errors, the one for what the caller can put right is the largest.
    return max(codes)


def words_of(path: str | Path | None = None) -> Words:
    """Return the words of the command line for what the library says about an image."""
    # "noise" is not among them: as the first word of a line it means the noise itself.
    names = {name: option_name(name) for name in ("data_range", "sigma")}
    typed = [] if path is None else [str(path)]
    return Words({**names, **({"image": str(path)} if path else {})}, {}, FUNCTIONS, typed)


def _check_plot(path: str | Path, request: InfoRequest) -> None:
    """Refuse a plot of several images, one that cannot be drawn, or one over an image."""
    from dipfast.apps.report import check_figure

    if len(request.files) > 1:
        raise InputError(f"--plot draws one image, got {len(request.files)}; name one FILE")
    if Path(path).resolve() == Path(request.files[0]).resolve():
        raise InputError(f"--plot would overwrite {request.files[0]}; choose another name")
    check_free(check_figure, path, overwrite=request.force)


def _tell(path: str | Path, request: InfoRequest) -> int:
    """Tell one image, and return the exit code."""
    import dipfast
    from dipfast.images import files

    source = files.read_image(path)
    if source.stack_axes and request.plot is not None:
        raise InputError(
            f"--plot draws one image, and {path} holds a stack ({source.described_stack()})"
        )
    quality = _quality_of(path) if source.format == "JPEG" else None
    values = source.image[np.isfinite(source.image)]
    ends = [values.min().item(), values.max().item()] if values.size else []
    cost, what = _Cost.of(source), "each plane" if source.stack_axes else "it"
    if not request.json_:
        # The noise of an image may not be possible to tell, and takes a while.
        print(one_line(f"{path}: {_describe(source, ends)}"), flush=True)
        if quality is not None:
            print(f"  JPEG of quality about {quality}", flush=True)
        for line in (*source.remarks, *_describe_size(source), cost.described(what)):
            print(f"  {line}", flush=True)
    report = dipfast.estimate_noise(
        source.image,
        noise=request.noise,
        data_range=request.data_range,
        channel_axis=source.channel_axis,
        stack_axis=source.stack_axis,
    )
    if request.json_:
        told_of_file = {
            "file": str(path),
            "format": source.format,
            "shape": list(source.image.shape),
            "channel_axis": source.channel_axis,
            "stack_axes": list(source.stack_axes),
            "stack_names": source.stack_names,
            "opacity": source.alpha is not None,
            "dtype": str(source.image.dtype),
            "values": ends,
            "jpeg_quality": quality,
            "memory": {
                "balanced": cost.balanced,
                "fast": cost.fast,
                **({"together": cost.together} if cost.together else {}),
            },
        }
        print(json.dumps({**told_of_file, "noise": report.report()}))
    else:
        words = words_of()
        for line in report.lines():
            print(f"  {words.translate(line)}")
    return DONE if request.plot is None else _draw(report, source, request.plot)


def _describe(source: ImageFile, ends: Sequence[float]) -> str:
    """Return what an image is, in words."""
    height, width = source.size
    parts = [source.format, f"{width} x {height} pixels"]
    if source.stack_axes:
        parts.append(f"stack of {source.described_stack()}")
    if source.channel_axis is not None:
        count = source.image.shape[source.channel_axis]
        parts.append(f"{count} channel{'s' * (count > 1)}")
    if source.alpha is not None:
        parts.append("opacity")
    parts.append(str(source.image.dtype))
    parts.append(f"values {ends[0]:.6g} to {ends[1]:.6g}" if ends else "no value is finite")
    return ", ".join(parts)


def _describe_size(source: ImageFile) -> list[str]:
    """Return how large a pixel of a stack is, in words, where that is known."""
    resolution = source.metadata.get("resolution")
    if not source.stack_axes or resolution is None or not resolution.unit:
        return []
    x, y = (float(1 / value) for value in (resolution.x, resolution.y))
    return [f"pixels of {x:.4g} x {y:.4g} {resolution.unit}"]


class _Cost(NamedTuple):
    """What denoising takes with default settings on a CPU: bytes by quality, and iterations.

    ``together`` are the bytes with either quality where planes of a stack help each other, 0 for a
    single picture.
    """

    balanced: int
    fast: int
    iterations: int
    in_tiles: bool
    of_jpeg: bool = False
    together: int = 0

    @classmethod
    def of(cls, source: ImageFile) -> _Cost:
        """Return what it takes for an image, or for each plane of a stack."""
        from dipfast.run.fits import FITS
        from dipfast.run.memory import estimate_direct, estimate_fit, fits_into_memory, sizes_of
        from dipfast.run.volumes import most_together
        from dipfast.settings.presets import get_preset

        axis = source.channel_axis
        channels = 1 if axis is None else source.image.shape[axis]
        shape = (1, channels, *source.size)
        # The picture without a network comes first.
        direct = estimate_direct(shape)
        if takes_artefacts_out(source.jpeg, DenoiseSettings()):  # without a network
            return cls(direct, direct, 0, False, of_jpeg=True)
        _, preset = get_preset("denoise", "balanced", None, "joined")
        sizes = sizes_of(preset, shape)
        need = estimate_fit(**sizes)
        assert need is not None  # of a network of ours it is known
        iterations = FITS["balanced"] * preset.iterations
        # Planes that help each other are all along one axis of a stack.
        most = most_together(DenoiseSettings(), max(source.stack_shape, default=1))
        together = estimate_direct((most, *shape[1:])) if most > 1 else 0
        in_tiles = not fits_into_memory(**sizes)
        return cls(max(need, direct), direct, iterations, in_tiles, together=together)

    def described(self, what: str) -> str:
        """Return it in words."""
        if self.of_jpeg:
            return (
                f"to denoise {what} is to take out the artefacts of JPEG: about "
                f"{_gigabytes(self.balanced)} of memory, and no iterations; --jpeg no takes noise "
                "out instead"
            )
        tiles, each = "", ""
        if self.in_tiles:
            tiles, each = ", more than there is, so that it is cut into tiles,", " for each"
        text = (
            f"to denoise {what} takes about {_gigabytes(self.balanced)} of memory{tiles} and "
            f"{self.iterations} iterations at most{each}; "
            f"{_gigabytes(self.fast)} and none with --quality fast"
        )
        if self.together:
            text += f"; {_gigabytes(self.together)} and none where planes help each other"
        return text


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.2g} GB" if size < 1e11 else f"{size / 1e9:.0f} GB"


def _quality_of(path: str | Path) -> int | None:
    """Return the quality of a JPEG that has been read without fault."""
    from PIL.JpegImagePlugin import jpeg_factory

    from dipfast.images import files

    with files.open_regular(path) as stream, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of EXIF
        with jpeg_factory(stream) as image:
            return jpeg_quality(image.quantization)


def _draw(report: Any, source: ImageFile, path: str | Path) -> int:
    """Draw the noise of an image, and return the exit code."""
    from dipfast.apps.report import draw_noise

    try:
        draw_noise(report, source.image, path)
    except Exception as error:  # matplotlib may raise anything
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        say(f"error: --plot {path} could not be drawn: {reason}")
        return FAILED
    return DONE
