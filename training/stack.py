"""The transformer stack: blocks of self-attention, cross-attention and feed-forward networks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from training.attention import Attention, Cache, take_rows
from training.config import within
from training.dropout import Dropout
from training.masks import Mask, lower
from training.tokens import Segment, Tokens

Activation = Literal["gelu", "gelu_tanh", "quick_gelu", "squared_relu"]


def _quick_gelu(x: Tensor) -> Tensor:
    """The approximation of OpenAI's CLIP."""
    return x * torch.sigmoid(1.702 * x)


def _gelu_tanh(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


def _squared_relu(x: Tensor) -> Tensor:
    return F.relu(x).square()


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": _gelu_tanh,
    "quick_gelu": _quick_gelu,
    "squared_relu": _squared_relu,
}


@dataclass(frozen=True, kw_only=True)
class Cross:
    """Cross-attention of a stack to other tokens."""

    width: int  # of the tokens attended to
    every: int = 1  # blocks 0, every, 2 x every ... have it (BLIP: 1; BLIP-2: 2)
    gate: bool = False  # times tanh of a number that starts at 0, so that nothing changes at first
    see_self: bool = False  # keys are the other tokens and one's own (Perceiver resampler)
    copy: bool = False  # starts as a copy of self-attention, once initial weights are loaded
    norm_keys: bool = False  # a norm of their own for the tokens attended to (Perceiver)


@dataclass(frozen=True, kw_only=True)
class StackSpec:
    """The shape of a stack.

    `attentions` names the self-attentions of every block, of which a pass uses one (BLIP's text
    stack has a bidirectional and a causal one, and one of everything else); empty: none.
    `feedforwards` names the segments that have a feed-forward network of their own (BLIP-2); the
    others share one.
    """

    layers: int
    width: int
    heads: int
    hidden: int = 0  # of the feed-forward networks; 0: four times the width
    head_width: int = 0  # 0: width / heads
    norm: Literal["pre", "post"] = "pre"
    eps: float = 1e-6
    activation: Activation = "gelu"
    bias: bool = True
    dropout: float = 0.0  # of what each sublayer adds
    attention_dropout: float = 0.0  # of the attention's weights
    first_norm: bool = False  # before the first block (CLIP's image tower)
    last_norm: bool = True  # after the last block; stacks with norm "post" have none
    layer_scale: bool = False  # a learned factor for each channel of what a sublayer adds (DINOv2)
    attentions: tuple[str, ...] = ("self",)
    cross: Cross | None = None
    feedforwards: tuple[Segment, ...] = ()

    def __post_init__(self) -> None:
        within(0, 1000, layers=self.layers)
        within(1, 1_000_000, width=self.width, heads=self.heads)
        within(0, 1, dropout=self.dropout, attention_dropout=self.attention_dropout)
        if not self.head_width and self.width % self.heads:
            raise ValueError(
                f"width {self.width} is not a multiple of heads {self.heads}: change one of them"
            )


class FeedForward(nn.Module):
    """Two maps with an activation between them."""

    def __init__(self, spec: StackSpec) -> None:
        super().__init__()
        hidden = spec.hidden or 4 * spec.width
        self.into = nn.Linear(spec.width, hidden, bias=spec.bias)
        self.out = nn.Linear(hidden, spec.width, bias=spec.bias)
        self.activation = ACTIVATIONS[spec.activation]

    def forward(self, x: Tensor) -> Tensor:
        """[..., width] -> [..., width]."""
        hidden = self.activation(self.into(x))
        out: Tensor = self.out(hidden)
        return out


