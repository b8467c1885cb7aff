"""Denoisers of one image, under a name."""
