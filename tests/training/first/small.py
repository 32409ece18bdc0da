"""Releases and plans that train in a second."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from training.first.objectives.itc import Contrast
from training.first.objectives.itm import Matching
from training.first.objectives.mlm import MaskedWords
from training.first.plan import ModelSpec, Plan, Stage, Weighted

COLOURS = {"red": (220, 30, 30), "green": (30, 160, 60), "blue": (40, 60, 210), "yellow": (240, 220, 40)}


def picture(left: str, right: str) -> bytes:
    """A PNG of 32 by 32 pixels with two halves."""
    pixels = np.empty((32, 32, 3), dtype=np.uint8)
    pixels[:, :16], pixels[:, 16:] = COLOURS[left], COLOURS[right]
    stored = io.BytesIO()
    Image.fromarray(pixels).save(stored, "PNG")
    return stored.getvalue()


def pairs(repeats: int = 1) -> list[tuple[bytes, list[str]]]:
    """Sixteen pictures, each with one caption, `repeats` times."""
    return [(picture(left, right), [f"a {left} half beside a {right} half"]) for left in COLOURS for right in COLOURS] * repeats


def write_shard(path: Path, rows: list[tuple[bytes, list[str]]]) -> Path:
    """An Arrow file with the columns that training reads."""
    path.parent.mkdir(parents=True, exist_ok=True)
    images, captions = zip(*rows, strict=True)
    table = pa.table({"image": pa.array(images, pa.binary()), "caption": pa.array(captions, pa.list_(pa.string()))})
    with pa.ipc.new_file(str(path), table.schema) as writer:
        for batch in table.to_batches(max_chunksize=7):
            writer.write_batch(batch)
    return path


def small_plan(*, steps: int = 6, lr: float = 1e-3, seed: int = 0, every: int = 2, dropout: float = 0.1) -> Plan:
    """Two stages over a narrow model with all three objectives."""
    layers = {"text_layers": 1, "image_layers": 1, "fusion_layers": 1}
    model = ModelSpec(width=16, heads=2, **layers, text_length=12, image_size=32, patch=16, project=8, dropout=dropout)
    objectives = (
        Weighted(objective=Contrast()),
        Weighted(objective=Matching(hard=True)),
        Weighted(objective=MaskedWords(rows=4), weight=0.5),
    )
    stages = (
        Stage(name="web", data={"web": 2.0, "clean": 1.0}, steps=steps, batch=8, lr=lr),
        Stage(name="clean", data={"clean": 1.0}, steps=steps, batch=8, lr=lr / 2),
    )
    # One thread: at this size a second one only waits for the first, and longer where something else is running
    return Plan(
        name="small", model=model, objectives=objectives, stages=stages, seed=seed, vocab_size=100, checkpoint_every=every, threads=1
    )


def small_releases(folder: Path) -> dict[str, list[Path]]:
    """Two releases, one in two shards."""
    web = [write_shard(folder / "web" / f"train-{number:05d}-of-00002.arrow", pairs()) for number in range(2)]
    return {"web": web, "clean": [write_shard(folder / "clean" / "train-00000-of-00001.arrow", pairs()[:10])]}
