"""From boxes of a detector to tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from training.dropout import Dropout
from training.tokens import Segment, Tokens


@dataclass(frozen=True, kw_only=True)
class RegionsSpec:
    """Boxes of a detector, with features and a geometry of 5 or 7 numbers.

    5 (ImageBERT): x1/W, y1/H, x2/W, y2/H, area; one learned position for all boxes; one norm over
    the sum. 7 (UNITER): x1, y1, x2, y2, w, h, w x h, all relative; a norm for each summand and one
    over the sum.
    """

    features: int
    width: int
    geometry: Literal[5, 7]
    eps: float = 1e-12
    dropout: float = 0.0


class Regions(nn.Module):
    """Regions to tokens."""

    def __init__(self, spec: RegionsSpec) -> None:
        super().__init__()
        self.spec = spec
        self.feature = nn.Linear(spec.features, spec.width)
        self.box = nn.Linear(spec.geometry, spec.width)
        self.token_type = nn.Parameter(torch.zeros(spec.width))
        self.norm = nn.LayerNorm(spec.width, eps=spec.eps)
        self.dropout = Dropout(spec.dropout)

        self.place: nn.Parameter | None = None
        self.feature_norm: nn.Module = nn.Identity()
        self.box_norm: nn.Module = nn.Identity()
        if spec.geometry == 5:
            self.place = nn.Parameter(torch.zeros(spec.width))
        else:
            self.feature_norm = nn.LayerNorm(spec.width, eps=spec.eps)
            self.box_norm = nn.LayerNorm(spec.width, eps=spec.eps)

    def forward(self, features: Tensor, boxes: Tensor, valid: Tensor | None = None) -> Tokens:
        """features [n, k, features]; boxes [n, k, 4]: x1, y1, x2, y2 in 0..1; valid [n, k]."""
        box = self.box(geometry(boxes, self.spec.geometry))
        x = self.feature_norm(self.feature(features))
        x = x + self.box_norm(box)
        x = x + self.token_type
        if self.place is not None:
            x = x + self.place
        x = self.dropout(self.norm(x))
        return Tokens.of(Segment.IMAGE, x, valid)


def geometry(boxes: Tensor, numbers: int) -> Tensor:
    """[..., 4] corners in 0..1 -> [..., 5] with the area, or [..., 7] with the sides and the area.

    `numbers` is 5 or 7.
    """
    sides = boxes[..., 2:] - boxes[..., :2]
    area = sides.prod(dim=-1, keepdim=True)
    if numbers == 5:
        return torch.cat([boxes, area], dim=-1)
    return torch.cat([boxes, sides, area], dim=-1)
