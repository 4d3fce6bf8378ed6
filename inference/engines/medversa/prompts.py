"""What the model is asked, in the form in which it was trained: a prefix with the images, then the prompt."""

from __future__ import annotations

from inference.engines.medversa.sizes import Sizes
from inference.engines.medversa.tokenizer import IMAGE, Tokenizer
from inference.errors import UnsuitableStudy

#: Tokens to which the prefix was cut in training; more images than fit in it cannot be asked about.
PREFIX_LIMIT = 256
MOST_IMAGES = 15


def prefix_of(images: int, tokens_per_image: int = 9) -> str:
    """The images, each between its tags."""
    return "###Human:" + "".join(f"<img{index}>{IMAGE * tokens_per_image}</img{index}>" for index in range(images))


def prompt_of(question: str, context: str = "") -> str:
    """The question, after what is known of the patient."""
    before = f"<context>{context}</context>" if context else ""
    return f"{before}{question}###Assistant:"


def prompt_ids(
    tokenizer: Tokenizer, sizes: Sizes, *, images: int, question: str, context: str = ""
) -> tuple[list[int], list[int]]:
    """Token ids of prefix and prompt.

    Raises
    ------
    UnsuitableStudy
        There are too many images, or the question and its context leave no room for an answer.
    """
    prefix = tokenizer.encode(prefix_of(images, sizes.image_tokens_per_image), bos=True)
    if images > MOST_IMAGES or len(prefix) > PREFIX_LIMIT:
        raise UnsuitableStudy(f"{images} images were given, {MOST_IMAGES} can be read at once.")
    prompt = tokenizer.encode(prompt_of(question, context))
    most = sizes.llm.max_position_embeddings - sizes.generation.max_new_tokens
    if len(prefix) + len(prompt) > most:
        raise UnsuitableStudy(f"question and context make {len(prompt)} tokens, {most - len(prefix)} have room.")
    return prefix, prompt
