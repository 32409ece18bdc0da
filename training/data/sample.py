"""What becomes of one sample: one of its captions, and pixels for each module that looks at it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import NamedTuple, Protocol

import numpy as np

from training.data.augment import Pixels, mix_images, names_a_side
from training.data.draws import fraction, generator
from training.data.images import ImageSpec, SecondImageSpec
from training.data.order import Slot
from training.data.shards import Sample

HUMAN = "given"  # the text source of captions that came with a data set
SYNTHETIC = "synthetic"


class Samples(Protocol):
    """Images with their texts, reached by number: a release, or a file of captions."""

    @property
    def name(self) -> str:
        """What a slot calls them by."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, row: int) -> Sample:
        """A sample by its number."""
        ...

    def texts(self, row: int) -> tuple[list[str], list[str]]:
        """Captions of a sample and their sources; its image is not touched."""
        ...


class Made(NamedTuple):
    """A sample that is ready; its pixels stand in the flat rows of the buffer."""

    image_id: str
    text: str
    caption: int  # which of the sample's captions it is
    flipped: bool
    sizes: tuple[tuple[int, int], ...]  # height and width of each image
    answers: tuple[str, ...] = ()


class Bad(NamedTuple):
    """A sample that cannot be used, and why."""

    image_id: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class SampleMaker:
    """Makes samples; everything random belongs to (seed, stage, epoch, sample).

    `mixgen` is the share of samples that are mixed with another of their release, half and half,
    their texts joined (Hao et al. 2023). Which one it is does not depend on the batch.
    """

    releases: Mapping[str, Samples]
    images: Mapping[str, ImageSpec]
    sources: Mapping[str, float] = field(default_factory=dict)
    seed: int = 0
    stage: str = ""
    training: bool = True
    mixgen: float = 0.0

    def read(self, slot: Slot) -> Sample:
        """What a release holds there; it may be fetched first. ValueError if a shard is damaged."""
        return self.releases[slot.release][slot.row]

    def caption(self, slot: Slot) -> str:
        """The caption that `make` will choose; the image is not touched."""
        text = self._own_caption(slot)
        partner = self.partner(slot)
        if partner is None:
            return text
        return joined(text, self._own_caption(partner))

    def _own_caption(self, slot: Slot) -> str:
        captions, sources = self.releases[slot.release].texts(slot.row)
        _, text = self._choose(slot, captions, sources)
        return text

    def partner(self, slot: Slot) -> Slot | None:
        """What a sample is mixed with, as a slot of its own; None for those that are not."""
        others = len(self.releases[slot.release]) - 1
        if not self.training or not self.mixgen or others < 1:
            return None
        draws = generator(*self._key(slot), "mixgen")
        if draws.random() >= self.mixgen:
            return None
        distance = 1 + int(draws.integers(others))
        row = (slot.row + distance) % (others + 1)
        return slot._replace(row=row)

    def make(self, slot: Slot, sample: Sample, rows: Sequence[Pixels]) -> Made | Bad:
        """The sample of a slot; its pixels are written into the flat `rows`, one for each image.

        One whose partner cannot be decoded is bad like one that cannot be decoded itself, so that
        its text is settled without a look at images.
        """
        made = self._make_one(slot, sample, rows)
        partner = self.partner(slot)
        if partner is None:
            return made

        partner_rows = [np.empty_like(row) for row in rows]
        other = self._make_one(partner, self.read(partner), partner_rows)
        if isinstance(made, Bad):
            return made
        if isinstance(other, Bad):
            return Bad(made.image_id, f"its partner {other.image_id}: {other.reason}")

        assert made.sizes == other.sizes, "images that are mixed have one size"
        for (height, width), row, partner_row in zip(made.sizes, rows, partner_rows, strict=True):
            count = height * width * 3
            row[:count] = mix_images(row[:count], partner_row[:count])
        image_id = f"{made.image_id}+{other.image_id}"
        return made._replace(image_id=image_id, text=joined(made.text, other.text))

    def _make_one(self, slot: Slot, sample: Sample, rows: Sequence[Pixels]) -> Made | Bad:
        """A sample that is not mixed."""
        caption, text = self._choose(slot, sample.captions, sample.sources)
        flip = False
        if self.training and not names_a_side(text):
            flip = fraction(*self._key(slot), "flip") < 0.5

        sizes = []
        try:
            for name, row in zip(self.images, rows, strict=True):
                pixels = self._decode(name, slot, sample, flip)
                if pixels is None:
                    return Bad(sample.image_id, self._missing(name))
                row[: pixels.size] = pixels.reshape(-1)
                height, width, _ = pixels.shape
                sizes.append((height, width))
        except (OSError, MemoryError) as error:  # Pillow's errors of broken images are OSErrors
            return Bad(sample.image_id, str(error) or type(error).__name__)
        return Made(
            image_id=sample.image_id,
            text=text,
            caption=caption,
            flipped=flip,
            sizes=tuple(sizes),
            answers=tuple(sample.answers),
        )

    def _decode(self, name: str, slot: Slot, sample: Sample, flip: bool) -> Pixels | None:
        """The image for one module; None where the sample has none."""
        spec = self.images[name]
        encoded = sample.second if isinstance(spec, SecondImageSpec) else sample.image
        if not encoded:
            return None
        draws = None
        if self.training and spec.random:
            draws = generator(*self._key(slot), name)
        return spec.pixels(encoded, draws, flip=flip and spec.flip)

    def _missing(self, name: str) -> str:
        second = isinstance(self.images[name], SecondImageSpec)
        what = "second image" if second else "such file"
        return f"there is no {what}, or nothing in it"

    def _key(self, slot: Slot) -> tuple[object, ...]:
        return self.seed, self.stage, slot.release, slot.epoch, slot.row

    def _choose(self, slot: Slot, captions: list[str], sources: list[str]) -> tuple[int, str]:
        """The index of a caption, and the caption."""
        if not captions:
            return 0, ""
        index = choose_caption(sources, self.sources, self._key(slot))
        return index, captions[index]


def joined(text: str, other: str) -> str:
    """The text of two images in one."""
    return f"{text} {other}"


def choose_caption(
    sources: Sequence[str], weights: Mapping[str, float], key: tuple[object, ...]
) -> int:
    """Which caption of a sample is taken: its source by weight, then evenly among those of it.

    Weights name text sources (alt, title ...) or kinds of them: `human` (given with a data set),
    `synthetic`, `web` (all others); a source that none of them names weighs 1. Without weights all
    captions are alike. Where all weights are 0, all captions are alike too.
    """
    if len(sources) == 1:
        return 0
    indices = list(range(len(sources)))
    if weights:
        kinds = [_weighted_as(source, weights) for source in sources]
        drawn = _draw_kind(kinds, weights, fraction(*key, "source"))
        if drawn:
            indices = [index for index in indices if kinds[index] == drawn]
    draw = fraction(*key, "caption")
    return indices[int(draw * len(indices))]


def _draw_kind(kinds: Sequence[str], weights: Mapping[str, float], draw: float) -> str:
    """The kind in which the draw falls, their weights laid end to end; "" where all weigh 0."""
    distinct = sorted(set(kinds))
    ends = list(accumulate(weights.get(kind, 1.0) for kind in distinct))
    total = ends[-1]
    if not total:
        return ""
    index = bisect_right(ends, draw * total, hi=len(ends) - 1)
    return distinct[index]


def _weighted_as(source: str, weights: Mapping[str, float]) -> str:
    """The name under which a source has its weight."""
    if source in weights:
        return source
    if source == HUMAN:
        return "human"
    if source == SYNTHETIC:
        return "synthetic"
    return "web"
