"""Define the untrained network that serves as the prior.

:class:`Hourglass` is the encoder-decoder with thin skip connections of the Deep Image
Prior paper [1]_.  With its default :class:`HourglassConfig` it has the 2,215,251
parameters of the authors' own denoising network, without the biases of convolutions that batch
normalisation takes away again.

.. [1] Ulyanov, Vedaldi, Lempitsky, "Deep Image Prior", CVPR 2018 / IJCV 2020,
   arXiv:1711.10925.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dipfast.errors import InputError
from dipfast.prior.fused import fused_layers, has_fused_layers
from dipfast.settings.network import Downsampling, HourglassConfig
from dipfast.torch_modes import is_transformed

__all__ = ["Hourglass", "HourglassConfig"]


class Hourglass(nn.Module):
    """Map an input z to an image in (0, 1) by an encoder-decoder with skip connections.

    Each scale of the encoder is two 3x3 convolutions, the first of stride 2; each scale
    of the decoder concatenates the skip connection with the upsampled scale below and applies a
    3x3 and a 1x1 convolution.  As in the original, every convolution pads by reflection and is
    followed by batch normalisation and LeakyReLU(0.2), and upsampling is bilinear; the
    configuration has the variants of the original's other examples.

    Batch normalisation always uses the statistics of the image at hand, so ``train()``
    and ``eval()`` give the same output.

    Parameters
    ----------
    in_channels
        Channels of the input z, from 1 up; 32 as in the original.
    out_channels
        Channels of the image, from 1 up; 3 for colour.
    config
        Widths of the layers and kinds of the blocks; None takes the authors' denoising network.

    Raises
    ------
    ValueError
        If a number of channels is not positive.

    Attributes
    ----------
    is_fused
        Whether the layers run in few passes over memory (:mod:`dipfast.prior.fused`), which gives
        the same up to rounding; None, the default, for yes on a CPU with weights in float32, but
        not in transforms of ``torch.func``.  They have first derivatives only, refuse
        ``create_graph=True``, and take the layers as they were made; with False the layers of torch
        run one after the other, and have derivatives of any order.

    Notes
    -----
    The input has shape ``(N, in_channels, H, W)`` and the output ``(N, out_channels, H, W)``,
    for any H and W from 1 up: the input is padded by reflection to a multiple of ``2**scales``
    (at least two pixels at the coarsest scale, or what reflection by half a kernel needs), and
    the output is cropped to H and W.

    Examples
    --------
    >>> import torch
    >>> network = Hourglass(out_channels=3)
    >>> sum(p.numel() for p in network.parameters())
    2215251
    >>> network(torch.rand(1, 32, 65, 40)).shape
    torch.Size([1, 3, 65, 40])
    """

    def __init__(
        self,
        in_channels: int = 32,
        out_channels: int = 3,
        config: HourglassConfig | None = None,
    ) -> None:
        super().__init__()
        if in_channels < 1 or out_channels < 1:
            raise InputError(
                "in_channels and out_channels must be positive, "
                f"got {in_channels} and {out_channels}"
            )
        self.config = config = config or HourglassConfig()
        self.in_channels = in_channels
        self.is_fused: bool | None = None
        self.encoder = nn.ModuleList()
        self.skips = nn.ModuleList()
        self.decoder = nn.ModuleList()
        channels = in_channels
        for scale in range(config.scales):
            down, up, skip = config.down[scale], config.up[scale], config.skip[scale]
            last = scale == config.scales - 1
            below = down if last else config.up[scale + 1]
            self.skips.append(_block(channels, skip, kernel=1) if skip else _NoSkip())
            self.encoder.append(
                nn.Sequential(
                    _block(channels, down, config.down_kernel, config.downsampling),
                    _block(down, down, config.down_kernel),
                )
            )
            self.decoder.append(
                nn.Sequential(
                    _batch_norm(skip + below),
                    _block(skip + below, up, kernel=3),
                    *([_block(up, up, kernel=1)] if config.pointwise else []),
                )
            )
            channels = down
        self.head = nn.Conv2d(config.up[0], out_channels, kernel_size=1)

    @torch.no_grad()
    def initialise(self, generator: torch.Generator) -> None:
        """Draw all weights anew, from the distributions that torch uses by default.

        The global generator is neither used nor changed, so that fits in several threads
        do not change each other's random numbers.

        Parameters
        ----------
        generator
            The generator to draw from, on the device of the weights.
        """
        for scale in zip(self.skips, self.encoder, self.decoder):
            for part in scale:
                _initialise(part, generator)
        _initialise(self.head, generator)

    def forward(self, z: Tensor) -> Tensor:
        """Map z to an image.

        Parameters
        ----------
        z
            The input, of shape ``(N, in_channels, H, W)``.

        Returns
        -------
        Tensor
            The image, of shape ``(N, out_channels, H, W)``, in (0, 1).
        """
        height, width = z.shape[-2:]
        x = _pad_by_reflection(z, self._padded(height), self._padded(width))
        is_fused = self.is_fused
        if is_fused is None:
            single = self.head.weight.dtype == torch.float32
            is_fused = single and has_fused_layers(x.device, x.dtype) and not is_transformed()
        layers = fused_layers(self, x) if is_fused else self._plain_layers(x)
        image = torch.sigmoid(layers.to(self.head.weight.dtype))
        return image[..., :height, :width]

    def _plain_layers(self, x: Tensor) -> Tensor:
        """Return the output before the sigmoid, by one operation of torch after the other."""
        skipped = []
        for encode, skip in zip(self.encoder, self.skips):
            skipped.append(skip(x))
            x = encode(x)
        modes = reversed(self.config.upsamplings)
        for decode, side, mode in zip(reversed(self.decoder), reversed(skipped), modes):
            x = F.interpolate(x, scale_factor=2, mode=mode)
            x = decode(torch.cat([side, x], dim=1))
        image: Tensor = self.head(x)
        return image

    def _padded(self, size: int) -> int:
        # At the coarsest scale, reflection by half a kernel needs one pixel more than that half.
        multiple, fewest = self.config.multiple, max(self.config.down_kernel // 2 + 1, 2)
        return max(-(-size // multiple), fewest) * multiple


def _initialise(module: nn.Module, generator: torch.Generator) -> None:
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.reset_parameters()
        elif isinstance(layer, nn.Conv2d):
            # As torch does by default: weights and biases are uniform within +- 1 / sqrt(fan in).
            nn.init.kaiming_uniform_(layer.weight, a=math.sqrt(5), generator=generator)
            if layer.bias is not None:
                bound = 1 / math.sqrt(layer.weight[0].numel())
                nn.init.uniform_(layer.bias, -bound, bound, generator=generator)


class _NoSkip(nn.Module):
    """Stand for a skip connection that is left out: an output with no channels."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :0]


