"""Samples written as a release, for whoever trains on a file of captions of their own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pyarrow as pa

from training.evaluate.lines import CaptionsFile, Samples, read_lines
from training.folder import read_json, write_json, write_whole

SHARD = 1000  # samples of a shard
ROWS = 100  # of a record batch: a reader reaches a sample in about a millisecond
MANIFEST = "manifest.json"
COLUMNS = pa.schema(
    [
        ("image", pa.binary()),
        ("caption", pa.list_(pa.string())),
        ("image_id", pa.string()),
        ("split", pa.string()),
    ]
)


def release_of_captions(captions: Path, folder: Path) -> Path:
    """Lines of {"image", "captions"} as a release in `folder`, unless it is there already.

    ValueError when the lines say something else than what the folder was made of.
    """
    lines = CaptionsFile(read_lines(captions))
    digest = _digest(lines)
    if (folder / MANIFEST).is_file():
        if read_json(folder / MANIFEST).get("digest") != digest:
            raise ValueError(
                f"{captions} has changed since this run began ({folder}): choose another --out"
            )
        return folder

    count = -(-len(lines) // SHARD)
    files = []
    for number in range(count):
        rows = range(number * SHARD, min((number + 1) * SHARD, len(lines)))
        name = f"train-{number:05d}-of-{count:05d}.arrow"
        write_shard(folder / name, lines, rows)
        files.append({"name": name, "rows": len(rows)})
    write_json(folder / MANIFEST, {"digest": digest, "format": "arrow", "files": files})
    return folder


def _digest(lines: CaptionsFile) -> str:
    """Of the texts, and of the images by name, size and time: they are not read again for it."""
    total = hashlib.blake2b(digest_size=16)
    for line in lines.lines:
        state = line.image.stat()
        said = [str(line.image), state.st_size, state.st_mtime_ns, *line.captions]
        total.update(json.dumps(said).encode())
    return total.hexdigest()


def write_shard(path: Path, samples: Samples, rows: Sequence[int]) -> None:
    """Some samples as a shard of a release, whole or not at all."""
    write_whole(path, partial(_write, samples=samples, rows=rows))


def _write(path: Path, samples: Samples, rows: Sequence[int]) -> None:
    with pa.ipc.new_file(str(path), COLUMNS) as file:
        for start in range(0, len(rows), ROWS):
            part = [samples[row] for row in rows[start : start + ROWS]]
            columns = {
                "image": [one.image for one in part],
                "caption": [one.captions for one in part],
                "image_id": [one.image_id for one in part],
                "split": ["train"] * len(part),
            }
            file.write_batch(pa.RecordBatch.from_pydict(columns, COLUMNS))
