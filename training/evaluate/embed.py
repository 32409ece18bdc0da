"""Vectors of images and texts, for search: a Parquet file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from training.data.reading import read_in_order
from training.data.shards import Release
from training.evaluate.encoded import Tell, numbers, silent
from training.evaluate.lines import Asked, opened
from training.evaluate.scorer import Scorer
from training.export import load_scorer
from training.folder import write_whole

GROUP = 8192  # rows that are held, and written as one group

Row = tuple[str, str | None, Tensor]


def embed(
    model: str | Path | Scorer,
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
    scorer = model if isinstance(model, Scorer) else load_scorer(model)
    samples = opened(asked)
    counts = {"images": 0, "captions": 0, "unreadable": 0}
    rows = _rows(scorer, samples, batch, workers, tell, counts)
    first = next(rows, None)
    if first is None:
        raise ValueError(f"{samples.name}: none of {len(samples)} images can be decoded")
    dim = len(first[2])
    write_whole(out, lambda temporary: _write(temporary, first, rows, dim))
    return {**counts, "dim": dim, "out": str(out)}


def _rows(
    scorer: Scorer,
    samples: Release,
    batch: int,
    workers: int,
    tell: Tell,
    counts: dict[str, int],
) -> Iterator[Row]:
    """Images and their captions, a batch of images at a time."""
    specs = scorer.image_specs
    every = range(len(samples))
    for part in read_in_order(samples, specs, every, batch=batch, workers=workers):
        good = [place for place, row in enumerate(part.rows) if row not in part.bad]
        counts["unreadable"] += len(part.bad)
        if not good:
            continue
        scorer.forget()
        scorer.pixels({name: [part.images[name][place] for place in good] for name in specs})
        vectors = numbers(scorer.image_vectors().float().cpu())
        captions = [samples.texts(part.rows[place])[0] for place in good]
        counts["images"] += len(good)
        counts["captions"] += sum(map(len, captions))
        of_captions = iter(_texts(scorer, [text for group in captions for text in group]))
        for place, group, vector in zip(good, captions, vectors, strict=True):
            image = samples.image_id(part.rows[place])
            yield image, None, vector
            for caption in group:
                yield image, caption, next(of_captions)
        tell("embed", part.rows[-1] + 1, len(samples))


def _texts(scorer: Scorer, captions: list[str]) -> Tensor:
    if not captions:
        return torch.zeros(0, 0)
    scorer.texts(captions)
    return numbers(scorer.text_vectors().float().cpu())


def _write(path: Path, first: Row, rows: Iterator[Row], dim: int) -> None:
    schema = pa.schema(
        [
            ("image", pa.string()),
            ("caption", pa.string()),
            ("vector", pa.list_(pa.float32(), dim)),
        ]
    )
    with pq.ParquetWriter(path, schema, compression="zstd") as file:
        held = [first]
        for row in rows:
            held.append(row)
            if len(held) >= GROUP:
                file.write_table(_table(held, schema, dim))
                held = []
        if held:
            file.write_table(_table(held, schema, dim))


def _table(rows: list[Row], schema: pa.Schema, dim: int) -> pa.Table:
    images, captions, vectors = zip(*rows, strict=True)
    flat = pa.array(torch.stack(vectors).flatten().numpy())
    vector = pa.FixedSizeListArray.from_arrays(flat, dim)
    columns = [pa.array(images, pa.string()), pa.array(captions, pa.string()), vector]
    return pa.Table.from_arrays(columns, schema=schema)
