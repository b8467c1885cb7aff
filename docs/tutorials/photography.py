"""
Photography: a poor JPEG and a scratched scan
=============================================

A JPEG that was saved too small, a noisy picture of 8 bits, and a scan with scratches and a mask.
The photographs come with scikit-image; the damage is ours.
"""

# %%
# The pictures
# ------------
#
# ``cup.jpg`` is saved with quality 20. ``scan.png`` gets three scratches, and ``scratches.png``
# is the mask that says where they are: white where the picture is damaged. In an image editor,
# draw it with a white brush on a black layer, or on a clear layer, and save that layer as PNG.

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import skimage.data
import skimage.draw
from PIL import Image

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


def show(pictures):
    """Show pictures side by side."""
    _, axes = plt.subplots(1, len(pictures), figsize=(3 * len(pictures), 3.2))
    for axis, (name, image) in zip(axes, pictures.items(), strict=True):
        axis.imshow(image)
        axis.set(title=name, xticks=[], yticks=[])


# sphinx_gallery_end_ignore
cup = skimage.data.coffee()[40:360:2, 150:470:2]
Image.fromarray(cup).save("cup.jpg", quality=20)

cat = skimage.data.chelsea()[20:276:2, 100:356:2]
scratches = np.zeros(cat.shape[:2], np.uint8)
ends = [(0, 20, 127, 45), (10, 120, 120, 60), (70, 0, 60, 127)]
for row, column, end_row, end_column in ends:
    for offset in range(3):
        line = skimage.draw.line(row, column, end_row, end_column)
        scratches[line[0], (line[1] + offset).clip(0, 127)] = 255
scan = cat.copy()
scan[scratches > 0] = 235
Image.fromarray(scan).save("scan.png")
Image.fromarray(scratches).save("scratches.png")

# %%
# Blocks and ringing of a JPEG
# ----------------------------
#
# The file says how its pixels were rounded, so what the picture can have been is known
# (:doc:`/jpeg`). The command takes a JPEG of quality 60 and less for one by itself. ``terminal``
# types the command for us; leave it out, and the quotes, in a terminal.

terminal("dipfast info cup.jpg")
terminal("dipfast denoise cup.jpg better.png")

# %%
# The same in Python, from the pixels and the coding of the file:

file = dipfast.read_image("cup.jpg")
result = dipfast.denoise(file.image, jpeg=file.jpeg)
print(result.summary())
show({"JPEG": file.image, "restored": result.image, "original": cup})

# %%
# Scratches
# ---------
#
# Only the pixels of the mask are replaced; all others stay as they are, to the last bit.

terminal("dipfast inpaint scan.png whole.png --mask scratches.png --quality fast")

# %%
# In Python a mask is an array, true where a pixel is missing. A value that marks the damage,
# opacity (``"alpha"``) and NaN can take its place.

result = dipfast.inpaint(scan, scratches > 0, quality="fast")
kept = (result.image == scan)[scratches == 0]
print("pixels outside the mask kept:", bool(kept.all()))
show({"scan": scan, "mask": np.dstack([scratches] * 3), "filled": result.image})

# %%
# A noisy picture
# ---------------
#
# High sensitivity makes noise. Here it is white noise of sigma 20 that we add; that of a camera's
# JPEG is coarser, which is found and told (``correlated``).

rng = np.random.default_rng(0)
noisy = (cup + rng.normal(0, 20, cup.shape)).round().clip(0, 255).astype(np.uint8)
result = dipfast.denoise(noisy, quality="fast")
print(result.summary())
show({"noisy": noisy, "restored": result.image})

# %%
# Too smooth, or not smooth enough? The strength of the noise is what decides. ``sigma=`` tells it
# instead of having it found, in the unit of the pixels, here 0 to 255:

gentle = dipfast.denoise(noisy, sigma=12, quality="fast")
show({"sigma found": result.image, "sigma=12": gentle.image})

# %%
# A folder of pictures
# --------------------
#
# With folders in the place of files, every picture is restored; what is done is skipped the next
# time (:doc:`/command-line`). Profiles, EXIF and the size of a pixel are kept in each of them.

Path("scans").mkdir()
Image.fromarray(noisy).save("scans/one.png")
Image.fromarray(noisy[::-1]).save("scans/two.png")
terminal("dipfast denoise scans clean --quality fast")
