"""Text to token ids and back, as the model was trained with.

The library that the model was trained with cut a text at the appended tokens, took the white space off the cut sides,
and encoded every piece by itself, each with SentencePiece's own leading space. Newer libraries do it otherwise and
give other ids.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path

from sentencepiece import SentencePieceProcessor

from inference.engines.medversa.sizes import Sizes
from inference.errors import WrongWeights

IMAGE, DET, SEG_2D, SEG_3D, NOT_APPLICABLE = "<ImageHere>", "<DET>", "<2DSEG>", "<3DSEG>", "<N/A>"


class Tokenizer:
    """SentencePiece with five tokens appended to its vocabulary.

    Parameters
    ----------
    path
        `tokenizer.model`.

    Raises
    ------
    WrongWeights
        The file is no SentencePiece model, or its vocabulary has another size than the language model's.
    """

    def __init__(self, path: Path, sizes: Sizes) -> None:
        tokens = sizes.special_tokens
        self._bos = sizes.generation.bos_token_id
        self._appended = {
            IMAGE: tokens.image,
            DET: tokens.det,
            SEG_2D: tokens.seg_2d,
            SEG_3D: tokens.seg_3d,
            NOT_APPLICABLE: tokens.not_applicable,
        }
        self._names = {token: name for name, token in self._appended.items()}
        self._cut = re.compile("(" + "|".join(re.escape(name) for name in self._appended) + ")")
        try:
            self._pieces = SentencePieceProcessor(model_file=str(path))
        except (OSError, RuntimeError) as error:
            raise WrongWeights(f"{path.name} is not there or no SentencePiece model.") from error
        if self._pieces.vocab_size() != sizes.llm.base_vocab_size:
            raise WrongWeights(
                f"{path.name} has {self._pieces.vocab_size()} tokens, the model needs {sizes.llm.base_vocab_size}."
            )

    def encode(self, text: str, *, bos: bool = False) -> list[int]:
        """Token ids of a text; `bos`: with the token that begins a sequence."""
        ids = [self._bos] if bos else []
        parts = self._cut.split(text)
        last = len(parts) - 1
        for index, part in enumerate(parts):
            if index % 2:  # the splitter gives text and token in turn
                ids.append(self._appended[part])
                continue
            trimmed = part.lstrip() if index > 0 else part
            trimmed = trimmed.rstrip() if index < last else trimmed
            if trimmed:
                ids.extend(self._pieces.encode(trimmed))
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Text of token ids; appended tokens stand by their names, a space on each side."""
        return " ".join(part for part in self._decoded(ids) if part)

    def _decoded(self, ids: Iterable[int]) -> Iterator[str]:
        for appended, run in groupby(ids, key=lambda token: token in self._names):
            if appended:
                yield from (self._names[token] for token in run)
            else:
                yield self._text(list(run))

    def _text(self, ids: list[int]) -> str:
        """Text of tokens of the base vocabulary. Control tokens have no text and stand by their names."""
        runs = groupby(ids, key=self._pieces.is_control)
        return "".join(
            "".join(self._pieces.id_to_piece(token) for token in run) if control else self._pieces.decode(list(run))
            for control, run in runs
        )


def answer_of(text: str) -> str:
    """What the model answered: the text up to the first `###`, after the last `Assistant:`."""
    return text.split("###", maxsplit=1)[0].rsplit("Assistant:", maxsplit=1)[-1].strip()
