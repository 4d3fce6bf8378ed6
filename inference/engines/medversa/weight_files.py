"""The weight files of a model, as names and tensors; nothing is read before it is asked for.

Either `pytorch_model.bin` or `model.safetensors`, whole or in shards with an index beside them.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from inference.errors import WrongWeights

_PICKLED, _SAFE = ".bin", ".safetensors"
#: In the order in which they are looked for.
_WHOLE = ("model.safetensors", "pytorch_model.safetensors", "checkpoint.safetensors", "pytorch_model.bin")
_INDEX = ".index.json"


class WeightFiles(Mapping[str, Tensor]):
    """Tensors by the names in the files."""

    def __init__(self, paths: tuple[Path, ...]) -> None:
        self.paths = paths
        self._open = ExitStack()
        self._tensors: dict[str, Callable[[], Tensor]] = {}
        self.second_names: dict[str, str] = {}
        """Names that a file says it dropped, as another name's tensor is the same."""
        for path in paths:
            try:
                found = self._safe(path) if path.suffix == _SAFE else self._pickled(path)
            except (SafetensorError, pickle.UnpicklingError, RuntimeError, OSError, EOFError) as error:
                self._open.close()
                raise WrongWeights(
                    f"{path.name} cannot be read as weights: it is damaged or no weight file."
                ) from error
            twice = sorted(self._tensors.keys() & found.keys())
            if twice:
                self._open.close()
                raise WrongWeights(f"{path.name} holds {twice[0]} once more.")
            self._tensors |= found

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tensors.clear()
        self._open.close()

    def __getitem__(self, name: str) -> Tensor:
        return self._tensors[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def _safe(self, path: Path) -> dict[str, Callable[[], Tensor]]:
        file: Any = self._open.enter_context(safe_open(path, framework="pt"))
        self.second_names |= {
            name: kept
            for name, kept in (file.metadata() or {}).items()
            if kept in file.keys()  # noqa: SIM118 (no mapping)
        }
        return {name: partial(file.get_tensor, name) for name in file.keys()}  # noqa: SIM118

    def _pickled(self, path: Path) -> dict[str, Callable[[], Tensor]]:
        # Files of before 2020 are no zip archives and cannot be mapped into memory.
        found: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
        if not isinstance(found, dict) or not all(isinstance(each, Tensor) for each in found.values()):
            raise WrongWeights(f"{path.name} holds something other than named tensors.")
        return {name: partial(found.__getitem__, name) for name in found}


def find_files(place: Path) -> tuple[Path, ...]:
    """Find the weight files in a folder, or take the one named.

    Raises
    ------
    WrongWeights
        There are none, or shards are missing; the message names them.
    """
    if place.is_file():
        return _shards(place) if place.name.endswith(_INDEX) else (place,)
    for name in _WHOLE:
        if (place / name).is_file():
            return (place / name,)
        if (place / f"{name}{_INDEX}").is_file():
            return _shards(place / f"{name}{_INDEX}")
    raise WrongWeights(f"no weight file: looked for {', '.join(_WHOLE)} and their {_INDEX}.")


def _shards(index: Path) -> tuple[Path, ...]:
    try:
        names = sorted(set(json.loads(index.read_bytes())["weight_map"].values()))
        paths = tuple(index.parent / Path(name).name for name in names)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WrongWeights(f"{index.name} is no index of weight files.") from error
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        raise WrongWeights(f"{index.name} names {', '.join(missing)}, not there.")
    return paths


def digest_of(paths: tuple[Path, ...]) -> str:
    """Hex SHA-256 over the files' bytes, in their order."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(1 << 22):
                digest.update(block)
    return digest.hexdigest()
