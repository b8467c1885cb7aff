"""Make noisy pictures like those of real devices out of clean ones, with the true noise known.

The functions that add noise return a :class:`Simulated`: the noisy picture and the one without
noise, in the same unit. Others make clean pictures, or change pictures; ``Simulated.change``
applies such a change to both pictures. All randomness comes from the generator that is given.

A clean picture is of whole numbers, whose largest value is white (255, 65535), or of floats,
where 1 is white.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np
from PIL import Image, ImageDraw

__all__ = [
    "CAMERA_LEVELS",
    "Demosaic",
    "Simulated",
    "bordered",
    "camera",
    "emccd",
    "fluorescence",
    "mosaic",
    "outliers",
    "page",
    "poisson_gaussian",
    "saturated",
    "scanner",
    "scmos",
    "speckle",
    "stars",
    "upscaled",
    "white",
]

Pixels: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"
Floats: TypeAlias = "np.ndarray[Any, np.dtype[np.float64]]"
Mask: TypeAlias = "np.ndarray[Any, np.dtype[np.bool_]]"
Demosaic: TypeAlias = Literal["bilinear", "malvar"]


@dataclass(frozen=True)
class Simulated:
    """Hold a noisy picture and the same picture without noise.

    Parameters
    ----------
    name
        What made the noise, for tables: ``"camera level=2 malvar jpeg=85"``.
    noisy
        The picture, of uint8, uint16 or float32, and of shape (H, W) or (H, W, 3).
    clean
        The same without noise, and with the same dtype: nearly what the average of very many
        pictures would be, of different devices of the kind.
    width
        Width of the value range, in the unit of the pictures: 255, 65535, ...
    """

    name: str
    noisy: Pixels
    clean: Pixels
    width: float

    @property
    def noise(self) -> Floats:
        """Return the true noise."""
        return self.noisy.astype(np.float64) - self.clean

    @property
    def sigma(self) -> float:
        """Return the root mean square of the true noise."""
        return math.sqrt(float(np.mean(self.noise**2)))

    def autocorrelation(self, dy: int, dx: int) -> float:
        """Return the correlation of the true noise with itself, ``dy`` rows and ``dx`` columns on.

        Covariances are averaged over the channels; without any noise, the result is 0.
        """
        noise = self.noise - self.noise.mean(axis=(0, 1))
        rows, columns = noise.shape[:2]
        if abs(dy) >= rows or abs(dx) >= columns:
            raise ValueError(f"({dy}, {dx}) is too far for {rows} rows and {columns} columns")
        here = noise[max(-dy, 0) : rows - max(dy, 0), max(-dx, 0) : columns - max(dx, 0)]
        there = noise[max(dy, 0) : rows + min(dy, 0), max(dx, 0) : columns + min(dx, 0)]
        variance = float(np.mean(noise**2))
        return float(np.mean(here * there)) / variance if variance > 0 else 0.0

    def change(self, function: Callable[[Pixels], Pixels], name: str) -> Simulated:
        """Return the pictures after ``function``, and append ``name`` to the name."""
        noisy, clean = function(self.noisy), function(self.clean)
        return replace(self, name=f"{self.name} {name}", noisy=noisy, clean=clean)


# --- values --------------------------------------------------------------------------------


def _whole(values: Floats, dtype: type[np.unsignedinteger[Any]]) -> Pixels:
    """Return values rounded and clipped to a dtype of whole numbers."""
    result: Pixels = values.round().clip(0, np.iinfo(dtype).max).astype(dtype)
    return result


def _share_of_white(clean: Pixels) -> Floats:
    """Return a clean picture as floats, where 1 is white."""
    white = np.iinfo(clean.dtype).max if clean.dtype.kind in "ui" else 1.0
    return clean.astype(np.float64) / white


def _filtered(plane: Floats, kernel: Floats) -> Floats:
    """Return the correlation of a plane with a kernel of odd size.

    The plane is mirrored at its outermost pixels, which keeps the pattern of a mosaic.
    """
    up, left = kernel.shape[0] // 2, kernel.shape[1] // 2
    padded = np.pad(plane, ((up, up), (left, left)), mode="reflect")
    result = np.zeros_like(plane)
    for (row, column), weight in np.ndenumerate(kernel):
        if weight:
            shifted = padded[row : row + plane.shape[0], column : column + plane.shape[1]]
            result += weight * shifted
    return result


def _blurred(plane: Floats, sigma: float) -> Floats:
    """Return a plane after a Gaussian blur."""
    steps = np.arange(-math.ceil(3 * sigma), math.ceil(3 * sigma) + 1)
    weights = np.exp(-0.5 * (steps / sigma) ** 2)
    weights /= weights.sum()
    return _filtered(_filtered(plane, weights[None, :]), weights[:, None])


# --- cameras -------------------------------------------------------------------------------

# The electrons of a white pixel and the read noise in electrons, by level. Before JPEG the noise of
# a medium grey is about 3, 6, 12 and 20 levels of 8 bits: 10 % less after bilinear demosaicking,
# 10 % more after that of Malvar, whose filters sharpen.
CAMERA_LEVELS = {1: (2100.0, 2.0), 2: (540.0, 2.0), 3: (152.0, 2.0), 4: (70.0, 2.0)}

_LARGEST_RAW = 4095
_WHITE_BALANCE = (2.0, 1.0, 1.6)


def _to_linear(srgb: Floats) -> Floats:
    """Return the light of values of sRGB; both in [0, 1]."""
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def _to_srgb(linear: Floats) -> Floats:
    """Return the values of sRGB of light; both in [0, 1]."""
    curve = 1.055 * np.maximum(linear, 0.0031308) ** (1 / 2.4) - 0.055
    return np.where(linear <= 0.0031308, linear * 12.92, curve)


def _colours(rows: int, columns: int) -> Pixels:
    """Return which channel each pixel of an RGGB mosaic measures."""
    pattern = np.array([[0, 1], [1, 2]])
    return np.tile(pattern, (rows // 2 + 1, columns // 2 + 1))[:rows, :columns]


def _exposed(
    clean: Pixels,
    generator: np.random.Generator,
    level: int,
    white_balance: tuple[float, float, float],
) -> tuple[Floats, Floats]:
    """Return a mosaic as a sensor measures it, and the mosaic without noise; both in [0, 1]."""
    if clean.ndim != 3 or clean.shape[2] != 3:
        raise ValueError(f"a camera takes pictures of shape (H, W, 3), got {clean.shape}")
    if level not in CAMERA_LEVELS:
        raise ValueError(f"level must be one of {sorted(CAMERA_LEVELS)}, got {level}")
    white, read_noise = CAMERA_LEVELS[level]
    light = _to_linear(_share_of_white(clean)) / np.array(white_balance)
    channel = _colours(*clean.shape[:2])[..., None]
    true: Floats = np.take_along_axis(light, channel, axis=2)[..., 0]
    electrons = generator.poisson(true * white) + generator.normal(0, read_noise, true.shape)
    measured = (electrons / white).clip(0, 1)
    return (measured * _LARGEST_RAW).round() / _LARGEST_RAW, true


# The linear filters of Malvar, He and Cutler, "High-quality linear interpolation for demosaicing
# of Bayer-patterned color images", 2004, figure 2.
# fmt: off
_GREEN = np.array([
    [0, 0, -1, 0, 0],
    [0, 0, 2, 0, 0],
    [-1, 2, 4, 2, -1],
    [0, 0, 2, 0, 0],
    [0, 0, -1, 0, 0],
]) / 8
# Red at green where the red neighbours are to the left and to the right.
_SAME_ROW = np.array([
    [0, 0, 0.5, 0, 0],
    [0, -1, 0, -1, 0],
    [-1, 4, 5, 4, -1],
    [0, -1, 0, -1, 0],
    [0, 0, 0.5, 0, 0],
]) / 8
# Red at blue, and blue at red.
_DIAGONAL = np.array([
    [0, 0, -1.5, 0, 0],
    [0, 2, 0, 2, 0],
    [-1.5, 0, 6, 0, -1.5],
    [0, 2, 0, 2, 0],
    [0, 0, -1.5, 0, 0],
]) / 8
# fmt: on


def _bilinear(raw: Floats) -> Floats:
    """Return the three channels of an RGGB mosaic, each the mean of its nearest pixels."""
    colours = _colours(*raw.shape)
    near = np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]]) / 4
    green = np.array([[0, 1, 0], [1, 4, 1], [0, 1, 0]]) / 4
    kernels = (near, green, near)
    planes = [_filtered(raw * (colours == i), kernels[i]) for i in range(3)]
    return np.stack(planes, axis=-1)


def _malvar(raw: Floats) -> Floats:
    """Return the three channels of an RGGB mosaic, by the filters of Malvar, He and Cutler."""
    colours = _colours(*raw.shape)
    same_row, same_column = _filtered(raw, _SAME_ROW), _filtered(raw, _SAME_ROW.T)
    diagonal = _filtered(raw, _DIAGONAL)
    red_row = (np.arange(raw.shape[0]) % 2 == 0)[:, None]
    green = np.where(colours == 1, raw, _filtered(raw, _GREEN))
    red = np.where(red_row, same_row, same_column)
    red = np.where(colours == 0, raw, np.where(colours == 2, diagonal, red))
    blue = np.where(red_row, same_column, same_row)
    blue = np.where(colours == 2, raw, np.where(colours == 0, diagonal, blue))
    return np.stack([red, green, blue], axis=-1)


_DEMOSAIC: dict[str, Callable[[Floats], Floats]] = {"bilinear": _bilinear, "malvar": _malvar}


def _developed(
    raw: Floats, demosaic: Demosaic, white_balance: tuple[float, float, float]
) -> Pixels:
    """Return the picture of 8 bits that a camera makes of a mosaic."""
    # Balanced first: the filters of Malvar take edges of one colour for those of another.
    light = _DEMOSAIC[demosaic](raw * np.array(white_balance)[_colours(*raw.shape)])
    return _whole(255 * _to_srgb(light.clip(0, 1)), np.uint8)


def _through_jpeg(picture: Pixels, quality: int) -> Pixels:
    """Return a picture of 8 bits after compression by JPEG, with chroma at half the resolution."""
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "JPEG", quality=quality, subsampling="4:2:0")
    with Image.open(stream) as image:
        return np.array(image)


def mosaic(
    clean: Pixels,
    generator: np.random.Generator,
    *,
    level: int,
    white_balance: tuple[float, float, float] = _WHITE_BALANCE,
) -> Simulated:
    """Return the raw RGGB mosaic of a camera, in counts of 12 bits.

    Parameters
    ----------
    clean
        The picture in colours of sRGB.
    generator
        Where the noise comes from.
    level
        Strength of the noise, a key of ``CAMERA_LEVELS``.
    white_balance
        What red, green and blue will be multiplied by, each at least 1.
    """
    noisy, true = (
        _whole(raw * _LARGEST_RAW, np.uint16)
        for raw in _exposed(clean, generator, level, white_balance)
    )
    return Simulated(f"mosaic level={level}", noisy, true, _LARGEST_RAW)


def camera(
    clean: Pixels,
    generator: np.random.Generator,
    *,
    level: int,
    demosaic: Demosaic = "bilinear",
    white_balance: tuple[float, float, float] = _WHITE_BALANCE,
    quality: int | None = 90,
) -> Simulated:
    """Return the picture of a camera that does not denoise.

    The steps are photons and read noise, clipping, 12 bits, white balance, demosaicking, the curve
    of sRGB, 8 bits and JPEG. If the noisy picture goes through JPEG, the clean one goes through
    JPEG of quality 100 with the same subsampling of chroma: the error of the compression counts
    as noise. At high levels the mean of the noise is not 0: clipping makes dark pixels brighter,
    the curve makes the others a little darker.

    Parameters
    ----------
    clean
        The picture in colours of sRGB.
    generator
        Where the noise comes from.
    level
        Strength of the noise, a key of ``CAMERA_LEVELS``.
    demosaic
        How the mosaic becomes three channels.
    white_balance
        What red, green and blue are multiplied by, each at least 1.
    quality
        Quality of JPEG; None for no compression.
    """
    if demosaic not in _DEMOSAIC:
        raise ValueError(f"demosaic must be one of {sorted(_DEMOSAIC)}, got {demosaic!r}")
    noisy, true = (
        _developed(raw, demosaic, white_balance)
        for raw in _exposed(clean, generator, level, white_balance)
    )
    name = f"camera level={level} {demosaic}"
    if quality is not None:
        name = f"{name} jpeg={quality}"
        noisy, true = _through_jpeg(noisy, quality), _through_jpeg(true, 100)
    return Simulated(name, noisy, true, 255)


# --- other devices -------------------------------------------------------------------------


def white(clean: Pixels, generator: np.random.Generator, sigma: float) -> Simulated:
    """Return white Gaussian noise on a picture, clipped and rounded to 8 bits.

    Parameters
    ----------
    clean
        The picture in levels of 8 bits; floats may be beyond 255, as :func:`saturated` makes them.
    generator
        Where the noise comes from.
    sigma
        Standard deviation of the noise, in levels of 8 bits.
    """
    true = clean.astype(np.float64)
    noisy = true + generator.normal(0, sigma, true.shape)
    return Simulated(f"white {sigma:g}", _whole(noisy, np.uint8), _whole(true, np.uint8), 255)


def poisson_gaussian(
    clean: Pixels,
    generator: np.random.Generator,
    peak: float,
    read_noise: float = 3.0,
    offset: float = 100.0,
) -> Simulated:
    """Return a picture with photon and read noise, in counts of 16 bits, one for each photon.

    Parameters
    ----------
    clean
        The picture.
    generator
        Where the noise comes from.
    peak
        Expected photons of a white pixel.
    read_noise
        Standard deviation of what reading adds, in counts.
    offset
        Counts of a pixel without light.
    """
    true = _share_of_white(clean) * peak
    noisy = generator.poisson(true) + generator.normal(offset, read_noise, true.shape)
    name = f"poisson {peak:g} read={read_noise:g}"
    return Simulated(name, _whole(noisy, np.uint16), _whole(true + offset, np.uint16), 65535)


def emccd(
    clean: Pixels,
    generator: np.random.Generator,
    photons: float,
    gain: float = 300.0,
    read_noise: float = 50.0,
    offset: float = 500.0,
    *,
    electrons: float = 10.0,
) -> Simulated:
    """Return a picture of a camera that multiplies its electrons, in counts of 16 bits.

    The multiplication doubles the variance of the photons: the excess noise factor is the square
    root of 2. Beyond 65535 counts the picture is clipped.

    Parameters
    ----------
    clean
        The picture.
    generator
        Where the noise comes from.
    photons
        Expected photons of a white pixel.
    gain
        Mean number of electrons that the register makes of one.
    read_noise
        Standard deviation of what reading adds, in electrons after the register.
    offset
        Counts of a pixel without light.
    electrons
        Electrons of a count, after the register.
    """
    true = _share_of_white(clean) * photons
    # The sum of n exponentials has a gamma distribution; of shape 0, it is 0.
    multiplied = generator.gamma(generator.poisson(true), gain)
    noisy = (multiplied + generator.normal(0, read_noise, true.shape)) / electrons + offset
    true = true * (gain / electrons) + offset
    name = f"emccd {photons:g} gain={gain:g}"
    return Simulated(name, _whole(noisy, np.uint16), _whole(true, np.uint16), 65535)


def scmos(clean: Pixels, generator: np.random.Generator, photons: float) -> Simulated:
    """Return a picture of a camera whose pixels all differ, in counts of 16 bits.

    Each pixel has its own gain (2 counts for an electron, with a spread of 5 %), its own offset
    (100 counts, with a spread of 2), and its own read noise (log-normal, with a median of 1.2
    electrons). One pixel of 2000 is hot: 200 electrons or more without light. What is constant
    in a pixel but differs between pixels is noise too: the clean picture does not have it.

    Parameters
    ----------
    clean
        The picture.
    generator
        Where the noise comes from.
    photons
        Expected photons of a white pixel.
    """
    true = _share_of_white(clean) * photons
    gain = 2.0 * generator.normal(1, 0.05, true.shape)
    offset = generator.normal(100, 2, true.shape)
    read_noise = 1.2 * generator.lognormal(0, 0.5, true.shape)
    hot = generator.random(true.shape) < 1 / 2000
    dark = np.where(hot, 200 + generator.exponential(1000, true.shape), 0)
    electrons = generator.poisson(true + dark) + generator.normal(0, read_noise)
    noisy, true = gain * electrons + offset, 2.0 * true + 100
    name = f"scmos {photons:g}"
    return Simulated(name, _whole(noisy, np.uint16), _whole(true, np.uint16), 65535)


def scanner(
    clean: Pixels,
    generator: np.random.Generator,
    sigma: float,
    stripe: float,
    *,
    along: Literal["rows", "columns"] = "columns",
) -> Simulated:
    """Return a scan of 8 bits: noise that is blurred along the rows, and stripes.

    Parameters
    ----------
    clean
        The picture in levels of 8 bits.
    generator
        Where the noise comes from.
    sigma
        Standard deviation of the noise after it is blurred over two pixels, in levels of 8 bits.
    stripe
        Standard deviation of the offsets of whole rows or columns, in levels of 8 bits.
    along
        Whether a stripe is a row or a column. In colour, each channel has its own stripes.
    """
    true = clean.astype(np.float64)
    rows, columns = true.shape[:2]
    fine = generator.normal(0, sigma * math.sqrt(2), (rows, columns + 1, *true.shape[2:]))
    size = (rows, 1) if along == "rows" else (1, columns)
    offsets = generator.normal(0, stripe, (*size, *true.shape[2:]))
    noisy = true + (fine[:, 1:] + fine[:, :-1]) / 2 + offsets
    name = f"scanner {sigma:g} {along}={stripe:g}"
    return Simulated(name, _whole(noisy, np.uint8), _whole(true, np.uint8), 255)


def speckle(clean: Pixels, generator: np.random.Generator, looks: float) -> Simulated:
    """Return a picture multiplied by noise of mean 1, as float32 where 1 is white.

    Parameters
    ----------
    clean
        The picture.
    generator
        Where the noise comes from.
    looks
        Exposures that were averaged: the standard deviation of the factor is its root's inverse.
    """
    true = _share_of_white(clean)
    noisy = true * generator.gamma(looks, 1 / looks, true.shape)
    return Simulated(
        f"speckle looks={looks:g}", noisy.astype(np.float32), true.astype(np.float32), 1
    )


# --- changes of pictures -------------------------------------------------------------------


def outliers(
    noisy: Pixels, generator: np.random.Generator, share: float, *, dark: float = 0.0
) -> tuple[Pixels, Mask]:
    """Return a picture some of whose pixels are white or black, and which ones, of shape (H, W).

    Parameters
    ----------
    noisy
        The picture, of whole numbers.
    generator
        Which pixels are chosen.
    share
        The share of pixels, between 0 and 1; in colour, all channels of a pixel are set.
    dark
        The share of black ones among these; the others are white.
    """
    chosen: Mask = generator.random(noisy.shape[:2]) < share
    black = generator.random(noisy.shape[:2]) < dark
    result = noisy.copy()
    result[chosen] = np.iinfo(noisy.dtype).max
    result[chosen & black] = 0
    return result, chosen


def upscaled(picture: Pixels, factor: int = 2) -> Pixels:
    """Return a picture of 8 bits enlarged by bicubic interpolation."""
    image = Image.fromarray(picture)
    size = (image.width * factor, image.height * factor)
    return np.array(image.resize(size, Image.Resampling.BICUBIC))


def saturated(clean: Pixels, share: float) -> Floats:
    """Return a clean picture of 8 bits so bright that a share of its values is beyond 255.

    To be given to :func:`white`, which clips after it has added noise.
    """
    limit = float(np.quantile(clean, 1 - share))
    return clean.astype(np.float64) * (255 / max(limit, 1.0))


def bordered(picture: Pixels, width: int) -> Pixels:
    """Return a picture of the same shape whose outermost rows and columns are 0."""
    result = np.zeros_like(picture)
    inside = tuple(slice(width, n - width) for n in picture.shape[:2])
    result[inside] = picture[inside]
    return result


# --- clean pictures, and noisy ones of their own ---------------------------------------------


def page(shape: tuple[int, int], generator: np.random.Generator) -> tuple[Pixels, Pixels]:
    """Return a page with lines of made-up letters, without and with grey edges; both of uint8.

    The first has 0 and 255 only.
    """
    fine, height, gap = 4, 10, 8
    rows, columns = shape
    image = Image.new("L", (columns * fine, rows * fine), 255)
    draw = ImageDraw.Draw(image)
    y = gap
    while y + height < rows - gap // 2:
        x = gap
        while x < columns - gap:
            if generator.random() < 0.17:  # a space between words
                x += 5
            width = int(generator.integers(4, 8))
            box = (fine * x, fine * y, fine * (x + width), fine * (y + height))
            _letter(draw, generator, box, thick=round(1.4 * fine))
            x += width + 3
        y += height + gap
    grey = np.array(image.reduce(fine))
    return np.where(grey < 128, 0, 255).astype(np.uint8), grey


def _letter(
    draw: ImageDraw.ImageDraw,
    generator: np.random.Generator,
    box: tuple[int, int, int, int],
    thick: int,
) -> None:
    """Draw two or three strokes into a box: straight ones and arcs."""
    left, top, right, bottom = box
    middle = (top + bottom) // 2
    for _ in range(int(generator.integers(2, 4))):
        kind = int(generator.integers(6))
        if kind == 0:
            draw.line((left, top, left, bottom), 0, thick)
        elif kind == 1:
            draw.line((right, top, right, bottom), 0, thick)
        elif kind == 2:
            y = (top, middle, bottom)[int(generator.integers(3))]
            draw.line((left, y, right, y), 0, thick)
        elif kind == 3:
            ends = (left, bottom, right, top) if generator.random() < 0.5 else box
            draw.line(ends, 0, thick)
        else:
            start = int(generator.integers(4)) * 90
            half = (left, top, right, bottom) if kind == 4 else (left, middle, right, bottom)
            draw.arc(half, start, start + 270, 0, thick)


def stars(
    shape: tuple[int, int],
    generator: np.random.Generator,
    density: float = 0.002,
    *,
    sky: float = 100.0,
    profile: Literal["gaussian", "moffat"] = "moffat",
    fwhm: float = 2.5,
    read_noise: float = 5.0,
    brightest: float = 1e5,
    slope: float = 1.5,
) -> tuple[Simulated, Floats]:
    """Return a field of stars as float32, in electrons, and the catalogue of its stars.

    The catalogue has a line (row, column, electrons) for each star, the brightest first. The
    faintest have a signal-to-noise ratio of 3; the brightest fill a pixel almost, where the value
    range ends.

    Parameters
    ----------
    shape
        Rows and columns.
    generator
        Where stars and noise come from.
    density
        Stars for each pixel.
    sky
        Electrons of a pixel without stars.
    profile
        The form of a star; that of Moffat (with exponent 3) has a wide halo.
    fwhm
        Full width of a star at half its maximum, in pixels.
    read_noise
        Standard deviation of what reading adds, in electrons.
    brightest
        Electrons of the brightest stars.
    slope
        The number of stars of F electrons goes with F to the power of minus this; above 1.
    """
    count = max(1, round(density * shape[0] * shape[1]))
    # The pixels over which the noise under a star counts, if the star is weighted by its profile.
    centred = _star(profile, fwhm, 0.0, 0.0)
    area = 1 / float(np.sum(centred**2))
    faintest = 4.5 + math.sqrt(4.5**2 + 9 * area * (sky + read_noise**2))
    # Shares of the distribution that are spread evenly, so that few stars have bright ones too.
    quantiles = (np.arange(count) + generator.random(count)) / count
    low, high = faintest ** (1 - slope), brightest ** (1 - slope)
    fluxes = (low + quantiles * (high - low)) ** (1 / (1 - slope))
    places = generator.random((count, 2)) * (np.array(shape) - 1)
    catalogue = np.column_stack([places, fluxes])[::-1].copy()
    reach = _reach(fwhm)
    wide = np.full([n + 2 * reach for n in shape], sky, np.float64)
    for row, column, flux in catalogue:
        top, left = round(row), round(column)
        around = (slice(top, top + 2 * reach + 1), slice(left, left + 2 * reach + 1))
        wide[around] += flux * _star(profile, fwhm, row - top, column - left)
    true = wide[reach:-reach, reach:-reach]
    noisy = generator.poisson(true) + generator.normal(0, read_noise, shape)
    full_well = 1.1 * (sky + brightest * float(centred.max()))
    measured, expected = (
        values.clip(None, full_well).astype(np.float32) for values in (noisy, true)
    )
    return Simulated(f"stars {profile}", measured, expected, full_well), catalogue


def _reach(fwhm: float) -> int:
    """Return how many pixels from its centre a star is drawn."""
    return math.ceil(8 * fwhm)


def _star(profile: str, fwhm: float, row: float, column: float) -> Floats:
    """Return a star of 1 electron near the centre of a square, integrated over pixels."""
    reach, fine = _reach(fwhm), 3
    steps = (np.arange((2 * reach + 1) * fine) - fine // 2) / fine - reach
    squared = (steps - row)[:, None] ** 2 + (steps - column)[None, :] ** 2
    if profile == "gaussian":
        values = np.exp(-4 * math.log(2) * squared / fwhm**2)
    elif profile == "moffat":
        values = (1 + 4 * (2 ** (1 / 3) - 1) * squared / fwhm**2) ** -3.0
    else:
        raise ValueError(f"profile must be 'gaussian' or 'moffat', got {profile!r}")
    size = 2 * reach + 1
    pixels: Floats = values.reshape(size, fine, size, fine).sum(axis=(1, 3)) / values.sum()
    return pixels


def fluorescence(shape: tuple[int, int], generator: np.random.Generator, peak: float) -> Simulated:
    """Return made-up cells with photon noise as float32, in photons.

    Cells are smooth, with filaments and small bright spots; the background is 2 to 5 % of the peak.
    Neither picture is rounded: few photons would not survive it. ``clean / width`` can be given to
    :func:`emccd` and :func:`scmos`.

    Parameters
    ----------
    shape
        Rows and columns, at least 16 each.
    generator
        Where cells and noise come from.
    peak
        Expected photons of the brightest pixel, the width of the value range.
    """
    rows, columns = shape
    signal = np.zeros(shape)
    spots = np.zeros(shape)
    for _ in range(max(2, rows * columns // 8000)):
        body = _cell(shape, generator)
        signal += generator.uniform(0.2, 0.4) * body + 0.5 * body * _filaments(shape, generator)
        inside = np.flatnonzero(body > 0.5)
        chosen = generator.choice(inside, min(12, inside.size), replace=False)
        # A spot is about as bright as filaments after the blur.
        spots.flat[chosen] += generator.uniform(1, 8, chosen.size)
    signal = _blurred(signal + spots, 1.2)
    background = generator.uniform(0.02, 0.05)
    true = peak * (background + (1 - background) * signal / signal.max())
    noisy = generator.poisson(true).astype(np.float32)
    return Simulated(f"fluorescence {peak:g}", noisy, true.astype(np.float32), peak)


def _cell(shape: tuple[int, int], generator: np.random.Generator) -> Floats:
    """Return an ellipse with soft edges, of values in [0, 1]."""
    y, x = np.indices(shape, float)
    centre = generator.uniform(0.1, 0.9, 2) * shape
    radii = generator.uniform(0.7, 1.4, 2) * min(24.0, min(shape) / 4)
    angle = generator.uniform(0, math.pi)
    y, x = y - centre[0], x - centre[1]
    along = (math.cos(angle) * x + math.sin(angle) * y) / radii[0]
    across = (math.cos(angle) * y - math.sin(angle) * x) / radii[1]
    distance: Floats = np.hypot(along, across).clip(0, 3)
    return 1 / (1 + np.exp(12 * (distance - 1)))


def _filaments(shape: tuple[int, int], generator: np.random.Generator) -> Floats:
    """Return thin lines that bend, all over a picture, of values in [0, 1]."""
    fine = 2
    image = Image.new("L", (shape[1] * fine, shape[0] * fine))
    draw = ImageDraw.Draw(image)
    for _ in range(max(4, sum(shape) // 16)):
        start = generator.uniform(0, 1, 2) * image.size
        angles = generator.uniform(0, 2 * math.pi) + generator.normal(0, 0.25, 30).cumsum()
        steps = 4 * fine * np.column_stack([np.cos(angles), np.sin(angles)])
        points = [(float(x), float(y)) for x, y in start + steps.cumsum(axis=0)]
        draw.line(points, 255, fine)
    return np.asarray(image.reduce(fine), np.float64) / 255
