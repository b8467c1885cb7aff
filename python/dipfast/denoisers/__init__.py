"""Denoise one image by a denoiser with a name."""
