"""Normalisation as the model was trained with: in float32, whatever the input's type."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

#: Of every LayerNorm and GroupNorm of the model.
EPS = 1e-5


class LayerNorm(nn.LayerNorm):
    """Normalises the last axis."""

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=EPS)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise in float32; the answer has the input's type."""
        wide = functional.layer_norm(x.float(), self.normalized_shape, self.weight.float(), self.bias.float(), self.eps)
        return wide.to(x.dtype)


class GroupNorm(nn.GroupNorm):
    """Normalises groups of channels, axis 1."""

    def __init__(self, groups: int, channels: int) -> None:
        super().__init__(groups, channels, eps=EPS)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise in float32; the answer has the input's type."""
        wide = functional.group_norm(x.float(), self.num_groups, self.weight.float(), self.bias.float(), self.eps)
        return wide.to(x.dtype)