class Sublayer(nn.Module):
    """Attention or a feed-forward network of a block, with its norm and what scales it.

    norm "pre": x + scale(f(norm(x))) (ViT). norm "post": norm(x + scale(f(x))) (BERT).
    """

    def __init__(
        self, spec: StackSpec, inner: Attention | FeedForward, *, gate: bool = False
    ) -> None:
        super().__init__()
        self.pre = spec.norm == "pre"
        self.norm = nn.LayerNorm(spec.width, eps=spec.eps)
        self.inner = inner
        self.dropout = Dropout(spec.dropout)
        self.gate = nn.Parameter(torch.zeros(())) if gate else None
        self.scale = nn.Parameter(torch.ones(spec.width)) if spec.layer_scale else None

    def forward(self, x: Tensor, *rest: object) -> Tensor:
        """x [n, t, width]; `rest` are the other arguments of the inner module."""
        added = self.inner(self.norm(x) if self.pre else x, *rest)
        if self.scale is not None:
            added = added * self.scale
        if self.gate is not None:
            added = added * torch.tanh(self.gate)
        x = x[:, : added.shape[1]]  # where only some tokens from the front are queries
        x = x + self.dropout(added)
        return x if self.pre else self.norm(x)


Spans = tuple[tuple[str, int], ...]  # names of feed-forward networks, and how many tokens take each


@dataclass(frozen=True, kw_only=True)
class BlockInputs:
    """What is the same for all blocks of one pass through a stack."""

    attention: str
    mask: Mask
    spans: Spans
    keys: Tensor | None = None
    keys_rows: Tensor | None = None
    keys_mask: Mask = field(default_factory=Mask)
    cache: Cache | None = None


class Block(nn.Module):
    """Self-attention, cross-attention where this block has it, feed-forward."""

    def __init__(self, spec: StackSpec, index: int) -> None:
        super().__init__()
        self.attentions = nn.ModuleDict()
        for name in spec.attentions:
            self.attentions[name] = Sublayer(spec, _attention(spec))

        cross = spec.cross
        self.cross: Sublayer | None = None
        self.see_self = False
        self.keys_norm: nn.Module = nn.Identity()
        if cross is not None and index % cross.every == 0:
            attention = _attention(spec, keys_width=cross.width)
            self.cross = Sublayer(spec, attention, gate=cross.gate)
            self.see_self = cross.see_self
            if cross.norm_keys:
                self.keys_norm = nn.LayerNorm(cross.width, eps=spec.eps)

        gate = cross is not None and cross.gate and not spec.attentions
        self.feedforwards = nn.ModuleDict()
        for name in ("shared", *(segment.name for segment in spec.feedforwards)):
            self.feedforwards[name] = Sublayer(spec, FeedForward(spec), gate=gate)

    def forward(self, x: Tensor, inputs: BlockInputs) -> Tensor:
        """x [n, t, width] -> [n, t, width]."""
        if inputs.attention:
            x = self.attentions[inputs.attention](x, inputs.mask, None, inputs.cache)
        if self.cross is not None and inputs.keys is not None:
            x = self._attend_across(self.cross, x, inputs.keys, inputs)

        if len(inputs.spans) == 1:
            ((name, _),) = inputs.spans
            out: Tensor = self.feedforwards[name](x)
            return out

        names, lengths = zip(*inputs.spans, strict=True)
        mapped = []
        for name, part in zip(names, x.split(lengths, dim=1), strict=True):
            mapped.append(self.feedforwards[name](part))
        return torch.cat(mapped, dim=1)

    def _attend_across(
        self, cross: Sublayer, x: Tensor, keys: Tensor, inputs: BlockInputs
    ) -> Tensor:
        keys, rows = self.keys_norm(keys), inputs.keys_rows
        if self.see_self:
            own = cross.norm(x) if cross.pre else x
            keys = torch.cat([take_rows(keys, rows), own], dim=1)
            rows = None
        out: Tensor = cross(x, inputs.keys_mask, keys, inputs.cache, rows)
        return out


