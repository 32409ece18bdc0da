"""Attention: who is looked at, keys that are kept, two products where they are faster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention.flex_attention import flex_attention

from training.dropout import dropout
from training.masks import Mask


@dataclass
class Cache:
    """Keys and values of tokens that were seen before, one entry an attention; for generation."""

    held: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    looked_at: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)  # by cross-attention
    length: int = 0  # tokens of the sequence seen so far

    def __getitem__(self, rows: Tensor) -> Cache:
        """The same for chosen rows, as beam search asks for: each takes the place of one that
        looks at the same tokens.
        """
        held = {name: (key[rows], value[rows]) for name, (key, value) in self.held.items()}
        return Cache(held=held, looked_at=self.looked_at, length=self.length)


def better_plain(query: Tensor, key: Tensor, mask: Mask) -> bool:
    """Whether few keys are faster looked at by two products than by torch's kernel.

    Its way back in bfloat16 on a CPU takes four times as long (torch 2.13, 512 rows of 12 heads, 30
    tokens: 1.02 s against 0.25; of 240 tokens 1.3 times).
    """
    few = query.device.type == "cpu" and key.shape[2] <= 256
    return few and query.dtype == torch.bfloat16 and not mask.is_causal and query.requires_grad


def plain_attention(
    query: Tensor, key: Tensor, value: Tensor, seen: Tensor | None, share: float
) -> Tensor:
    """softmax(query key / sqrt(width)) value, nothing where `seen` is false.

    `share` of the weights are dropped.
    """
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    if seen is not None:
        scores = scores.masked_fill(~seen, -torch.inf)
    shares = dropout(scores.softmax(dim=-1), share)
    return shares @ value


def taken(x: Tensor, rows: Tensor | None) -> Tensor:
    """Rows of x, each of which may come several times; all of them when nobody says which."""
    if rows is None:
        return x
    if len(x) == 1:
        return x.expand(len(rows), *x.shape[1:])
    return x.index_select(0, rows)


class Attention(nn.Module):
    """Multi-head attention; the three maps of self-attention are one matrix."""

    def __init__(
        self,
        *,
        width: int,
        heads: int,
        head_width: int,
        bias: bool = True,
        dropout: float = 0.0,
        keys_width: int | None = None,
    ) -> None:
        super().__init__()
        inner = heads * head_width
        self.heads = heads
        self.dropout = dropout
        self.crossing = keys_width is not None

        if keys_width is None:
            self.qkv = nn.Linear(width, 3 * inner, bias=bias)
        else:
            self.query = nn.Linear(width, inner, bias=bias)
            self.key_value = nn.Linear(keys_width, 2 * inner, bias=bias)
        self.out = nn.Linear(inner, width, bias=bias)

    def forward(
        self,
        x: Tensor,
        mask: Mask,
        keys: Tensor | None = None,
        cache: Cache | None = None,
        rows: Tensor | None = None,
    ) -> Tensor:
        """x [n, t, width], keys [n, k, keys_width] for cross-attention -> [n, t, width].

        With a cache, x holds only new tokens; keys and values of the earlier ones come from it, and
        those of `keys` are made once. `rows` [n] says which row of `keys` each one looks at. Where
        the mask says that only tokens from the front ask, there is an answer for those alone.
        """
        if self.crossing:
            query = self.query(x)
            key, value = self._keys(keys, cache, rows)
        else:
            query, key, value = self._maps(x, mask.queries)
            key, value = self._grown(self._split(key), self._split(value), cache)

        mixed = self._attend(self._split(query), key, value, mask)
        mixed = mixed.transpose(1, 2).flatten(2)
        if mask.blind is not None:
            mixed = mixed.masked_fill(mask.blind[..., None], 0.0)
        out: Tensor = self.out(mixed)
        return out

    def _maps(self, x: Tensor, queries: int) -> Sequence[Tensor]:
        """Queries, of some tokens from the front or (0) of all, and everybody's keys and values."""
        if not queries:
            every: Sequence[Tensor] = self.qkv(x).chunk(3, dim=-1)
            return every
        inner = self.out.in_features
        weight, bias = self.qkv.weight, self.qkv.bias
        biases = (None, None) if bias is None else (bias[:inner], bias[inner:])
        query = F.linear(x[:, :queries], weight[:inner], biases[0])
        return query, *F.linear(x, weight[inner:], biases[1]).chunk(2, dim=-1)

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        if mask.blocks is not None:
            seen: Tensor = flex_attention(query, key, value, block_mask=mask.blocks)
            return seen
        dropout = self.dropout if self.training else 0.0
        if better_plain(query, key, mask):
            return plain_attention(query, key, value, mask.dense, dropout)
        mixed: Tensor = F.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=mask.dense,
            dropout_p=dropout,
            is_causal=mask.is_causal,
        )
        return mixed

    def _split(self, x: Tensor) -> Tensor:
        """[n, t, inner] -> [n, heads, t, inner / heads]."""
        n, t, inner = x.shape
        return x.view(n, t, self.heads, inner // self.heads).transpose(1, 2)

    def _keys(
        self, keys: Tensor | None, cache: Cache | None, rows: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        if cache is not None and id(self) in cache.looked_at:
            return cache.looked_at[id(self)]
        assert keys is not None, "cross-attention needs tokens to look at"
        both = taken(self.key_value(keys), rows)
        key, value = both.chunk(2, dim=-1)
        made = self._split(key), self._split(value)
        if cache is not None:
            cache.looked_at[id(self)] = made
        return made

    def _grown(self, key: Tensor, value: Tensor, cache: Cache | None) -> tuple[Tensor, Tensor]:
        if cache is None:
            return key, value
        if id(self) in cache.held:
            before_key, before_value = cache.held[id(self)]
            key = torch.cat([before_key, key], dim=2)
            value = torch.cat([before_value, value], dim=2)
        cache.held[id(self)] = key, value
        return key, value
