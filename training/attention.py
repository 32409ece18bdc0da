"""Multi-head attention: masks, cached keys and values, a faster form for few keys on a CPU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention.flex_attention import flex_attention

from training.dropout import dropout
from training.masks import Mask
from training.tokens import map_optional


@dataclass
class Cache:
    """Keys and values of earlier tokens, one entry for each attention; for generation."""

    self_attention: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    cross_attention: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    length: int = 0  # tokens of the sequence so far

    def __getitem__(self, rows: Tensor) -> Cache:
        """The same for chosen rows, as beam search needs it.

        Cross-attention stays as it is: a row is replaced by one of the same image.
        """
        chosen = {}
        for name, (key, value) in self.self_attention.items():
            chosen[name] = key[rows], value[rows]
        return Cache(
            self_attention=chosen,
            cross_attention=self.cross_attention,
            length=self.length,
        )


def prefers_two_products(query: Tensor, key: Tensor, mask: Mask) -> bool:
    """Whether attention to few keys is faster as two products than by torch's kernel.

    The kernel's backward pass in bfloat16 on a CPU takes four times as long (torch 2.13, 512 rows
    of 12 heads, 30 tokens: 1.02 s against 0.25; of 240 tokens 1.3 times).
    """
    if query.device.type != "cpu" or query.dtype != torch.bfloat16:
        return False
    return key.shape[2] <= 256 and not mask.is_causal and query.requires_grad


def two_products(
    query: Tensor, key: Tensor, value: Tensor, allowed: Tensor | None, p: float
) -> Tensor:
    """softmax(query key / sqrt(width)) value, nothing where `allowed` is false.

    Weights are dropped with probability `p`.
    """
    scale = query.shape[-1] ** -0.5
    scores = (query * scale) @ key.transpose(-1, -2)
    if allowed is not None:
        scores = scores.masked_fill(~allowed, -torch.inf)
    weights = dropout(scores.softmax(dim=-1), p)
    return weights @ value


def take_rows(x: Tensor, rows: Tensor | None) -> Tensor:
    """Rows of x, each of which may come several times; all of them for None."""
    if rows is None:
        return x
    if len(x) == 1:
        return x.expand(len(rows), *x.shape[1:])
    return x.index_select(0, rows)


class Attention(nn.Module):
    """Multi-head attention; the three projections of self-attention are one matrix."""

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
        self.is_cross = keys_width is not None

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
        those of `keys` are computed once. `rows` [n] says which row of `keys` each one attends to.
        Where the mask says that only tokens from the front are queries, the output is of those.
        """
        if self.is_cross:
            query = self.query(x)
            key, value = self._cross_key_value(keys, cache, rows)
        else:
            query, key, value = self._project(x, mask.queries)
            key, value = self._extend(self._split(key), self._split(value), cache)

        mixed = self._attend(self._split(query), key, value, mask)
        mixed = mixed.transpose(1, 2).flatten(2)
        if mask.blind is not None:
            mixed = mixed.masked_fill(mask.blind[..., None], 0.0)
        out: Tensor = self.out(mixed)
        return out

    def _project(self, x: Tensor, queries: int) -> Sequence[Tensor]:
        """Queries of some tokens from the front, or (0) of all; keys and values of all."""
        if not queries:
            qkv: Tensor = self.qkv(x)
            return qkv.chunk(3, dim=-1)

        inner = self.out.in_features
        weight, bias = self.qkv.weight, self.qkv.bias
        query_bias = map_optional(lambda bias: bias[:inner], bias)
        key_value_bias = map_optional(lambda bias: bias[inner:], bias)
        query = F.linear(x[:, :queries], weight[:inner], query_bias)
        key_value = F.linear(x, weight[inner:], key_value_bias)
        return query, *key_value.chunk(2, dim=-1)

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        if mask.blocks is not None:
            out: Tensor = flex_attention(query, key, value, block_mask=mask.blocks)
            return out
        p = self.dropout if self.training else 0.0
        if prefers_two_products(query, key, mask):
            return two_products(query, key, value, mask.dense, p)
        return F.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=mask.dense,
            dropout_p=p,
            is_causal=mask.is_causal,
        )

    def _split(self, x: Tensor) -> Tensor:
        """[n, t, inner] -> [n, heads, t, inner / heads]."""
        n, t, inner = x.shape
        return x.view(n, t, self.heads, inner // self.heads).transpose(1, 2)

    def _cross_key_value(
        self, keys: Tensor | None, cache: Cache | None, rows: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        if cache is not None and id(self) in cache.cross_attention:
            return cache.cross_attention[id(self)]

        assert keys is not None, "cross-attention needs tokens to attend to"
        key_value = take_rows(self.key_value(keys), rows)
        key, value = map(self._split, key_value.chunk(2, dim=-1))
        if cache is not None:
            cache.cross_attention[id(self)] = key, value
        return key, value

    def _extend(self, key: Tensor, value: Tensor, cache: Cache | None) -> tuple[Tensor, Tensor]:
        """Earlier keys and values in front."""
        if cache is None:
            return key, value
        if id(self) in cache.self_attention:
            earlier_key, earlier_value = cache.self_attention[id(self)]
            key = torch.cat([earlier_key, key], dim=2)
            value = torch.cat([earlier_value, value], dim=2)
        cache.self_attention[id(self)] = key, value
        return key, value
