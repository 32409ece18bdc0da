"""What the embeddings of a model are given: ids, pixels, features; a batch of rows each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from torch import Tensor

from training.corrupt import Pieces


@dataclass(frozen=True, kw_only=True)
class TextInput:
    """Ids of texts for a word embedding.

    ids [n, t] int64, valid [n, t] bool, padded behind; `firsts` are the ids of tokens that a pass
    may put first ([ENC], [DEC]); `pieces` is what masking must know.
    """

    ids: Tensor
    valid: Tensor
    pieces: Pieces
    firsts: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self, start: int, stop: int) -> TextInput:
        """A run of rows."""
        return replace(self, ids=self.ids[start:stop], valid=self.valid[start:stop])

    def begin_with(self, first: str) -> TextInput:
        """With another first token; ValueError when the vocabulary has none of that name."""
        if not first:
            return self
        if first not in self.firsts:
            known = ", ".join(self.firsts) or "none"
            raise ValueError(f"the vocabulary has no token {first}; there are: {known}")
        ids = self.ids.clone()
        ids[:, 0] = self.firsts[first]
        return replace(self, ids=ids)


@dataclass(frozen=True, kw_only=True)
class ImageInput:
    """Pixels for patches: [n, 3, h, w], normalised; sizes [n, 2] in patches where images differ."""

    pixels: Tensor
    sizes: Tensor | None = None

    def __len__(self) -> int:
        return len(self.pixels)

    def rows(self, start: int, stop: int) -> ImageInput:
        """A run of rows."""
        sizes = None if self.sizes is None else self.sizes[start:stop]
        return ImageInput(pixels=self.pixels[start:stop], sizes=sizes)


@dataclass(frozen=True, kw_only=True)
class FeatureInput:
    """What a frozen tower said: [n, k, features]; boxes [n, k, 4] and valid [n, k]: regions."""

    features: Tensor
    boxes: Tensor | None = None
    valid: Tensor | None = None

    def __len__(self) -> int:
        return len(self.features)

    def rows(self, start: int, stop: int) -> FeatureInput:
        """A run of rows."""
        return FeatureInput(
            features=self.features[start:stop],
            boxes=None if self.boxes is None else self.boxes[start:stop],
            valid=None if self.valid is None else self.valid[start:stop],
        )


Input = TextInput | ImageInput | FeatureInput
