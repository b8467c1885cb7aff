"""
Astronomy: a FITS image
=======================

A field of stars with coordinates in its header and a dead column that is NaN. Reading and writing
FITS needs ``pip install 'dipfast[fits]'``.
"""

# %%
# A picture to work on
# --------------------
#
# We make one, so that the truth is known: a sky of 100 electrons, stars by a power law, photon
# noise, and read noise of 5 electrons. With an image of your own, begin with the next section.

import matplotlib.pyplot as plt
import numpy as np
from astropy.io import fits
from astropy.wcs import WCS

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
rows, columns = np.mgrid[0:96, 0:96]
truth = np.full((96, 96), 100.0)
for _ in range(40):
    row, column = rng.uniform(4, 92, 2)
    flux = 300 * rng.pareto(1.2) + 300
    truth += flux / 9 * np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / 3)
exposure = (rng.poisson(truth) + rng.normal(0, 5, truth.shape)).astype(np.float32)
exposure[:, 40] = np.nan

wcs = WCS(naxis=2)
wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
wcs.wcs.crval = [83.82, -5.39]
wcs.wcs.crpix = [48.5, 48.5]
wcs.wcs.cdelt = [-0.0002, 0.0002]
fits.PrimaryHDU(exposure, wcs.to_header()).writeto("field.fits")

# %%
# In a terminal
# -------------
#
# ``denoise`` refuses pixels that are NaN, and says that ``inpaint`` fills them. So there are two
# steps: fill what is missing, then take the noise out. ``terminal`` types the commands for us;
# leave it out, and the quotes, in a terminal.

terminal("dipfast inpaint field.fits whole.fits --quality fast")
terminal("dipfast denoise whole.fits clean.fits --quality fast")

# %%
# What was assumed is told: the unit of the values is that of the file, the range was found in the
# data, and so was the noise. The result is a FITS file with the same header, coordinates
# included:

header = fits.getheader("clean.fits")
print(header["CTYPE1"], header["CRVAL1"], header["BITPIX"])

# %%
# In Python
# ---------
#
# Missing pixels need no mask, NaN says it. ``method="nl_ridge"`` is what ``quality="fast"`` is to
# denoise.

exposure = dipfast.read_image("field.fits").image
whole = dipfast.inpaint(exposure, quality="fast").image
result = dipfast.denoise(whole, method="nl_ridge", quality="balanced")
print(result.summary())

# %%
# The root mean square difference from the truth, in electrons, of the pixels that were measured;
# and the median of the sky, which was 100:

measured = ~np.isnan(exposure)
for name, image in [("exposure", exposure), ("restored", result.image)]:
    difference = (image - truth)[measured]
    print(f"{name}: {np.sqrt(np.mean(difference**2)):.1f}, sky {np.median(image[measured]):.1f}")

# %%
# All three in the same range of values. The dead column is filled.

pictures = {"exposure": exposure, "restored": result.image, "truth": truth}
figure, axes = plt.subplots(1, 3, figsize=(9, 3.2))
for axis, (name, image) in zip(axes, pictures.items(), strict=True):
    axis.imshow(image, vmin=80, vmax=220, origin="lower")
    axis.set(title=name, xticks=[], yticks=[])

# %%
# Photometry
# ----------
#
# A denoiser makes a picture, not a measurement: faint stars can be lost or changed, and the
# errors of restored pixels are correlated. Measure fluxes in the exposure, and use the restored
# picture to see. What was measured of fluxes in restored fields of stars is in :doc:`/noise`, and
# :func:`dipfast.estimate_noise` tells the noise of an exposure without restoring it:

report = dipfast.estimate_noise(whole)
print(f"{report.kind}, {report.sigma:.1f} electrons")
