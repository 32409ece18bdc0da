"""Tokens: what every embedding gives, every stack takes and every loss looks at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum

import torch
from torch import Tensor


class Segment(IntEnum):
    """What a token stands for; mask rules and feed-forward networks may differ by it."""

    TEXT = 0
    IMAGE = 1
    QUERY = 2


@dataclass(frozen=True, kw_only=True)
class Span:
    """A run of tokens of one segment, at the same position in every row of a batch."""

    segment: Segment
    length: int


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """A batch of token sequences, padded to one length.

    `x` [n, t, width]; `valid` [n, t] bool, None when no token is padding; `spans` say in order
    which tokens are of which segment. Three facts that only some mask rules need, each [n, t] int64
    or bool: `document` numbers packed documents, `media` counts the images that began at or before
    a token, `prefix` is true where every token of the row may attend to it.
    """

    x: Tensor
    spans: tuple[Span, ...]
    valid: Tensor | None = None
    document: Tensor | None = None
    media: Tensor | None = None
    prefix: Tensor | None = None

    def __post_init__(self) -> None:
        assert sum(span.length for span in self.spans) == self.x.shape[1], "spans cover the tokens"

    @classmethod
    def of(cls, segment: Segment, x: Tensor, valid: Tensor | None = None) -> Tokens:
        """Tokens of one segment."""
        span = Span(segment=segment, length=x.shape[1])
        return cls(x=x, spans=(span,), valid=valid)

    def __len__(self) -> int:
        return self.x.shape[0]

    def __getitem__(self, rows: Tensor) -> Tokens:
        """Rows of the batch, in the given order; a row may come more than once."""
        return self._map(lambda field: field[rows], self.spans)

    def with_x(self, x: Tensor) -> Tokens:
        """The same tokens with other vectors, of any width."""
        return replace(self, x=x)

    def detach(self) -> Tokens:
        """The same tokens, cut off from the graph that made them."""
        return self.with_x(self.x.detach())

    def part(self, segment: Segment) -> Tokens:
        """The tokens of one segment, which must be contiguous; ValueError when there are none."""
        start = 0
        for span in self.spans:
            if span.segment == segment:
                return self.slice(start, start + span.length, segment)
            start += span.length
        raise ValueError(f"there are no tokens of segment {segment.name} among {self.spans}")

    def slice(self, start: int, stop: int, segment: Segment) -> Tokens:
        """Columns `start` to `stop`, all of one segment."""
        span = Span(segment=segment, length=stop - start)
        return self._map(lambda field: field[:, start:stop], (span,))

    def front(self, count: int) -> Tokens:
        """The first `count` tokens of every row."""
        spans = []
        remaining = count
        for span in self.spans:
            length = min(span.length, remaining)
            if length:
                spans.append(replace(span, length=length))
            remaining -= length
        return self._map(lambda field: field[:, :count], tuple(spans))

    def mask(self) -> Tensor:
        """`valid`, written out: [n, t] bool."""
        if self.valid is not None:
            return self.valid
        return torch.ones(self.x.shape[:2], dtype=torch.bool, device=self.x.device)

    def segments(self) -> Tensor:
        """[t] int64: the segment of each token."""
        runs = [torch.full((span.length,), int(span.segment)) for span in self.spans]
        return torch.cat(runs).to(self.x.device)

    def right_padded(self) -> bool:
        """Whether padding, if there is any, stands behind all other tokens of its row.

        Texts are right-padded, and joined tokens are when only the last of them is padded; then a
        causal mask need not know the padding, because no valid token attends that far.
        """
        return self.valid is None or len(self.spans) == 1

    def _map(self, change: Callable[[Tensor], Tensor], spans: tuple[Span, ...]) -> Tokens:
        return Tokens(
            x=change(self.x),
            spans=spans,
            valid=map_optional(change, self.valid),
            document=map_optional(change, self.document),
            media=map_optional(change, self.media),
            prefix=map_optional(change, self.prefix),
        )


def map_optional(change: Callable[[Tensor], Tensor], value: Tensor | None) -> Tensor | None:
    """The changed tensor, where there is one."""
    return None if value is None else change(value)


def join(parts: Sequence[Tokens]) -> Tokens:
    """Sequences one behind the other, row by row."""
    if len(parts) == 1:
        return parts[0]
    spans: list[Span] = []
    for part in parts:
        spans += part.spans
    return _concatenate(parts, tuple(spans), dim=1)


def stack_rows(parts: Sequence[Tokens]) -> Tokens:
    """Batches one below the other: the inverse of cutting a batch into chunks.

    Chunks of one span may differ in length, as patches do; the shorter ones are right-padded.
    """
    longest = max(part.x.shape[1] for part in parts)
    parts = [lengthened(part, longest) for part in parts]
    spans = parts[0].spans
    assert all(part.spans == spans for part in parts), "chunks have the same spans"
    return _concatenate(parts, spans, dim=0)


def _concatenate(parts: Sequence[Tokens], spans: tuple[Span, ...], dim: int) -> Tokens:
    """A fact is kept when every part has it."""
    x = torch.cat([part.x for part in parts], dim)
    valid = None
    if any(part.valid is not None for part in parts):
        valid = torch.cat([part.mask() for part in parts], dim)

    facts: dict[str, Tensor] = {}
    for name in ("document", "media", "prefix"):
        values = [getattr(part, name) for part in parts]
        if all(value is not None for value in values):
            facts[name] = torch.cat(values, dim)
    return Tokens(x=x, spans=spans, valid=valid, **facts)


def lengthened(tokens: Tokens, length: int) -> Tokens:
    """The same tokens, right-padded to `length`; those that lack some are of one span.

    Facts of padding are 0.
    """
    missing = length - tokens.x.shape[1]
    if not missing:
        return tokens

    def pad(field: Tensor) -> Tensor:
        zeros = field.new_zeros(len(field), missing, *field.shape[2:])
        return torch.cat([field, zeros], dim=1)

    (span,) = tokens.spans
    tokens = replace(tokens, valid=tokens.mask())
    return tokens._map(pad, (replace(span, length=length),))
