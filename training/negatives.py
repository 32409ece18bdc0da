"""Negatives: images and texts that are paired although they do not belong together."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Keys:
    """Hashes that are equal for equal images and texts, and the number of a source: [n] int64."""

    image: Tensor
    text: Tensor
    source: Tensor

    def rows(self, start: int, stop: int) -> Keys:
        """A run of rows."""
        return Keys(
            image=self.image[start:stop],
            text=self.text[start:stop],
            source=self.source[start:stop],
        )


def same(own: Keys, candidates: Keys) -> Tensor:
    """[n, m] bool: true where image or text are equal, so that the two are no negatives."""
    images = own.image[:, None] == candidates.image
    texts = own.text[:, None] == candidates.text
    return images | texts


def other_source(own: Keys, candidates: Keys) -> Tensor:
    """[n, m] bool: true where the sources differ (ViLT draws false images from the same set)."""
    return own.source[:, None] != candidates.source


def random_rows(forbidden: Tensor, draw: Tensor) -> Tensor:
    """For each row an allowed column, drawn uniformly.

    forbidden [n, m] bool, draw [n] in 0..1 -> [n] int64, -1 where every column is forbidden.
    """
    weights = (~forbidden).double()
    return _sample_columns(weights, draw)


def hard_rows(logits: Tensor, forbidden: Tensor, draw: Tensor, floor: float = 1e-4) -> Tensor:
    """For each row an allowed column, drawn by softmax of the logits plus a floor (ALBEF, BLIP).

    logits and forbidden [n, m], draw [n] in 0..1 -> [n] int64, -1 where every column is forbidden.
    The softmax goes over all columns, as in the papers; logits that are not finite are reported by
    the loop and count as 0 here.
    """
    finite = logits.detach().double().nan_to_num()
    weights = torch.softmax(finite, dim=1) + floor
    weights = weights.masked_fill(forbidden, 0.0)
    return _sample_columns(weights, draw)


def _sample_columns(weights: Tensor, draw: Tensor) -> Tensor:
    """For each row the column where its cumulative weight passes draw x total."""
    ends = weights.cumsum(dim=1)
    total = ends[:, -1:]
    value = draw.to(ends)[:, None] * total
    column = torch.searchsorted(ends, value, right=True).squeeze(1)

    # a draw near 1 may fall behind the last column that has a weight
    allowed = (weights > 0).int()
    last_allowed = weights.shape[1] - 1 - allowed.flip(1).argmax(dim=1)
    column = torch.minimum(column, last_allowed)
    return torch.where(total.squeeze(1) > 0, column, -1)
