"""A language model of the Gemma 3 shape with random weights, and its eye: half a megabyte, and not a word of sense."""

from __future__ import annotations

import string
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt

WIDTH, FEED_FORWARD, HEAD, HEADS, KEY_HEADS, BLOCKS = 64, 128, 32, 4, 1, 2
EYE_WIDTH, EYE_FEED_FORWARD, EYE_HEADS, EYE_BLOCKS, SIDE, PATCH, MERGED = 32, 64, 2, 1, 64, 8, 2
CONTROL = ("<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>", "<start_of_image>", "<end_of_image>")
PIECES = ("\u2581the", "\u2581a", "\u2581lung", "ing", "er", "in", "an", "\u2581is", "\u2581of")
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ '<start_of_turn>' }}"
    "{{ 'model' if message['role'] == 'assistant' else 'user' }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for item in message['content'] %}"
    "{% if item['type'] == 'image' %}{{ '<start_of_image>' }}{% elif item['type'] == 'text' %}{{ item['text'] }}"
    "{% endif %}{% endfor %}{% endif %}{{ '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)

Array = npt.NDArray[np.float32]


class _Weights:
    """Seeded normals and ones."""

    def __init__(self, seed: int, deviation: float) -> None:
        self._random = np.random.default_rng(seed)
        self._deviation = deviation

    def drawn(self, *shape: int) -> Array:
        return (self._random.standard_normal(shape) * self._deviation).astype(np.float32)


def _ones(count: int) -> Array:
    return np.ones(count, np.float32)


def write_model(path: Path, *, context_length: int = 2048) -> None:
    """Write the text model."""
    writer = gguf.GGUFWriter(str(path), "gemma3")
    writer.add_name("tiny-gemma3-random")
    writer.add_context_length(context_length)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(BLOCKS)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEY_HEADS)
    writer.add_key_length(HEAD)
    writer.add_value_length(HEAD)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(1_000_000.0)
    writer.add_sliding_window(512)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    tokens = _add_tokenizer(writer)
    weights = _Weights(1, 0.08)
    writer.add_tensor("token_embd.weight", weights.drawn(tokens, WIDTH))
    writer.add_tensor("output_norm.weight", _ones(WIDTH))
    for block in range(BLOCKS):
        for name, tensor in {
            "attn_q": weights.drawn(HEADS * HEAD, WIDTH),
            "attn_k": weights.drawn(KEY_HEADS * HEAD, WIDTH),
            "attn_v": weights.drawn(KEY_HEADS * HEAD, WIDTH),
            "attn_output": weights.drawn(WIDTH, HEADS * HEAD),
            "attn_q_norm": _ones(HEAD),
            "attn_k_norm": _ones(HEAD),
            "attn_norm": _ones(WIDTH),
            "post_attention_norm": _ones(WIDTH),
            "ffn_norm": _ones(WIDTH),
            "post_ffw_norm": _ones(WIDTH),
            "ffn_gate": weights.drawn(FEED_FORWARD, WIDTH),
            "ffn_up": weights.drawn(FEED_FORWARD, WIDTH),
            "ffn_down": weights.drawn(WIDTH, FEED_FORWARD),
        }.items():
            writer.add_tensor(f"blk.{block}.{name}.weight", tensor)
    _finish(writer)


def _add_tokenizer(writer: gguf.GGUFWriter) -> int:
    kinds = gguf.TokenType
    tokens = [(word, 0.0, kinds.CONTROL) for word in CONTROL]
    tokens[3] = ("<unk>", 0.0, kinds.UNKNOWN)
    tokens += [(f"<0x{byte:02X}>", 0.0, kinds.BYTE) for byte in range(256)]
    plain = ["\u2581", *(each for each in string.printable[:95] if each != " "), *PIECES]
    tokens += [(word, -float(place), kinds.NORMAL) for place, word in enumerate(plain)]
    writer.add_tokenizer_model("llama")
    writer.add_token_list([word for word, _, _ in tokens])
    writer.add_token_scores([score for _, score, _ in tokens])
    writer.add_token_types([kind for _, _, kind in tokens])
    writer.add_pad_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_bos_token_id(2)
    writer.add_unk_token_id(3)
    writer.add_eot_token_id(5)
    writer.add_add_bos_token(True)
    writer.add_add_space_prefix(False)  # as Gemma has it; grammars begin with the turn, told without a space
    writer.add_chat_template(TEMPLATE)
    return len(tokens)


def write_projector(path: Path) -> None:
    """Write the eye: what turns an image into 16 of the model's tokens."""
    writer = gguf.GGUFWriter(str(path), "clip")
    writer.add_type("mmproj")
    writer.add_clip_has_vision_encoder(True)
    writer.add_clip_projector_type("gemma3")
    writer.add_vision_image_size(SIDE)
    writer.add_vision_patch_size(PATCH)
    writer.add_vision_embedding_length(EYE_WIDTH)
    writer.add_vision_feed_forward_length(EYE_FEED_FORWARD)
    writer.add_vision_block_count(EYE_BLOCKS)
    writer.add_vision_head_count(EYE_HEADS)
    writer.add_vision_projection_dim(WIDTH)
    writer.add_vision_projector_scale_factor(MERGED)
    writer.add_vision_attention_layernorm_eps(1e-6)
    writer.add_vision_image_mean([0.5, 0.5, 0.5])
    writer.add_vision_image_std([0.5, 0.5, 0.5])
    writer.add_vision_use_gelu(True)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    weights = _Weights(2, 0.05)
    writer.add_tensor("v.patch_embd.weight", weights.drawn(EYE_WIDTH, 3, PATCH, PATCH))
    writer.add_tensor("v.patch_embd.bias", weights.drawn(EYE_WIDTH))
    writer.add_tensor("v.position_embd.weight", weights.drawn((SIDE // PATCH) ** 2, EYE_WIDTH))
    for block in range(EYE_BLOCKS):
        for name, shape in {
            "attn_q": (EYE_WIDTH, EYE_WIDTH),
            "attn_k": (EYE_WIDTH, EYE_WIDTH),
            "attn_v": (EYE_WIDTH, EYE_WIDTH),
            "attn_out": (EYE_WIDTH, EYE_WIDTH),
            "ffn_up": (EYE_FEED_FORWARD, EYE_WIDTH),
            "ffn_down": (EYE_WIDTH, EYE_FEED_FORWARD),
        }.items():
            writer.add_tensor(f"v.blk.{block}.{name}.weight", weights.drawn(*shape))
            writer.add_tensor(f"v.blk.{block}.{name}.bias", weights.drawn(shape[0]))
        for name in ("ln1", "ln2"):
            writer.add_tensor(f"v.blk.{block}.{name}.weight", _ones(EYE_WIDTH))
            writer.add_tensor(f"v.blk.{block}.{name}.bias", weights.drawn(EYE_WIDTH))
    writer.add_tensor("v.post_ln.weight", _ones(EYE_WIDTH))
    writer.add_tensor("v.post_ln.bias", weights.drawn(EYE_WIDTH))
    writer.add_tensor("mm.input_projection.weight", weights.drawn(EYE_WIDTH, WIDTH))
    writer.add_tensor("mm.soft_emb_norm.weight", _ones(EYE_WIDTH))
    _finish(writer)


def _finish(writer: gguf.GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
