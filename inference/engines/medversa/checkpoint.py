"""Make the model with the weights of a checkpoint: every name is accounted for, and the files are read once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from inference.engines.medversa.model import MedVersa
from inference.engines.medversa.names import (
    ALIASES,
    adapters_of,
    ignored_layout,
    is_ignored,
    published_name,
    settled_name,
)
from inference.engines.medversa.sizes import Sizes
from inference.engines.medversa.weight_files import WeightFiles, find_files
from inference.errors import WrongWeights

#: Names said in one message.
_SAID = 8


@dataclass(frozen=True)
class Placement:
    """Where the model runs, and in which numbers."""

    device: str = "cpu"
    language: torch.dtype = torch.float32
    rest: torch.dtype = torch.float32
    """Encoders, projections and heads."""


def load(place: Path, sizes: Sizes, placement: Placement | None = None) -> MedVersa:
    """Make the model from a file or folder.

    The model is laid out without memory and takes the tensors of the file as they are, where they need no conversion.

    Raises
    ------
    WrongWeights
        A name is missing, unexpected or of another shape; the message names it.
    """
    placement = placement or Placement()
    model = laid_out(sizes)
    with WeightFiles(find_files(place)) as files:
        where = locate(files, files.second_names, model)
        parameters = {
            ours: _taken(ours, where, files, sizes, placement).to(
                device=placement.device, dtype=_dtype(ours, placement)
            )
            for ours, _ in model.named_parameters()
        }
        model.load_state_dict(parameters, strict=True, assign=True)
    return model.requires_grad_(requires_grad=False).eval()


def laid_out(sizes: Sizes) -> MedVersa:
    """The model with names and shapes, and no memory for them."""
    with torch.device("meta"):
        return MedVersa(sizes)


def layout(model: MedVersa) -> dict[str, tuple[int, ...]]:
    """Every name and shape of a whole published checkpoint of such a model."""
    return {**_needed(model), **ignored_layout(model.sizes)} | {
        alias: _needed(model)[first] for alias, first in ALIASES.items()
    }


def locate(files: Mapping[str, Tensor], second_names: Mapping[str, str], model: MedVersa) -> dict[str, str]:
    """Find for each published name that the model needs what the files call it.

    Raises
    ------
    WrongWeights
        A name is missing, unexpected, there twice with other numbers, or of another shape.
    """
    needed = _needed(model)
    where: dict[str, str] = {}
    unexpected = []
    for found in (*files, *(name for name in second_names if name not in files)):
        name = settled_name(found)
        stored = found if found in files else second_names[found]
        if name in where and not _same(files, where[name], stored):
            raise WrongWeights(f"the weights hold {name} twice, with other numbers ({where[name]}, {stored}).")
        if name in needed:
            where.setdefault(name, stored)
        elif not is_ignored(name) and found in files:
            unexpected.append(found)
    _complain("missing", sorted(needed.keys() - where.keys()))
    _complain("unexpected", unexpected)
    for name, stored in where.items():
        shape = tuple(files[stored].shape)
        if shape != needed[name]:
            raise WrongWeights(f"{stored} has shape {shape} in the weights, the model needs {needed[name]}.")
    return where


def _needed(model: MedVersa) -> dict[str, tuple[int, ...]]:
    rank = model.sizes.llm.lora_rank
    found: dict[str, tuple[int, ...]] = {}
    for ours, parameter in model.named_parameters():
        name, shape = published_name(ours), tuple(parameter.shape)
        found[name] = shape
        adapters = adapters_of(name)
        if adapters:
            found[adapters[0]], found[adapters[1]] = (rank, shape[1]), (shape[0], rank)
    return found


def _taken(ours: str, where: Mapping[str, str], files: WeightFiles, sizes: Sizes, placement: Placement) -> Tensor:
    """One tensor, with its adapter merged in float32."""
    name = published_name(ours)
    tensor = files[where[name]]
    adapters = adapters_of(name)
    if adapters is None:
        return tensor
    low, high = (files[where[each]].to(placement.device).float() for each in adapters)
    scale = sizes.llm.lora_alpha / sizes.llm.lora_rank
    return tensor.to(placement.device).float() + scale * (high @ low)


def _dtype(ours: str, placement: Placement) -> torch.dtype:
    return placement.language if ours.startswith("llm.") else placement.rest


def _same(files: Mapping[str, Tensor], first: str, second: str) -> bool:
    if first == second:
        return True
    one, other = files[first], files[second]
    return one.data_ptr() == other.data_ptr() or (one.shape == other.shape and bool(torch.equal(one, other)))


def _complain(what: str, names: Iterable[str]) -> None:
    said = list(names)
    if said:
        more = f" and {len(said) - _SAID} more" if len(said) > _SAID else ""
        raise WrongWeights(f"{len(said)} {what} in the weights: {', '.join(said[:_SAID])}{more}.")
