"""More images and texts than fit into memory: encoded so many at a time as do."""

from __future__ import annotations

import base64
import functools
import io
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from training.data.reading import read_in_order
from training.data.shards import Release
from training.evaluate.scorer import Scorer

ROOM = 1 << 30  # bytes of inputs and tokens that images, and texts, may each take
PROBED = 8  # images or texts of which the memory of all is told
DECODED = 64  # images at a time
SIDE = 336  # pixels of the longer side of an image that is kept for a report
NAMED = 20  # images that are left out are named, at most

Tell = Callable[[str, int, int], None]  # what is being done, how much is done, how much there is


def silent(what: str, done: int, total: int) -> None:
    """Tell nobody."""


@dataclass(kw_only=True)
class Blocks:
    """Items `size` at a time; what a scorer holds already is not loaded again."""

    count: int
    size: int
    load: Callable[[range], None]
    held: range | None = None

    def __iter__(self) -> Iterator[range]:
        """Places of items that the scorer holds until the next ones are asked for."""
        for start in range(0, self.count, self.size):
            places = range(start, min(start + self.size, self.count))
            if places != self.held:
                self.held = None
                self.load(places)
                self.held = places
            yield places


@dataclass(kw_only=True)
class Encoded:
    """The images and texts of samples, as a scorer is asked about them.

    An image that cannot be decoded stands in `bad` with the reason; it and its texts are left out.
    """

    scorer: Scorer
    rows: list[int]  # of the samples, whose images could be decoded
    texts: list[str]
    owner: Tensor  # [texts] int64: the image that each text belongs to
    bad: dict[str, str]
    images: Blocks
    text_blocks: Blocks
    image_vectors: Tensor | None = None  # [images, dim], where the model compares
    text_vectors: Tensor | None = None

    def pairs(self, images: Tensor, texts: Tensor, tell: Tell = silent) -> Tensor:
        """Log odds of pairs that a matching head judges: [m] places each -> [m].

        ValueError when one is not a number.
        """
        odds = torch.zeros(len(images))
        for rows in self.images:
            chosen = ((images >= rows.start) & (images < rows.stop)).nonzero().squeeze(1)
            if not len(chosen):
                continue
            for columns in self.text_blocks:
                of_texts = texts[chosen]
                inside = (of_texts >= columns.start) & (of_texts < columns.stop)
                both = chosen[inside]
                if len(both):
                    judged = self.scorer.match(
                        images[both] - rows.start, texts[both] - columns.start
                    )
                    odds[both] = judged.float().cpu()
            tell("judge pairs", rows.stop, self.images.count)
        return numbers(odds)

    def every_pair(self, tell: Tell = silent) -> Tensor:
        """[images, texts] log odds of all pairs."""
        odds = torch.zeros(self.images.count, self.text_blocks.count)
        for rows in self.images:
            for columns in self.text_blocks:
                grid = torch.meshgrid(
                    torch.arange(len(rows)), torch.arange(len(columns)), indexing="ij"
                )
                judged = self.scorer.match(grid[0].flatten(), grid[1].flatten())
                part = judged.float().cpu().view(len(rows), len(columns))
                odds[rows.start : rows.stop, columns.start : columns.stop] = part
            tell("judge images with every text", rows.stop, self.images.count)
        return numbers(odds)

    def without_images(self) -> Tensor:
        """[texts] what each text is given beside an image that shows nothing: its score alone."""
        scores = torch.zeros(len(self.texts))
        self.images.held = None
        self.scorer.images([grey()])
        for columns in self.text_blocks:
            part = torch.zeros(len(columns))
            if self.scorer.contrast is not None:
                part += self.scorer.similarity()[0].float().cpu()
            if self.scorer.matching is not None:
                place = torch.arange(len(columns))
                part += self.scorer.match(torch.zeros_like(place), place).float().cpu()
            scores[columns.start : columns.stop] = part
        return numbers(scores)


def encode(
    scorer: Scorer,
    samples: Release,
    *,
    room: int = ROOM,
    workers: int = 0,
    tell: Tell = silent,
) -> Encoded:
    """Look at every image and every text once; ValueError when no image can be decoded.

    `room` bounds the memory that images and texts each take: where they need more, they are encoded
    again when they are asked for. `workers` are processes that decode.
    """
    if scorer.contrast is None and scorer.matching is None:
        raise ValueError("this model neither compares nor matches: it was trained for other things")
    scorer.forget()
    reader = _Reader(scorer=scorer, samples=samples, workers=workers)
    size = reader.images_that_fit(room)
    vectors = []
    for start in range(0, len(samples), size):
        stop = min(start + size, len(samples))
        if reader.read(range(start, stop)) and scorer.contrast is not None:
            vectors.append(numbers(scorer.image_vectors().float().cpu()))
        tell("encode images", stop, len(samples))
    if not reader.good:
        reason = next(iter(reader.bad.values()))
        raise ValueError(f"{samples.name}: none of {len(samples)} images can be used ({reason})")

    owned = [samples.texts(row)[0] for row in reader.good]
    texts = [text for group in owned for text in group]
    counts = torch.tensor([len(group) for group in owned])
    encoded = Encoded(
        scorer=scorer,
        rows=reader.good,
        texts=texts,
        owner=torch.arange(len(owned)).repeat_interleave(counts),
        bad=reader.bad,
        images=Blocks(count=len(owned), size=size, load=reader.load),
        text_blocks=Blocks(
            count=len(texts),
            size=_texts_that_fit(scorer, texts, room),
            load=lambda places: scorer.texts(texts[places.start : places.stop]),
        ),
    )
    if size >= len(samples):
        encoded.images.held = range(len(owned))
    if scorer.contrast is not None:
        encoded.image_vectors = torch.cat(vectors)
        encoded.text_vectors = _vectors_of_texts(encoded, tell)
    return encoded