class Stack(nn.Module):
    """Blocks one after another, with a norm before and behind where the spec says so."""

    def __init__(self, spec: StackSpec) -> None:
        super().__init__()
        self.spec = spec
        self.checkpointing = False  # recompute activations in the backward pass
        self.flex = False  # FlexAttention for masks that are neither full nor causal
        self.blocks = nn.ModuleList(Block(spec, index) for index in range(spec.layers))
        self.first_norm = _norm(spec, spec.first_norm)
        self.last_norm = _norm(spec, spec.last_norm and spec.norm == "pre" and spec.layers > 0)

    def forward(
        self,
        tokens: Tokens,
        *,
        rules: tuple[str, ...] = ("full",),
        attention: str = "",
        keys: Tokens | None = None,
        keys_rules: tuple[str, ...] = ("full",),
        keys_rows: Tensor | None = None,
        cache: Cache | None = None,
        front: int = 0,
    ) -> Tokens:
        """Tokens through all blocks.

        `attention` names the self-attention to use (may be left out when there is one); `keys` are
        the tokens of cross-attention, None to go without it; `keys_rows` [n] says which row of them
        each row attends to, when several share one. With a cache, tokens are new ones behind those
        that it holds: all of a prompt at first, then one at a time. `front` tokens (0: all) are
        what the caller will read: the last block computes only those.
        """
        if not attention and self.spec.attentions:
            (attention,) = self.spec.attentions
        inputs = BlockInputs(
            attention=attention,
            mask=self._mask(tokens, rules, cache),
            spans=self._spans(tokens),
            keys=None if keys is None else keys.x,
            keys_rows=keys_rows,
            keys_mask=self._keys_mask(tokens, keys, keys_rules, keys_rows, cache),
            cache=cache,
        )

        x = self.first_norm(tokens.x)
        for number, block in enumerate(self.blocks, 1):
            if front and number == len(self.blocks):
                inputs = self._for_front(inputs, tokens, front)
            if self.checkpointing and self.training:
                x = checkpoint(block, x, inputs, use_reentrant=False)
            else:
                x = block(x, inputs)

        if cache is not None:
            cache.length += tokens.x.shape[1]
        if front:
            tokens, x = tokens.front(front), x[:, :front]
        return tokens.with_x(self.last_norm(x))

    def _mask(self, tokens: Tokens, rules: tuple[str, ...], cache: Cache | None) -> Mask:
        if cache is None:
            return lower(rules, tokens, tokens, flex=self.flex)
        if cache.length == 0:
            return lower(rules, tokens, tokens)
        assert tokens.x.shape[1] == 1, "a cache grows by one token at a time"
        return Mask()

    def _keys_mask(
        self,
        tokens: Tokens,
        keys: Tokens | None,
        rules: tuple[str, ...],
        rows: Tensor | None,
        cache: Cache | None,
    ) -> Mask:
        if keys is None:
            return Mask()
        see_self = self.spec.cross is not None and self.spec.cross.see_self
        assert not see_self or keys.valid is None, "a resampler takes grids without padding"
        if rows is not None:
            keys = keys.with_x(keys.x[..., :1])[rows]  # a mask does not depend on the vectors
        return lower(rules, tokens, keys, flex=self.flex and cache is None)

    def _for_front(self, inputs: BlockInputs, tokens: Tokens, front: int) -> BlockInputs:
        """For the tokens from the front alone, unless kernels or keys need all of them."""
        mask, keys_mask = inputs.mask, inputs.keys_mask
        see_self = self.spec.cross is not None and self.spec.cross.see_self
        needs_all = see_self or inputs.cache is not None or not inputs.attention
        has_blocks = mask.blocks is not None or keys_mask.blocks is not None
        if needs_all or has_blocks or mask.is_causal:
            return inputs
        return replace(
            inputs,
            mask=mask.front(front),
            keys_mask=keys_mask.front(front),
            spans=self._spans(tokens.front(front)),
        )

    def _spans(self, tokens: Tokens) -> Spans:
        """Neighbouring spans that share a feed-forward network are one."""
        spans: list[tuple[str, int]] = []
        for span in tokens.spans:
            own = span.segment in self.spec.feedforwards
            name = span.segment.name if own else "shared"
            length = span.length
            if spans and spans[-1][0] == name:
                length += spans.pop()[1]
            spans.append((name, length))
        return tuple(spans)


def _norm(spec: StackSpec, present: bool) -> nn.Module:
    return nn.LayerNorm(spec.width, eps=spec.eps) if present else nn.Identity()


def _attention(spec: StackSpec, *, keys_width: int | None = None) -> Attention:
    return Attention(
        width=spec.width,
        heads=spec.heads,
        head_width=spec.head_width or spec.width // spec.heads,
        bias=spec.bias,
        dropout=spec.attention_dropout,
        keys_width=keys_width,
    )