def _batch_norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, track_running_stats=False)


def _block(
    in_channels: int, out_channels: int, kernel: int, halve: Downsampling | None = None
) -> nn.Sequential:
    convolution = nn.Conv2d(
        in_channels,
        out_channels,
        kernel,
        stride=2 if halve == "stride" else 1,
        padding=kernel // 2,
        padding_mode="reflect" if kernel > 1 else "zeros",
        bias=False,  # the normalisation would take it away again
    )
    return nn.Sequential(
        convolution,
        *([nn.AvgPool2d(2)] if halve == "average" else []),
        _batch_norm(out_channels),
        nn.LeakyReLU(0.2),
    )


def _pad_by_reflection(x: Tensor, height: int, width: int) -> Tensor:
    """Pad to ``height`` x ``width`` at the bottom and right, reflecting as often as needed."""
    while (rows := height - x.shape[-2]) > 0:
        x = _reflect(x, (0, 0, 0, min(rows, max(x.shape[-2] - 1, 1))), x.shape[-2])
    while (columns := width - x.shape[-1]) > 0:
        x = _reflect(x, (0, min(columns, max(x.shape[-1] - 1, 1)), 0, 0), x.shape[-1])
    return x


def _reflect(x: Tensor, padding: tuple[int, int, int, int], size: int) -> Tensor:
    # Reflection needs two rows or columns; a single one is repeated.
    return F.pad(x, padding, mode="reflect" if size > 1 else "replicate")
