# The public names.  This is their only list: __init__.py imports each at its first use.

from . import errors, networks, operators, ops, stopping
from ._native import __version__
from .apps.live import LiveView
from .apps.page import save_page
from .apps.progress_bar import ProgressBar
from .images.files.read import read_image
from .images.files.write import write_image
from .model.noise import NoiseModel
from .noise_report import NoiseReport, estimate_noise
from .prior.loop import DeepImagePrior
from .prior.methods import make_stages
from .prior.stages import Stage
from .run.interrupt import Interrupt
from .run.result import Result
from .settings.jpeg import JpegCoding
from .settings.presets import Preset
from .tasks import denoise, inpaint, restore, super_resolve

__all__ = [
    "DeepImagePrior",
    "Interrupt",
    "JpegCoding",
    "LiveView",
    "NoiseModel",
    "NoiseReport",
    "Preset",
    "ProgressBar",
    "Result",
    "Stage",
    "__version__",
    "denoise",
    "errors",
    "estimate_noise",
    "inpaint",
    "make_stages",
    "networks",
    "operators",
    "ops",
    "read_image",
    "restore",
    "save_page",
    "stopping",
    "super_resolve",
    "write_image",
]
