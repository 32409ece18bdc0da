"""From ids, pixels, regions and grids to tokens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.config import within
from training.data.towers import TowerSpec, image_tower
from training.dropout import Dropout
from training.tokens import Segment, Tokens

Interpolation = Literal["bilinear", "bicubic"]


@dataclass(frozen=True, kw_only=True)
class WordsSpec:
    """Words of one vocabulary, at positions 0, 1, 2 ...

    BERT: word + position + type, normalised. CLIP and GPT: word + position. `modality` adds a
    learned vector behind the norm that says "this is text" (ViLT).
    """

    vocab: int
    width: int
    length: int
    types: int = 1  # rows of BERT's table of token types, of which row 0 is used; 0: no such table
    norm: bool = True
    eps: float = 1e-12  # BERT's
    modality: bool = False
    dropout: float = 0.0

    def __post_init__(self) -> None:
        within(1, 1_000_000, width=self.width, length=self.length)
        within(0, 1, dropout=self.dropout)


class Words(nn.Module):
    """Ids to tokens."""

    def __init__(self, spec: WordsSpec) -> None:
        super().__init__()
        self.spec = spec
        self.word = nn.Embedding(spec.vocab, spec.width)
        self.place = nn.Parameter(torch.zeros(spec.length, spec.width))
        self.token_type = _parameter(spec.types > 0, spec.types, spec.width)
        self.norm = nn.LayerNorm(spec.width, eps=spec.eps) if spec.norm else nn.Identity()
        self.modality = _parameter(spec.modality, spec.width)
        self.dropout = Dropout(spec.dropout)

    def forward(self, ids: Tensor, valid: Tensor | None = None, start: int = 0) -> Tokens:
        """ids [n, t] int64 from position `start` on, valid [n, t] bool -> [n, t, width].

        ValueError when a text is longer than the table of positions.
        """
        stop = start + ids.shape[1]
        if stop > self.spec.length:
            raise ValueError(f"{stop} tokens, but places for {self.spec.length}: cut the texts")

        x = self.word(ids) + self.place[start:stop]
        if self.token_type is not None:
            x = x + self.token_type[0]
        x = self.dropout(self.norm(x))
        if self.modality is not None:
            x = x + self.modality
        return Tokens.of(Segment.TEXT, x, valid)


@dataclass(frozen=True, kw_only=True)
class PatchesSpec:
    """Square patches of an image, at positions of a learned grid.

    The grid has `grid` x `grid` positions; for an image of another size or shape it is
    interpolated. `sample` is the largest number of patches that training keeps, drawn anew for each
    image (ViLT: 200); 0: all, as always in evaluation.
    """

    patch: int
    width: int
    grid: int
    class_token: bool = True
    interpolation: Interpolation = "bicubic"
    align_corners: bool = False  # ViLT: bilinear, with corners aligned
    bias: bool = True  # of the map of a patch; CLIP has none
    registers: int = 0  # learned tokens behind the class token, without positions (DeiT: one)
    modality: bool = False
    sample: int = 0
    dropout: float = 0.0

    def __post_init__(self) -> None:
        within(1, 1_000_000, patch=self.patch, width=self.width, grid=self.grid)
        within(0, 1, dropout=self.dropout)


class Patches(nn.Module):
    """Pixels to tokens: the class token, registers, then patches in reading order."""

    def __init__(self, spec: PatchesSpec) -> None:
        super().__init__()
        self.spec = spec
        self.linear = nn.Linear(3 * spec.patch**2, spec.width, bias=spec.bias)
        self.place = nn.Parameter(torch.zeros(spec.grid, spec.grid, spec.width))
        self.first = _parameter(spec.class_token, spec.width)
        self.first_place = _parameter(spec.class_token, spec.width)
        self.registers = _parameter(spec.registers > 0, spec.registers, spec.width)
        self.modality = _parameter(spec.modality, spec.width)
        self.dropout = Dropout(spec.dropout)

    def forward(
        self, pixels: Tensor, sizes: Tensor | None = None, draw: Tensor | None = None
    ) -> Tokens:
        """pixels [n, 3, h, w], h and w multiples of the patch -> [n, (1 +) patches, width].

        `sizes` [n, 2] int64: height and width in patches of what is image and not padding, None
        when all of it is. `draw` [n, h/patch * w/patch] in 0..1 settles which patches are kept.
        """
        patches = self._patchify(pixels)
        n, rows, columns, values = patches.shape
        if not self.spec.sample:
            draw = None
        if sizes is None and draw is None:
            x = self.linear(patches) + self._positions(rows, columns)
            return self._tokens(x.flatten(1, 2), valid=None)

        if sizes is None:
            sizes = torch.tensor([[rows, columns]], device=pixels.device).expand(n, 2)
        indices, valid = self._sample(sizes, rows, columns, draw)
        patches = patches.flatten(1, 2)
        patches = patches.gather(1, indices[..., None].expand(-1, -1, values))

        x = self.linear(patches) + self._positions_at(indices, sizes, columns)
        return self._tokens(x, valid=None if bool(valid.all()) else valid)

    def _patchify(self, pixels: Tensor) -> Tensor:
        """[n, rows, columns, 3 * patch * patch]: channel, then row, then column of the patch."""
        side = self.spec.patch
        n, channels, height, width = pixels.shape
        if height % side or width % side:
            raise ValueError(
                f"images of {height} x {width} are not cut evenly by patches of {side}"
            )
        patches = pixels.reshape(n, channels, height // side, side, width // side, side)
        return patches.permute(0, 2, 4, 1, 3, 5).flatten(3)

    def _positions(self, rows: int, columns: int) -> Tensor:
        """[rows, columns, width]: the learned grid, resampled where it has another shape."""
        if (rows, columns) == (self.spec.grid, self.spec.grid):
            return self.place
        resampled = F.interpolate(
            self.place.permute(2, 0, 1)[None],
            size=(rows, columns),
            mode=self.spec.interpolation,
            align_corners=self.spec.align_corners,
        )
        return resampled[0].permute(1, 2, 0)

    def _sample(
        self, sizes: Tensor, rows: int, columns: int, draw: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Indices of the kept patches [n, k], in reading order, and which of them are image."""
        row = torch.arange(rows, device=sizes.device)[:, None]
        column = torch.arange(columns, device=sizes.device)
        heights, widths = sizes[:, :, None, None].unbind(1)
        inside = (row < heights) & (column < widths)
        inside = inside.flatten(1)

        count = int(inside.sum(1).max())
        keys = torch.zeros(inside.shape, device=sizes.device)
        if draw is not None:
            count = min(count, self.spec.sample)
            keys = draw.to(sizes.device)
        keys = keys.masked_fill(~inside, 2.0)  # padding last
        kept = keys.argsort(dim=1, stable=True)[:, :count]

        padding = ~inside.gather(1, kept)
        order = kept.masked_fill(padding, rows * columns).argsort(dim=1, stable=True)
        kept = kept.gather(1, order)
        return kept, inside.gather(1, kept)

    def _positions_at(self, indices: Tensor, sizes: Tensor, columns: int) -> Tensor:
        """[n, k, width]: the grid's value where each patch lies in an image of its own size."""
        height, width = sizes[:, :1], sizes[:, 1:]
        aligned = self.spec.align_corners
        y = _coordinate(indices // columns, height, aligned)
        x = _coordinate(indices % columns, width, aligned)

        # of bfloat16, 3 digits are left
        precise = torch.promote_types(self.place.dtype, torch.float32)
        at = torch.stack([x, y], dim=-1).to(precise)
        grid = self.place.permute(2, 0, 1).to(precise)
        sampled = F.grid_sample(
            grid.expand(len(indices), -1, -1, -1),
            at[:, None],
            mode=self.spec.interpolation,
            padding_mode="border",
            align_corners=aligned,
        )
        return sampled[:, :, 0].transpose(1, 2).to(self.place.dtype)

    def _tokens(self, x: Tensor, valid: Tensor | None) -> Tokens:
        front = []
        if self.first is not None and self.first_place is not None:
            front.append((self.first + self.first_place)[None])
        if self.registers is not None:
            front.append(self.registers)

        if front:
            learned = torch.cat(front)
            x = torch.cat([learned.expand(len(x), -1, -1).to(x.dtype), x], dim=1)
            if valid is not None:
                valid = F.pad(valid, (len(learned), 0), value=True)
        x = self.dropout(x)
        if self.modality is not None:
            x = x + self.modality
        return Tokens.of(Segment.IMAGE, x, valid)


def _coordinate(index: Tensor, length: Tensor, align_corners: bool) -> Tensor:
    """Where patch 0 .. length - 1 lies in -1..1, as grid_sample counts; in double."""
    index, length = index.double(), length.double()
    if align_corners:
        return 2 * index / (length - 1).clamp(min=1) - 1
    return (2 * index + 1) / length - 1


@dataclass(frozen=True, kw_only=True)
class GridSpec:
    """Outputs of another network: a grid of features of an image, or hidden states of a text.

    `linear` maps them to the width (off: they have it); `hidden` puts a map to so many and GELU
    before it (LLaVA-1.5). `places` is the number of learned positions, 0 where the features carry
    theirs; `norm` as in GIT; `skip` of the first tokens are left out (1: a class token). In
    training `token_dropout` of the tokens are hidden from all others, but never all of them, and
    `feature_dropout` of the features in all tokens of a row. A `tower` computes the features from
    pixels in each step, frozen, where they are not computed once.
    """

    features: int
    width: int
    segment: Segment = Segment.IMAGE
    linear: bool = True
    places: int = 0
    norm: bool = False
    eps: float = 1e-6
    dropout: float = 0.0
    token_dropout: float = 0.0
    feature_dropout: float = 0.0
    hidden: int = 0
    skip: int = 0
    tower: TowerSpec | None = None

    def __post_init__(self) -> None:
        within(0, 1, dropout=self.dropout)
        within(0, 1, token_dropout=self.token_dropout, feature_dropout=self.feature_dropout)
        if not self.linear and self.features != self.width:
            raise ValueError(f"without a map, features {self.features} must be width {self.width}")


class Grid(nn.Module):
    """Features of a frozen tower to tokens."""

    def __init__(self, spec: GridSpec) -> None:
        super().__init__()
        self.spec = spec
        self._tower: Callable[[Tensor], Tensor] | None = None
        self.linear = _projector(spec)
        self.norm = nn.LayerNorm(spec.width, eps=spec.eps) if spec.norm else nn.Identity()
        self.place = _parameter(spec.places > 0, spec.places, spec.width)
        self.dropout = Dropout(spec.dropout)

    def forward(
        self, features: Tensor, valid: Tensor | None = None, draw: Tensor | None = None
    ) -> Tokens:
        """features [n, k, features], valid [n, k] -> [n, k, width]; with a tower pixels instead."""
        spec = self.spec
        if spec.tower is not None:
            features = self._tower_features(spec.tower, features)
        features = features[:, spec.skip :]
        if valid is not None:
            valid = valid[:, spec.skip :]
        if self.training and spec.feature_dropout:
            features = F.dropout1d(features.transpose(1, 2), spec.feature_dropout)
            features = features.transpose(1, 2)

        x = self.norm(self.linear(features))
        if self.place is not None:
            x = x + self.place[: x.shape[1]]
        if self.training and spec.token_dropout:
            valid = self._drop_tokens(x, valid)
        return Tokens.of(spec.segment, self.dropout(x), valid)

    def _tower_features(self, tower: TowerSpec, pixels: Tensor) -> Tensor:
        """Of the frozen tower, which is loaded when first used, on the device of the pixels."""
        if self._tower is None:
            self._tower = image_tower(tower, pixels.device)
        return self._tower(pixels).clone()  # a tensor of inference mode has no way back

    def _drop_tokens(self, x: Tensor, valid: Tensor | None) -> Tensor:
        kept = torch.rand(x.shape[:2], device=x.device) >= self.spec.token_dropout
        if valid is None:
            kept[:, 0] |= ~kept.any(dim=1)
            return kept
        kept = kept & valid
        return torch.where(kept.any(dim=1, keepdim=True), kept, valid)


def _projector(spec: GridSpec) -> nn.Module:
    if not spec.linear:
        return nn.Identity()
    if not spec.hidden:
        return nn.Linear(spec.features, spec.width)
    return nn.Sequential(
        nn.Linear(spec.features, spec.hidden),
        nn.GELU(),
        nn.Linear(spec.hidden, spec.width),
    )


@dataclass(frozen=True, kw_only=True)
class QueriesSpec:
    """Learned query tokens (Perceiver, Flamingo's resampler, BLIP-2)."""

    count: int
    width: int
    norm: bool = False
    eps: float = 1e-12
    dropout: float = 0.0


class Queries(nn.Module):
    """The same learned tokens for every row."""

    def __init__(self, spec: QueriesSpec) -> None:
        super().__init__()
        self.spec = spec
        self.query = nn.Parameter(torch.zeros(spec.count, spec.width))
        self.norm = nn.LayerNorm(spec.width, eps=spec.eps) if spec.norm else nn.Identity()
        self.dropout = Dropout(spec.dropout)

    def forward(self, rows: int) -> Tokens:
        """[rows, count, width]."""
        x = self.dropout(self.norm(self.query))
        return Tokens.of(Segment.QUERY, x.expand(rows, -1, -1))


def _parameter(present: bool, *shape: int) -> nn.Parameter | None:
    return nn.Parameter(torch.zeros(shape)) if present else None
