"""Answers end where they should, special tokens are read, and what is drawn is drawn again by its seed."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from inference.engines.medversa.checkpoint import load
from inference.engines.medversa.choosing import Drawn, Greedy, Weighing
from inference.engines.medversa.generate import Answer, Choose, generate
from inference.engines.medversa.llama import Cache, Llama
from inference.engines.medversa.model import MedVersa
from inference.engines.medversa.sizes import GenerationSizes
from tests.builders.medversa import small_sizes
from tests.builders.medversa_sizes import VECTORS

ENDS = GenerationSizes(max_new_tokens=8, stop_sequences=((30,), (40, 41)), eos_token_id=2)


@pytest.fixture(scope="module")
def model() -> MedVersa:
    return load(VECTORS, small_sizes())


@pytest.fixture(scope="module")
def prompt(model: MedVersa) -> Tensor:
    return model.llm.embed(torch.arange(50, 62)).unsqueeze(0)


def said(tokens: Sequence[int]) -> Choose:
    """Chooses what it is told."""
    return lambda _, generated: tokens[len(generated)]


def answered(model: MedVersa, prompt: Tensor, tokens: Sequence[int], watched: Sequence[int] = ()) -> Answer:
    return generate(model.llm, prompt, said(tokens), watched=watched, ends=ENDS)


@pytest.mark.parametrize(
    ("tokens", "ids", "ended"),
    [
        ([9, 30, 9], (9, 30), "stop"),
        ([9, 31, 40, 9, 41, 40, 41, 9], (9, 31, 40, 9, 41, 40, 41), "stop"),
        ([9, 2, 9], (9, 2), "eos"),
        ([9] * 20, (9,) * 8, "length"),
    ],
)
def test_an_answer_ends_at_whole_stop_sequences_only(
    tokens: list[int], ids: tuple[int, ...], ended: str, model: MedVersa, prompt: Tensor
) -> None:
    answer = answered(model, prompt, tokens)
    assert (answer.ids, answer.ended) == (ids, ended)


def test_a_watched_token_gives_the_state_that_read_it(model: MedVersa, prompt: Tensor) -> None:
    answer = answered(model, prompt, [9, 77, 9, 77, 30], watched=(77,))
    read = torch.cat([prompt, model.llm.embed(torch.tensor([[9, 77, 9, 77]]))], 1)
    states = model.llm(read, Cache(model.sizes.llm, sequences=1, positions=16, like=read))[0]
    assert sorted(answer.states) == [1, 3]
    for at, state in answer.states.items():
        assert torch.allclose(state, states[prompt.shape[1] + at], atol=1e-5)


@pytest.mark.parametrize("last", [30, 2])
def test_a_watched_token_is_read_also_where_it_ends_the_answer(last: int, model: MedVersa, prompt: Tensor) -> None:
    assert sorted(answered(model, prompt, [9, last], watched=(last,)).states) == [1]


def test_the_answer_fits_the_positions_of_the_model(model: MedVersa) -> None:
    most = model.sizes.llm.max_position_embeddings
    long = model.llm.embed(torch.full((1, most - 3), 9))
    answer = generate(model.llm, long, said([9] * 9), watched=(), ends=ENDS)
    assert len(answer.ids) == 3


def test_reading_in_parts_is_reading_at_once(model: MedVersa, prompt: Tensor) -> None:
    llm: Llama = model.llm
    whole = llm(prompt, Cache(llm.sizes, sequences=1, positions=12, like=prompt))
    cache = Cache(llm.sizes, sequences=1, positions=12, like=prompt)
    parts = torch.cat([llm(part, cache) for part in prompt.split([5, 1, 6], dim=1)], dim=1)
    assert torch.allclose(whole, parts, atol=1e-5)


def test_a_sequence_does_not_depend_on_those_beside_it(model: MedVersa, prompt: Tensor) -> None:
    llm: Llama = model.llm
    both = torch.cat([prompt, prompt.flip(1)])
    together = llm(both, Cache(llm.sizes, sequences=2, positions=12, like=both))
    alone = llm(prompt, Cache(llm.sizes, sequences=1, positions=12, like=prompt))
    assert torch.allclose(together[0], alone[0], atol=1e-5)


def test_the_same_seed_draws_the_same_and_another_something_else(model: MedVersa, prompt: Tensor) -> None:
    def drawn(seed: int) -> tuple[int, ...]:
        choose = Drawn(Weighing(ENDS), seed=seed, temperature=1.0, top_p=0.95)
        return generate(model.llm, prompt, choose, watched=(), ends=ENDS).ids

    assert drawn(7) == drawn(7)
    assert len({drawn(seed) for seed in range(6)}) > 1


def test_only_the_smallest_set_of_tokens_that_holds_the_share_is_drawn_from() -> None:
    logits = torch.log(torch.tensor([0.5, 0.3, 0.15, 0.05]))
    seen = {Drawn(Weighing(ENDS), seed=seed, temperature=1.0, top_p=0.7)(logits, []) for seed in range(200)}
    assert seen == {0, 1}
    assert {
        Drawn(Weighing(ENDS), seed=seed, temperature=1.0, top_p=1.0, top_k=3)(logits, []) for seed in range(200)
    } == {
        0,
        1,
        2,
    }


def test_a_low_temperature_takes_the_best() -> None:
    logits = torch.tensor([1.0, 1.2, 0.9])
    assert {Drawn(Weighing(ENDS), seed=seed, temperature=0.01, top_p=1.0)(logits, []) for seed in range(50)} == {1}


def test_repetition_is_made_less_likely_in_the_answer_and_not_for_the_prompt() -> None:
    logits = torch.tensor([0.0, -1.0, 0.5, 2.0, 1.9])
    greedy = Greedy(Weighing(ENDS, repetition_penalty=1.5))
    assert greedy(logits, []) == 3
    assert greedy(logits, [3]) == 4
    weighed = Weighing(ENDS, repetition_penalty=2.0)(logits, [3])
    # The token that begins an answer counts as said: it is 1, and below zero a score is multiplied.
    assert weighed.tolist() == [0.0, -2.0, 0.5, 1.0, pytest.approx(1.9)]


def test_an_answer_is_kept_from_ending_too_early() -> None:
    logits = torch.tensor([0.0, 0.0, 9.0, 1.0])
    assert Greedy(Weighing(ENDS, min_length=1))(logits, []) == 2
    assert Greedy(Weighing(ENDS, min_length=3))(logits, [3]) == 3
    assert Greedy(Weighing(ENDS, min_length=3))(logits, [3, 3]) == 2
