"""Tokens: what every embedding gives, every stack takes and every loss looks at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum

import torch
import torch.nn.functional as F
from torch import Tensor


class Segment(IntEnum):
    """What a token stands for; mask rules and feed-forward networks may differ by it."""

    TEXT = 0
    IMAGE = 1
    QUERY = 2


@dataclass(frozen=True, kw_only=True)
class Span:
    """A run of tokens of one segment, at the same place in every row of a batch."""

    segment: Segment
    length: int


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """A batch of token sequences, padded to one length.

    `x` [n, t, width]; `valid` [n, t] bool, None when no token is padding; `spans` say in order
    which tokens are of which segment. Three facts that only some masks ask for, each [n, t] int64
    or bool: `document` numbers packed documents, `media` counts the images that began at or before
    a token, `prefix` is true where a token may be seen from everywhere in its row.
    """

    x: Tensor
    spans: tuple[Span, ...]
    valid: Tensor | None = None
    document: Tensor | None = None
    media: Tensor | None = None
    prefix: Tensor | None = None

    def __post_init__(self) -> None:
        assert sum(span.length for span in self.spans) == self.x.shape[1], "spans cover the tokens"

    def __len__(self) -> int:
        return self.x.shape[0]

    def __getitem__(self, rows: Tensor) -> Tokens:
        """Rows of the batch, in the given order; a row may come more than once."""
        return self._each(lambda field: field[rows], self.spans)

    def with_x(self, x: Tensor) -> Tokens:
        """The same tokens with other vectors, of any width."""
        return replace(self, x=x)

    def detach(self) -> Tokens:
        """The same tokens, cut off from the graph that made them."""
        return self.with_x(self.x.detach())

    def part(self, segment: Segment) -> Tokens:
        """The tokens of one segment, which must stand together; ValueError when there are none."""
        start = 0
        for span in self.spans:
            if span.segment == segment:
                return self.slice(start, start + span.length, span.segment)
            start += span.length
        raise ValueError(f"there are no tokens of segment {segment.name} among {self.spans}")

    def slice(self, start: int, stop: int, segment: Segment) -> Tokens:
        """Columns `start` to `stop`, all of one segment."""
        spans = (Span(segment=segment, length=stop - start),)
        return self._each(lambda field: field[:, start:stop], spans)

    def front(self, count: int) -> Tokens:
        """The first `count` tokens of every row."""
        spans, left = [], count
        for span in self.spans:
            length = min(span.length, left)
            if length:
                spans.append(replace(span, length=length))
            left -= length
        return self._each(lambda field: field[:, :count], tuple(spans))

    def mask(self) -> Tensor:
        """`valid`, written out: [n, t] bool."""
        if self.valid is not None:
            return self.valid
        return torch.ones(self.x.shape[:2], dtype=torch.bool, device=self.x.device)

    def segments(self) -> Tensor:
        """[t] int64: the segment of each token."""
        pieces = [torch.full((span.length,), int(span.segment)) for span in self.spans]
        return torch.cat(pieces).to(self.x.device)

    def padded_behind(self) -> bool:
        """Whether padding, if there is any, stands behind all other tokens of its row.

        Texts are padded behind, and joined tokens are when only the last of them is padded; then a
        causal mask needs no word about padding, because no valid token looks that far.
        """
        return self.valid is None or len(self.spans) == 1

    def _each(self, change: Callable[[Tensor], Tensor], spans: tuple[Span, ...]) -> Tokens:
        fields = {
            name: None if value is None else change(value) for name, value in _fields(self).items()
        }
        return Tokens(x=change(self.x), spans=spans, **fields)


def _fields(tokens: Tokens) -> dict[str, Tensor | None]:
    return {
        "valid": tokens.valid,
        "document": tokens.document,
        "media": tokens.media,
        "prefix": tokens.prefix,
    }


def join(parts: Sequence[Tokens]) -> Tokens:
    """Sequences one behind the other, row by row; a fact is kept when every part has it."""
    if len(parts) == 1:
        return parts[0]

    valid = None
    if any(part.valid is not None for part in parts):
        valid = torch.cat([part.mask() for part in parts], dim=1)

    facts: dict[str, Tensor | None] = {}
    for name in ("document", "media", "prefix"):
        columns = [_fields(part)[name] for part in parts]
        known = [column for column in columns if column is not None]
        facts[name] = torch.cat(known, dim=1) if len(known) == len(parts) else None

    return Tokens(
        x=torch.cat([part.x for part in parts], dim=1),
        spans=tuple(span for part in parts for span in part.spans),
        valid=valid,
        **facts,
    )


def stack_rows(parts: Sequence[Tokens]) -> Tokens:
    """Batches one below the other: the inverse of cutting a batch into chunks.

    Chunks of one span may differ in length, as patches do; the shorter ones are padded behind.
    """
    longest = max(part.x.shape[1] for part in parts)
    parts = [pad_behind(part, longest) for part in parts]
    first = parts[0]
    assert all(part.spans == first.spans for part in parts), "chunks have the same spans"

    valid = None
    if any(part.valid is not None for part in parts):
        valid = torch.cat([part.mask() for part in parts])
    facts: dict[str, Tensor | None] = {}
    for name in ("document", "media", "prefix"):
        columns = [_fields(part)[name] for part in parts]
        known = [column for column in columns if column is not None]
        facts[name] = torch.cat(known) if known else None
    x = torch.cat([part.x for part in parts])
    return Tokens(x=x, spans=first.spans, valid=valid, **facts)


def pad_behind(tokens: Tokens, length: int) -> Tokens:
    """The same tokens, of one span, padded to `length`; facts of padding are 0."""
    missing = length - tokens.x.shape[1]
    if not missing:
        return tokens
    (span,) = tokens.spans
    padded = replace(tokens, valid=tokens.mask())
    fields = {
        name: None if value is None else F.pad(value, (0, missing))
        for name, value in _fields(padded).items()
    }
    spans = (Span(segment=span.segment, length=length),)
    return Tokens(x=F.pad(tokens.x, (0, 0, 0, missing)), spans=spans, **fields)