def _vectors_of_texts(encoded: Encoded, tell: Tell) -> Tensor:
    found = []
    for columns in encoded.text_blocks:
        found.append(numbers(encoded.scorer.text_vectors().float().cpu()))
        tell("encode texts", columns.stop, encoded.text_blocks.count)
    return torch.cat(found)


@dataclass(kw_only=True)
class _Reader:
    """Decoded images of samples, given to a scorer."""

    scorer: Scorer
    samples: Release
    workers: int
    good: list[int] = field(default_factory=list)  # rows
    bad: dict[str, str] = field(default_factory=dict)  # image_id -> why

    def images_that_fit(self, room: int) -> int:
        """How many images can be held at a time, told by the first ones."""
        scorer = self.scorer
        probed = self._give(range(min(PROBED, len(self.samples))), {})
        if not probed:
            return DECODED
        scorer.texts(["a"])
        _ask(scorer, images=1, texts=1)
        each = scorer.held_bytes(scorer.image_specs) / len(probed)
        return max(DECODED, int(room / max(each, 1)))

    def read(self, rows: range) -> int:
        """Give the scorer those of the rows that can be decoded; how many they are."""
        bad: dict[int, str] = {}
        found = self._give(rows, bad)
        self.good += found
        self.bad |= {self.samples.image_id(row): reason for row, reason in bad.items()}
        return len(found)

    def load(self, places: range) -> None:
        """Give the scorer images that were read before."""
        rows = self.good[places.start : places.stop]
        if self._give(rows, {}) != rows:
            raise ValueError(f"{self.samples.name} has changed meanwhile: ask again")

    def _give(self, rows: Sequence[int], bad: dict[int, str]) -> list[int]:
        """Decode rows for the scorer; those that it was given, and in `bad` why not the others."""
        specs = self.scorer.image_specs
        images: dict[str, list[Tensor]] = {name: [] for name in specs}
        found = []
        for part in read_in_order(self.samples, specs, rows, batch=DECODED, workers=self.workers):
            for place, row in enumerate(part.rows):
                if row in part.bad:
                    bad[row] = part.bad[row]
                elif not self.samples.texts(row)[0]:
                    bad[row] = "it has no text"
                else:
                    found.append(row)
                    for name in specs:
                        images[name].append(part.images[name][place])
        if found:
            self.scorer.pixels(images)
        return found


def _ask(scorer: Scorer, *, images: int, texts: int) -> None:
    """Let the scorer make everything that it may hold of its images and texts."""
    if scorer.contrast is not None:
        scorer.image_vectors()
        scorer.text_vectors()
    if scorer.matching is not None:
        pairs = max(images, texts)
        scorer.match(torch.arange(pairs) % images, torch.arange(pairs) % texts)


def seen(pixels: Tensor) -> str:
    """An image as a model saw it, [h, w, 3] of bytes, as a data URI for a report."""
    image = Image.fromarray(pixels.contiguous().numpy())
    image.thumbnail((SIDE, SIDE))
    written = io.BytesIO()
    image.save(written, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(written.getvalue()).decode()


def left_out(bad: Mapping[str, str]) -> dict[str, Any]:
    """How many images could not be used, and of some which they are and why."""
    some = dict(itertools.islice(bad.items(), NAMED))
    return {"unreadable": len(bad), "left_out": some} if bad else {"unreadable": 0}


@functools.cache
def grey() -> bytes:
    """An image that shows nothing."""
    written = io.BytesIO()
    Image.new("RGB", (64, 64), (128, 128, 128)).save(written, "PNG")
    return written.getvalue()


def _texts_that_fit(scorer: Scorer, texts: Sequence[str], room: int) -> int:
    """How many texts can be held at a time, told by the longest ones; the scorer has images."""
    longest = sorted(texts, key=len)[-PROBED:]
    scorer.texts(longest)
    _ask(scorer, images=1, texts=len(longest))
    roots = [name for name in scorer.prepared if name not in scorer.image_specs]
    each = scorer.held_bytes(roots) / len(longest)
    return max(DECODED, int(room / max(each, 1)))


def numbers(scores: Tensor) -> Tensor:
    """The same; ValueError when one is not a number, because it would rank anywhere."""
    bad = int((~torch.isfinite(scores)).sum())
    if bad:
        raise ValueError(
            f"{bad} of {scores.numel()} scores are not numbers: the model has come apart; train it "
            "again with a lower lr"
        )
    return scores
