"""Small releases on disk, with whatever columns a test needs."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from training.data.shards import Release


def picture(number: int, size: tuple[int, int] = (24, 16), kind: str = "PNG") -> bytes:
    """A picture of its own for each number: noise, brighter on the right."""
    width, height = size
    draws = np.random.default_rng(number)
    pixels = draws.integers(0, 120, (height, width, 3), dtype=np.uint8)
    pixels[:, width // 2 :] += 100
    stored = io.BytesIO()
    Image.fromarray(pixels).save(stored, kind)
    return stored.getvalue()


def write_shard(
    path: Path,
    numbers: Sequence[int],
    *,
    images: dict[int, bytes] | None = None,
    captions: dict[int, list[str]] | None = None,
    sources: dict[int, list[str]] | None = None,
    splits: dict[int, str] | None = None,
) -> Path:
    """A shard of numbered samples: picture n with the caption "number n"."""
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn = images or {}
    texts = [(captions or {}).get(n, [f"number {n}"]) for n in numbers]
    unknown = [["alt"] * len(found) for found in texts]
    table = pa.table(
        {
            "image": pa.array(
                [drawn[n] if n in drawn else picture(n) for n in numbers], pa.binary()
            ),
            "caption": pa.array(texts, pa.list_(pa.string())),
            "image_id": pa.array([f"i{n}" for n in numbers], pa.string()),
            "split": pa.array([(splits or {}).get(n, "train") for n in numbers], pa.string()),
            "text_source": pa.array(
                [(sources or {}).get(n, one) for n, one in zip(numbers, unknown, strict=True)],
                pa.list_(pa.string()),
            ),
        }
    )
    with pa.ipc.new_file(str(path), table.schema) as writer:
        writer.write_table(table, max_chunksize=5)
    return path


def release(folder: Path, name: str, count: int, shards: int = 2, **columns: object) -> Release:
    """A release of `count` samples in some shards."""
    for number in range(shards):
        numbers = range(number * count // shards, (number + 1) * count // shards)
        path = folder / name / f"train-{number:05d}-of-{shards:05d}.arrow"
        write_shard(path, numbers, **columns)  # type: ignore[arg-type]
    return Release.open(name, folder / name)
