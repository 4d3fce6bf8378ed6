"""Compare this implementation with recorded numbers: `python -m inference.engines.medversa.vectors FOLDER`.

Prints the worst error of each stage beside what is allowed; exit status 0 when all are within it, else 1.
The folder holds `config.json`, a checkpoint, `tokenizer.model`, `texts.json` and the recorded arrays, as
`tests/vectors/medversa/README.md` describes them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from configs.errors import NodeError
from inference.engines.medversa.checkpoint import laid_out, layout, load
from inference.engines.medversa.choosing import Greedy, Weighing
from inference.engines.medversa.generate import Answer, generate
from inference.engines.medversa.llama import Cache
from inference.engines.medversa.model import MedVersa, Seen
from inference.engines.medversa.postprocess import (
    largest_component,
    mask_of,
    resized_image_mask,
    resized_volume_mask,
)
from inference.engines.medversa.preprocess import foreground, image_pixels, normalised_volume, volume_voxels
from inference.engines.medversa.prompts import prefix_of
from inference.engines.medversa.sizes import Sizes, sizes_from
from inference.engines.medversa.tokenizer import Tokenizer, answer_of

Arrays = Mapping[str, npt.NDArray[Any]]

#: Largest errors allowed in float32. Source: the vectors' README.
ENCODED = 1e-4
STATES = 2e-4
MASKS = 5e-5
"""Relative to the array's largest magnitude."""
UNDECIDED = 1e-3
"""A pixel whose logit is nearer to zero may fall on either side."""


@dataclass(frozen=True)
class Check:
    """One stage compared."""

    stage: str
    error: float
    allowed: float

    @property
    def passed(self) -> bool:
        """Tell whether it is near enough; what cannot be compared is not."""
        return self.error <= self.allowed

    def __str__(self) -> str:
        mark = "ok  " if self.passed else "FAIL"
        return f"{mark} {self.stage:<48} {self.error:9.2e}  (allowed {self.allowed:.0e})"


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare, print, and give the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--llama-tokenizer", type=Path, help="the real tokenizer.model, to compare real prompts too")
    given = parser.parse_args(arguments)
    failed = 0
    try:
        for check in compare(given.folder, given.llama_tokenizer):
            sys.stdout.write(f"{check}\n")
            failed += not check.passed
    except (NodeError, OSError, KeyError) as error:
        sys.stdout.write(f"FAIL {type(error).__name__}: {error}\n")
        failed += 1
    sys.stdout.write("All within tolerance.\n" if not failed else f"{failed} out of tolerance.\n")
    return 1 if failed else 0


@torch.inference_mode()
def compare(folder: Path, llama_tokenizer: Path | None = None) -> Iterator[Check]:
    """Compare every stage of which the folder has numbers."""
    yield from _layout(json.loads((folder / "full_size_state_dict.json").read_text()))
    yield from _real_prompts(json.loads((folder / "llama2_prompt_ids.json").read_text()), llama_tokenizer)
    for name, compared in (
        ("preprocess_2d", _image_preparation),
        ("preprocess_ct", _volume_preparation),
        ("postprocess_2d", _image_masks),
        ("postprocess_3d", _volume_masks),
    ):
        yield from _named(name, compared(_arrays(folder / f"{name}.npz")))
    recorded = Recorded(folder)
    yield from _named("case_2d_report", _report(recorded))
    yield from _named("case_2d_seg", _image_outline(recorded))
    yield from _named("case_3d_seg", _volume_outline(recorded))
    yield from _named("case_2d_detect", _box(recorded))


