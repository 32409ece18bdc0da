"""The transformer stack: blocks of self-attention, cross-attention and feed-forward networks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from training.attention import Attention, Cache, taken
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
    """Cross-attention of a stack to tokens of somebody else."""

    width: int  # of the tokens looked at
    every: int = 1  # blocks 0, every, 2 x every ... have it (BLIP: 1; BLIP-2: 2)
    gate: bool = False  # times tanh of a number that starts at 0, so that nothing changes at first
    see_self: bool = False  # keys are the others' tokens and one's own (Perceiver resampler)
    copy: bool = False  # starts as a copy of self-attention, once initial weights are loaded
    norm_keys: bool = False  # a norm of their own for the tokens looked at (Perceiver)


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
        out: Tensor = self.out(self.activation(self.into(x)))
        return out


class Sublayer(nn.Module):
    """One thing that a block does, with its norm and what scales it.

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
        """x [n, t, width]; `rest` is what the inner module asks for besides."""
        added = self.inner(self.norm(x) if self.pre else x, *rest)
        if self.scale is not None:
            added = added * self.scale
        if self.gate is not None:
            added = added * torch.tanh(self.gate)
        x = x[:, : added.shape[1]] + self.dropout(added)  # some, where not all tokens ask
        return x if self.pre else self.norm(x)


@dataclass(frozen=True, kw_only=True)
class Run:
    """What is the same for all blocks of one pass through a stack."""

    attention: str
    mask: Mask
    spans: tuple[tuple[str, int], ...]  # names and lengths of what has a feed-forward network apart
    keys: Tensor | None = None
    keys_rows: Tensor | None = None
    keys_mask: Mask = field(default_factory=Mask)
    cache: Cache | None = None


class Block(nn.Module):
    """Self-attention, cross-attention where this block has it, feed-forward."""

    def __init__(self, spec: StackSpec, index: int) -> None:
        super().__init__()
        attentions = {name: Sublayer(spec, _attention(spec)) for name in spec.attentions}
        self.attentions = nn.ModuleDict(attentions)

        self.cross: Sublayer | None = None
        self.see_self = False
        self.keys_norm: nn.Module = nn.Identity()
        if spec.cross is not None and index % spec.cross.every == 0:
            attention = _attention(spec, keys_width=spec.cross.width)
            self.cross = Sublayer(spec, attention, gate=spec.cross.gate)
            self.see_self = spec.cross.see_self
            if spec.cross.norm_keys:
                self.keys_norm = nn.LayerNorm(spec.cross.width, eps=spec.eps)

        names = ["shared", *(segment.name for segment in spec.feedforwards)]
        gate = spec.cross is not None and spec.cross.gate and not spec.attentions
        networks = {name: Sublayer(spec, FeedForward(spec), gate=gate) for name in names}
        self.feedforwards = nn.ModuleDict(networks)

    def forward(self, x: Tensor, run: Run) -> Tensor:
        """x [n, t, width] -> [n, t, width]."""
        if run.attention:
            x = self.attentions[run.attention](x, run.mask, None, run.cache)

        if self.cross is not None and run.keys is not None:
            keys, rows = self.keys_norm(run.keys), run.keys_rows
            if self.see_self:
                own = self.cross.norm(x) if self.cross.pre else x
                keys, rows = torch.cat([taken(keys, rows), own], dim=1), None
            x = self.cross(x, run.keys_mask, keys, run.cache, rows)

        if len(run.spans) == 1:
            out: Tensor = self.feedforwards[run.spans[0][0]](x)
            return out
        pieces = x.split([length for _, length in run.spans], dim=1)
        mapped = [
            self.feedforwards[name](piece)
            for (name, _), piece in zip(run.spans, pieces, strict=True)
        ]
        return torch.cat(mapped, dim=1)


class Stack(nn.Module):
    """Blocks one after another, with a norm before and behind where the shape says so."""

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
        the tokens that cross-attention looks at, None to go without it; `keys_rows` [n] says which
        row of them each row looks at, when several look at one. With a cache, tokens are new ones
        behind those that it holds: all of a prompt at first, then one at a time. `front` tokens
        (0: all) are what the caller will read: the last block works for them alone.
        """
        run = self._run(tokens, rules, attention, keys, keys_rules, keys_rows, cache)
        last = self._last(run, tokens, front)
        x = self.first_norm(tokens.x)

        for number, block in enumerate(self.blocks, 1):
            given = last if number == len(self.blocks) else run
            if self.checkpointing and self.training:
                x = checkpoint(block, x, given, use_reentrant=False)
            else:
                x = block(x, given)

        if cache is not None:
            cache.length += tokens.x.shape[1]
        if front:
            tokens, x = tokens.front(front), x[:, :front]
        return tokens.with_x(self.last_norm(x))

    def _last(self, run: Run, tokens: Tokens, front: int) -> Run:
        """How the last block runs; as the others where kernels or keys want all tokens."""
        cross = self.spec.cross
        fixed = (
            run.mask.is_causal or run.mask.blocks is not None or run.keys_mask.blocks is not None
        )
        all_tokens = run.cache is not None or fixed or (cross is not None and cross.see_self)
        if not front or all_tokens or not run.attention:
            return run
        return replace(
            run,
            mask=run.mask.front(front),
            keys_mask=replace(run.keys_mask.front(front), queries=0),
            spans=self._spans(tokens.front(front)),
        )

    def _run(
        self,
        tokens: Tokens,
        rules: tuple[str, ...],
        attention: str,
        keys: Tokens | None,
        keys_rules: tuple[str, ...],
        keys_rows: Tensor | None,
        cache: Cache | None,
    ) -> Run:
        spec = self.spec
        if not attention and spec.attentions:
            (attention,) = spec.attentions
        flex = self.flex and cache is None

        keys_mask = Mask()
        if keys is not None:
            see_self = spec.cross is not None and spec.cross.see_self
            assert not see_self or keys.valid is None, "a resampler takes grids without padding"
            told = keys  # a mask asks nothing of the vectors
            if keys_rows is not None:
                told = keys.with_x(keys.x[..., :1])[keys_rows]
            keys_mask = lower(keys_rules, tokens, told, flex=flex)

        later = cache is not None and cache.length > 0
        assert not later or tokens.x.shape[1] == 1, "a cache grows by one token at a time"
        return Run(
            attention=attention,
            mask=Mask() if later else lower(rules, tokens, tokens, flex=flex),
            spans=self._spans(tokens),
            keys=None if keys is None else keys.x,
            keys_rows=keys_rows,
            keys_mask=keys_mask,
            cache=cache,
        )

    def _spans(self, tokens: Tokens) -> tuple[tuple[str, int], ...]:
        """Neighbouring spans that share a feed-forward network are one."""
        spans: list[tuple[str, int]] = []
        for span in tokens.spans:
            own = span.segment in self.spec.feedforwards
            name = span.segment.name if own else "shared"
            if spans and spans[-1][0] == name:
                name, length = spans.pop()
                spans.append((name, length + span.length))
            else:
                spans.append((name, span.length))
        return tuple(spans)


def _norm(spec: StackSpec, wanted: bool) -> nn.Module:
    return nn.LayerNorm(spec.width, eps=spec.eps) if wanted else nn.Identity()


def _attention(spec: StackSpec, *, keys_width: int | None = None) -> Attention:
    return Attention(
        width=spec.width,
        heads=spec.heads,
        head_width=spec.head_width or spec.width // spec.heads,
        bias=spec.bias,
        dropout=spec.attention_dropout,
        keys_width=keys_width,
    )
