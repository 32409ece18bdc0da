"""Who may look at whom: mask rules, written once, lowered to what the hardware runs fastest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask

from training.tokens import Segment, Tokens

RuleName = Literal[
    "full", "causal", "prefix", "unilm", "block_diagonal", "last_media", "same_document"
]

# torch.compile, through which FlexAttention reads a rule, takes a tensor for unequal to any enum
TEXT = int(Segment.TEXT)


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a rule may ask about a token: tensors that broadcast between queries and keys."""

    segment: Tensor
    index: Tensor
    document: Tensor | None = None
    media: Tensor | None = None
    prefix: Tensor | None = None

    def each(self, change: Callable[[Tensor], Tensor]) -> Facts:
        """The same facts, every one that is known changed alike."""
        return Facts(
            segment=change(self.segment),
            index=change(self.index),
            document=None if self.document is None else change(self.document),
            media=None if self.media is None else change(self.media),
            prefix=None if self.prefix is None else change(self.prefix),
        )


Rule = Callable[[Facts, Facts], Tensor]


def full(query: Facts, key: Facts) -> Tensor:
    """Everything sees everything."""
    return (query.index >= 0) & (key.index >= 0)


def causal(query: Facts, key: Facts) -> Tensor:
    """A token sees itself and what stands before it."""
    return key.index <= query.index


def prefix(query: Facts, key: Facts) -> Tensor:
    """All see the prefix; what follows it is causal (PrefixLM, SimVLM)."""
    assert key.prefix is not None, "the prefix rule needs tokens that say what the prefix is"
    return key.prefix | causal(query, key)


def unilm(query: Facts, key: Facts) -> Tensor:
    """Images and queries see each other alone; text sees them, and text before it (GIT, BLIP-2).

    Written so that it does not depend on which segment stands first.
    """
    both_text = (query.segment == TEXT) & (key.segment == TEXT)
    return (key.segment != TEXT) | (both_text & causal(query, key))


def block_diagonal(query: Facts, key: Facts) -> Tensor:
    """A token sees its own segment alone (BLIP-2's contrast)."""
    return query.segment == key.segment


def last_media(query: Facts, key: Facts) -> Tensor:
    """A text token sees the image that began last before it, and no other (Flamingo)."""
    assert query.media is not None, "the last-media rule needs tokens that count their images"
    assert key.media is not None, "the last-media rule needs images that are numbered from 1"
    return query.media == key.media


def same_document(query: Facts, key: Facts) -> Tensor:
    """Packed documents do not see each other."""
    assert query.document is not None, "packed tokens say which document they belong to"
    assert key.document is not None, "packed tokens say which document they belong to"
    return query.document == key.document


RULES: dict[str, Rule] = {
    "full": full,
    "causal": causal,
    "prefix": prefix,
    "unilm": unilm,
    "block_diagonal": block_diagonal,
    "last_media": last_media,
    "same_document": same_document,
}
assert set(RULES) == set(get_args(RuleName))

MAY_SEE_NOTHING = frozenset({"last_media"})  # a token before the first image


@dataclass(frozen=True, kw_only=True)
class Mask:
    """A rule, lowered for one pair of sequences; exactly one of four forms.

    Nothing set: all may look at all. `is_causal`: the kernel's own causal form. `dense`: bool,
    broadcasts to [n, heads, queries, keys]. `blocks`: FlexAttention's. `blind` [n, queries] is true
    for queries that may look at nothing at all: attention gives them zero. `queries` is how many
    tokens from the front ask at all; 0: every one.
    """

    is_causal: bool = False
    dense: Tensor | None = None
    blocks: BlockMask | None = None
    blind: Tensor | None = None
    queries: int = 0

    def front(self, queries: int) -> Mask:
        """The same for so many tokens from the front, which alone ask."""
        return replace(
            self,
            dense=None if self.dense is None else self.dense[..., :queries, :],
            blind=None if self.blind is None else self.blind[:, :queries],
            queries=queries,
        )


def dense(rules: tuple[str, ...], query: Tokens, key: Tokens) -> Tensor:
    """All rules at once, and no padding as a key: [n or 1, queries, keys] bool; the oracle."""
    asks, answers = _along(_facts(query), 1), _along(_facts(key), 2)
    allowed = torch.ones((1, 1, 1), dtype=torch.bool, device=query.x.device)
    for name in rules:
        allowed = allowed & RULES[name](asks, answers)
    if key.valid is not None:
        allowed = allowed & key.valid[:, None, :]
    return allowed.expand(-1, query.x.shape[1], key.x.shape[1])


def lower(rules: tuple[str, ...], query: Tokens, key: Tokens, *, flex: bool = False) -> Mask:
    """The cheapest form of `rules` between two sequences (the same one for self-attention).

    With `flex` (a GPU: FlexAttention has no backward pass on a CPU) what is neither full nor
    plainly causal becomes a block mask, which skips what nobody sees.
    """
    alone = query is key
    if set(rules) <= {"full"}:
        return Mask(dense=None if key.valid is None else key.valid[:, None, None, :])
    if set(rules) <= {"full", "causal"} and alone and key.padded_behind():
        return Mask(is_causal=True)
    if flex:
        return Mask(blocks=_blocks(rules, query, key), blind=_blind(rules, query, key))

    allowed = dense(rules, query, key)
    blind = ~allowed.any(dim=-1)
    allowed = allowed | blind[..., None]  # softmax over nothing is not a number
    return Mask(dense=allowed[:, None], blind=blind if MAY_SEE_NOTHING & set(rules) else None)


def _blind(rules: tuple[str, ...], query: Tokens, key: Tokens) -> Tensor | None:
    if not MAY_SEE_NOTHING & set(rules):
        return None
    return ~dense(rules, query, key).any(dim=-1)


def _blocks(rules: tuple[str, ...], query: Tokens, key: Tokens) -> BlockMask:
    asks, answers = _facts(query), _facts(key)
    valid = key.mask()

    def allowed(row: Tensor, head: Tensor, q: Tensor, k: Tensor) -> Tensor:
        verdict = valid[row, k]
        for name in rules:
            verdict = verdict & RULES[name](_at(asks, row, q), _at(answers, row, k))
        return verdict

    return create_block_mask(
        allowed,
        B=len(query),
        H=None,
        Q_LEN=query.x.shape[1],
        KV_LEN=key.x.shape[1],
        device=query.x.device,
    )


def _facts(tokens: Tokens) -> Facts:
    """Facts of single tokens: segment and index [t], the others [n, t]."""
    return Facts(
        segment=tokens.segments(),
        index=torch.arange(tokens.x.shape[1], device=tokens.x.device),
        document=tokens.document,
        media=tokens.media,
        prefix=tokens.prefix,
    )


def _at(facts: Facts, row: Tensor, column: Tensor) -> Facts:
    """Facts of one token."""
    return facts.each(lambda one: one[column] if one.ndim == 1 else one[row, column])


def _along(facts: Facts, dim: int) -> Facts:
    """Facts of all tokens as [n or 1, queries, keys], the tokens being along one of the two."""
    other = 3 - dim
    return facts.each(lambda one: (one if one.ndim == 2 else one[None]).unsqueeze(other))
