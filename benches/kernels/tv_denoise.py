"""Total-variation denoising to a relative gap of 1e-4.

All solutions are judged in the same way, in NumPy and double precision: the
objective minus the best lower bound known, relative to that of the better trivial image.  The
lower bound is the dual objective of a solution to 1e-7, again computed here.  Each peer gets
the smallest number of iterations with which it comes that far, found outside the timing;
peers that do not come that far are named, and what they reach.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Literal, TypeAlias

import numpy as np
import torch

from benches.kernels.comparison import Comparison, installed
from dipfast import ops

__all__ = ["comparisons"]

TOLERANCE = 1e-4
WEIGHT = 0.1
# Most iterations of a peer.
CAP = 4096

Kind: TypeAlias = Literal["isotropic", "anisotropic"]
KINDS: tuple[Kind, ...] = ("isotropic", "anisotropic")

# A peer: takes the image and a number of iterations.
Peer = Callable[[Any, int], Any]

# Iterations that sufficed for a smaller image: where the search for a larger one begins.
_found: dict[tuple[str, str], int] = {}


def comparisons(size: int) -> Iterator[Comparison]:
    """Yield the comparisons for images of this many rows and columns."""
    for kind in KINDS:
        f = picture(size)
        problem = Problem(f, kind)
        peers: dict[str, Callable[[], Any]] = {}
        for name, peer in (isotropic_peers if kind == "isotropic" else anisotropic_peers)():
            count = problem.iterations(name, partial(peer, f))
            if count is not None:
                peers[f"{name}, {count} iterations"] = partial(peer, f, count)
        yield Comparison(
            f"TV denoising, {kind}",
            f"{size}x{size}",
            partial(ops.tv_denoise, f, WEIGHT, tol=TOLERANCE, kind=kind),
            peers,
            problem.check,
        )


def picture(size: int) -> Any:
    """Return a photograph, repeated as often as needed, with noise of sigma 25."""
    camera = installed("skimage.data")
    assert camera is not None, "scikit-image is needed for its picture"
    clean = camera.camera() / 255
    clean = np.tile(clean, (-(-size // 512),) * 2)[:size, :size]
    noise = np.random.default_rng(0).normal(0, 25 / 255, clean.shape)
    return (clean + noise).astype(np.float32)


class Problem:
    """Judge solutions of one problem."""

    def __init__(self, f: Any, kind: Kind) -> None:
        self.f, self.kind = f.astype(np.float64), kind
        _, p = ops.tv_denoise(
            self.f, WEIGHT, kind=kind, tol=1e-7, max_num_iter=5000, return_dual=True
        )
        # Rounding may have left the norm a little above the weight.
        p = p / max(norm(p, kind).max() / WEIGHT, 1.0)
        q = np.zeros_like(self.f)
        q[:-1] -= p[0, :-1]
        q[1:] += p[0, :-1]
        q[:, :-1] -= p[1, :, :-1]
        q[:, 1:] += p[1, :, :-1]
        self.bound = float((self.f * q).sum() - 0.5 * (q * q).sum())
        to_mean = 0.5 * float(((self.f - self.f.mean()) ** 2).sum())
        self.scale = min(self.objective(self.f), to_mean)

    def objective(self, u: Any) -> float:
        """Return the objective of an image, in double precision."""
        d = np.zeros((2, *u.shape))
        d[0, :-1] = np.diff(u, axis=0)
        d[1, :, :-1] = np.diff(u, axis=1)
        return float(0.5 * ((u - self.f) ** 2).sum() + WEIGHT * norm(d, self.kind).sum())

    def gap(self, u: Any) -> float:
        """Return the relative distance of the objective of an image from the lower bound."""
        return (self.objective(np.asarray(u, np.float64)) - self.bound) / self.scale

    def check(self, *solutions: Any) -> None:
        """Raise AssertionError unless all solutions are within the tolerance."""
        for u in solutions:
            assert self.gap(u) <= 1.01 * TOLERANCE, self.gap(u)

    def iterations(self, name: str, peer: Callable[[int], Any]) -> int | None:
        """Return the smallest number of iterations that suffices, to a tenth, or None."""
        known = _found.get((name, self.kind))
        if known is not None and self.gap(peer(known)) <= TOLERANCE:
            return known
        count, failed = known or 1, known or 0
        while (gap := self.gap(peer(count))) > TOLERANCE:
            if count >= CAP:
                print(f"{name}, {self.kind}: {gap:.1e} after {count} iterations", file=sys.stderr)
                return None
            count, failed = min(count + max(count // 4, 1) if known else 2 * count, CAP), count
        while count - failed > max(count // 10, 1):
            middle = (count + failed) // 2
            if self.gap(peer(middle)) <= TOLERANCE:
                count = middle
            else:
                failed = middle
        _found[name, self.kind] = count
        return count


def norm(p: Any, kind: str) -> Any:
    """Return the norm of a vector at each pixel."""
    return np.hypot(p[0], p[1]) if kind == "isotropic" else abs(p)


def isotropic_peers() -> Iterator[tuple[str, Peer]]:
    """Yield the peers for isotropic total variation that are installed."""
    if skimage := installed("skimage.restoration"):
        chambolle, bregman = skimage.denoise_tv_chambolle, skimage.denoise_tv_bregman
        yield (
            "skimage chambolle",
            lambda f, count: chambolle(f, WEIGHT, eps=0, max_num_iter=count),
        )
        yield (
            "skimage bregman",
            lambda f, count: bregman(f, 1 / WEIGHT, eps=1e-30, max_num_iter=count),
        )
    if pyproximal := installed("pyproximal"):

        def prox(f: Any, count: int) -> Any:
            operator = pyproximal.TV(f.shape, niter=count, rtol=0.0)
            return operator.prox(f.ravel(), WEIGHT).reshape(f.shape)

        yield "pyproximal", prox
    if deepinv := installed("deepinv"):

        def denoise(f: Any, count: int) -> Any:
            # Its step size is for images in [0, 255].
            model = deepinv.models.TVDenoiser(n_it_max=count, crit=0.0)
            image = torch.from_numpy(255 * f)[None, None]
            return model(image, 255 * WEIGHT)[0, 0].numpy() / 255

        yield "deepinv", denoise


def anisotropic_peers() -> Iterator[tuple[str, Peer]]:
    """Yield the peers for anisotropic total variation that are installed."""
    if skimage := installed("skimage.restoration"):
        bregman = partial(skimage.denoise_tv_bregman, isotropic=False)
        yield (
            "skimage bregman",
            lambda f, count: bregman(f, 1 / WEIGHT, eps=1e-30, max_num_iter=count),
        )
    if prox_tv := installed("prox_tv"):
        for method in ("dr", "pd"):
            yield f"prox_tv {method}", partial(proxtv, prox_tv, method)


def proxtv(module: Any, method: str, f: Any, count: int) -> Any:
    """Denoise by a method of prox_tv."""
    threads = torch.get_num_threads()
    return module.tv1_2d(f, WEIGHT, n_threads=threads, max_iters=count, method=method)
