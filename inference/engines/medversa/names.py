"""What the published checkpoint calls our parameters, and what of it is left aside."""

from __future__ import annotations

import re

from inference.engines.medversa.sizes import Sizes

_LLM = "llama_model.base_model.model."
_SWIN = r"^(visual_encoder_2d\.encoder\..*)"
_UNET_3D = r"^(visual_encoder_3d\..*)"
_ENCODER_2D = r"^(model_seg_2d\.encoder\..*)"
_DECODER_2D = r"^(model_seg_2d\.decoder\..*)"
_LAYER = r"^(llama_model\..*)"

#: Ours → published: every rule in turn.
_RULES: tuple[tuple[str, str], ...] = (
    # Images.
    (r"^vision_2d\.patch\.", "visual_encoder_2d.embeddings.patch_embeddings.projection."),
    (r"^vision_2d\.patch_norm\.", "visual_encoder_2d.embeddings.norm."),
    (r"^vision_2d\.norm\.", "visual_encoder_2d.layernorm."),
    (r"^vision_2d\.stages\.(\d+)\.", r"visual_encoder_2d.encoder.layers.\1."),
    (_SWIN + r"\.merge\.norm\.", r"\1.downsample.norm."),
    (_SWIN + r"\.merge\.reduce\.", r"\1.downsample.reduction."),
    (_SWIN + r"\.norm_(before|after)\.", r"\1.layernorm_\2."),
    (_SWIN + r"\.attention\.(query|key|value)\.", r"\1.attention.self.\2."),
    (_SWIN + r"\.attention\.bias_table$", r"\1.attention.self.relative_position_bias_table"),
    (_SWIN + r"\.attention\.out\.", r"\1.attention.output.dense."),
    (_SWIN + r"\.widen\.", r"\1.intermediate.dense."),
    (_SWIN + r"\.narrow\.", r"\1.output.dense."),
    # Volumes.
    (r"^vision_3d\.first\.", "visual_encoder_3d.conv.double_conv."),
    (r"^vision_3d\.down\.(\d+)\.", r"visual_encoder_3d.enc\1.encoder.1.double_conv."),
    (r"^vision_3d\.up\.(\d+)\.", r"visual_encoder_3d.dec\1.conv.double_conv."),
    (r"^vision_3d\.head\.", "visual_encoder_3d.out.conv."),
    (_UNET_3D + r"\.conv_1\.", r"\1.0."),
    (_UNET_3D + r"\.norm_1\.", r"\1.1."),
    (_UNET_3D + r"\.conv_2\.", r"\1.3."),
    (_UNET_3D + r"\.norm_2\.", r"\1.4."),
    # Masks of images. What is called bn holds group norms.
    (r"^unet_2d\.stem\.", "model_seg_2d.encoder.conv1."),
    (r"^unet_2d\.stem_norm\.", "model_seg_2d.encoder.bn1."),
    (r"^unet_2d\.stages\.(\d+)\.", r"model_seg_2d.encoder.layer\1."),
    (r"^unet_2d\.up\.(\d+)\.", r"model_seg_2d.decoder.blocks.\1."),
    (r"^unet_2d\.head\.", "model_seg_2d.segmentation_head.0."),
    (_ENCODER_2D + r"\.conv_(\d)\.", r"\1.conv\2."),
    (_ENCODER_2D + r"\.norm_(\d)\.", r"\1.bn\2."),
    (_ENCODER_2D + r"\.around\.conv\.", r"\1.downsample.0."),
    (_ENCODER_2D + r"\.around\.norm\.", r"\1.downsample.1."),
    (_DECODER_2D + r"\.conv_(\d)\.", r"\1.conv\2.0."),
    (_DECODER_2D + r"\.norm_(\d)\.", r"\1.conv\2.1."),
    # Language model.
    (r"^llm\.embed\.", f"{_LLM}model.embed_tokens."),
    (r"^llm\.norm\.", f"{_LLM}model.norm."),
    (r"^llm\.head\.", f"{_LLM}lm_head.0."),
    (r"^llm\.layers\.(\d+)\.", rf"{_LLM}model.layers.\1."),
    (_LAYER + r"\.norm_before\.", r"\1.input_layernorm."),
    (_LAYER + r"\.norm_after\.", r"\1.post_attention_layernorm."),
    (_LAYER + r"\.attention\.query\.", r"\1.self_attn.q_proj."),
    (_LAYER + r"\.attention\.key\.", r"\1.self_attn.k_proj."),
    (_LAYER + r"\.attention\.value\.", r"\1.self_attn.v_proj."),
    (_LAYER + r"\.attention\.out\.", r"\1.self_attn.o_proj."),
    (_LAYER + r"\.(gate|up|down)\.", r"\1.mlp.\2_proj."),
    # Between them.
    (r"^projection_(2d|3d)\.norm\.", r"ln_vision_\1."),
    (r"^projection_(2d|3d)\.linear\.", r"llama_proj_\1."),
    (r"^box\.norm_in\.", "text_det.0."),
    (r"^box\.widen\.", "text_det.1."),
    (r"^box\.norm\.", "text_det.3."),
    (r"^box\.corners\.", "text_det.4."),
    (r"^fusion_(2d|3d)\.norm_in\.", r"text2seg_\1.0."),
    (r"^fusion_(2d|3d)\.linear\.", r"text2seg_\1.1."),
    (r"^fusion_(2d|3d)\.norm_out\.", r"text2seg_\1_gn."),
)

