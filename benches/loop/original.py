"""The loop of the Deep Image Prior paper, as its authors' notebook for denoising has it.

It is what speed is compared with: float32, an encoder-decoder of 128 channels with biases,
batch normalisation, reflection padding and bilinear upsampling, Adam, noise on the input at each
iteration, and a running average.  Written from the paper (Ulyanov, Vedaldi, Lempitsky, IJCV 2020,
supplementary material, figure 21 and section "Denoising").
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

__all__ = ["OriginalNetwork", "original_loop"]


def _block(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.ReflectionPad2d(kernel // 2),
        nn.Conv2d(inputs, outputs, kernel, stride),
        nn.BatchNorm2d(outputs),
        nn.LeakyReLU(0.2),
    )


class _Scale(nn.Module):
    """One scale: skip connection, half the size and what is below it, and both together."""

    def __init__(self, inputs: int, width: int, skip: int, below: nn.Module | None) -> None:
        super().__init__()
        self.skip = _block(inputs, skip, 1)
        down = [_block(inputs, width, 3, 2), _block(width, width, 3)]
        up = nn.Upsample(scale_factor=2, mode="bilinear")
        self.deep = nn.Sequential(*down, *([below] if below else []), up)
        joined = width + skip
        self.end = nn.Sequential(
            nn.BatchNorm2d(joined), _block(joined, width, 3), _block(width, width, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        ended: Tensor = self.end(torch.cat([self.skip(x), self.deep(x)], dim=1))
        return ended


class OriginalNetwork(nn.Sequential):
    """Map 32 channels of noise to an image whose sides are multiples of 32."""

    def __init__(self, channels: int = 3, width: int = 128, skip: int = 4) -> None:
        scale: nn.Module | None = None
        for k in reversed(range(5)):
            scale = _Scale(32 if k == 0 else width, width, skip, scale)
        assert scale is not None
        super().__init__(scale, nn.Conv2d(width, channels, 1), nn.Sigmoid())


def original_loop(noisy: Tensor, seed: int = 0) -> Iterator[Tensor]:
    """Fit the network to a noisy picture (1, C, H, W) for ever; yield the running average."""
    torch.manual_seed(seed)
    network = OriginalNetwork(noisy.shape[1]).to(noisy)
    z = 0.1 * torch.rand(1, 32, *noisy.shape[2:], device=noisy.device)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    average = None
    while True:
        optimizer.zero_grad()
        out = network(z + torch.randn_like(z) / 30)
        loss = nn.functional.mse_loss(out, noisy)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        loss.item()  # which the original prints
        out = out.detach()
        average = out if average is None else 0.99 * average + 0.01 * out
        yield average
