from __future__ import annotations

from pathlib import Path

import pytest

from inference.engines.medversa.prompts import MOST_IMAGES, prefix_of, prompt_ids, prompt_of
from inference.engines.medversa.sizes import Sizes, sizes_from
from inference.engines.medversa.tokenizer import IMAGE, SEG_2D, Tokenizer, answer_of
from inference.errors import UnsuitableStudy, WrongWeights
from tests.builders.medversa_sizes import SMALL, VECTORS


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(VECTORS / "tokenizer.model", SMALL)


def test_each_piece_between_appended_tokens_is_encoded_by_itself(tokenizer: Tokenizer) -> None:
    seg = SMALL.special_tokens.seg_2d
    assert tokenizer.encode(f"chest {SEG_2D} pain") == [*tokenizer.encode("chest"), seg, *tokenizer.encode("pain")]


def test_white_space_goes_on_cut_sides_alone(tokenizer: Tokenizer) -> None:
    seg = SMALL.special_tokens.seg_2d
    assert tokenizer.encode(f"  a \n{SEG_2D}") == [*tokenizer.encode("  a"), seg]
    assert tokenizer.encode("a ") != tokenizer.encode("a")


def test_appended_tokens_side_by_side_have_nothing_between_them(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode(IMAGE * 3) == [SMALL.special_tokens.image] * 3


def test_a_sequence_begins_with_its_token_on_request(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("a", bos=True) == [1, *tokenizer.encode("a")]


def test_text_comes_back_with_appended_tokens_by_name(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode(f"mask of liver is {SEG_2D}.")
    assert tokenizer.decode(ids) == f"mask of liver is {SEG_2D} ."
    assert tokenizer.decode([1, *tokenizer.encode("é"), 2]) == "<s>é</s>"


def test_a_vocabulary_of_another_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WrongWeights, match="has 420 tokens, the model needs 32000"):
        Tokenizer(VECTORS / "tokenizer.model", Sizes())
    (tmp_path / "tokenizer.model").write_bytes(b"no model")
    for path in (tmp_path / "tokenizer.model", tmp_path / "absent.model"):
        with pytest.raises(WrongWeights, match=path.name):
            Tokenizer(path, SMALL)


def test_the_answer_ends_at_the_mark_and_is_never_rewritten() -> None:
    assert answer_of("###Assistant: melanocytic nevus ###Human:") == ""
    assert answer_of(" Assistant: melanocytic nevus, no melanoma. ### more") == "melanocytic nevus, no melanoma."


def test_prefix_and_prompt_have_the_trained_form() -> None:
    assert prefix_of(2, 1) == f"###Human:<img0>{IMAGE}</img0><img1>{IMAGE}</img1>"
    assert prompt_of("What?", "Age:70.") == "<context>Age:70.</context>What?###Assistant:"
    assert prompt_of("What?") == "What?###Assistant:"


def test_fifteen_images_fit_and_sixteen_are_refused(tokenizer: Tokenizer) -> None:
    # The prefix of the small vocabulary is longer than that of the real one: its limit is met with fewer images.
    few = sizes_from({**SMALL.model_dump(), "image_tokens_per_image": 1})
    prefix, _ = prompt_ids(tokenizer, few, images=MOST_IMAGES, question="What?")
    assert prefix.count(SMALL.special_tokens.image) == MOST_IMAGES
    with pytest.raises(UnsuitableStudy, match="16 images were given, 15 can be read"):
        prompt_ids(tokenizer, few, images=MOST_IMAGES + 1, question="What?")


def test_a_question_that_leaves_no_room_for_an_answer_is_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(UnsuitableStudy, match="tokens"):
        prompt_ids(tokenizer, SMALL, images=1, question="x y z " * 300)
