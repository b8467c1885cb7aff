"""
How it works
============

What happens between a noisy picture and a clean one, with pictures that were made by the library
while this page was built. The picture and the number of iterations are small here, so that a page
is built in a minute; each section names the page with the figures that were measured.
"""

# sphinx_gallery_start_ignore
import matplotlib.pyplot as plt
import numpy as np
import skimage.data

import dipfast
from dipfast import ops

clean = skimage.data.camera()[64:256:3, 140:332:3]
rng = np.random.default_rng(0)
noisy = (clean + rng.normal(0, 25, clean.shape)).round().clip(0, 255).astype(np.uint8)


def show(pictures):
    """Show pictures of 8 bits side by side."""
    _, axes = plt.subplots(1, len(pictures), figsize=(2.2 * len(pictures), 2.5))
    for axis, (name, image) in zip(axes, pictures.items(), strict=True):
        axis.imshow(image, vmin=0, vmax=255)
        axis.set(title=name, xticks=[], yticks=[])


def snapshots_of(result):
    """Return four pictures on the way."""
    kept = {snapshot.iteration: snapshot.image for snapshot in result.snapshots}
    wanted = [min(kept, key=lambda i, at=at: abs(i - at)) for at in (10, 40, 150, 320)]
    return {f"iteration {i}": kept[i] for i in sorted(set(wanted))}


# sphinx_gallery_end_ignore
# %%
# A network that has seen nothing
# -------------------------------
#
# A *Deep Image Prior* is a network that was never trained. Its input is fixed noise, and its
# weights are fitted until its output is your picture. A convolutional network makes smooth and
# self-similar pictures more easily than noise, so on its way to the noisy picture it passes the
# clean one: it learns the shapes first, then the details, and the noise last. Written as a
# formula, with the picture :math:`y`, the network :math:`f` with weights :math:`\theta`, and its
# input :math:`z`:
#
# .. math:: \min_\theta \; \frac{1}{2} \| f_\theta(z) - y \|^2
#
# Nothing but your picture goes in, so nothing from other pictures can come out.

# sphinx_gallery_start_ignore
plain = dipfast.denoise(
    noisy,
    method="dip",
    stop="none",
    refine=False,
    max_iterations=330,
    reference=clean,
    snapshots=10,
)
show({"your picture": noisy, **snapshots_of(plain)})
# sphinx_gallery_end_ignore
# %%
# Two stages: first without the details
# -------------------------------------
#
# Noise makes neighbouring pixels differ. The sum of these differences is the *total variation*,
#
# .. math:: \mathrm{TV}(u) = \sum_{i,j} | u_{i+1,j} - u_{i,j} | + | u_{i,j+1} - u_{i,j} | .
#
# In the first third of the iterations it is part of what is minimised (:math:`\lambda \,
# \mathrm{TV}`, with a weight :math:`\lambda` that is set from the strength of the noise): the
# picture is flat and clean. Then it is lifted, and the details come back. That is
# ``method="two_stage"``; the dotted line is where the second stage begins. The grey line is
# the PSNR of the noisy picture.

# sphinx_gallery_start_ignore
two = dipfast.denoise(
    noisy,
    method="two_stage",
    stop="none",
    refine=False,
    max_iterations=330,
    reference=clean,
)
figure, axis = plt.subplots(figsize=(7, 3.2))
for name, result in (("one stage", plain), ("two stages", two)):
    axis.plot(result.history["iteration"], result.history["psnr_average"], label=name)