#: Other spellings in a file → published: newer versions of the libraries that may have saved it.
_SPELLINGS: tuple[tuple[str, str], ...] = (
    # Adapters: one more level of names.
    (r"\.(lora_[AB])\.default\.weight$", r".\1.weight"),
    (r"\.base_layer\.weight$", ".weight"),
    # Swin.
    (_SWIN + r"\.attention\.([qkv])_proj\.", r"\1.attention.self.\2_proj."),
    (_SWIN + r"\.attention\.self\.q_proj\.", r"\1.attention.self.query."),
    (_SWIN + r"\.attention\.self\.k_proj\.", r"\1.attention.self.key."),
    (_SWIN + r"\.attention\.self\.v_proj\.", r"\1.attention.self.value."),
    (_SWIN + r"\.attention\.o_proj\.", r"\1.attention.output.dense."),
    (_SWIN + r"\.attention\.relative_position_bias\.", r"\1.attention.self."),
    (_SWIN + r"\.mlp\.fc1\.", r"\1.intermediate.dense."),
    (_SWIN + r"\.mlp\.fc2\.", r"\1.output.dense."),
)

#: Second names of shared tensors → the first. Either may be missing from a file.
ALIASES = {
    "embed_tokens.weight": f"{_LLM}model.embed_tokens.weight",
    "embed_states.weight": f"{_LLM}lm_head.0.weight",
}

#: Left aside on purpose: computed here from the sizes, or never used by the model. They may be missing.
_IGNORED = re.compile(
    r"visual_encoder_2d\.encoder\.layers\.\d+\.blocks\.\d+\.attention\.self\.relative_position_index"
    r"|llama_model\.base_model\.model\.model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq"
    r"|text2seg_(2d|3d)_ln\.(weight|bias)"
)


def published_name(ours: str) -> str:
    """Name of one of our parameters in the published checkpoint."""
    for pattern, replacement in _RULES:
        ours = re.sub(pattern, replacement, ours)
    return ours


def settled_name(found: str) -> str:
    """Published name of what a file calls by an alias or in a newer spelling."""
    for pattern, replacement in _SPELLINGS:
        found = re.sub(pattern, replacement, found)
    return ALIASES.get(found, found)


def is_ignored(name: str) -> bool:
    """Tell whether a published tensor is left aside on purpose."""
    return _IGNORED.fullmatch(name) is not None


def adapters_of(published: str) -> tuple[str, str] | None:
    """Names of the low-rank adapter (A, B) that belongs to a weight; None: it has none."""
    if not re.fullmatch(r"llama_model\..*\.self_attn\.[qv]_proj\.weight", published):
        return None
    stem = published.removesuffix(".weight")
    return f"{stem}.lora_A.weight", f"{stem}.lora_B.weight"


def ignored_layout(sizes: Sizes) -> dict[str, tuple[int, ...]]:
    """Names and shapes of what a whole file also holds and is left aside."""
    patches = sizes.vision_2d.window_size**2
    found: dict[str, tuple[int, ...]] = {
        f"visual_encoder_2d.encoder.layers.{layer}.blocks.{block}.attention.self.relative_position_index": (
            patches,
            patches,
        )
        for layer, depth in enumerate(sizes.vision_2d.depths)
        for block in range(depth)
    }
    for layer in range(sizes.llm.num_layers):
        found[f"{_LLM}model.layers.{layer}.self_attn.rotary_emb.inv_freq"] = (sizes.llm.head_size // 2,)
    for kind, width in (("2d", sizes.unet_2d.encoder_widths[-1]), ("3d", sizes.vision_3d.widths[-1])):
        found |= {f"text2seg_{kind}_ln.{each}": (width,) for each in ("weight", "bias")}
    return found
