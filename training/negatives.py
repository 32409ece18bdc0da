"""Which images and texts are shown together although they do not belong together."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Keys:
    """What tells equal images and equal texts: [n] int64 hashes, and the number of a source."""

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


def same(mine: Keys, all_: Keys) -> Tensor:
    """[n, m] bool: true where image or text are equal, so that the two are no negatives."""
    images = mine.image[:, None] == all_.image[None, :]
    texts = mine.text[:, None] == all_.text[None, :]
    return images | texts


def other_source(mine: Keys, all_: Keys) -> Tensor:
    """[n, m] bool: true where the sources differ (ViLT draws false images from the same set)."""
    return mine.source[:, None] != all_.source[None, :]


def random_rows(forbidden: Tensor, draw: Tensor) -> Tensor:
    """For each row an allowed column, drawn uniformly.

    forbidden [n, m] bool, draw [n] in 0..1 -> [n] int64, -1 where every column is forbidden.
    """
    return _choose((~forbidden).double(), draw)


def hard_rows(logits: Tensor, forbidden: Tensor, draw: Tensor, floor: float = 1e-4) -> Tensor:
    """For each row an allowed column, drawn by softmax of the logits plus a floor (ALBEF, BLIP).

    logits and forbidden [n, m], draw [n] in 0..1 -> [n] int64, -1 where every column is forbidden.
    The softmax goes over all columns, as in the papers; logits that are no numbers are for the loop
    to report and count as 0 here.
    """
    finite = logits.detach().double().nan_to_num()
    weights = torch.softmax(finite, dim=1) + floor
    return _choose(weights.masked_fill(forbidden, 0.0), draw)


def _choose(weights: Tensor, draw: Tensor) -> Tensor:
    """The column in which the draw falls, the weights laid end to end."""
    ends = weights.cumsum(dim=1)
    total = ends[:, -1:]
    at = draw.to(ends)[:, None] * total
    column = torch.searchsorted(ends, at, right=True).squeeze(1)
    column = column.clamp(max=weights.shape[1] - 1)

    last_allowed = weights.shape[1] - 1 - (weights > 0).flip(1).int().argmax(dim=1)
    column = torch.minimum(column, last_allowed)
    return torch.where(total.squeeze(1) > 0, column, -1)
