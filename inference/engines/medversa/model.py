"""The whole model: encoders, projections, language model, heads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from inference.engines.medversa.layers import GroupNorm, LayerNorm
from inference.engines.medversa.llama import Llama
from inference.engines.medversa.sizes import Sizes
from inference.engines.medversa.swin import Swin
from inference.engines.medversa.unet2d import UNet2d
from inference.engines.medversa.unet3d import UNet3d


@dataclass(frozen=True, eq=False)
class Seen:
    """What the language model is given of images, and what it was made from."""

    features: tuple[Tensor, ...]
    """2D: (images, rows, columns, channels). Volume: the five levels, from full resolution down."""
    pooled: Tensor
    """(images, bins, channels), row by row."""
    tokens: Tensor
    """(images, bins, channels of the language model)."""


@dataclass(frozen=True, eq=False)
class Outline:
    """One mask, and the steps to it."""

    condition: Tensor
    """(channels,) made of the special token's state."""
    bottleneck: Tensor
    fused: Tensor
    logits: Tensor
    """(rows, columns) or (depth, axis 1, axis 2), float32."""


class MedVersa(nn.Module):
    """All parts of the model; `checkpoint.load` makes one that has its weights."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.sizes = sizes
        width = sizes.llm.hidden_size
        deepest_2d, deepest_3d = sizes.unet_2d.encoder_widths[-1], sizes.vision_3d.widths[-1]
        self.vision_2d = Swin(sizes.vision_2d)
        self.projection_2d = Projection(sizes.vision_2d.width, width)
        self.vision_3d = UNet3d(sizes.vision_3d)
        self.projection_3d = Projection(deepest_3d, width)
        self.llm = Llama(sizes.llm, sizes.special_tokens.vocab_size_total)
        self.box = BoxHead(width, sizes.box_width)
        self.unet_2d = UNet2d(sizes.unet_2d)
        self.fusion_2d = Fusion(width, deepest_2d, sizes.fusion_norm_groups)
        self.fusion_3d = Fusion(width, deepest_3d, sizes.fusion_norm_groups)

    def see_images(self, pixels: Tensor) -> Seen:
        """Encode images (images, 3, rows, columns), normalised (`preprocess.py`)."""
        features = self.vision_2d(pixels.to(dtype_of(self.vision_2d)))
        side = self.sizes.pooled_side
        bins = functional.adaptive_avg_pool2d(features.permute(0, 3, 1, 2), (side, side))
        pooled = bins.flatten(2).transpose(1, 2)
        return Seen((features,), pooled, self.projection_2d(pooled))

    def see_volume(self, volume: Tensor) -> Seen:
        """Encode one volume (1, depth, axis 1, axis 2), normalised (`preprocess.py`)."""
        levels = self.vision_3d.encode(volume.unsqueeze(0).to(dtype_of(self.vision_3d)))
        side = self.sizes.pooled_side
        bins = functional.adaptive_avg_pool3d(levels[-1], (1, side, side))
        pooled = bins.flatten(2).transpose(1, 2)
        return Seen(tuple(levels), pooled, self.projection_3d(pooled))

    def embed(self, prefix_ids: Sequence[int], prompt_ids: Sequence[int], tokens: Tensor) -> Tensor:
        """Input of the language model: prefix with the images in their places, then prompt: (1, positions, channels).

        Raises
        ------
        ValueError
            The prefix has another number of places for images than there are image tokens.
        """
        embedding = self.llm.embed
        ids = torch.tensor([*prefix_ids, *prompt_ids], device=embedding.weight.device)
        rows: Tensor = embedding(ids)
        places = torch.tensor([token == self.sizes.special_tokens.image for token in prefix_ids])
        wanted = tokens.reshape(-1, tokens.shape[-1])
        if int(places.sum()) != len(wanted):
            raise ValueError(f"the prefix has {int(places.sum())} image places, there are {len(wanted)} image tokens")
        rows[places.nonzero().flatten().to(rows.device)] = wanted.to(rows.dtype)
        return rows.unsqueeze(0)

    def outline_2d(self, pixels: Tensor, state: Tensor) -> Outline:
        """Outline in one image (3, rows, columns) what a segmentation token's state (channels,) speaks of."""
        levels = self.unet_2d.encode(pixels.unsqueeze(0).to(dtype_of(self.unet_2d)))
        condition, fused = self.fusion_2d(levels[-1], state)
        logits = self.unet_2d.decode(fused, levels[:-1])
        return Outline(condition, levels[-1], fused, logits[0, 0].float())

    def outline_3d(self, seen: Seen, state: Tensor) -> Outline:
        """Outline in a volume that was seen what a segmentation token's state (channels,) speaks of."""
        levels = seen.features
        condition, fused = self.fusion_3d(levels[-1], state)
        logits = self.vision_3d.decode(fused, levels[:-1])
        return Outline(condition, levels[-1], fused, logits[0, 0].float())

    def box_of(self, state: Tensor) -> Tensor:
        """x_min, y_min, x_max, y_max of a detection token's state, as fractions of width and height; not clamped."""
        corners: Tensor = self.box(state.to(dtype_of(self.box)))
        return corners.float()


class Projection(nn.Module):
    """Brings image features to the language model."""

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__()
        self.norm = LayerNorm(width_in)
        self.linear = nn.Linear(width_in, width_out)

    def forward(self, pooled: Tensor) -> Tensor:
        """Map (images, bins, width_in) to (images, bins, width_out)."""
        tokens: Tensor = self.linear(self.norm(pooled))
        return tokens


class Fusion(nn.Module):
    """Adds what the language model means to the deepest features of a UNet."""

    def __init__(self, width_in: int, channels: int, groups: int) -> None:
        super().__init__()
        self.norm_in = LayerNorm(width_in)
        self.linear = nn.Linear(width_in, channels)
        self.norm_out = GroupNorm(groups, channels)

    def forward(self, deepest: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Conditioning vector (channels,), and features with it (1, channels, …)."""
        condition: Tensor = self.linear(self.norm_in(state.to(self.linear.weight.dtype)))
        shape = (1, -1) + (1,) * (deepest.dim() - 2)
        fused: Tensor = self.norm_out(deepest + condition.view(shape).to(deepest.dtype))
        return condition, fused


class BoxHead(nn.Module):
    """A detection token's state to four numbers."""

    def __init__(self, width_in: int, width: int) -> None:
        super().__init__()
        self.norm_in = LayerNorm(width_in)
        self.widen = nn.Linear(width_in, width)
        self.norm = LayerNorm(width)
        self.corners = nn.Linear(width, 4)

    def forward(self, state: Tensor) -> Tensor:
        """Map (…, width_in) to (…, 4)."""
        corners: Tensor = self.corners(self.norm(functional.relu(self.widen(self.norm_in(state)))))
        return corners


def dtype_of(part: nn.Module) -> torch.dtype:
    """Type of a part's numbers."""
    return next(part.parameters()).dtype
