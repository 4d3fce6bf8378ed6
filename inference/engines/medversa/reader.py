"""Ask the model about images and get text, masks and boxes on the images' own grids."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from inference.engines.medversa.checkpoint import Placement, load
from inference.engines.medversa.choosing import Drawn, Greedy, Weighing
from inference.engines.medversa.generate import Answer, Choose, generate
from inference.engines.medversa.model import MedVersa, Seen, dtype_of
from inference.engines.medversa.postprocess import Mask, mask_of_image, mask_of_volume
from inference.engines.medversa.preprocess import image_pixels, normalised_volume, volume_voxels
from inference.engines.medversa.prompts import MOST_IMAGES, prompt_ids
from inference.engines.medversa.sizes import Sizes
from inference.engines.medversa.tokenizer import Tokenizer, answer_of
from inference.errors import UnsuitableStudy

TOKENIZER = "tokenizer.model"


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn; greedy reading has none."""

    seed: int
    temperature: float = 1.0
    top_p: float = 0.9


@dataclass(frozen=True)
class Inquiry:
    """What is asked."""

    question: str
    """As `tasks.question_for` gives it."""
    context: str = ""
    """What is told about the patient; empty: nothing."""
    sampling: Sampling | None = None
    """None: the best token each time."""
    repetition_penalty: float = 1.0
    min_length: int = 1
    new_tokens: int | None = None


@dataclass(frozen=True, eq=False)
class OutlinedStructure:
    """One mask of an answer."""

    name: str
    """What the answer says it outlines; empty: it does not say."""
    mask: Mask
    """The source's own grid. An empty mask is an answer too."""


@dataclass(frozen=True)
class BoxedFinding:
    """One place of an answer."""

    name: str
    corners: tuple[float, float, float, float]
    """Left, top, right, bottom, as fractions of the first image's width and height, within 0 and 1."""


@dataclass(frozen=True, eq=False)
class Reading:
    """What the model answered."""

    text: str
    """As generated; never rewritten."""
    masks: tuple[OutlinedStructure, ...]
    boxes: tuple[BoxedFinding, ...]
    absent: tuple[str, ...]
    """What was looked for by detection and not found."""
    cut_off: bool
    """The answer was as long as it may be and did not end by itself."""
    ids: tuple[int, ...]