class Recorded:
    """The recorded cases and the model they were recorded from."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        config = json.loads((folder / "config.json").read_text())
        self.sizes: Sizes = sizes_from(config)
        self.texts: dict[str, Any] = json.loads((folder / "texts.json").read_text())
        self._repetition_penalty: float = config["generation"].get("repetition_penalty", 1.0)
        self.tokenizer = Tokenizer(folder / "tokenizer.model", self.sizes)

    @cached_property
    def model(self) -> MedVersa:
        """The small model, in float32."""
        return load(self._folder, self.sizes)

    def case(self, name: str) -> Arrays:
        """Arrays of one case."""
        return _arrays(self._folder / f"{name}.npz")

    def images(self, arrays: Arrays) -> Tensor:
        """The case's images as the model sees them."""
        side = self.sizes.vision_2d.image_size
        return torch.from_numpy(np.stack([image_pixels(image, side) for image in arrays["image_u8"]]))

    def answer(self, name: str, embeddings: Tensor, seen_scores: list[Tensor] | None = None) -> Answer:
        """Generate greedily, with the case's forced tokens."""
        forced = {int(at): token for at, token in self.texts[name].get("forced_tokens", {}).items()}
        greedy = Greedy(Weighing(self.sizes.generation, repetition_penalty=self._repetition_penalty))

        def choose(logits: Tensor, generated: Sequence[int]) -> int:
            if seen_scores is not None:
                seen_scores.append(logits)
            token = forced.get(len(generated))
            return greedy(logits, generated) if token is None else token

        tokens = self.sizes.special_tokens
        return generate(
            self.model.llm,
            embeddings,
            choose,
            watched=(tokens.det, tokens.seg_2d, tokens.seg_3d),
            ends=self.sizes.generation,
        )

    def embeddings(self, arrays: Arrays, seen: Seen) -> Tensor:
        """Input of the language model, from the recorded ids."""
        return self.model.embed(arrays["prefix_ids"].tolist(), arrays["prompt_ids"].tolist(), seen.tokens)

    def token_checks(self, name: str, arrays: Arrays) -> Iterator[Check]:
        """Compare the ids of the case's texts."""
        text = self.texts[name]
        yield _exact("prefix ids", self.tokenizer.encode(text["prefix"], bos=True), arrays["prefix_ids"])
        yield _exact("prompt ids", self.tokenizer.encode(text["prompt"]), arrays["prompt_ids"])


def _report(recorded: Recorded) -> Iterator[Check]:
    arrays, model = recorded.case("case_2d_report"), recorded.model
    yield from recorded.token_checks("case_2d", arrays)
    seen = model.see_images(recorded.images(arrays))
    yield _near("encoder output", seen.features[0].flatten(1, 2), arrays["vision_last_hidden"], ENCODED)
    yield from _seen(seen, arrays)
    embeddings = recorded.embeddings(arrays, seen)
    yield _near("input embeddings", embeddings[0], arrays["inputs_embeds"], ENCODED)
    states = model.llm(embeddings, _cache(model, embeddings))
    yield _near("prompt states", states[0], arrays["prompt_hidden_last_layer"], STATES)
    logits = model.llm.logits(states[0])
    yield _near("first logits", logits[-1], arrays["first_step_logits"], STATES)
    yield _exact("best token at each prompt position", logits.argmax(-1), arrays["all_prompt_logits_argmax"])
    scores: list[Tensor] = []
    answer = recorded.answer("case_2d", embeddings, scores)
    yield _exact("greedy ids", answer.ids, arrays["generated_ids"])
    yield _near("logits at each step", torch.stack(scores), arrays["step_logits"], STATES)


def _image_outline(recorded: Recorded) -> Iterator[Check]:
    arrays, model = recorded.case("case_2d_seg"), recorded.model
    yield from recorded.token_checks("case_2d_seg", arrays)
    pixels = recorded.images(arrays)
    embeddings = recorded.embeddings(arrays, model.see_images(pixels))
    yield _near("input embeddings", embeddings[0], arrays["inputs_embeds"], ENCODED)
    answer = recorded.answer("case_2d_seg", embeddings)
    yield _exact("greedy ids", answer.ids, arrays["generated_ids"])
    state = answer.states.get(int(arrays["seg_position"]))
    if state is None:
        yield Check("state of the segmentation token", np.inf, STATES)
        return
    yield _near("state of the segmentation token", state, arrays["seg_hidden"], STATES)
    outline = model.outline_2d(pixels[0], state)
    yield _near("conditioning vector", outline.condition, arrays["seg_condition"], STATES)
    yield _relative("bottleneck", outline.bottleneck, arrays["unet_bottleneck"])
    yield _relative("bottleneck, fused", outline.fused, arrays["unet_bottleneck_fused"])
    yield from _mask(outline.logits, arrays)


