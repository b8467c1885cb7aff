"""Count the iterations of methods for total-variation denoising until given relative gaps.

    python -m benches.quality.tv_methods

The gaps are 1e-3, 1e-4 and 1e-5.  All methods are in NumPy and in double precision, and an
iteration of each applies the difference operator once and its adjoint once.  The gap is the
smaller one of the two images that a method offers, the primal iterate and the one of the dual
iterate, relative to weight TV(f).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np

CASES = ((25 / 255, 0.1), (25 / 255, 0.05), (0.2, 0.2), (0.05, 0.04))
TOLERANCES = (1e-3, 1e-4, 1e-5)
MOST_ITERATIONS = 2000


def differences(u: Any) -> Any:
    """Return the forward differences of an image, along columns and along rows."""
    d = np.zeros((2, *u.shape))
    d[0, :-1] = np.diff(u, axis=0)
    d[1, :, :-1] = np.diff(u, axis=1)
    return d


def adjoint(p: Any) -> Any:
    """Return the adjoint of the differences, applied to a dual variable."""
    q = -p[0] - p[1]
    q[1:] += p[0, :-1]
    q[:, 1:] += p[1, :, :-1]
    return q


def norm(p: Any, isotropic: bool) -> Any:
    """Return the norm of each pixel's differences: Euclidean, or the sum of magnitudes."""
    return np.hypot(p[0], p[1]) if isotropic else abs(p).sum(0)


def project(p: Any, weight: float, isotropic: bool) -> Any:
    """Return the projection of a dual variable to the feasible set, |p| <= weight."""
    if isotropic:
        return p / np.maximum(norm(p, True) / weight, 1)
    return p.clip(-weight, weight)


def dual_gradient(f: Any, weight: float, isotropic: bool, restart: bool) -> Iterator[Any]:
    """Yield the iterates of FISTA on the dual (Beck, Teboulle 2009), with optional restart."""
    p = ahead = np.zeros((2, *f.shape))
    t = 1.0
    while True:
        step = ahead + differences(f - adjoint(ahead)) / 8
        new = project(step, weight, isotropic)
        if restart and ((ahead - new) * (new - p)).sum() > 0:
            t = 1.0
        t, former = (1 + np.sqrt(1 + 4 * t * t)) / 2, t
        ahead, p = new + (former - 1) / t * (new - p), new
        yield f - adjoint(p), p


def primal_dual(
    f: Any, weight: float, isotropic: bool, convexity: float, product: float
) -> Iterator[Any]:
    """Yield the iterates of algorithm 2 of Chambolle, Pock 2011."""
    u, ahead, p, tau = f, f, np.zeros((2, *f.shape)), 1.0
    while True:
        p = project(p + product / (8 * tau) * differences(ahead), weight, isotropic)
        new = (u + tau * (f - adjoint(p))) / (1 + tau)
        theta = 1 / np.sqrt(1 + 2 * convexity * tau)
        ahead, u, tau = new + theta * (new - u), new, tau * theta
        yield u, p


def gap(u: Any, p: Any, f: Any, weight: float, isotropic: bool) -> float:
    """Return the duality gap of an image and a dual variable, relative to weight TV(f)."""
    d = differences(u)
    residual = u - f + adjoint(p)
    return float(
        0.5 * (residual**2).sum() + weight * norm(d, isotropic).sum() - (d * p).sum()
    ) / float(weight * norm(differences(f), isotropic).sum())


def needed(iterates: Iterator[Any], f: Any, weight: float, isotropic: bool) -> list[int]:
    """Return the number of iterations until each tolerance is reached, checked at every fifth."""
    left, found = list(TOLERANCES), []
    for k, (u, p) in enumerate(islice(iterates, MOST_ITERATIONS), 1):
        if k % 5:
            continue
        images = (u, f - adjoint(p))
        value = min(gap(image, p, f, weight, isotropic) for image in images)
        while left and value <= left[0]:
            left.pop(0)
            found.append(k)
        if not left:
            break
    return found


def main() -> None:
    from skimage import data

    camera: Any = getattr(data, "camera")()  # noqa: B009 (it is not typed)
    clean = camera[::2, ::2] / 255
    print("| TV | sigma | weight | method | 1e-3 | 1e-4 | 1e-5 |\n|---|---|---|---|---|---|---|")
    for isotropic in (True, False):
        for sigma, weight in CASES:
            f = clean + np.random.default_rng(0).normal(0, sigma, clean.shape)
            problem = (f, weight, isotropic)
            methods = {
                "FISTA on the dual": dual_gradient(*problem, restart=False),
                "... with restart": dual_gradient(*problem, restart=True),
                **{
                    f"primal-dual, convexity {convexity}, product {product}": primal_dual(
                        *problem, convexity, product
                    )
                    for convexity, product in ((1, 1), (0.5, 1), (0.5, 1.3), (0.25, 1.3))
                },
            }
            for name, iterates in methods.items():
                counts = needed(iterates, *problem)
                cells = " | ".join(map(str, counts))
                kind = "isotropic" if isotropic else "anisotropic"
                print(f"| {kind} | {sigma:.3f} | {weight} | {name} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
