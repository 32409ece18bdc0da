"""What an objective is, and what it is given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import Field, dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import torch
from torch import Tensor

if TYPE_CHECKING:
    from training.first.fusion import FusionModel, Tokens

Sums = Mapping[str, tuple[Tensor, int]]  # name of a number -> (sum, count); the objective's own name is its loss


class Objective(Protocol):
    """A loss on views of a batch; a frozen dataclass whose fields are its settings."""

    name: ClassVar[str]
    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    def __call__(self, views: Views, generator: torch.Generator) -> Sums:
        """Sums and counts; `generator` is settled by seed and step and gives every draw."""
        ...


@dataclass(frozen=True)
class Views:
    """A batch seen through a model; what several objectives need is computed once."""

    model: FusionModel
    ids: Tensor  # [n, t] int64, 0 at padding; like the next two on the CPU, where all draws are made
    pixels: Tensor  # [n, 3, side, side], -1..1
    continues: Tensor  # [vocab] bool: the piece goes on with the word before it (##)
    special: Tensor  # [vocab] bool: [PAD], [CLS], [SEP], [MASK], [UNK]
    mask_id: int

    @cached_property
    def text(self) -> Tokens:
        """The unmasked texts, encoded."""
        return self.model.encode_text(self.ids)

    @cached_property
    def image(self) -> Tokens:
        """The images, encoded."""
        return self.model.encode_image(self.pixels)

    @cached_property
    def similarity(self) -> Tensor:
        """[n, n] cosines between the projected images (rows) and texts (columns)."""
        return self.model.project_image(self.image) @ self.model.project_text(self.text).T

    def head(self, rows: int) -> Views:
        """The first rows alone (0: all), without encoding them again; batches are in random order, so these are a fair sample."""
        if not 0 < rows < len(self.ids):
            return self
        part = replace(self, ids=self.ids[:rows], pixels=self.pixels[:rows])
        first = torch.arange(rows)
        part.__dict__.update({name: self.__dict__[name][first] for name in ("text", "image") if name in self.__dict__})
        return part
