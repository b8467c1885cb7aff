"""Figures of an image against another one: PSNR, SSIM, and where they differ."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from dipfast import ops
from dipfast.checks import check_data_range
from dipfast.errors import InputError
from dipfast.images.layout import find_data_range, usual_width

__all__ = ["Figures", "compare", "range_for"]

_Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Figures:
    """Hold how far an image is from another one.

    Parameters
    ----------
    psnr
        Peak signal-to-noise ratio in dB, infinite for equal images.
    ssim
        Structural similarity; None where it is not defined, and ``why_no_ssim`` says why.
    rms
        Root of the mean squared difference, in the unit of the images.
    mean
        Mean of the difference, the image less the other one.
    largest
        The largest difference, with its sign.
    place
        Row and column of it, behind the plane of a stack.
    left_out
        Share of the values that are not finite in one of both, which do not count.
    why_no_ssim
        Reason in words, empty where there is an SSIM.
    """

    psnr: float
    ssim: float | None
    rms: float
    mean: float
    largest: float
    place: tuple[int, ...]
    left_out: float
    why_no_ssim: str = ""

    def line(self) -> str:
        """Return the figures in words.

        Returns
        -------
        str
            One line.
        """
        if self.rms == 0:
            text = "equal, to the last bit of every value"
        else:
            *plane, row, column = self.place
            of_plane = f" of plane {plane[0]}" if plane else ""
            similar = f"no SSIM ({self.why_no_ssim})" if self.ssim is None else f"{self.ssim:.4f}"
            similar = similar if self.ssim is None else f"SSIM {similar}"
            text = (
                f"PSNR {self.psnr:.2f} dB, {similar}, differences: RMS {self.rms:.4g}, "
                f"mean {self.mean:+.4g}, largest {self.largest:+.4g} at row {row}, "
                f"column {column}{of_plane}"
            )
        if self.left_out:
            text += f"; {self.left_out:.2%} of the values are not finite and do not count"
        return text

    def report(self) -> dict[str, Any]:
        """Return the figures for JSON, which has no infinity.

        Returns
        -------
        dict
            Numbers by name.
        """
        return {
            "psnr": self.psnr if math.isfinite(self.psnr) else None,
            "ssim": self.ssim,
            "rms": self.rms,
            "mean": self.mean,
            "largest": self.largest,
            "place": list(self.place),
            "left_out": self.left_out,
        }


def range_for(clean: _Array, data_range: Any = None) -> tuple[tuple[float, float], str]:
    """Return the range of values for PSNR, SSIM and pictures, and what it is.

    Parameters
    ----------
    clean
        The image that others are compared with.
    data_range
        The range that was asked for; None finds it.

    Returns
    -------
    ends : tuple of float
        What is black and what is white, in the unit of the image.
    source : str
        What was assumed, in words.

    Raises
    ------
    InputError
        If no range can be meant.
    """
    if data_range is not None:
        check_data_range(data_range)
        return data_range if isinstance(data_range, tuple) else (0.0, data_range), "as asked for"
    if clean.dtype == np.uint8:
        return (0.0, 255.0), "of 8 bits"
    finite = clean[np.isfinite(clean)]
    if finite.size == 0:
        raise InputError("no value of the image that is compared with is finite")
    low, high = find_data_range("image", finite)
    width = usual_width(low, high, clean.dtype)
    if width is not None:
        return (0.0, width), "of floats from 0 to 1" if clean.dtype.kind == "f" else "of 16 bits"
    return (low, high), f"of the values, {low:.6g} to {high:.6g}"


def compare(image: _Array, clean: _Array, width: float) -> Figures:
    """Return how far an image is from another one.

    Parameters
    ----------
    image, clean
        Arrays (H, W, C) of the same shape, with the axes of a stack in front.
    width
        The width of the range of values.

    Returns
    -------
    Figures
        The figures.

    Raises
    ------
    InputError
        If no value is finite in both.
    """
    is_stack = image.ndim > 3
    a, b = (
        each.astype(np.float64).reshape(-1, *each.shape[-3:]) if is_stack else each.astype(float)
        for each in (image, clean)
    )
    counts = np.isfinite(a) & np.isfinite(b)
    if not counts.any():
        raise InputError("there is no pixel in which both images are finite")
    difference = np.where(counts, a, 0) - np.where(counts, b, 0)
    mean_square = float(np.mean(difference[counts] ** 2))
    at = np.unravel_index(int(np.argmax(abs(difference))), difference.shape)
    ssim, why = _ssim(a, b, width, bool(counts.all()))
    return Figures(
        psnr=10 * math.log10(width**2 / mean_square) if mean_square else math.inf,
        ssim=ssim,
        rms=math.sqrt(mean_square),
        mean=float(np.mean(difference[counts])),
        largest=float(difference[at]),
        place=tuple(int(index) for index in at[:-1]),
        left_out=float(1 - counts.mean()),
        why_no_ssim=why,
    )


def _ssim(a: _Array, b: _Array, width: float, complete: bool) -> tuple[float | None, str]:
    """Return the structural similarity, None with a reason where it is not defined."""
    if not complete:
        return None, "some values are not finite"
    try:
        return float(ops.ssim(a, b, data_range=width, channel_axis=-1)), ""
    except InputError:
        return None, "the images are smaller than its window of 11 x 11 pixels"
