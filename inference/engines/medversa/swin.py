"""The encoder of two-dimensional images: a Swin transformer.

Source: Liu et al., Swin Transformer: Hierarchical Vision Transformer using Shifted Windows, 2021.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from inference.engines.medversa.layers import LayerNorm
from inference.engines.medversa.sizes import SwinSizes

#: Added to the attention between patches that only the cyclic shift made neighbours.
_APART = -100.0


class Swin(nn.Module):
    """Images to a grid of features."""

    def __init__(self, sizes: SwinSizes) -> None:
        super().__init__()
        self.patch_size = sizes.patch_size
        self.patch = nn.Conv2d(3, sizes.embed_dim, sizes.patch_size, stride=sizes.patch_size)
        self.patch_norm = LayerNorm(sizes.embed_dim)
        side = -(-sizes.image_size // sizes.patch_size)
        stages = []
        for index, (depth, heads) in enumerate(zip(sizes.depths, sizes.num_heads, strict=True)):
            last = index == len(sizes.depths) - 1
            width = sizes.embed_dim * 2**index
            stages.append(Stage(width, depth, heads, min(sizes.window_size, side), sizes, merges=not last))
            side = -(-side // 2)
        self.stages = nn.ModuleList(stages)
        self.norm = LayerNorm(sizes.width)

    def forward(self, pixels: Tensor) -> Tensor:
        """Encode images.

        Parameters
        ----------
        pixels
            (images, 3, rows, columns), normalised.

        Returns
        -------
        Tensor
            (images, rows, columns, channels) of the last stage, after the final norm.
        """
        rows, columns = pixels.shape[-2:]
        # What is no whole number of patches is filled up with zeros below and to the right.
        pixels = functional.pad(pixels, (0, -columns % self.patch_size, 0, -rows % self.patch_size))
        x: Tensor = self.patch_norm(self.patch(pixels).permute(0, 2, 3, 1))
        for stage in self.stages:
            x = stage(x)
        normed: Tensor = self.norm(x)
        return normed


class Stage(nn.Module):
    """Blocks of one resolution, and the step to the next."""

    def __init__(self, width: int, depth: int, heads: int, window: int, sizes: SwinSizes, *, merges: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            Block(width, heads, window, shifted=index % 2 == 1, sizes=sizes) for index in range(depth)
        )
        self.merge = Merge(width) if merges else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Attend, then halve the resolution."""
        for block in self.blocks:
            x = block(x)
        merged: Tensor = self.merge(x)
        return merged


class Merge(nn.Module):
    """Joins four neighbouring patches into one of twice the channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = LayerNorm(4 * width)
        self.reduce = nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Halve rows and columns; an odd one is filled up with zeros."""
        rows, columns = x.shape[1:3]
        x = functional.pad(x, (0, 0, 0, columns % 2, 0, rows % 2))
        four = torch.cat([x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2]], dim=-1)
        reduced: Tensor = self.reduce(self.norm(four))
        return reduced


class Block(nn.Module):
    """Attention within windows, then a multilayer perceptron."""

    def __init__(self, width: int, heads: int, window: int, *, shifted: bool, sizes: SwinSizes) -> None:
        super().__init__()
        self.window = window
        self.shifted = shifted
        self.norm_before = LayerNorm(width)
        self.attention = WindowAttention(width, heads, sizes.window_size)
        self.norm_after = LayerNorm(width)
        self.widen = nn.Linear(width, sizes.mlp_ratio * width)
        self.narrow = nn.Linear(sizes.mlp_ratio * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (images, rows, columns, channels) to the same shape."""
        x = x + self._attend(self.norm_before(x))
        wide = functional.gelu(self.widen(self.norm_after(x)))
        changed: Tensor = self.narrow(wide)
        return x + changed

    def _attend(self, x: Tensor) -> Tensor:
        images, rows, columns, width = x.shape
        window = self.window
        # One window covers the whole grid: nothing lies beyond it to be reached by a shift.
        shift = window // 2 if self.shifted and min(rows, columns) > window else 0
        x = functional.pad(x, (0, 0, 0, -columns % window, 0, -rows % window))
        height, breadth = x.shape[1:3]
        apart = None
        if shift:
            x = torch.roll(x, (-shift, -shift), (1, 2))
            apart = apart_after_shift(height, breadth, window, shift).to(x.device, x.dtype)
        down, across = height // window, breadth // window
        tiles = x.view(images, down, window, across, window, width).transpose(2, 3)
        seen: Tensor = self.attention(tiles.reshape(-1, window * window, width), apart, window)
        x = seen.view(images, down, across, window, window, width).transpose(2, 3).reshape(x.shape)
        if shift:
            x = torch.roll(x, (shift, shift), (1, 2))
        return x[:, :rows, :columns]


class WindowAttention(nn.Module):
    """Attention among the patches of one window, with a learnt bias for each relative position."""

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads = heads
        self.trained_window = window
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)
        self.bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))

    def forward(self, x: Tensor, apart: Tensor | None, window: int) -> Tensor:
        """Attend within each window.

        Parameters
        ----------
        x
            (images x windows, patches of a window, channels).
        apart
            (windows, patches, patches) added to the attention; None: all of a window belong together.
        """
        count, patches, width = x.shape
        query, key, value = (
            layer(x).view(count, patches, self.heads, -1).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        index = relative_index(window, self.trained_window).to(x.device)
        bias = self.bias_table[index.view(-1)].view(patches, patches, self.heads).permute(2, 0, 1).unsqueeze(0)
        if apart is not None:
            bias = (bias + apart.unsqueeze(1)).repeat(count // len(apart), 1, 1, 1)
        seen = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias.to(x.dtype))
        out: Tensor = self.out(seen.transpose(1, 2).reshape(count, patches, width))
        return out


def relative_index(window: int, trained_window: int) -> Tensor:
    """Row of the bias table for each pair of patches: (patches, patches).

    The table runs over differences of rows, then of columns, from `1 - trained_window` on.
    """
    place = torch.arange(window)
    rows, columns = (each.flatten() for each in torch.meshgrid(place, place, indexing="ij"))
    row_steps, column_steps = (each[:, None] - each[None, :] + (trained_window - 1) for each in (rows, columns))
    return row_steps * (2 * trained_window - 1) + column_steps


def apart_after_shift(height: int, breadth: int, window: int, shift: int) -> Tensor:
    """(windows, patches, patches): `_APART` between patches of a window that were not neighbours before the shift."""

    def bands(length: int) -> Tensor:
        place = torch.arange(length)
        return (place >= length - window).long() + (place >= length - shift).long()

    region = bands(height)[:, None] * 3 + bands(breadth)[None, :]
    tiles = region.view(height // window, window, breadth // window, window).transpose(1, 2).reshape(-1, window**2)
    return (tiles[:, None, :] != tiles[:, :, None]).float() * _APART
