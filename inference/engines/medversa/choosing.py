"""How the next token is chosen: the best one, or drawn among the better ones.

Source: Holtzman et al., The Curious Case of Neural Text Degeneration, 2019 (nucleus sampling); Keskar et al., CTRL,
2019 (repetition penalty).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from inference.engines.medversa.sizes import GenerationSizes


@dataclass(frozen=True)
class Weighing:
    """What is done to the scores before a token is chosen."""

    ends: GenerationSizes
    min_length: int = 1
    """The answer does not end before this many tokens; the one that begins it counts."""
    repetition_penalty: float = 1.0
    """Above 1: tokens of the answer until now are less likely. The prompt does not count."""

    def __call__(self, logits: Tensor, generated: Sequence[int]) -> Tensor:
        """Give the scores to choose by."""
        if self.repetition_penalty != 1.0:
            seen = torch.tensor(sorted({self.ends.bos_token_id, *generated}), device=logits.device)
            scores = logits[seen]
            lowered = torch.where(scores < 0, scores * self.repetition_penalty, scores / self.repetition_penalty)
            logits = logits.index_put((seen,), lowered)
        if 1 + len(generated) < self.min_length:
            logits = logits.index_fill(0, torch.tensor([self.ends.eos_token_id], device=logits.device), -torch.inf)
        return logits


@dataclass(frozen=True)
class Greedy:
    """Takes the best token."""

    weighing: Weighing

    def __call__(self, logits: Tensor, generated: Sequence[int]) -> int:
        """Choose by the scores (vocabulary,)."""
        return int(self.weighing(logits, generated).argmax())


class Drawn:
    """Draws among the better tokens; the same seed draws the same."""

    def __init__(self, weighing: Weighing, *, seed: int, temperature: float, top_p: float, top_k: int = 50) -> None:
        self._weighing = weighing
        self._temperature, self._top_p, self._top_k = temperature, top_p, top_k
        self._chance = torch.Generator().manual_seed(seed)

    def __call__(self, logits: Tensor, generated: Sequence[int]) -> int:
        """Choose by the scores (vocabulary,)."""
        scores = self._weighing(logits, generated).cpu() / self._temperature
        best, tokens = scores.topk(min(self._top_k, len(scores)))
        shares = best.softmax(0)
        # The smallest set that holds top_p together: whatever begins before that share is reached.
        kept = shares.cumsum(0) - shares < self._top_p
        drawn = torch.multinomial(shares * kept, 1, generator=self._chance)
        return int(tokens[drawn])
