"""More images and texts than fit into memory: encoded so many at a time as do."""

from __future__ import annotations

import base64
import functools
import io
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from training.data.reading import read_in_order
from training.data.shards import Release
from training.evaluate.scorer import Scorer
from training.export import load_scorer

ROOM = 1 << 30  # bytes of inputs and tokens that images, and texts, may each take
PROBED = 8  # images or texts from which the memory of all is estimated
DECODED = 64  # images at a time
SIDE = 336  # pixels of the longer side of an image that is kept for a report
NAMED = 20  # images that are left out are named, at most

AnyModel = str | Path | Scorer  # the folder of an exported model, or one that is loaded
Tell = Callable[[str, int, int], None]  # what is being done, how much is done, how much there is


def silent(what: str, done: int, total: int) -> None:
    """Report no progress."""


def scorer_of(model: AnyModel) -> Scorer:
    """The model, loaded if it is not yet."""
    if isinstance(model, Scorer):
        return model
    return load_scorer(model)


@dataclass(kw_only=True)
class Blocks:
    """Items `size` at a time; what a scorer holds already is not loaded again."""

    count: int
    size: int
    load: Callable[[range], None]
    held: range | None = None

    def __iter__(self) -> Iterator[range]:
        """Indices of items, which the scorer holds until the next ones are asked for."""
        for start in range(0, self.count, self.size):
            stop = min(start + self.size, self.count)
            block = range(start, stop)
            if block != self.held:
                self.held = None
                self.load(block)
                self.held = block
            yield block


@dataclass(kw_only=True)
class Encoded:
    """The images and texts of samples, ready to be scored.

    An image that cannot be decoded stands in `bad` with the reason; it and its texts are left out.
    """

    scorer: Scorer
    rows: list[int]  # of the samples, whose images could be decoded
    texts: list[str]
    owner: Tensor  # [texts] int64: the image that each text belongs to
    bad: dict[str, str]
    image_blocks: Blocks
    text_blocks: Blocks
    image_vectors: Tensor | None = None  # [images, dim], where the model compares
    text_vectors: Tensor | None = None

    def pairs(self, images: Tensor, texts: Tensor, tell: Tell = silent) -> Tensor:
        """Log odds of pairs by the matching head: [m] indices of images and of texts -> [m].

        ValueError when one is not a number.
        """
        odds = torch.zeros(len(images))
        for rows in self.image_blocks:
            pairs_of_rows = _inside(images, rows).nonzero().squeeze(1)
            if not len(pairs_of_rows):
                continue
            for columns in self.text_blocks:
                pairs = pairs_of_rows[_inside(texts[pairs_of_rows], columns)]
                if len(pairs):
                    image = images[pairs] - rows.start
                    text = texts[pairs] - columns.start
                    odds[pairs] = self.scorer.match(image, text)
            tell("judge pairs", rows.stop, self.image_blocks.count)
        return numbers(odds)

    def every_pair(self, tell: Tell = silent) -> Tensor:
        """[images, texts] log odds of all pairs."""
        odds = torch.zeros(self.image_blocks.count, self.text_blocks.count)
        for rows in self.image_blocks:
            for columns in self.text_blocks:
                block = odds[rows.start : rows.stop, columns.start : columns.stop]
                image, text = torch.ones_like(block).nonzero(as_tuple=True)
                block[image, text] = self.scorer.match(image, text)
            tell("judge images with every text", rows.stop, self.image_blocks.count)
        return numbers(odds)

    def without_images(self) -> Tensor:
        """[texts] the score of each text beside an image that shows nothing."""
        self.image_blocks.held = None
        self.scorer.images([grey()])
        scores = torch.zeros(len(self.texts))
        for columns in self.text_blocks:
            block = scores[columns.start : columns.stop]
            if self.scorer.contrast is not None:
                block += self.scorer.similarity()[0]
            if self.scorer.matching is not None:
                text = torch.arange(len(columns))
                block += self.scorer.match(torch.zeros_like(text), text)
        return numbers(scores)


def _inside(indices: Tensor, block: range) -> Tensor:
    """[m] bool: whether an index lies in a block."""
    return (indices >= block.start) & (indices < block.stop)


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
        raise ValueError(
            "this model neither compares nor matches texts with images; those of the recipes "
            "`clip`, `vilt`, `albef` and `blip` do"
        )

    scorer.forget()
    reader = _Reader(scorer=scorer, samples=samples, workers=workers)
    size = reader.images_that_fit(room)
    vectors = []
    for start in range(0, len(samples), size):
        stop = min(start + size, len(samples))
        if reader.read(range(start, stop)) and scorer.contrast is not None:
            vectors.append(numbers(scorer.image_vectors()))
        tell("encode images", stop, len(samples))
    if not reader.rows:
        raise NoneUsable(samples, reader.bad)

    encoded = _encoded(reader, size, room)
    if size >= len(samples):
        encoded.image_blocks.held = range(len(reader.rows))
    if scorer.contrast is not None:
        encoded.image_vectors = torch.cat(vectors)
        encoded.text_vectors = _text_vectors(encoded, tell)
    return encoded


class NoneUsable(ValueError):
    """None of the images of some samples can be used; `bad` says why, by image_id."""

    def __init__(self, samples: Release, bad: Mapping[str, str]) -> None:
        reason = next(iter(bad.values()))
        super().__init__(f"{samples.name}: none of {len(samples)} images can be used ({reason})")
        self.bad = bad


