"""The language model, of the Llama 2 family, with a key-value cache of fixed size.

Source: Touvron et al., Llama 2, 2023; Su et al., RoFormer (rotary positions), 2021; Zhang and Sennrich, RMSNorm, 2019.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from inference.engines.medversa.sizes import LanguageSizes


class Cache:
    """Keys and values of what has been read, for all layers, and the rotary tables for its positions."""

    def __init__(self, sizes: LanguageSizes, *, sequences: int, positions: int, like: Tensor) -> None:
        shape = (sizes.num_layers, sequences, sizes.num_heads, positions, sizes.head_size)
        self.keys = torch.zeros(shape, dtype=like.dtype, device=like.device)
        self.values = torch.zeros_like(self.keys)
        self.cos, self.sin = rotary_tables(sizes, positions, like.device)
        self.length = 0

    @property
    def positions(self) -> int:
        """How many positions there is room for."""
        return self.keys.shape[3]

    def reorder(self, rows: Tensor) -> None:
        """Let each sequence go on from the given one."""
        self.keys[:, :, :, : self.length] = self.keys[:, rows, :, : self.length]
        self.values[:, :, :, : self.length] = self.values[:, rows, :, : self.length]


class Llama(nn.Module):
    """Embeddings to states and logits."""

    def __init__(self, sizes: LanguageSizes, vocabulary: int) -> None:
        super().__init__()
        self.sizes = sizes
        self.embed = nn.Embedding(vocabulary, sizes.hidden_size)
        self.layers = nn.ModuleList(DecoderLayer(sizes, index) for index in range(sizes.num_layers))
        self.norm = RmsNorm(sizes)
        self.head = nn.Linear(sizes.hidden_size, vocabulary, bias=False)

    def forward(self, embeddings: Tensor, cache: Cache) -> Tensor:
        """Read on from where the cache stands.

        Parameters
        ----------
        embeddings
            (sequences, positions, channels) of what is new.

        Returns
        -------
        Tensor
            States after the final norm, of the new positions.
        """
        start, count = cache.length, embeddings.shape[1]
        mask = _causal(start, count, embeddings.device) if start and count > 1 else None
        x = embeddings
        for layer in self.layers:
            x = layer(x, cache, start, mask)
        cache.length = start + count
        states: Tensor = self.norm(x)
        return states

    def logits(self, states: Tensor) -> Tensor:
        """Score every token of the vocabulary, in float32."""
        scores: Tensor = self.head(states)
        return scores.float()


class DecoderLayer(nn.Module):
    """Attention to what came before, then a gated perceptron."""

    def __init__(self, sizes: LanguageSizes, index: int) -> None:
        super().__init__()
        self.norm_before = RmsNorm(sizes)
        self.attention = CausalAttention(sizes, index)
        self.norm_after = RmsNorm(sizes)
        self.gate = nn.Linear(sizes.hidden_size, sizes.intermediate_size, bias=False)
        self.up = nn.Linear(sizes.hidden_size, sizes.intermediate_size, bias=False)
        self.down = nn.Linear(sizes.intermediate_size, sizes.hidden_size, bias=False)

    def forward(self, x: Tensor, cache: Cache, start: int, mask: Tensor | None) -> Tensor:
        """Map (sequences, positions, channels) to the same shape."""
        seen: Tensor = self.attention(self.norm_before(x), cache, start, mask)
        x = x + seen
        normed = self.norm_after(x)
        read: Tensor = self.down(functional.silu(self.gate(normed)) * self.up(normed))
        return x + read


class CausalAttention(nn.Module):
    """Attention to the positions before, and to itself."""

    def __init__(self, sizes: LanguageSizes, index: int) -> None:
        super().__init__()
        self.index = index
        self.heads = sizes.num_heads
        width = sizes.hidden_size
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, cache: Cache, start: int, mask: Tensor | None) -> Tensor:
        """Read the new positions and keep their keys and values."""
        sequences, count, width = x.shape
        end = start + count
        query, key, value = (
            layer(x).view(sequences, count, self.heads, -1).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        cos, sin = cache.cos[start:end], cache.sin[start:end]
        keys, values = cache.keys[self.index], cache.values[self.index]
        keys[:, :, start:end] = rotated(key, cos, sin)
        values[:, :, start:end] = value
        seen = functional.scaled_dot_product_attention(
            rotated(query, cos, sin),
            keys[:, :, :end],
            values[:, :, :end],
            attn_mask=mask,
            is_causal=mask is None and count > 1,
        )
        out: Tensor = self.out(seen.transpose(1, 2).reshape(sequences, count, width))
        return out


class RmsNorm(nn.Module):
    """Scales each state to a root mean square of one, in float32."""

    def __init__(self, sizes: LanguageSizes) -> None:
        super().__init__()
        self.eps = sizes.rms_norm_eps
        self.weight = nn.Parameter(torch.ones(sizes.hidden_size))

    def forward(self, x: Tensor) -> Tensor:
        """The answer has the input's type."""
        wide = x.float()
        scaled = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps)
        return self.weight * scaled.to(x.dtype)


def rotary_tables(sizes: LanguageSizes, positions: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosine and sine, each (positions, channels of a head); both halves of a head turn by the same angles."""
    exponents = torch.arange(0, sizes.head_size, 2, device=device).float() / sizes.head_size
    angles = torch.outer(torch.arange(positions, device=device).float(), 1.0 / sizes.rope_theta**exponents)
    both = torch.cat([angles, angles], dim=-1)
    return both.cos(), both.sin()


def rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn (…, positions, channels of a head) by its positions, in float32."""
    wide = x.float()
    first, second = wide.chunk(2, dim=-1)
    return (wide * cos + torch.cat([-second, first], dim=-1) * sin).to(x.dtype)


def _causal(start: int, count: int, device: torch.device) -> Tensor:
    """Which of all positions each new one may see: (count, start + count)."""
    places = torch.arange(start + count, device=device)
    return places[None, :] <= places[start:, None]