class Reader:
    """The model with its tokenizer, ready to be asked."""

    def __init__(self, model: MedVersa, tokenizer: Tokenizer) -> None:
        self.model = model
        self.sizes: Sizes = model.sizes
        self._tokenizer = tokenizer
        tokens = self.sizes.special_tokens
        self._watched = (tokens.det, tokens.seg_2d, tokens.seg_3d)

    @classmethod
    def open(cls, folder: Path, sizes: Sizes | None = None, placement: Placement | None = None) -> Reader:
        """Load weights and tokenizer from one folder.

        Raises
        ------
        WrongWeights
            They are not there, or not those of this model.
        """
        sizes = sizes or Sizes()
        tokenizer = Tokenizer(folder / TOKENIZER, sizes)
        return cls(load(folder, sizes, placement), tokenizer)

    @torch.inference_mode()
    def read_images(self, images: Sequence[npt.NDArray[np.uint8]], inquiry: Inquiry) -> Reading:
        """Ask about images (rows, columns, 3), RGB. Masks and boxes are of the first.

        Raises
        ------
        UnsuitableStudy
            There are none or too many, or the question is too long.
        """
        if not 1 <= len(images) <= MOST_IMAGES:
            raise UnsuitableStudy(f"{len(images)} images were given, 1 to {MOST_IMAGES} can be read at once.")
        side = self.sizes.vision_2d.image_size
        pixels = torch.from_numpy(np.stack([image_pixels(image, side) for image in images])).to(self._device)
        answer = self._answer(self.model.see_images(pixels), len(images), inquiry)
        rows, columns = images[0].shape[:2]
        masks = {
            at: mask_of_image(_array(self.model.outline_2d(pixels[0], state).logits), (rows, columns))
            for at, state in self._states(answer, self.sizes.special_tokens.seg_2d)
        }
        return self._reading(answer, masks)

    @torch.inference_mode()
    def read_volume(self, hu: npt.NDArray[Any], inquiry: Inquiry) -> Reading:
        """Ask about a volume in the trained axes (`trained_axes.py`), HU. Masks have its shape.

        Raises
        ------
        UnsuitableStudy
            The question is too long.
        """
        voxels = normalised_volume(volume_voxels(hu, self.sizes.volume_size))
        seen = self.model.see_volume(torch.from_numpy(voxels).unsqueeze(0).to(self._device))
        answer = self._answer(seen, 1, inquiry)
        first, second, depth = hu.shape
        masks = {
            at: np.moveaxis(
                mask_of_volume(_array(self.model.outline_3d(seen, state).logits), (depth, first, second)), 0, -1
            )
            for at, state in self._states(answer, self.sizes.special_tokens.seg_3d)
        }
        return self._reading(answer, masks)

    @property
    def _device(self) -> torch.device:
        return self.model.llm.embed.weight.device

    def _answer(self, seen: Seen, images: int, inquiry: Inquiry) -> Answer:
        prefix, prompt = prompt_ids(
            self._tokenizer, self.sizes, images=images, question=inquiry.question, context=inquiry.context
        )
        embeddings = self.model.embed(prefix, prompt, seen.tokens).to(dtype_of(self.model.llm))
        return generate(
            self.model.llm,
            embeddings,
            self._chooser(inquiry),
            watched=self._watched,
            ends=self.sizes.generation,
            new_tokens=inquiry.new_tokens,
        )

    def _chooser(self, inquiry: Inquiry) -> Choose:
        weighing = Weighing(self.sizes.generation, inquiry.min_length, inquiry.repetition_penalty)
        drawn = inquiry.sampling
        if drawn is None:
            return Greedy(weighing)
        return Drawn(weighing, seed=drawn.seed, temperature=drawn.temperature, top_p=drawn.top_p)

    def _states(self, answer: Answer, token: int) -> Iterator[tuple[int, Tensor]]:
        return ((at, state) for at, state in answer.states.items() if answer.ids[at] == token)

    def _reading(self, answer: Answer, masks: dict[int, Mask]) -> Reading:
        tokens = self.sizes.special_tokens
        boxes = tuple(
            BoxedFinding(self._said_before(answer.ids, at), _within(self.model.box_of(state)))
            for at, state in self._states(answer, tokens.det)
        )
        absent = (at for at, token in enumerate(answer.ids) if token == tokens.not_applicable)
        return Reading(
            text=answer_of(self._tokenizer.decode(answer.ids[:-1] if answer.ended == "eos" else answer.ids)),
            masks=tuple(OutlinedStructure(outlined_in(self._said_before(answer.ids, at)), masks[at]) for at in masks),
            boxes=boxes,
            absent=tuple(self._said_before(answer.ids, at) for at in absent),
            cut_off=answer.ended == "length",
            ids=answer.ids,
        )

    def _said_before(self, ids: Sequence[int], at: int) -> str:
        """What the answer says right before a special token, from the one before it on."""
        special = {*self._watched, self.sizes.special_tokens.not_applicable}
        start = max((index + 1 for index in range(at) if ids[index] in special), default=0)
        return self._tokenizer.decode(ids[start:at]).strip(" .,\n")


def outlined_in(sentence: str) -> str:
    """What `The segmentation mask of X is` outlines; empty: it is no such sentence."""
    found = re.search(r"mask of (?:the )?(.+?) is$", sentence)
    return found[1] if found else ""


def _within(corners: Tensor) -> tuple[float, float, float, float]:
    left, top, right, bottom = _ordered(corners.clamp(0, 1).tolist())
    return left, top, right, bottom


def _ordered(corners: Iterable[float]) -> tuple[float, float, float, float]:
    """A box whose sides were given in the wrong order is turned round."""
    one, two, three, four = corners
    return min(one, three), min(two, four), max(one, three), max(two, four)


def _array(logits: Tensor) -> npt.NDArray[np.float32]:
    return np.asarray(logits.float().cpu().numpy())
