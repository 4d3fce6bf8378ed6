"""The small MedVersa model of the recorded vectors."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from inference.engines.medversa.names import ALIASES
from inference.engines.medversa.sizes import Sizes, sizes_from

VECTORS = Path(__file__).parent.parent / "vectors" / "medversa"


def small_sizes() -> Sizes:
    """Sizes of the recorded model."""
    return sizes_from(json.loads((VECTORS / "config.json").read_text()))


def small_weights() -> dict[str, Tensor]:
    """The recorded weights under all published names, second names with the same storage as the first."""
    kept = dict(_stored())
    for alias, first in ALIASES.items():
        kept[first] = kept[alias]
    return kept


@cache
def _stored() -> dict[str, Tensor]:
    return load_file(VECTORS / "checkpoint.safetensors")


def random_images(count: int, side: int, seed: int = 0) -> Tensor:
    """Normalised images, all noise."""
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(seed))
