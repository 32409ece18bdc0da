"""What becomes of one sample: one of its captions, and pixels for each module that looks at it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from training.data.augment import mix_images, names_a_side
from training.data.draws import fraction, generator
from training.data.images import ImageSpec, SecondImageSpec
from training.data.order import Slot
from training.data.shards import Sample

HUMAN = "given"  # the text source of captions that came with a data set
SYNTHETIC = "synthetic"
Pixels = NDArray[np.uint8]


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
    """A sample that is ready; its pixels stand in the rows that were given."""

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
        return text if partner is None else joined(text, self._own_caption(partner))

    def _own_caption(self, slot: Slot) -> str:
        captions, sources = self.releases[slot.release].texts(slot.row)
        return self._chosen(slot, captions, sources)[1]

    def partner(self, slot: Slot) -> Slot | None:
        """What a sample is mixed with, as if it stood there itself; None for those that are not."""
        others = len(self.releases[slot.release]) - 1
        if not self.training or not self.mixgen or others < 1:
            return None
        draws = generator(*self._key(slot), "mixgen")
        if draws.random() >= self.mixgen:
            return None
        further = 1 + int(draws.integers(others))
        return slot._replace(row=(slot.row + further) % (others + 1))

    def make(self, slot: Slot, sample: Sample, rows: Sequence[Pixels]) -> Made | Bad:
        """The sample of a slot; its pixels are written into the flat `rows`, one for each image.

        One whose partner cannot be decoded is bad like one that cannot be decoded itself, so that
        its text is settled without a look at images.
        """
        partner = self.partner(slot)
        if partner is None:
            return self._alone(slot, sample, rows)
        other_rows = [np.empty_like(row) for row in rows]
        made = self._alone(slot, sample, rows)
        other = self._alone(partner, self.read(partner), other_rows)
        if isinstance(made, Bad):
            return made
        if isinstance(other, Bad):
            return Bad(made.image_id, f"its partner {other.image_id}: {other.reason}")
        assert made.sizes == other.sizes, "images that are mixed have one size"
        for (height, width), row, second in zip(made.sizes, rows, other_rows, strict=True):
            count = height * width * 3
            row[:count] = mix_images(row[:count], second[:count])
        return made._replace(
            image_id=f"{made.image_id}+{other.image_id}", text=joined(made.text, other.text)
        )

    def _alone(self, slot: Slot, sample: Sample, rows: Sequence[Pixels]) -> Made | Bad:
        caption, text = self._chosen(slot, sample.captions, sample.sources)
        key = self._key(slot)
        flip = self.training and not names_a_side(text) and fraction(*key, "flip") < 0.5

        sizes = []
        try:
            for (name, spec), row in zip(self.images.items(), rows, strict=True):
                draws = generator(*key, name) if self.training and spec.random else None
                encoded = sample.second if isinstance(spec, SecondImageSpec) else sample.image
                if not encoded:
                    return Bad(sample.image_id, "there is no such file, or nothing in it")
                pixels = spec.pixels(encoded, draws, flip=flip and spec.flip)
                row[: pixels.size] = pixels.reshape(-1)
                sizes.append((pixels.shape[0], pixels.shape[1]))
        except (OSError, MemoryError) as error:  # Pillow's errors of broken pictures are OSErrors
            return Bad(sample.image_id, str(error) or type(error).__name__)
        return Made(sample.image_id, text, caption, flip, tuple(sizes), tuple(sample.answers))

    def _key(self, slot: Slot) -> tuple[object, ...]:
        return self.seed, self.stage, slot.release, slot.epoch, slot.row

    def _chosen(self, slot: Slot, captions: list[str], sources: list[str]) -> tuple[int, str]:
        if not captions:
            return 0, ""
        number = choose_caption(sources, self.sources, self._key(slot))
        return number, captions[number]


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
    among = list(range(len(sources)))
    if weights:
        kind = _kind(sources, weights, fraction(*key, "source"))
        among = [number for number in among if kind in ("", _weighed(sources[number], weights))]
    return among[int(fraction(*key, "caption") * len(among))]


def _kind(sources: Sequence[str], weights: Mapping[str, float], draw: float) -> str:
    """The kind of source in which the draw falls, their weights laid end to end; "": no matter."""
    kinds = sorted({_weighed(source, weights) for source in sources})
    ends = list(accumulate(weights.get(kind, 1.0) for kind in kinds))
    if not ends[-1]:
        return ""
    return kinds[bisect_right(ends, draw * ends[-1], hi=len(ends) - 1)]


def _weighed(source: str, weights: Mapping[str, float]) -> str:
    """The name under which a source is weighed."""
    if source in weights:
        return source
    if source == HUMAN:
        return "human"
    return SYNTHETIC if source == SYNTHETIC else "web"