def _volume_outline(recorded: Recorded) -> Iterator[Check]:
    arrays, model = recorded.case("case_3d_seg"), recorded.model
    yield from recorded.token_checks("case_3d_seg", arrays)
    seen = model.see_volume(torch.from_numpy(arrays["volume_f16"].astype(np.float32)))
    shapes = [list(level.shape[1:]) for level in seen.features]
    yield _exact("encoder level shapes", shapes, arrays["encoder_shapes"])
    moments = [[float(level.mean()), float(level.std())] for level in seen.features]
    yield _near("encoder level mean and spread", torch.tensor(moments), arrays["encoder_level_mean_std"], ENCODED)
    yield _near("encoder output", seen.features[-1], arrays["encoder_deepest"], ENCODED)
    yield from _seen(seen, arrays)
    embeddings = recorded.embeddings(arrays, seen)
    yield _near("input embeddings", embeddings[0], arrays["inputs_embeds"], ENCODED)
    scores: list[Tensor] = []
    answer = recorded.answer("case_3d_seg", embeddings, scores)
    yield _near("first logits", scores[0], arrays["first_step_logits"], STATES)
    yield _exact("greedy ids", answer.ids, arrays["generated_ids"])
    state = answer.states.get(int(arrays["seg_position"]))
    if state is None:
        yield Check("state of the segmentation token", np.inf, STATES)
        return
    yield _near("state of the segmentation token", state, arrays["seg_hidden"], STATES)
    outline = model.outline_3d(seen, state)
    yield _near("conditioning vector", outline.condition, arrays["seg_condition"], STATES)
    yield _relative("bottleneck, fused", outline.fused, arrays["unet_bottleneck_fused"])
    yield from _mask(outline.logits, arrays)


def _box(recorded: Recorded) -> Iterator[Check]:
    arrays, model = recorded.case("case_2d_detect"), recorded.model
    yield from recorded.token_checks("case_2d_detect", arrays)
    seen = model.see_images(recorded.images(recorded.case("case_2d_seg")))  # recorded of the same image
    answer = recorded.answer("case_2d_detect", recorded.embeddings(arrays, seen))
    yield _exact("greedy ids", answer.ids, arrays["generated_ids"])
    state = answer.states.get(int(arrays["det_position"]))
    if state is None:
        yield Check("state of the detection token", np.inf, STATES)
        return
    yield _near("state of the detection token", state, arrays["det_hidden"], STATES)
    yield _near("box", model.box_of(state), arrays["det_box"], STATES)


def _seen(seen: Seen, arrays: Arrays) -> Iterator[Check]:
    yield _near("pooled tokens", seen.pooled.squeeze(0), arrays["pooled_tokens"], ENCODED)
    yield _near("projected tokens", seen.tokens, arrays["image_tokens"], ENCODED)


def _mask(logits: Tensor, arrays: Arrays) -> Iterator[Check]:
    yield _relative("mask logits", logits, arrays["mask_logits"])
    found, wanted = mask_of(logits.numpy()), arrays["mask"]
    decided = np.abs(arrays["mask_logits"]) >= UNDECIDED
    wrong = np.inf if found.shape != wanted.shape else float(((found != wanted) & decided).sum())
    yield Check("mask pixels that differ", wrong, 0)


def _layout(full: Mapping[str, Any]) -> Iterator[Check]:
    wanted = {name: tuple(shape) for name, (shape, _) in full["tensors"].items()}
    found = layout(laid_out(Sizes()))
    yield Check("full size: names or shapes that differ", float(len(found.items() ^ wanted.items())), 0)


