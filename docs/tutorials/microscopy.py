"""
Microscopy: a stack of 16 bits
==============================

Few photons, as in fluorescence, in a stack of TIFF with the tags of ImageJ: from the file, through
the noise that is found in it, to a file with the same bits, axes and pixel size.
"""

# %%
# A stack to work on
# ------------------
#
# ``immunohistochemistry`` comes with scikit-image. We take what its red channel lacks as the
# signal of a stain, let it fade over four frames, and add photon noise and the read noise of a
# camera, with an offset of 100 counts. With a file of your own, begin with the next section.

import matplotlib.pyplot as plt
import numpy as np
import skimage.data
import tifffile

import dipfast

# sphinx_gallery_start_ignore
# isort: split
import shlex
import subprocess
import sys


def terminal(command):
    """Type a command, and print what it says."""
    typed = [sys.executable, "-m", *shlex.split(command)]
    done = subprocess.run(typed, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    print(done.stdout, end="")


# sphinx_gallery_end_ignore
rng = np.random.default_rng(0)
tissue = 255.0 - skimage.data.immunohistochemistry()[128:384:2, 128:384:2, 0]
signal = 60 * (tissue - tissue.min()) / np.ptp(tissue)
frames = [signal * fading for fading in (1.0, 0.9, 0.8, 0.7)]
truth = 100 + 10 * np.array(frames)
stack = 100 + 10 * rng.poisson(frames) + rng.normal(0, 15, truth.shape)
stack = stack.round().clip(0, 65535).astype(np.uint16)
tifffile.imwrite(
    "tissue.tif",
    stack,
    imagej=True,
    resolution=(1 / 0.065, 1 / 0.065),
    metadata={"axes": "TYX", "unit": "um"},
)

# %%
# What noise is it?
# -----------------
#
# ``dipfast info`` restores nothing. Noise of photons grows with the signal. ``terminal`` types
# the command for us; leave it out, and the quotes, in a terminal.

terminal("dipfast info tissue.tif")

# %%
# In a terminal
# -------------
#
# The frames of a stack that says so (ImageJ, OME) are known from the file; :doc:`/stacks` has more.

terminal("dipfast denoise tissue.tif restored.tif --quality fast")

# %%
# The result has the type, the axes and the size of a pixel of the file:

with tifffile.TiffFile("restored.tif") as file:
    series = file.series[0]
    print(series.axes, series.shape, series.dtype, file.imagej_metadata["unit"])

# %%
# In Python
# ---------
#
# An array does not say which of its axes are frames, so ``stack_axis`` does. ``data_range`` is
# left out: the range is found in the data, and counts stay counts.

stack = dipfast.read_image("tissue.tif").image
result = dipfast.denoise(stack, stack_axis=0, quality="fast")
print(result.image.shape, result.image.dtype)
print(result.summary())

# %%
# The root mean square difference from the truth, in counts:

for name, image in [("recorded", stack), ("restored", result.image)]:
    print(f"{name}: {np.sqrt(np.mean((image - truth) ** 2)):.1f}")

# %%
# The first frame, shown in the same range of values:

pictures = {"recorded": stack[0], "restored": result.image[0], "truth": truth[0]}
figure, axes = plt.subplots(1, 3, figsize=(9, 3.2))
for axis, (name, image) in zip(axes, pictures.items(), strict=True):
    axis.imshow(image, vmin=100, vmax=700)
    axis.set(title=name, xticks=[], yticks=[])

# %%
# More than the quick way
# -----------------------
#
# Without ``quality="fast"`` guided networks are joined with the quick picture, which takes half a
# minute for a frame of 256x256 pixels on two cores (:doc:`/joined`). Try it on one frame first:
#
# .. code-block:: python
#
#    result = dipfast.denoise(stack[0])
#    result.members  # what was joined, with weights
#    result.expected_psnr
#
# Intensities
# -----------
#
# Restored pixels are estimates whose errors are correlated; what is measured of them, intensities
# above all, has to be checked on data where the truth is known, such as long exposures. The mean
# of the picture is kept:

print(f"mean of the first frame: {stack[0].mean():.1f}, restored {result.image[0].mean():.1f}")