def _encoded(reader: _Reader, size: int, room: int) -> Encoded:
    scorer = reader.scorer
    texts: list[str] = []
    owner: list[int] = []
    for image, row in enumerate(reader.rows):
        captions = reader.samples.texts(row)[0]
        texts += captions
        owner += [image] * len(captions)

    def load_texts(block: range) -> None:
        scorer.texts(texts[block.start : block.stop])

    text_size = _texts_that_fit(scorer, texts, room)
    return Encoded(
        scorer=scorer,
        rows=reader.rows,
        texts=texts,
        owner=torch.tensor(owner),
        bad=reader.bad,
        image_blocks=Blocks(count=len(reader.rows), size=size, load=reader.load),
        text_blocks=Blocks(count=len(texts), size=text_size, load=load_texts),
    )


def _text_vectors(encoded: Encoded, tell: Tell) -> Tensor:
    vectors = []
    for columns in encoded.text_blocks:
        vectors.append(numbers(encoded.scorer.text_vectors()))
        tell("encode texts", columns.stop, encoded.text_blocks.count)
    return torch.cat(vectors)


@dataclass(kw_only=True)
class _Reader:
    """Decodes images of samples for a scorer."""

    scorer: Scorer
    samples: Release
    workers: int
    rows: list[int] = field(default_factory=list)  # whose images can be used
    bad: dict[str, str] = field(default_factory=dict)  # image_id -> why it cannot

    def images_that_fit(self, room: int) -> int:
        """How many images can be held at a time, estimated from the first ones."""
        probed, _ = self._decode(range(min(PROBED, len(self.samples))))
        if not probed:
            return DECODED
        self.scorer.texts(["a"])
        _fill(self.scorer, images=1, texts=1)
        held = self.scorer.held_bytes(self.scorer.image_specs)
        return _that_fit(room, held, len(probed))

    def read(self, rows: range) -> int:
        """Give the scorer those of the rows that can be decoded; how many they are."""
        good, bad = self._decode(rows)
        self.rows += good
        for row in sorted(bad):
            self.bad[self.samples.image_id(row)] = bad[row]
        return len(good)

    def load(self, block: range) -> None:
        """Give the scorer images that were read before."""
        rows = self.rows[block.start : block.stop]
        good, _ = self._decode(rows)
        if good != rows:
            raise ValueError(f"{self.samples.name} has changed meanwhile: ask again")

    def _decode(self, rows: Sequence[int]) -> tuple[list[int], dict[int, str]]:
        """Decode rows for the scorer; which it has now, and why not the others."""
        specs = self.scorer.image_specs
        images: dict[str, list[Tensor]] = {name: [] for name in specs}
        good = []
        bad = {}
        for part in read_in_order(self.samples, specs, rows, batch=DECODED, workers=self.workers):
            bad.update(part.bad)
            for position, row in enumerate(part.rows):
                if not self.samples.texts(row)[0]:
                    bad[row] = "it has no text"
                    continue
                good.append(row)
                for name in specs:
                    images[name].append(part.images[name][position])
        if good:
            self.scorer.pixels(images)
        return good, bad


def _fill(scorer: Scorer, *, images: int, texts: int) -> None:
    """Let the scorer make everything that it may hold of its images and texts."""
    if scorer.contrast is not None:
        scorer.image_vectors()
        scorer.text_vectors()
    if scorer.matching is not None:
        pairs = torch.arange(max(images, texts))
        scorer.match(pairs % images, pairs % texts)


def _that_fit(room: int, held: int, count: int) -> int:
    """How many items fit, where `count` of them take so many bytes."""
    each = max(1, held / count)
    return max(DECODED, int(room / each))


def _texts_that_fit(scorer: Scorer, texts: Sequence[str], room: int) -> int:
    """How many texts can be held at a time, estimated from the longest; the scorer has images."""
    longest = sorted(texts, key=len)[-PROBED:]
    scorer.texts(longest)
    _fill(scorer, images=1, texts=len(longest))
    roots = [name for name in scorer.prepared if name not in scorer.image_specs]
    return _that_fit(room, scorer.held_bytes(roots), len(longest))


def data_uri(pixels: Tensor) -> str:
    """An image as a model saw it, [h, w, 3] of bytes, as a data URI for a report."""
    image = Image.fromarray(pixels.contiguous().numpy())
    image.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    encoded = base64.b64encode(buffer.getvalue()).decode()
    return f"data:image/jpeg;base64,{encoded}"


def left_out(bad: Mapping[str, str]) -> dict[str, Any]:
    """How many images could not be used, and of some which they are and why."""
    if not bad:
        return {"unreadable": 0}
    named = dict(itertools.islice(bad.items(), NAMED))
    return {"unreadable": len(bad), "left_out": named}


@functools.cache
def grey() -> bytes:
    """An image that shows nothing."""
    buffer = io.BytesIO()
    image = Image.new("RGB", (64, 64), (128, 128, 128))
    image.save(buffer, "PNG")
    return buffer.getvalue()


def numbers(scores: Tensor) -> Tensor:
    """The same; ValueError when one is not a number, because it would rank anywhere."""
    bad = int((~torch.isfinite(scores)).sum())
    if bad:
        raise ValueError(
            f"{bad} of {scores.numel()} scores are not numbers: the model has come apart; train it "
            "again with a lower lr"
        )
    return scores