axis.axhline(plain.metrics["psnr_input"], color="0.6")
axis.axvline(110, color="0.8", linestyle=":")
axis.set(xlabel="iteration", ylabel="PSNR of the running average (dB)")
axis.legend()
# sphinx_gallery_end_ignore
# %%
# What is returned is the running average of the outputs, joined with the measurement where the
# network left out more than noise (``refine``). :doc:`/tables` has both stages on the pictures of
# the papers.
#
# When to stop
# ------------
#
# A curve like that needs the clean picture, which nobody has. A *stop rule* decides from the
# measurement alone. The default ends where the later of two signs has come:
#
# - **Held-out pixels.** A hundredth of the pixels is kept from the fit. As long as the network
#   predicts them better and better, it learns the picture; once it does no longer, it learns
#   noise.
# - **The distance from the measurement.** Once the picture is as far from the measurement as the
#   noise is strong, what is left is noise (the discrepancy principle).
#
# A noisy picture has a third one. A little noise of the same law is added before the fit, and much
# of it is taken off what the images are compared with. The noise of the two is independent, so that
# the image that comes nearest to the second, which the fit never sees, is the nearest to the clean
# picture. Where nothing comes nearer any more, the fit ends earlier.
#
# What is returned is the iteration that the rule judged best, not the last one. :doc:`/stopping`
# has all rules, what each loses, and how to write your own; :doc:`/adr/0005-default-stop-rule`
# says why it is this one.

# sphinx_gallery_start_ignore
stopped = dipfast.denoise(noisy, method="dip", reference=clean, max_iterations=400)
print(stopped.stop_detail)
print(f"stopped at {stopped.stop_iteration}, returned {stopped.best_iteration}")
# sphinx_gallery_end_ignore
# %%
# Without a network
# -----------------
#
# There is a second kind of method. Small patches of a picture look like other patches of the same
# picture. *Non-local ridge regression* (``method="nl_ridge"``) gathers similar patches, and
# replaces each by the combination of its group that has the least expected error. That takes a
# second where a fit takes minutes, and is what ``quality="fast"`` does; :doc:`/nl-ridge` has the
# figures.
#
# For holes, enlarging and blur the same denoiser and the measurement take turns (*plug and play*,
# ``method="pnp"``): take out noise, put in what was measured, and again with less noise.
#
# Joined, not chosen
# ------------------
#
# The two kinds err in different places, so a weighted mean can be better than either, if the
# weights are right. The default of ``dipfast.denoise`` gives the fast picture to networks as a
# guide, and weights the pictures by the errors that each is expected to have. Without a clean
# picture these are measured by a trick: noise :math:`w` of the same kind as that of the picture
# is drawn, and a method is given :math:`y + c\,w`. What it makes of that cannot depend on
# :math:`y - w / c`, whose noise is independent, and so it can be judged by it, as if by a second
# exposure. :doc:`/joined` has the method and the figures, :doc:`/adr/0011-joined` the reasons.

# sphinx_gallery_start_ignore
fast = dipfast.denoise(noisy, quality="fast", reference=clean)
joined = dipfast.denoise(noisy, reference=clean)
show({**{member.name: member.image for member in joined.members}, "joined": joined.image})
for member in joined.members:
    psnr = ops.psnr(member.image, clean, data_range=255)
    print(f"{member.name}: weight {member.weight:.2f}, {psnr:.2f} dB")
print(f"joined: {joined.psnr:.2f} dB, expected {joined.expected_psnr:.1f} dB")
# sphinx_gallery_end_ignore
# %%
# The weights were found without the clean picture (``result.members``), and so was the PSNR that
# the result expects of itself (``result.expected_psnr``), which is a rough number.
#
# Where the figure of the noise comes from
# ----------------------------------------
#
# Almost everything above leans on one number, the strength of the noise. It is found in the
# picture: the variation of small patches in the directions in which they vary least is that of
# the noise, because pictures have structure and noise has none. Noise that grows with the signal
# (photons), noise that is cut off at black and white, and coarse noise, as cameras' JPEGs have
# it, are told apart. ``dipfast info FILE`` and :func:`dipfast.estimate_noise` say what was found:

print(dipfast.estimate_noise(noisy))

# %%
# The noise that was added had sigma 25. :doc:`/noise` has how well that works for which kind. If
# you know the noise better, say so: ``sigma=25``.
#
# Below is what was taken out of the picture. It should look like noise: where you see the picture
# in it, too much was taken.

# sphinx_gallery_start_ignore
residual = noisy.astype(int) - fast.image + 128
show({"noisy": noisy, "restored": fast.image, "taken out (and 128)": residual})
# sphinx_gallery_end_ignore
