"""
Research: methods, operators and stop rules
===========================================

Comparing methods on one picture, drawing their curves, a degradation of your own, and a stop rule
of your own. The fits are short, so that this page is built in a minute; figures of whole fits,
and the commands that repeat them, are in :doc:`/tables` and :doc:`/joined`.
"""

# %%
# A picture with noise that is known
# ----------------------------------
#
# ``camera`` comes with scikit-image, and we take every third pixel; the noise, sigma 25, is ours.
# It is clipped and rounded as every file of 8 bits is.

from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import skimage.data
import torch

import dipfast
from dipfast import ops
from dipfast.operators import Blur
from dipfast.stopping import Decision, StopRule

clean = skimage.data.camera()[64:256:3, 140:332:3]
rng = np.random.default_rng(0)
noisy = (clean + rng.normal(0, 25, clean.shape)).round().clip(0, 255).astype(np.uint8)

# %%
# Methods
# -------
#
# With a ``reference`` PSNR is reported, and used for nothing else. Its peak is 255 here, the
# range of 8 bits.

results = {
    method: dipfast.denoise(noisy, method=method, reference=clean, max_iterations=120)
    for method in ("dip", "two_stage", "guided")
}
results["nl_ridge"] = dipfast.denoise(noisy, method="nl_ridge", reference=clean)
for name, result in results.items():
    print(f"{name:>10}: {result.psnr:.2f} dB, before {result.metrics['psnr_input']:.2f} dB")

# %%
# Total variation alone, and SSIM, are in :mod:`dipfast.ops`:

flat = ops.tv_denoise(noisy)
print(f"total variation: {ops.psnr(flat, clean, data_range=255):.2f} dB")
print(f"SSIM: {ops.ssim(flat, clean, data_range=255):.3f}")

figure, axes = plt.subplots(1, 4, figsize=(10, 2.9))
pictures = {
    "noisy": noisy,
    "two stages": results["two_stage"].image,
    "nl_ridge": results["nl_ridge"].image,
    "clean": clean,
}
for axis, (name, image) in zip(axes, pictures.items(), strict=True):
    axis.imshow(image, vmin=0, vmax=255)
    axis.set(title=name, xticks=[], yticks=[])

# %%
# Curves
# ------
#
# ``result.history`` has a list for each column. ``psnr_average`` is of the running average of the
# network's outputs, ``psnr`` of the output itself, before the result is joined with the
# measurement (``refine``).

figure, axis = plt.subplots(figsize=(7, 3.5))
for name in ("dip", "two_stage", "guided"):
    history = results[name].history
    axis.plot(history["iteration"], history["psnr_average"], label=name)
axis.set(xlabel="iteration", ylabel="PSNR of the running average (dB)")
axis.legend()

# %%
# An operator of your own
# -----------------------
#
# Any differentiable function or module of tensors (N, C, H, W) in [0, 1] is an operator; its
# adjoint follows. Here a camera that moved by seven pixels, written as a kernel and as a
# function: the same operator.

motion = torch.full((1, 7), 1 / 7)
blurred = Blur(motion)(torch.tensor(clean / 255.0)[None, None].float())
measurement = blurred[0, 0].numpy() + rng.normal(0, 0.01, clean.shape).astype("float32")


def moved(image):
    """Average seven pixels of a row, as a camera that moves does."""
    padded = torch.nn.functional.pad(image, (3, 3, 0, 0), mode="replicate")
    return padded.unfold(-1, 7, 1).mean(-1)


restored = dipfast.restore(measurement, moved, method="pnp", sigma=0.01, data_range=1.0)
figure, axes = plt.subplots(1, 3, figsize=(8, 3))
pictures = {"measurement": measurement, "restored": restored.image, "clean": clean / 255}
for axis, (name, image) in zip(axes, pictures.items(), strict=True):
    axis.imshow(image, vmin=0, vmax=1)
    axis.set(title=name, xticks=[], yticks=[])

# %%
# Operators of :mod:`dipfast.operators`, such as ``Blur``, ``Downsample``, ``Mask`` and
# ``Compose``, and physics of deepinv, are taken as they are. A kernel is a tensor;
# ``gaussian_kernel(1.6)`` makes one.
#
# A stop rule of your own
# -----------------------
#
# A frozen dataclass with an ``update``, which sees every iteration but never the clean picture
# (:doc:`/stopping`). This one stops when the picture hardly changes any more.


@dataclass(frozen=True)
class Still(StopRule):
    """Stop when the image hardly changes any more."""

    change: float = 2e-3

    def update(self, state, memory):
        last, memory["last"] = memory.get("last"), state.average
        if last is None or (state.average - last).abs().mean() > self.change:
            return Decision(best=True)
        return Decision(best=True, stop="it hardly changes any more")


result = dipfast.denoise(noisy, method="dip", stop=Still(), max_iterations=120)
print(result.stop_iteration, result.stop_reason, "-", result.stop_detail)

# %%
# The loop itself
# ---------------
#
# :class:`dipfast.DeepImagePrior` is an iterator of states, for everything that has no option.

prior = dipfast.DeepImagePrior(
    torch.tensor(noisy / 255.0)[None, None].float(),
    dipfast.make_stages("two_stage", 60, tv_weight=0.1),
)
for state in prior:
    if state.iteration % 20 == 0:
        print(state.iteration, state.stage.name, f"{float(state.terms.value):.4f}")

# %%
# Again, to the same bits
# -----------------------
#
# The same seed gives the same bits on the CPU of the same machine with the same number of
# threads. What was given, what was found and the versions are in ``result.report()``, which
# ``result.save`` writes beside the image.

again = dipfast.denoise(noisy, method="dip", max_iterations=20, seed=7)
once = dipfast.denoise(noisy, method="dip", max_iterations=20, seed=7)
print("the same bits:", np.array_equal(once.image, again.image))
print(once.report()["settings"]["seed"], once.report()["found"]["device"])
