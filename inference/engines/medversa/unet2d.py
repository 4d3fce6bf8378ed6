"""The 2D UNet: a residual encoder and a decoder with skips, outlining structures in images.

Source: He et al., Deep Residual Learning, 2015 (18 layers); Ronneberger et al., U-Net, 2015.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from inference.engines.medversa.layers import GroupNorm
from inference.engines.medversa.sizes import UNet2dSizes


class UNet2d(nn.Module):
    """Five levels down to 1/32 of the resolution, and back."""

    def __init__(self, sizes: UNet2dSizes) -> None:
        super().__init__()
        widths, groups = sizes.encoder_widths, sizes.norm_groups
        self.stem = nn.Conv2d(3, widths[0], 7, stride=2, padding=3, bias=False)
        self.stem_norm = GroupNorm(groups, widths[0])
        self.stages = nn.ModuleDict()
        for number, blocks in enumerate(sizes.encoder_blocks, 1):
            before, width, stride = widths[number - 1], widths[number], 1 if number == 1 else 2
            first = ResidualBlock(before, width, stride, groups)
            rest = [ResidualBlock(width, width, 1, groups) for _ in range(blocks - 1)]
            self.stages[str(number)] = nn.Sequential(first, *rest)
        skips = (*reversed(widths[:-1]), 0)
        below = (widths[-1], *sizes.decoder_channels[:-1])
        self.up = nn.ModuleList(
            UpBlock(under + skip, out, groups)
            for under, skip, out in zip(below, skips, sizes.decoder_channels, strict=True)
        )
        self.head = nn.Conv2d(sizes.decoder_channels[-1], 1, 3, padding=1)

    def encode(self, pixels: Tensor) -> list[Tensor]:
        """Features of images (images, 3, rows, columns) at 1/2, 1/4, … 1/32 of the resolution."""
        levels = [functional.relu(self.stem_norm(self.stem(pixels)))]
        x = functional.max_pool2d(levels[0], 3, stride=2, padding=1)
        for stage in self.stages.values():
            x = stage(x)
            levels.append(x)
        return levels

    def decode(self, deepest: Tensor, skips: Sequence[Tensor]) -> Tensor:
        """Mask logits from the deepest features and those of the levels above, given from 1/2 down."""
        x = deepest
        for block, skip in zip(self.up, [*reversed(skips), None], strict=True):
            x = functional.interpolate(x, scale_factor=2, mode="nearest")
            x = block(x if skip is None else torch.cat([x, skip], dim=1))
        logits: Tensor = self.head(x)
        return logits


class ResidualBlock(nn.Module):
    """Two convolutions and a way around them."""

    def __init__(self, width_in: int, width_out: int, stride: int, groups: int) -> None:
        super().__init__()
        self.conv_1 = nn.Conv2d(width_in, width_out, 3, stride=stride, padding=1, bias=False)
        self.norm_1 = GroupNorm(groups, width_out)
        self.conv_2 = nn.Conv2d(width_out, width_out, 3, padding=1, bias=False)
        self.norm_2 = GroupNorm(groups, width_out)
        self.around = Around(width_in, width_out, stride, groups) if stride > 1 or width_in != width_out else None

    def forward(self, x: Tensor) -> Tensor:
        """Map (images, width_in, …) to (images, width_out, …)."""
        past = x if self.around is None else self.around(x)
        x = functional.relu(self.norm_1(self.conv_1(x)))
        return functional.relu(self.norm_2(self.conv_2(x)) + past)


class Around(nn.Module):
    """Makes the input of a residual block fit to be added to its output."""

    def __init__(self, width_in: int, width_out: int, stride: int, groups: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width_in, width_out, 1, stride=stride, bias=False)
        self.norm = GroupNorm(groups, width_out)

    def forward(self, x: Tensor) -> Tensor:
        """Map (images, width_in, …) to (images, width_out, …)."""
        fitted: Tensor = self.norm(self.conv(x))
        return fitted


class UpBlock(nn.Module):
    """Twice: convolution, normalisation, rectifier."""

    def __init__(self, width_in: int, width_out: int, groups: int) -> None:
        super().__init__()
        self.conv_1 = nn.Conv2d(width_in, width_out, 3, padding=1, bias=False)
        self.norm_1 = GroupNorm(groups, width_out)
        self.conv_2 = nn.Conv2d(width_out, width_out, 3, padding=1, bias=False)
        self.norm_2 = GroupNorm(groups, width_out)

    def forward(self, x: Tensor) -> Tensor:
        """Map (images, width_in, …) to (images, width_out, …)."""
        x = functional.relu(self.norm_1(self.conv_1(x)))
        return functional.relu(self.norm_2(self.conv_2(x)))
