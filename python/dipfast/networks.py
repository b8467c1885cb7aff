"""Untrained networks that serve as the prior (public names of :mod:`dipfast.prior.networks`)."""

from dipfast.prior.networks import Hourglass
from dipfast.settings.network import HourglassConfig

__all__ = ["Hourglass", "HourglassConfig"]
