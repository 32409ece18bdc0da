"""Vectors of images and texts, for search: a Parquet file."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from training.data.reading import ReadBatch, read_in_order
from training.data.shards import Release
from training.evaluate.encoded import AnyModel, Tell, numbers, scorer_of, silent
from training.evaluate.lines import Asked, opened
from training.evaluate.scorer import Scorer
from training.folder import write_whole

GROUP = 8192  # rows that are held, and written as one group

Row = tuple[str, str | None, Tensor]  # image, caption, vector


def embed(
    model: AnyModel,
    asked: Asked,
    out: Path,
    *,
    batch: int = 64,
    workers: int = 0,
    tell: Tell = silent,
) -> dict[str, Any]:
    """Write a row for each image (`caption` is null) and one for each caption, in their order.

    Columns `image` (path or image_id), `caption`, `vector` (float32, of length 1): the cosine of
    two vectors is their product. The file appears when it is whole. An image that cannot be decoded
    is counted, and left out with its captions. ValueError when the model compares nothing, or a
    number is none.
    """
    scorer = scorer_of(model)
    samples = opened(asked)
    specs = scorer.image_specs
    counts = {"images": 0, "captions": 0, "unreadable": 0}

    def rows() -> Iterator[Row]:
        every = range(len(samples))
        for part in read_in_order(samples, specs, every, batch=batch, workers=workers):
            counts["unreadable"] += len(part.bad)
            if part.rows:
                yield from _rows(scorer, samples, part, counts)
                tell("embed", part.done, len(samples))

    made = rows()
    first = next(made, None)
    if first is None:
        raise ValueError(f"{samples.name}: none of {len(samples)} images can be decoded")
    dim = len(first[2])
    write_whole(out, lambda temporary: _write(temporary, first, made, dim))
    return {**counts, "dim": dim, "out": str(out)}


def _rows(
    scorer: Scorer, samples: Release, part: ReadBatch, counts: dict[str, int]
) -> Iterator[Row]:
    """Images of a batch, each followed by its captions."""
    scorer.forget()
    scorer.pixels(part.images)
    image_vectors = numbers(scorer.image_vectors())
    captions = [samples.texts(row)[0] for row in part.rows]
    texts = [text for of_image in captions for text in of_image]
    counts["images"] += len(part.rows)
    counts["captions"] += len(texts)

    text_vectors = iter(_text_vectors(scorer, texts))
    for row, of_image, vector in zip(part.rows, captions, image_vectors, strict=True):
        image = samples.image_id(row)
        yield image, None, vector
        for caption in of_image:
            yield image, caption, next(text_vectors)


def _text_vectors(scorer: Scorer, texts: list[str]) -> Tensor:
    if not texts:
        return torch.zeros(0, 0)
    scorer.texts(texts)
    return numbers(scorer.text_vectors())


def _write(path: Path, first: Row, rows: Iterator[Row], dim: int) -> None:
    schema = pa.schema(
        [
            ("image", pa.string()),
            ("caption", pa.string()),
            ("vector", pa.list_(pa.float32(), dim)),
        ]
    )
    with pq.ParquetWriter(path, schema, compression="zstd") as file:
        group = [first, *islice(rows, GROUP - 1)]
        while group:
            file.write_table(_table(group, schema, dim))
            group = list(islice(rows, GROUP))


def _table(rows: list[Row], schema: pa.Schema, dim: int) -> pa.Table:
    images, captions, vectors = zip(*rows, strict=True)
    flat = torch.stack(vectors).flatten().numpy()
    columns = [
        pa.array(images, pa.string()),
        pa.array(captions, pa.string()),
        pa.FixedSizeListArray.from_arrays(pa.array(flat), dim),
    ]
    return pa.Table.from_arrays(columns, schema=schema)
