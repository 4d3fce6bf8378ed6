"""How large each part of the model is. The defaults are the published model; a small one is the same code."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pydantic import PositiveFloat, PositiveInt

from configs.section import Section


class SwinSizes(Section):
    """The encoder of two-dimensional images, a Swin transformer."""

    image_size: PositiveInt = 224
    patch_size: PositiveInt = 4
    embed_dim: PositiveInt = 128
    depths: tuple[PositiveInt, ...] = (2, 2, 18, 2)
    num_heads: tuple[PositiveInt, ...] = (4, 8, 16, 32)
    window_size: PositiveInt = 7
    mlp_ratio: PositiveInt = 4

    @property
    def width(self) -> int:
        """Channels of the last stage."""
        return int(self.embed_dim * 2 ** (len(self.depths) - 1))


class UNet3dSizes(Section):
    """The encoder of volumes and the decoder of their masks."""

    base_channels: PositiveInt = 32
    norm_groups: PositiveInt = 16

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of the five levels, from full resolution down."""
        return tuple(self.base_channels * factor for factor in (1, 2, 4, 8, 8))


class UNet2dSizes(Section):
    """The network of two-dimensional masks."""

    encoder_widths: tuple[PositiveInt, ...] = (64, 64, 128, 256, 512)
    """The stem, then the four stages."""
    encoder_blocks: tuple[PositiveInt, ...] = (2, 2, 2, 2)
    decoder_channels: tuple[PositiveInt, ...] = (256, 128, 64, 32, 16)
    norm_groups: PositiveInt = 16


class LanguageSizes(Section):
    """The language model, of the Llama 2 family."""

    base_vocab_size: PositiveInt = 32000
    hidden_size: PositiveInt = 4096
    intermediate_size: PositiveInt = 11008
    num_layers: PositiveInt = 32
    num_heads: PositiveInt = 32
    max_position_embeddings: PositiveInt = 4096
    rms_norm_eps: PositiveFloat = 1e-5
    rope_theta: PositiveFloat = 10000.0
    lora_rank: PositiveInt = 16
    lora_alpha: PositiveFloat = 16.0

    @property
    def head_size(self) -> int:
        """Channels of one attention head."""
        return self.hidden_size // self.num_heads


class SpecialTokens(Section):
    """The five tokens that follow the language model's own vocabulary."""

    image: PositiveInt = 32000
    det: PositiveInt = 32001
    seg_2d: PositiveInt = 32002
    seg_3d: PositiveInt = 32003
    not_applicable: PositiveInt = 32004
    vocab_size_total: PositiveInt = 32005


class GenerationSizes(Section):
    """What ends an answer."""

    max_new_tokens: PositiveInt = 450
    stop_sequences: tuple[tuple[int, ...], ...] = ((835,), (2277, 29937))
    """Two spellings of `###`."""
    eos_token_id: int = 2
    bos_token_id: int = 1


class Sizes(Section):
    """The whole model."""

    vision_2d: SwinSizes = SwinSizes()
    vision_3d: UNet3dSizes = UNet3dSizes()
    unet_2d: UNet2dSizes = UNet2dSizes()
    llm: LanguageSizes = LanguageSizes()
    fusion_norm_groups: PositiveInt = 16
    volume_size: tuple[PositiveInt, PositiveInt, PositiveInt] = (64, 192, 192)
    """Depth and the two in-plane axes of the model's own grid."""
    generation: GenerationSizes = GenerationSizes()
    special_tokens: SpecialTokens = SpecialTokens()
    image_tokens_per_image: PositiveInt = 9
    box_width: PositiveInt = 256
    """Channels of the layer between a detection token's state and its box."""

    @property
    def pooled_side(self) -> int:
        """Bins in each in-plane direction to which an image's features are averaged."""
        return math.isqrt(self.image_tokens_per_image)


def sizes_from(config: Mapping[str, Any]) -> Sizes:
    """Read sizes out of a configuration that may say more than sizes, at every level."""
    return Sizes.model_validate(_known(Sizes, config))


def _known(section: type[Section], given: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, field in section.model_fields.items():
        if name not in given:
            continue
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, Section):
            found[name] = _known(inner, given[name])
        else:
            found[name] = given[name]
    return found
