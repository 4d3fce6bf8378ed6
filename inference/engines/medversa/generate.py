"""Let the language model answer, token by token."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from inference.engines.medversa.llama import Cache, Llama
from inference.engines.medversa.sizes import GenerationSizes


class Choose(Protocol):
    """Chooses the next token."""

    def __call__(self, logits: Tensor, generated: Sequence[int], /) -> int:
        """Choose by the scores (vocabulary,), float32, of what may follow the tokens generated until now."""
        ...


@dataclass(frozen=True, eq=False)
class Answer:
    """What was generated."""

    ids: tuple[int, ...]
    """New tokens, with what stopped them."""
    states: dict[int, Tensor]
    """State (channels,) for each watched token, by its index in `ids`: of the step that read it."""
    ended: Literal["stop", "eos", "length"]


@torch.inference_mode()
def generate(
    llm: Llama,
    embeddings: Tensor,
    choose: Choose,
    *,
    watched: Collection[int],
    ends: GenerationSizes,
    new_tokens: int | None = None,
) -> Answer:
    """Continue a prompt.

    Parameters
    ----------
    embeddings
        (1, positions, channels) of the prompt.
    watched
        Tokens whose state is kept. It is the state after reading the token, so a watched token is always read,
        also as the last.
    new_tokens
        At most so many; None: as `ends` says.
    """
    limit = min(ends.max_new_tokens if new_tokens is None else new_tokens, room(llm, embeddings))
    cache = Cache(llm.sizes, sequences=1, positions=embeddings.shape[1] + limit, like=embeddings)
    state = llm(embeddings, cache)[0, -1]
    ids: list[int] = []
    states: dict[int, Tensor] = {}
    ended: Literal["stop", "eos", "length"] | None = None
    while ended is None:
        token = choose(llm.logits(state), ids)
        ids.append(token)
        ended = _ended(ids, ends, limit)
        if ended is None or token in watched:
            read = llm.embed(torch.tensor([[token]], device=embeddings.device))
            state = llm(read, cache)[0, -1]
            if token in watched:
                states[len(ids) - 1] = state
    return Answer(tuple(ids), states, ended)


def room(llm: Llama, embeddings: Tensor) -> int:
    """How many tokens may follow a prompt."""
    return max(1, llm.sizes.max_position_embeddings - embeddings.shape[1])


def _ended(ids: Sequence[int], ends: GenerationSizes, limit: int) -> Literal["stop", "eos", "length"] | None:
    if ids[-1] == ends.eos_token_id:
        return "eos"
    if any(tuple(ids[-len(stop) :]) == stop for stop in ends.stop_sequences):
        return "stop"
    return "length" if len(ids) >= limit else None
