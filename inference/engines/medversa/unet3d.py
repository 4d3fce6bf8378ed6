"""The 3D UNet: its upper half encodes volumes for the language model, the whole of it outlines structures."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from inference.engines.medversa.layers import GroupNorm
from inference.engines.medversa.sizes import UNet3dSizes

_LEAK = 0.01


class UNet3d(nn.Module):
    """Five levels, each half the resolution of the one before."""

    def __init__(self, sizes: UNet3dSizes) -> None:
        super().__init__()
        widths = sizes.widths
        groups = sizes.norm_groups
        self.first = DoubleBlock(1, widths[0], groups)
        self.down = nn.ModuleDict(
            {
                str(number): DoubleBlock(narrow, wide, groups)
                for number, (narrow, wide) in enumerate(pairwise(widths), 1)
            }
        )
        # Upwards: the skip of a level and what comes from below it; out goes the width of the level above.
        above = (*reversed(widths[:-2]), widths[0])
        skips = tuple(reversed(widths[:-1]))
        below = (widths[-1], *above[:-1])
        self.up = nn.ModuleDict(
            {
                str(number): DoubleBlock(skip + under, out, groups)
                for number, (skip, under, out) in enumerate(zip(skips, below, above, strict=True), 1)
            }
        )
        self.head = nn.Conv3d(widths[0], 1, 1)

    def encode(self, volume: Tensor) -> list[Tensor]:
        """Features of a volume (1, 1, depth, axis 1, axis 2), from full resolution down."""
        levels: list[Tensor] = [self.first(volume)]
        for block in self.down.values():
            levels.append(block(functional.max_pool3d(levels[-1], 2)))
        return levels

    def decode(self, deepest: Tensor, skips: Sequence[Tensor]) -> Tensor:
        """Mask logits from the deepest features and those of the levels above, given from full resolution down."""
        x = deepest
        for block, skip in zip(self.up.values(), reversed(skips), strict=True):
            x = functional.interpolate(x, scale_factor=2, mode="trilinear", align_corners=True)
            x = block(torch.cat([skip, _grown(x, skip)], dim=1))
        logits: Tensor = self.head(x)
        return logits


class DoubleBlock(nn.Module):
    """Twice: convolution, normalisation, leaky rectifier."""

    def __init__(self, width_in: int, width_out: int, groups: int) -> None:
        super().__init__()
        self.conv_1 = nn.Conv3d(width_in, width_out, 3, padding=1)
        self.norm_1 = GroupNorm(groups, width_out)
        self.conv_2 = nn.Conv3d(width_out, width_out, 3, padding=1)
        self.norm_2 = GroupNorm(groups, width_out)

    def forward(self, x: Tensor) -> Tensor:
        """Map (1, width_in, …) to (1, width_out, …)."""
        x = functional.leaky_relu(self.norm_1(self.conv_1(x)), _LEAK)
        return functional.leaky_relu(self.norm_2(self.conv_2(x)), _LEAK)


def _grown(x: Tensor, like: Tensor) -> Tensor:
    """Fill up with zeros to the size of a skip; the odd voxel goes to the high side."""
    missing = [wanted - had for wanted, had in zip(like.shape[2:], x.shape[2:], strict=True)]
    sides = [side for gap in reversed(missing) for side in (gap // 2, gap - gap // 2)]
    return functional.pad(x, sides)