def _real_prompts(recorded: Mapping[str, Any], llama_tokenizer: Path | None) -> Iterator[Check]:
    wrong = sum(prefix_of(each["num_images"]) != each["text"] for each in recorded["prefix"])
    yield Check("real prompts: prefixes that differ", float(wrong), 0)
    if llama_tokenizer is None:
        return
    tokenizer = Tokenizer(llama_tokenizer, Sizes())
    for each in recorded["prefix"]:
        yield _exact(
            f"real prompts: prefix of {each['num_images']}",
            tokenizer.encode(each["text"], bos=True),
            each["ids_with_bos"],
        )
    for kind in ("prompt", "answer"):
        for each in recorded[kind]:
            yield _exact(f"real prompts: {kind} {each['text'][:20]!r}", tokenizer.encode(each["text"]), each["ids"])
    for each in recorded["answer"]:
        wrong = tokenizer.decode(each["ids"]) != each["decoded"]
        yield Check(f"real prompts: text of {answer_of(each['text'][3:])[:20]!r}", float(wrong), 0)


def _image_preparation(arrays: Arrays) -> Iterator[Check]:
    wanted = arrays["pixel_values"]
    found = image_pixels(arrays["image_u8"], wanted.shape[-1])
    yield _near("pixels", torch.from_numpy(found), wanted, 1e-5)


def _volume_preparation(arrays: Arrays) -> Iterator[Check]:
    wanted = arrays["clipped_resized_dwh"]
    depth, first, second = wanted.shape
    voxels = volume_voxels(arrays["hu_whd"], (depth, first, second))
    yield _exact("voxels", voxels, wanted)
    for name, found in zip(("foreground_mean", "foreground_std"), foreground(voxels), strict=True):
        yield Check(name.replace("_", " "), abs(found / float(arrays[name]) - 1), 1e-5)
    samples = normalised_volume(voxels)[tuple(arrays["sample_index"].T)]
    yield _near("normalised voxels", torch.from_numpy(samples), arrays["sample_values"], 1e-4)


def _image_masks(arrays: Arrays) -> Iterator[Check]:
    found = largest_component(arrays["mask"])
    yield _exact("largest component", found, arrays["largest_component"])
    rows, columns = (int(each) for each in arrays["original_hw"])
    yield _exact("resized", resized_image_mask(found, (rows, columns)), arrays["largest_component_resized"])


def _volume_masks(arrays: Arrays) -> Iterator[Check]:
    shape = tuple(int(each) for each in arrays["mask_shape"])
    mask = np.unpackbits(arrays["mask_dwh"])[: int(np.prod(shape))].reshape(shape).astype(bool)
    first, second, depth = (int(each) for each in arrays["original_whd"])
    yield _exact("resized", resized_volume_mask(mask, (depth, first, second)), arrays["resized_back_dwh"])


def _cache(model: MedVersa, embeddings: Tensor) -> Cache:
    return Cache(model.sizes.llm, sequences=1, positions=embeddings.shape[1], like=embeddings)


def _arrays(path: Path) -> Arrays:
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def _named(name: str, checks: Iterator[Check]) -> Iterator[Check]:
    for check in checks:
        yield Check(f"{name}: {check.stage}", check.error, check.allowed)


def _near(stage: str, found: Tensor, wanted: npt.NDArray[Any], allowed: float) -> Check:
    return Check(stage, _worst(found.float().numpy(), wanted), allowed)


def _relative(stage: str, found: Tensor, wanted: npt.NDArray[Any]) -> Check:
    return Check(stage, _worst(found.float().numpy(), wanted) / float(np.abs(wanted).max()), MASKS)


def _exact(stage: str, found: Any, wanted: Any) -> Check:
    one, other = np.asarray(found), np.asarray(wanted)
    return Check(stage, float((one != other).sum()) if one.shape == other.shape else np.inf, 0)


def _worst(found: npt.NDArray[Any], wanted: npt.NDArray[Any]) -> float:
    """Largest difference; infinite where shapes differ or a number is none."""
    if found.shape != wanted.shape:
        return np.inf
    worst = float(np.abs(found - wanted).max())
    return worst if np.isfinite(worst) else np.inf


if __name__ == "__main__":
    raise SystemExit(main())
