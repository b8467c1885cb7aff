"""Read the test pictures of the papers, and degrade them as the papers do.

The folder with the data holds what the authors of Deep Image Prior published
(``denoise25/NAME_GT.png``, ``NAME_noisy.png``, ``NAME_deep_prior.png``, ...).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from PIL import Image

from dipfast.images.files import read_image
from dipfast.model.noise import NoiseModel

__all__ = ["CLIPPED_LEVELS", "Picture", "Source"]

Pixels: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"

CLIPPED_LEVELS = (10, 25, 50, 75)
# fmt: off
DENOISE = ("F16", "baboon", "house", "kodim01", "kodim02", "kodim03", "kodim12", "lena", "peppers")
INPAINT = (
    "barbara", "boat", "house", "Lena512", "peppers256", "Cameraman256", "couple", "fingerprint",
    "hill", "man", "montage",
)
SET5 = ("baby", "bird", "butterfly", "head", "woman")
SET14 = (
    "baboon", "barbara", "bridge", "coastguard", "comic", "face", "flowers", "foreman", "lenna",
    "man", "monarch", "pepper", "ppt3", "zebra",
)
# fmt: on


@dataclass(frozen=True)
class Picture:
    """Hold a picture to restore, and the pictures to compare the result with.

    Parameters
    ----------
    name
        Name in the tables.
    task
        Name of the function of :mod:`dipfast` that restores it.
    degraded, clean
        The picture before and after degradation, of 8 bits; the clean one may be None.
    arguments
        Arguments of the task, besides the degraded picture.
    published
        Published results for the picture, by name.
    regions
        Regions whose PSNR is measured separately, by name: boolean, of shape (H, W).
    """

    name: str
    task: str
    degraded: Pixels
    clean: Pixels | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    published: Mapping[str, Pixels] = field(default_factory=dict)
    regions: Mapping[str, Pixels] = field(default_factory=dict)


@dataclass(frozen=True)
class Source:
    """Read the pictures of a folder.

    Parameters
    ----------
    folder
        Folder with the data.
    size
        Largest number of rows and of columns: larger pictures are cut to their middle; None for
        whole pictures.
    only
        Names of the pictures to take; empty for all.
    """

    folder: Path
    size: int | None
    only: tuple[str, ...] = ()

    def denoise(self) -> Iterable[Picture]:
        """Yield the nine pictures with noise of sigma 25, as published."""
        for name in self._chosen(DENOISE):
            clean, noisy, bm3d, prior = (
                self._read(f"denoise25/{name}_{kind}.png")
                for kind in ("GT", "noisy", "bm3d", "deep_prior")
            )
            yield Picture(name, "denoise", noisy, clean, published={"CBM3D": bm3d, "DIP": prior})

    def levels(self, levels: Iterable[int] = CLIPPED_LEVELS) -> Iterable[Picture]:
        """Yield the nine pictures with noise of several levels, clipped and rounded to 8 bits.

        At level 25 the noise is the published one.
        """
        for picture in self.denoise():
            for sigma in levels:
                degraded = picture.degraded if sigma == 25 else with_noise(picture, sigma)
                yield replace(
                    picture, name=f"{picture.name} {sigma}", degraded=degraded, published={}
                )

    def photons(self, gain: float = 0.04, sigma: float = 0.02) -> Iterable[Picture]:
        """Yield the nine pictures with photon noise, with 1 / gain photons in a white pixel."""
        model = NoiseModel(sigma, gain, low=0.0, high=1.0)
        for picture in self.denoise():
            assert picture.clean is not None
            generator = torch.Generator().manual_seed(zlib.crc32(picture.name.encode()))
            noisy = model.sample(torch.from_numpy(picture.clean) / 255, generator)
            degraded = (noisy * 255).round().byte().numpy()
            yield replace(picture, degraded=degraded, published={})

    def inpaint(self) -> Iterable[Picture]:
        """Yield the eleven pictures with half of their pixels missing, as published."""
        for name in self._chosen(INPAINT):
            clean, masked, prior = (
                self._read(f"inpaint50/{name}_{kind}.png")
                for kind in ("GT", "masked", "deep_prior")
            )
            # Of black pixels the files do not tell which are missing; a line of them at the border
            # of peppers256 cannot be guessed.  All are known, for the published pictures as well.
            missing = (masked == 0) & (clean != 0)
            yield Picture(
                name,
                "inpaint",
                masked,
                clean,
                {"mask": missing},
                {"DIP": prior, "DIP, known kept": np.where(missing, prior, masked)},
                {"holes": missing},
            )

    def noisy_holes(self, sigma: int = 25) -> Iterable[Picture]:
        """Yield the eleven pictures with half of their pixels missing and noise on the others."""
        for picture in self.inpaint():
            missing = picture.arguments["mask"]
            noisy = np.where(missing, 0, with_noise(picture, sigma)).astype(np.uint8)
            arguments = {"mask": missing, "keep_known": False, "sigma": "auto"}
            yield replace(picture, degraded=noisy, arguments=arguments, published={})

    def super_resolve(self, factor: int) -> Iterable[Picture]:
        """Yield Set5 and Set14, cut to multiples of 32 and reduced by Lanczos-3 as published."""
        for folder, names in (("set5_x4", SET5), ("set14_x4", SET14)):
            for name in self._chosen(names):
                yield self._smaller(f"{folder}/{name}_GT.png", name, factor)

    def zebra(self) -> Iterable[Picture]:
        """Yield the zebra, reduced by 4."""
        yield self._smaller("dip_repo/zebra_crop.png", "zebra_crop", 4)

    def text(self) -> Iterable[Picture]:
        """Yield a portrait with text over it to inpaint."""
        yield self._hole("kate", "kate", crop=True)

    def hole(self) -> Iterable[Picture]:
        """Yield a picture of a library with a large hole to inpaint."""
        yield self._hole("library", "library", crop=False)

    def object_removal(self) -> Iterable[Picture]:
        """Yield a picture with an object to remove; what is behind the object is not known."""
        yield self._hole("vase", "vase", crop=False)

    def jpeg(self) -> Iterable[Picture]:
        """Yield a picture with artefacts of strong compression, without a clean picture."""
        yield Picture("snail", "denoise", self._read("dip_repo/snail.jpg"))

    def camera(self, matched: bool = False) -> Iterable[Picture]:
        """Yield pictures with the noise of real cameras.

        With ``matched``, the clean picture with Gaussian noise of the same PSNR follows each.
        """
        names = sorted(path.name for path in (self.folder / "polyu256").glob("*_real.JPG"))
        for name in self._chosen([name.removesuffix("_real.JPG") for name in names]):
            clean, real = (self._read(f"polyu256/{name}_{kind}.JPG") for kind in ("mean", "real"))
            yield Picture(name, "denoise", real, clean)
            if matched:
                level = float(np.sqrt(np.mean((real.astype(float) - clean) ** 2)))
                synthetic = with_noise(Picture(name, "", real, clean), level)
                yield Picture(f"{name} synthetic", "denoise", synthetic, clean)

    def lettering(self) -> Iterable[Picture]:
        """Yield pictures of text with noise of sigma 25; text and the rest are two regions.

        They are two pages of scikit-image, and the slide of Set14.
        """
        import skimage.data

        page = np.asarray(skimage.data.page())[20:148, 100:228]  # type: ignore[no-untyped-call]
        text = np.asarray(skimage.data.text())[20:148, 20:148]  # type: ignore[no-untyped-call]
        slide = read_image(self.folder / "set14_x4/ppt3_GT.png").image[330:458, 60:188]
        for name, clean in (("page", page), ("text", text), ("ppt3", slide)):
            if self.only and name not in self.only:
                continue
            whole = Picture(name, "denoise", clean, clean)
            near = letters(clean)
            yield replace(
                whole, degraded=with_noise(whole, 25), regions={"text": near, "rest": ~near}
            )

    def _chosen(self, names: Iterable[str]) -> list[str]:
        return [name for name in names if not self.only or name in self.only]

    def _read(self, path: str) -> Pixels:
        return self._middle(read_image(self.folder / path).image)

    def _middle(self, pixels: Pixels, multiple: int = 1) -> Pixels:
        parts = []
        for n in pixels.shape[:2]:
            size = min(n, self.size or n) // multiple * multiple
            parts.append(slice((n - size) // 2, (n - size) // 2 + size))
        return np.ascontiguousarray(pixels[tuple(parts)])

    def _smaller(self, path: str, name: str, factor: int) -> Picture:
        clean = self._middle(read_image(self.folder / path).image, multiple=32)
        image = Image.fromarray(clean)
        size = (image.width // factor, image.height // factor)
        small = np.asarray(image.resize(size, Image.Resampling.LANCZOS))
        bicubic = Image.fromarray(small).resize(image.size, Image.Resampling.BICUBIC)
        published = {"bicubic": np.asarray(bicubic)}
        other = self.folder / path.replace("_GT", "_deep_prior")
        if factor == 4 and other.exists() and "_GT" in path:
            # The published result was cut to multiples of 32 by the same rule.
            prior = self._middle(read_image(other).image, multiple=32)
            if prior.shape == clean.shape:
                published["DIP"] = prior
        return Picture(name, "super_resolve", small, clean, {"factor": factor}, published)

    def _hole(self, name: str, mask: str, *, crop: bool) -> Picture:
        picture = read_image(self.folder / f"dip_repo/{name}.png").image
        known = read_image(self.folder / f"dip_repo/{mask}_mask.png").image
        known = known if known.ndim == 2 else known.min(axis=-1)
        if self.size is not None and crop:
            picture, known = self._middle(picture), self._middle(known)
        elif self.size is not None:
            step = -(-max(picture.shape[:2]) // self.size)
            picture = np.asarray(Image.fromarray(picture).reduce(step))
            known = np.where(np.asarray(Image.fromarray(known).reduce(step)) < 255, 0, 255)
        missing = known < 255
        degraded = np.where(missing if picture.ndim == 2 else missing[..., None], 0, picture)
        return Picture(
            name,
            "inpaint",
            degraded.astype(np.uint8),
            picture,
            {"mask": missing},
            {},
            {"holes": missing},
        )


def with_noise(picture: Picture, sigma: float) -> Pixels:
    """Return the clean picture with white noise, clipped and rounded to 8 bits.

    The noise is the same whenever name and level are the same.
    """
    assert picture.clean is not None
    key = zlib.crc32(f"{picture.name} {sigma:.3f}".encode())
    noise = np.random.default_rng(key).normal(0, sigma, picture.clean.shape)
    noisy: Pixels = (picture.clean + noise).round().clip(0, 255).astype(np.uint8)
    return noisy


def letters(clean: Pixels) -> Pixels:
    """Return a mask of the places near strong edges, where letters are."""
    from scipy import ndimage

    grey = clean.astype(float) if clean.ndim == 2 else clean.astype(float).mean(axis=-1)
    slope = ndimage.gaussian_gradient_magnitude(grey, 1.0)
    return np.asarray(ndimage.binary_dilation(slope > 20, iterations=2))
