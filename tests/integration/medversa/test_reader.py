"""Asking the small model: text as generated, every mask and box of the answer, on the image's own grid."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
import torch

from inference.engines.medversa.checkpoint import load
from inference.engines.medversa.generate import Choose
from inference.engines.medversa.model import MedVersa
from inference.engines.medversa.reader import Inquiry, Reader, Sampling, outlined_in
from inference.engines.medversa.tasks import Modality, Task, question_for
from inference.engines.medversa.tokenizer import Tokenizer
from inference.errors import UnsuitableStudy, WrongWeights
from tests.builders.medversa import small_sizes
from tests.builders.medversa_sizes import VECTORS

TOKENS = small_sizes().special_tokens


class Told(Reader):
    """A reader whose model says what it is told: random weights name no structure by themselves."""

    def __init__(self, model: MedVersa, tokenizer: Tokenizer, words: str) -> None:
        super().__init__(model, tokenizer)
        self._told = [*tokenizer.encode(words), 2]

    def _chooser(self, inquiry: Inquiry) -> Choose:  # noqa: ARG002 (what is asked does not matter)
        return lambda _, generated: self._told[len(generated)]


@pytest.fixture(scope="module")
def model() -> MedVersa:
    return load(VECTORS, small_sizes())


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(VECTORS / "tokenizer.model", small_sizes())


def noise(rows: int, columns: int, seed: int = 1) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (rows, columns, 3), np.uint8)


def volume(*shape: int) -> npt.NDArray[np.int16]:
    return np.random.default_rng(2).integers(-300, 400, shape, np.int16)


def test_the_same_question_has_the_same_answer(model: MedVersa, tokenizer: Tokenizer) -> None:
    reader = Reader(model, tokenizer)
    question = question_for(Modality.CXR, Task.REPORT, images=2)
    answers = [reader.read_images([noise(80, 60), noise(50, 90)], Inquiry(question)) for _ in range(2)]
    assert answers[0].ids == answers[1].ids
    assert answers[0].cut_off
    assert reader.read_images([noise(80, 60)], Inquiry(question)).ids != answers[0].ids


def test_context_and_seed_take_effect(model: MedVersa, tokenizer: Tokenizer) -> None:
    reader = Reader(model, tokenizer)
    images = [noise(80, 60)]
    plain = reader.read_images(images, Inquiry("What?"))
    assert reader.read_images(images, Inquiry("What?", context="Age:70.")).ids != plain.ids
    drawn = [
        reader.read_images(images, Inquiry("What?", sampling=Sampling(seed=seed, temperature=2.0, top_p=1.0))).ids
        for seed in (1, 1, 2)
    ]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(reader.read_images(images, Inquiry("What?", new_tokens=3)).ids) == 3


def test_every_mask_of_an_answer_has_its_name_and_the_images_grid(model: MedVersa, tokenizer: Tokenizer) -> None:
    words = "mask of lesion is <2DSEG> mask of the nevus is <2DSEG>"
    image = noise(70, 130)
    reading = Told(model, tokenizer, words).read_images([image, noise(9, 9)], Inquiry("Segment the lesion."))
    assert [each.name for each in reading.masks] == ["lesion", "nevus"]
    assert [each.mask.shape for each in reading.masks] == [(70, 130)] * 2
    assert reading.masks[0].mask.dtype == np.bool_
    assert reading.text == words
    assert not reading.cut_off


def test_each_mask_follows_its_own_token(model: MedVersa, tokenizer: Tokenizer) -> None:
    seen: list[torch.Tensor] = []
    outline = model.outline_2d

    def watched(pixels: torch.Tensor, state: torch.Tensor) -> object:
        seen.append(state)
        return outline(pixels, state)

    reader = Told(model, tokenizer, "a <2DSEG> b <2DSEG>")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model, "outline_2d", watched)
        reader.read_images([noise(30, 30)], Inquiry("Segment."))
    assert len(seen) == 2
    assert not torch.allclose(seen[0], seen[1])


@pytest.mark.parametrize("shape", [(40, 30, 12), (17, 33, 70), (64, 48, 32)])
def test_masks_of_a_volume_have_its_shape(shape: tuple[int, int, int], model: MedVersa, tokenizer: Tokenizer) -> None:
    reader = Told(model, tokenizer, "The segmentation mask of liver is <3DSEG>.")
    reading = reader.read_volume(volume(*shape), Inquiry("Segment the liver."))
    assert [(each.name, each.mask.shape) for each in reading.masks] == [("liver", shape)]


def test_an_empty_mask_is_an_answer(model: MedVersa, tokenizer: Tokenizer) -> None:
    reader = Told(model, tokenizer, "The segmentation mask of liver is <3DSEG>.")
    bias = model.vision_3d.head.bias
    kept = bias.clone()
    try:
        bias.fill_(-1e6)
        reading = reader.read_volume(volume(20, 20, 20), Inquiry("Segment the liver."))
    finally:
        bias.copy_(kept)
    assert len(reading.masks) == 1
    assert not reading.masks[0].mask.any()


def test_boxes_have_names_and_lie_in_the_image_and_absence_is_told(model: MedVersa, tokenizer: Tokenizer) -> None:
    words = "pleural effusion,<DET>.atelectasis,<N/A>.edema,<DET>."
    reading = Told(model, tokenizer, words).read_images(
        [noise(40, 40)], Inquiry("Detect any signs of edema in <img0>.")
    )
    assert [each.name for each in reading.boxes] == ["pleural effusion", "edema"]
    assert reading.absent == ("atelectasis",)
    for box in reading.boxes:
        left, top, right, bottom = box.corners
        assert 0 <= left <= right <= 1
        assert 0 <= top <= bottom <= 1


@pytest.mark.parametrize("images", [0, 16])
def test_more_or_fewer_images_than_can_be_read_are_refused(images: int, model: MedVersa, tokenizer: Tokenizer) -> None:
    with pytest.raises(UnsuitableStudy, match=f"{images} images were given, 1 to 15"):
        Reader(model, tokenizer).read_images([noise(8, 8)] * images, Inquiry("What?"))


def test_a_folder_without_a_tokenizer_is_told() -> None:
    assert Reader.open(VECTORS, small_sizes()).sizes == small_sizes()
    with pytest.raises(WrongWeights, match=r"tokenizer\.model is not there"):
        Reader.open(VECTORS.parent, small_sizes())


def test_what_an_answer_outlines_is_read_out_of_the_trained_sentence_alone() -> None:
    said: Sequence[tuple[str, str]] = [
        ("The segmentation mask of skin lesion is", "skin lesion"),
        ("The segmentation mask of the liver is", "liver"),
        ("liver", ""),
    ]
    assert [outlined_in(sentence) for sentence, _ in said] == [name for _, name in said]
