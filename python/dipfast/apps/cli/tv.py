"""What ``dipfast tv`` does: remove noise by total variation alone."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dipfast.apps.cli import figures
from dipfast.apps.cli.commands import FUNCTIONS, option_name
from dipfast.apps.cli.exits import DONE, WorkError
from dipfast.apps.cli.options import TvRequest
from dipfast.apps.cli.pictures import read_reference
from dipfast.apps.cli.words import Words, one_line
from dipfast.apps.cli.work import check_output
from dipfast.errors import InputError
from dipfast.images.layout import find_data_range
from dipfast.settings.option import options_of

if TYPE_CHECKING:
    from dipfast.images.files import ImageFile

__all__ = ["run", "words_of"]

# So many channels are colours, whose edges are at the same places.
_COLOURS = 3


def run(request: TvRequest) -> int:
    """Do what was asked for, and return the exit code."""
    from dipfast.images import files

    if request.weight is not None and request.sigma != "auto":
        raise InputError(
            "--sigma is what the weight is made of, so not both of --weight and --sigma"
        )
    source = files.read_image(request.image)
    if Path(request.output).resolve() == Path(request.image).resolve() and not request.force:
        raise InputError(f"{request.output} is IN itself; name another OUT, or --force replaces it")
    check_output(request.output, source, overwrite=request.force)
    reference, notes = None, list(source.assumptions)
    if request.reference is not None:
        if Path(request.output).resolve() == Path(request.reference).resolve():
            raise InputError(f"OUT would overwrite {request.output}; choose another name")
        reference = read_reference(str(request.reference), source, str(request.image), 1, notes)
        _check_unit(reference, source, request)
    cleaned, told = _denoised(source, request)
    try:
        files.write_image(request.output, cleaned, like=source, overwrite=request.force)
    except OSError as error:  # such as a disk that is full: the work is done, and was asked rightly
        reason = error.strerror or error
        raise WorkError(f"{request.output} could not be written: {reason}") from error
    if reference is not None:
        told |= _ratios(source, cleaned, reference)
    _tell(request, source, told, notes)
    return DONE


def _check_unit(reference: Any, source: ImageFile, request: TvRequest) -> None:
    """Refuse a clean picture of other channels, or of values that may be in another unit."""
    image = source.image
    if reference.shape != image.shape:
        raise InputError(
            f"--reference {request.reference} has shape {reference.shape}, and {request.image} has "
            f"{image.shape}; convert one of them"
        )
    mine, other = reference.dtype, image.dtype
    if not (mine.name == other.name or mine.kind == other.kind == "f"):
        raise InputError(
            f"--reference {request.reference} is {mine} and {request.image} is {other}, whose "
            "values may be in other units; convert one of them"
        )


def words_of() -> Words:
    """Return the words of the command line for what the library says."""
    names = {name: option_name(name) for name in options_of(TvRequest)}
    return Words({**names, "image": "IN", "output": "OUT"}, {}, FUNCTIONS, [])


def _denoised(source: ImageFile, request: TvRequest) -> tuple[Any, dict[str, Any]]:
    """Return the image without noise, in its own type, and what was done."""
    from dipfast import ops

    image = source.image
    if not np.isfinite(image).all():
        raise InputError(
            "image has values that are NaN or infinite; dipfast.inpaint(image, mask) fills them"
        )
    find_data_range("image", image)  # refuses integers that no float holds
    # Without channels there is an axis of one, whatever the last axis of the picture looks like.
    values = source.arranged().astype(np.float64)
    joint = request.kind == "isotropic" and values.shape[-1] == _COLOURS
    noise = None
    if request.weight is None:
        noise = request.sigma
        if noise == "auto":
            planes = np.moveaxis(values, -1, 0).reshape(-1, *source.size)
            noise = float(ops.estimate_noise(planes, channel_axis=0))
    cleaned, gap = ops.tv_denoise(
        values,
        request.weight,
        sigma="auto" if noise is None else noise,
        kind=request.kind,
        tol=request.tol,
        max_num_iter=request.max_num_iter,
        channel_axis=-1,
        joint_channels=joint,
        return_gap=True,
    )
    cleaned = source.as_before(cleaned)
    if image.dtype.kind in "iu":
        ends = np.iinfo(image.dtype)
        cleaned = cleaned.round().clip(ends.min, ends.max)
    told = {
        "sigma": noise,
        "weight": request.weight,
        "kind": request.kind,
        "joint_channels": joint,
        "gap": float(gap),
    }
    return cleaned.astype(image.dtype), told


def _ratios(source: ImageFile, cleaned: Any, reference: Any) -> dict[str, Any]:
    """Return PSNR before and after, against a clean image."""
    (low, high), _ = figures.range_for(reference)
    clean = replace(source, image=reference).arranged()
    before, after = (
        figures.compare(replace(source, image=image).arranged(), clean, high - low)
        for image in (source.image, cleaned)
    )
    return {"psnr_input": before.psnr, "psnr": after.psnr}


def _tell(request: TvRequest, source: ImageFile, told: dict[str, Any], notes: list[str]) -> None:
    """Print what was done."""
    if request.json_:
        finite = {
            name: None if isinstance(value, float) and math.isinf(value) else value
            for name, value in told.items()
        }
        print(json.dumps({"file": str(request.output), **finite}))
        return
    by = f"weight {told['weight']:g}" if told["sigma"] is None else f"noise {told['sigma']:.3g}"
    line = f"{request.output}: {told['kind']} total variation, {by}"
    line += ", colours joined" if told["joint_channels"] else ""
    if told["gap"] > request.tol:
        line += f", ended at a gap of {told['gap']:.2g} (--max-num-iter)"
    if "psnr" in told:
        line += f", PSNR {told['psnr_input']:.2f} -> {told['psnr']:.2f} dB"
    stack = [f"stack of {source.described_stack()}"] if source.stack_axes else []
    print(one_line("; ".join([line, *stack, *notes])))
