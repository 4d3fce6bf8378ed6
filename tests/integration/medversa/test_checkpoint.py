"""Weights are taken from every published layout, and nothing missing, unexpected or misshapen is let pass."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from inference.engines.medversa.checkpoint import Placement, laid_out, layout, load
from inference.engines.medversa.model import MedVersa
from inference.engines.medversa.names import ALIASES, adapters_of, is_ignored, published_name
from inference.engines.medversa.sizes import Sizes
from inference.errors import EngineUnavailable, WrongWeights
from tests.builders.medversa import small_sizes, small_weights
from tests.builders.medversa_sizes import VECTORS

Weights = dict[str, Tensor]
QUERY = "llama_model.base_model.model.model.layers.0.self_attn.q_proj"


@pytest.fixture(scope="module")
def plain() -> MedVersa:
    return load(VECTORS / "checkpoint.safetensors", small_sizes())


def test_the_full_model_has_every_published_name_and_shape_and_no_memory() -> None:
    published = json.loads((VECTORS / "full_size_state_dict.json").read_text())["tensors"]
    model = laid_out(Sizes())
    assert layout(model) == {name: tuple(shape) for name, (shape, _) in published.items()}
    assert len(published) == 1098
    assert all(parameter.is_meta for parameter in model.parameters())


def as_pickle(weights: Weights, folder: Path) -> None:
    torch.save(weights, folder / "pytorch_model.bin")


def as_old_pickle(weights: Weights, folder: Path) -> None:
    torch.save(weights, folder / "pytorch_model.bin", _use_new_zipfile_serialization=False)


def as_safetensors(weights: Weights, folder: Path) -> None:
    kept = {name: tensor for name, tensor in weights.items() if name not in ALIASES.values()}
    dropped = {first: alias for alias, first in ALIASES.items()}
    save_file(kept, folder / "model.safetensors", metadata=dropped)


def as_shards(weights: Weights, folder: Path) -> None:
    names = [name for name in weights if name not in ALIASES]
    place = {name: f"model-0000{index % 3 + 1}-of-00003.safetensors" for index, name in enumerate(names)}
    for file in set(place.values()):
        save_file({name: weights[name] for name in names if place[name] == file}, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": place}))


def as_pickled_shards(weights: Weights, folder: Path) -> None:
    place = {name: f"pytorch_model-0000{index % 2 + 1}-of-00002.bin" for index, name in enumerate(weights)}
    for file in set(place.values()):
        torch.save({name: each for name, each in weights.items() if place[name] == file}, folder / file)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": place}))


@pytest.mark.parametrize("write", [as_pickle, as_old_pickle, as_safetensors, as_shards, as_pickled_shards])
def test_every_container_gives_the_same_model(
    write: Callable[[Weights, Path], None], plain: MedVersa, tmp_path: Path
) -> None:
    write(small_weights(), tmp_path)
    assert same(load(tmp_path, small_sizes()), plain)


#: What newer libraries call things.
SPELLINGS = {
    "adapters of peft 0.3": [(r"\.lora_([AB])\.weight$", r".lora_\1.default.weight")],
    "adapters of peft 0.7": [
        (r"\.lora_([AB])\.weight$", r".lora_\1.default.weight"),
        (r"(self_attn\.[qv]_proj)\.weight$", r"\1.base_layer.weight"),
    ],
    "transformers 5": [
        (r"\.attention\.self\.(query|key|value)\.", lambda found: f".attention.{found[1][0]}_proj."),
        (r"\.attention\.output\.dense\.", ".attention.o_proj."),
        (r"\.attention\.self\.relative_position_", ".attention.relative_position_bias.relative_position_"),
        (r"\.intermediate\.dense\.", ".mlp.fc1."),
        (r"(visual_encoder_2d\..*\.\d+)\.output\.dense\.", r"\1.mlp.fc2."),
    ],
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_gives_the_same_model(spelling: str, plain: MedVersa, tmp_path: Path) -> None:
    renamed: Weights = {}
    for name, tensor in small_weights().items():
        other = name
        for pattern, to in SPELLINGS[spelling]:
            other = re.sub(pattern, to, other)
        renamed[other] = tensor
    assert renamed.keys() != small_weights().keys()
    as_pickle(renamed, tmp_path)
    assert same(load(tmp_path, small_sizes()), plain)


def test_a_file_without_what_is_left_aside_is_whole(plain: MedVersa, tmp_path: Path) -> None:
    as_pickle({name: each for name, each in small_weights().items() if not is_ignored(name)}, tmp_path)
    assert same(load(tmp_path, small_sizes()), plain)


def test_adapters_are_merged_in_float32_and_cast_once(tmp_path: Path) -> None:
    weights = small_weights()
    as_pickle(weights, tmp_path)
    model = load(tmp_path, small_sizes(), Placement(language=torch.bfloat16))
    low, high = (weights[f"{QUERY}.lora_{each}.weight"] for each in "AB")
    merged = (weights[f"{QUERY}.weight"] + high @ low).to(torch.bfloat16)
    assert torch.equal(model.llm.layers[0].attention.query.weight, merged)
    assert not torch.equal(weights[f"{QUERY}.weight"].to(torch.bfloat16), merged)
    assert model.vision_2d.patch.weight.dtype == torch.float32


def test_no_weight_is_left_as_the_model_was_laid_out(plain: MedVersa) -> None:
    weights = small_weights()
    for ours, parameter in plain.named_parameters():
        name = published_name(ours)
        assert not parameter.is_meta
        if adapters_of(name) is None:
            assert torch.equal(parameter, weights[name]), ours


@pytest.mark.parametrize(
    "name",
    [
        f"{QUERY}.lora_B.weight",
        "visual_encoder_2d.layernorm.bias",
        "visual_encoder_3d.dec4.conv.double_conv.3.weight",
        "text_det.4.bias",
        "model_seg_2d.encoder.layer2.0.downsample.1.weight",
    ],
)
def test_a_missing_name_is_named(name: str, tmp_path: Path) -> None:
    as_pickle({each: tensor for each, tensor in small_weights().items() if each != name}, tmp_path)
    with pytest.raises(WrongWeights, match=rf"1 missing .*{re.escape(name)}"):
        load(tmp_path, small_sizes())


def test_a_shared_tensor_is_missing_only_when_both_its_names_are(plain: MedVersa, tmp_path: Path) -> None:
    for alias, first in ALIASES.items():
        one = {name: tensor for name, tensor in small_weights().items() if name != first}
        as_pickle(one, tmp_path)
        assert same(load(tmp_path, small_sizes()), plain)
        as_pickle({name: tensor for name, tensor in one.items() if name != alias}, tmp_path)
        with pytest.raises(WrongWeights, match=f"missing .*{re.escape(first)}"):
            load(tmp_path, small_sizes())


def test_two_names_of_one_tensor_must_agree(tmp_path: Path) -> None:
    weights = small_weights()
    as_pickle(weights | {"embed_tokens.weight": weights["embed_tokens.weight"] + 1}, tmp_path)
    with pytest.raises(WrongWeights, match="twice, with other numbers"):
        load(tmp_path, small_sizes())


@pytest.mark.parametrize(
    "name",
    [
        f"{QUERY.replace('q_proj', 'k_proj')}.lora_A.weight",
        "visual_encoder_2d.pooler.weight",
        "model_seg_2d.encoder.bn1.running_mean",
        "llama_model.base_model.model.model.layers.3.mlp.up_proj.weight",
    ],
)
def test_an_unexpected_name_is_named(name: str, tmp_path: Path) -> None:
    as_pickle(small_weights() | {name: torch.zeros(1)}, tmp_path)
    with pytest.raises(WrongWeights, match=rf"1 unexpected .*{re.escape(name)}"):
        load(tmp_path, small_sizes())


def test_another_shape_is_named_with_both(tmp_path: Path) -> None:
    weights = small_weights()
    as_pickle(weights | {"text_det.4.bias": torch.zeros(5)}, tmp_path)
    with pytest.raises(WrongWeights, match=r"text_det\.4\.bias has shape \(5,\).*needs \(4,\)"):
        load(tmp_path, small_sizes())


class Harmful:
    """Unpickling it would run what it says."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.marker,)


def test_a_pickle_that_would_run_something_is_refused(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    torch.save({"text_det.4.bias": Harmful(marker)}, tmp_path / "pytorch_model.bin")
    with pytest.raises(WrongWeights):
        load(tmp_path, small_sizes())
    assert not marker.exists()


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors"])
@pytest.mark.parametrize("content", [b"", b"not weights", b"PK\x03\x04 cut off"])
def test_a_damaged_file_is_named(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WrongWeights, match=re.escape(name)):
        load(tmp_path, small_sizes())


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(EngineUnavailable, match="no weight file"):
        load(tmp_path, small_sizes())
    as_shards(small_weights(), tmp_path)
    (tmp_path / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(WrongWeights, match=r"model-00002-of-00003\.safetensors, not there"):
        load(tmp_path, small_sizes())


def same(one: MedVersa, other: MedVersa) -> bool:
    ours, theirs = dict(one.named_parameters()), dict(other.named_parameters())
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
