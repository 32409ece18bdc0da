"""Attention masks: rules, written once, lowered to what the hardware runs fastest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask

from training.tokens import Segment, Tokens, map_optional

RuleName = Literal[
    "full", "causal", "prefix", "unilm", "block_diagonal", "last_media", "same_document"
]

# torch.compile, through which FlexAttention reads a rule, takes a tensor for unequal to any enum
TEXT = int(Segment.TEXT)


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a rule knows of a token: tensors that broadcast between queries and keys."""

    segment: Tensor
    index: Tensor
    document: Tensor | None = None
    media: Tensor | None = None
    prefix: Tensor | None = None

    @classmethod
    def of(cls, tokens: Tokens) -> Facts:
        """Of all tokens: segment and index [t], the others [n, t]."""
        return cls(
            segment=tokens.segments(),
            index=torch.arange(tokens.x.shape[1], device=tokens.x.device),
            document=tokens.document,
            media=tokens.media,
            prefix=tokens.prefix,
        )

    def at(self, row: Tensor, column: Tensor) -> Facts:
        """Of one token."""
        return self._map(lambda fact: fact[column] if fact.ndim == 1 else fact[row, column])

    def along(self, dim: int) -> Facts:
        """Of all tokens as [n or 1, queries, keys], the tokens being along dimension 1 or 2."""

        def expand(fact: Tensor) -> Tensor:
            if fact.ndim == 1:
                fact = fact[None]
            return fact.unsqueeze(3 - dim)

        return self._map(expand)

    def _map(self, change: Callable[[Tensor], Tensor]) -> Facts:
        return Facts(
            segment=change(self.segment),
            index=change(self.index),
            document=map_optional(change, self.document),
            media=map_optional(change, self.media),
            prefix=map_optional(change, self.prefix),
        )


Rule = Callable[[Facts, Facts], Tensor]


def full(query: Facts, key: Facts) -> Tensor:
    """Every token attends to every token."""
    return (query.index >= 0) & (key.index >= 0)


def causal(query: Facts, key: Facts) -> Tensor:
    """A token attends to itself and to those before it."""
    return key.index <= query.index


def prefix(query: Facts, key: Facts) -> Tensor:
    """All attend to the prefix; what follows it is causal (PrefixLM, SimVLM)."""
    assert key.prefix is not None, "the prefix rule needs tokens that say what the prefix is"
    return key.prefix | causal(query, key)


def unilm(query: Facts, key: Facts) -> Tensor:
    """Images and queries attend to each other; text to them and to text before it (GIT, BLIP-2).

    It does not depend on which segment stands first.
    """
    both_text = (query.segment == TEXT) & (key.segment == TEXT)
    return (key.segment != TEXT) | (both_text & causal(query, key))


def block_diagonal(query: Facts, key: Facts) -> Tensor:
    """A token attends to its own segment alone (BLIP-2's contrast)."""
    return query.segment == key.segment


def last_media(query: Facts, key: Facts) -> Tensor:
    """A text token attends to the image that began last before it alone (Flamingo)."""
    assert query.media is not None, "the last-media rule needs tokens that count their images"
    assert key.media is not None, "the last-media rule needs images that are numbered from 1"
    return query.media == key.media


def same_document(query: Facts, key: Facts) -> Tensor:
    """Packed documents do not attend to each other."""
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

MAY_BE_BLIND = frozenset({"last_media"})  # a token before the first image


@dataclass(frozen=True, kw_only=True)
class Mask:
    """A rule, lowered for one pair of sequences; exactly one of four forms.

    Nothing set: all attend to all. `is_causal`: the kernel's own causal form. `dense`: bool,
    broadcasts to [n, heads, queries, keys]. `blocks`: FlexAttention's. `blind` [n, queries] is true
    for queries that may attend to nothing: attention gives them zero. `queries` is how many tokens
    from the front are queries; 0: all.
    """

    is_causal: bool = False
    dense: Tensor | None = None
    blocks: BlockMask | None = None
    blind: Tensor | None = None
    queries: int = 0

    def front(self, queries: int) -> Mask:
        """The same for so many tokens from the front as queries."""
        return replace(
            self,
            dense=map_optional(lambda dense: dense[..., :queries, :], self.dense),
            blind=map_optional(lambda blind: blind[:, :queries], self.blind),
            queries=queries,
        )


def dense(rules: tuple[str, ...], query: Tokens, key: Tokens) -> Tensor:
    """All rules at once, and no padding as a key: [n or 1, queries, keys] bool; the oracle."""
    query_facts = Facts.of(query).along(1)
    key_facts = Facts.of(key).along(2)

    allowed = torch.ones((1, 1, 1), dtype=torch.bool, device=query.x.device)
    for name in rules:
        allowed = allowed & RULES[name](query_facts, key_facts)
    if key.valid is not None:
        allowed = allowed & key.valid[:, None, :]
    return allowed.expand(-1, query.x.shape[1], key.x.shape[1])


def lower(rules: tuple[str, ...], query: Tokens, key: Tokens, *, flex: bool = False) -> Mask:
    """The cheapest form of `rules` between two sequences (the same one for self-attention).

    With `flex` (a GPU: FlexAttention has no backward pass on a CPU) what is neither full nor
    plainly causal becomes a block mask, which skips blocks that nothing attends to.
    """
    names = set(rules)
    if names <= {"full"}:
        padding = None if key.valid is None else key.valid[:, None, None, :]
        return Mask(dense=padding)
    if names <= {"full", "causal"} and query is key and key.right_padded():
        return Mask(is_causal=True)

    may_be_blind = bool(MAY_BE_BLIND & names)
    if flex:
        blind = _blind(dense(rules, query, key)) if may_be_blind else None
        return Mask(blocks=_blocks(rules, query, key), blind=blind)

    allowed = dense(rules, query, key)
    blind = _blind(allowed)
    allowed = allowed | blind[..., None]  # softmax over nothing is not a number
    return Mask(dense=allowed[:, None], blind=blind if may_be_blind else None)


def _blind(allowed: Tensor) -> Tensor:
    return ~allowed.any(dim=-1)


def _blocks(rules: tuple[str, ...], query: Tokens, key: Tokens) -> BlockMask:
    query_facts, key_facts = Facts.of(query), Facts.of(key)
    valid = key.mask()

    def allowed(row: Tensor, head: Tensor, q: Tensor, k: Tensor) -> Tensor:
        result = valid[row, k]
        for name in rules:
            result = result & RULES[name](query_facts.at(row, q), key_facts.at(row, k))
        return result

    return create_block_mask(
        allowed,
        B=len(query),
        H=None,
        Q_LEN=query.x.shape[1],
        KV_LEN=key.x.shape[1],
        device=query.x.device,
    )
