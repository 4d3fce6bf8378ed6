"""The small MedVersa model of the recorded vectors: its weights."""

from __future__ import annotations

from functools import cache

from safetensors.torch import load_file
from torch import Tensor

from inference.engines.medversa.names import ALIASES
from inference.engines.medversa.sizes import Sizes
from tests.builders.medversa_sizes import SMALL, VECTORS


def small_sizes() -> Sizes:
    """Sizes of the recorded model."""
    return SMALL


def small_weights() -> dict[str, Tensor]:
    """The recorded weights under all published names, second names with the same storage as the first."""
    kept = dict(_stored())
    for alias, first in ALIASES.items():
        kept[first] = kept[alias]
    return kept


@cache
def _stored() -> dict[str, Tensor]:
    return load_file(VECTORS / "checkpoint.safetensors")
