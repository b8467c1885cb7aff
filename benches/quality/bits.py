"""Print digests of what restorations of a small picture give: the same before and after a change.

    python -m benches.quality.bits

Results of the four tasks, of three more methods, of a batch and of a resumed run, on two threads.
"""

from __future__ import annotations

import hashlib
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from skimage import data

import dipfast
from dipfast.operators import Blur, gaussian_kernel


def digest(result: dipfast.Result) -> str:
    """Return a digest of the images and the losses of a result."""
    whole = hashlib.sha256()
    for image in (result.image, result.raw_image, result.best_output, result.stop_image):
        whole.update(np.ascontiguousarray(image).tobytes())
    whole.update(np.asarray(result.history["loss"]).tobytes())
    return f"{whole.hexdigest()[:16]} {result.best_iteration} {result.stop_iteration}"


def show(name: str, result: dipfast.Result) -> None:
    """Print the digest of a result."""
    print(f"{name:24} {digest(result)}", flush=True)


def main() -> None:
    """Restore and print."""
    torch.set_num_threads(2)
    warnings.simplefilter("ignore")
    picture = np.ascontiguousarray(data.astronaut()[20:84, 190:254])  # type: ignore[no-untyped-call]
    rng = np.random.default_rng(0)
    noisy = (picture + rng.normal(0, 25, picture.shape)).round().clip(0, 255).astype(np.uint8)
    mask = rng.random(picture.shape[:2]) < 0.5
    n: dict[str, Any] = {"max_iterations": 60}
    show("denoise", dipfast.denoise(noisy, **n))
    told = dipfast.denoise(noisy, sigma=25, seed=3, reference=picture, snapshots=1.0, **n)
    show("denoise sigma seed ref", told)
    show("inpaint", dipfast.inpaint(picture, mask, **n))
    show("super_resolve", dipfast.super_resolve(picture[:32, :32], 4, **n))
    blur = Blur(gaussian_kernel(1.2))
    show("restore", dipfast.restore(noisy.astype(np.float32), blur, **n))
    for method in ("dip", "adaptive_tv", "deep_red"):
        show(method, dipfast.denoise(noisy, method=method, **n))
    batch = torch.from_numpy(noisy.transpose(2, 0, 1).copy())[None].repeat(2, 1, 1, 1)
    batch[1] = batch[1].flip(-1)
    show("batch", dipfast.denoise(batch, **n))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.checkpoint"

        def stop(state: Any) -> None:
            if state.iteration == 33:
                raise StopIteration

        kept: dict[str, Any] = {"checkpoint": path, **n}
        dipfast.denoise(noisy, checkpoint_every=10, callback=stop, **kept)
        show("resumed", dipfast.denoise(noisy, resume=True, **kept))


if __name__ == "__main__":
    main()
