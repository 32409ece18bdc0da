"""Release: what a decision kept, as Arrow shards in a settled random order, with manifest, card and funnel."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.exchange import read_group, stable_hash, write_groups
from pipelines.schema import KEPT
from pipelines.stage import Output, Part, Stage
from pipelines.store import Folder, Written, read_table, write_batches

ROWS_PER_BATCH = 256  # small enough that a reader reaches any sample of a mapped file in about a millisecond
SAMPLE = pa.schema(
    [
        ("image", pa.binary()),
        ("caption", pa.list_(pa.string())),
        ("image_id", pa.string()),
        ("split", pa.string()),
        ("page_url", pa.string()),
        ("image_url", pa.string()),
        ("candidate_id", pa.string()),
    ]
)
PROVENANCE = ("image_id", "page_url", "image_url", "candidate_id")
LOCATION = pa.schema([("image_collection", pa.string()), ("image_part", pa.string()), ("image_row", pa.int64())])


@dataclass(frozen=True, kw_only=True)
class Gather(Stage):
    """Takes the kept rows of each part of a decision to the shard where their image belongs."""

    name: ClassVar[str] = "gather"
    version: ClassVar[int] = 1
    decided: Folder
    decision: str
    names: tuple[str, ...]
    shards: int
    seed: int = 0

    def config(self) -> dict[str, Any]:
        return {"shards": self.shards, "seed": self.seed}

    def inputs(self) -> dict[str, str]:
        return {"decision": self.decision}

    def parts(self) -> list[Part]:
        return [Part(name=name.removesuffix(".parquet"), inputs=(name,)) for name in self.names]

    def process(self, part: Part) -> Output:
        table = read_table(self.decided, part.inputs[0])
        kept = table.filter(pc.equal(table["outcome"], KEPT)).drop_columns(["outcome"])
        shard = np.array([shuffled(image, self.seed) * self.shards >> 64 for image in kept["image_id"].to_pylist()], dtype=np.int64)
        return Output(files=(write_groups(self.out, f"{part.name}.parquet", kept, shard),), counts={"pairs": kept.num_rows})


def shuffled(image_id: str, seed: int) -> int:
    """Where an image stands in the shuffle: 64 bits that depend on the image and the seed alone."""
    return stable_hash(f"{seed}:{image_id}")


@dataclass(frozen=True, kw_only=True)
class Shard(Stage):
    """Writes the samples of one shard: an image once, with all the texts that were kept for it."""

    name: ClassVar[str] = "shard"
    version: ClassVar[int] = 1
    manifest: ClassVar[str] = "shards.json"  # the release's own manifest comes after it
    root: Folder
    gathered: Folder
    gathered_digest: str
    names: tuple[str, ...]
    schema: pa.Schema  # of the gathered rows
    measurements: tuple[str, ...]
    shards: int
    heldout: float = 0.0
    seed: int = 0

    def config(self) -> dict[str, Any]:
        return {"shards": self.shards, "heldout": self.heldout, "seed": self.seed, "measurements": list(self.measurements)}

    def inputs(self) -> dict[str, str]:
        return {"gathered": self.gathered_digest}

    def parts(self) -> list[Part]:
        return [Part(name=f"shard-{index:05d}", inputs=(str(index),)) for index in range(self.shards)]

    def process(self, part: Part) -> Output:
        index = int(part.inputs[0])
        rows = read_group(self.gathered, self.names, index, self.schema)
        samples = sorted(
            _samples(rows, self.measurements), key=lambda sample: (shuffled(sample["image_id"], self.seed), sample["image_id"])
        )
        files: list[Written] = []
        counts = {"samples": len(samples), "captions": sum(len(sample["caption"]) for sample in samples)}
        for split in ("train", "heldout") if self.heldout else ("train",):
            chosen = [sample for sample in samples if split_of(sample["image_id"], self.heldout) == split]
            name = f"{split}-{index:05d}-of-{self.shards:05d}.arrow"
            files.append(write_batches(self.out, name, self._columns(), self._batches(chosen, split)))
        return Output(files=tuple(files), counts=counts)

    def _columns(self) -> pa.Schema:
        return pa.schema([*SAMPLE, *(self.schema.field(name) for name in self.measurements)])

    def _batches(self, samples: Sequence[dict[str, Any]], split: str) -> Iterator[pa.RecordBatch]:
        for start in range(0, len(samples), ROWS_PER_BATCH):
            chosen = samples[start : start + ROWS_PER_BATCH]
            images = self._images(chosen)
            rows = [{**sample, "image": image, "split": split} for sample, image in zip(chosen, images, strict=True)]
            yield pa.RecordBatch.from_pylist(rows, schema=self._columns())

    def _images(self, samples: Sequence[dict[str, Any]]) -> list[bytes]:
        """The bytes of some images, each file of images opened once."""
        places: dict[tuple[str, str], list[int]] = {}
        for position, sample in enumerate(samples):
            places.setdefault((sample["image_collection"], sample["image_part"]), []).append(position)
        found: list[bytes] = [b""] * len(samples)
        for (collection, name), positions in places.items():
            table = read_table(self.root / "collections" / collection / "images", name, ["image"])
            images = table.take(pa.array([samples[position]["image_row"] for position in positions]))["image"]
            for position, image in zip(positions, images, strict=True):
                found[position] = image.as_py()
        return found


def _samples(rows: pa.Table, measurements: Sequence[str]) -> Iterator[dict[str, Any]]:
    """One sample for each image; where it has several rows, the first by text gives the provenance and the measurements."""
    columns = [*PROVENANCE, *LOCATION.names, *measurements]
    by_image: dict[str, dict[str, Any]] = {}
    for row in sorted(rows.to_pylist(), key=lambda row: (row["image_id"], row["text"], row["image_url"], row["page_url"] or "")):
        sample = by_image.setdefault(row["image_id"], {**{name: row[name] for name in columns}, "caption": []})
        if row["text"] not in sample["caption"]:
            sample["caption"].append(row["text"])
    yield from by_image.values()


def split_of(image_id: str, heldout: float) -> str:
    """The split of an image, by 64 bits of its own: the same picture is never in two splits."""
    return "heldout" if stable_hash(f"split:{image_id}") < heldout * 2**64 else "train"


def release_digest(folder: Folder, names: Sequence[str], measurements: Sequence[str]) -> str:
    """The digest of a release: that of its sorted samples (image, captions, split, measurements), not of times or paths."""
    samples: list[str] = []
    for name in names:
        for row in read_table(folder, name, ["image_id", "caption", "split", *measurements]).to_pylist():
            text = json.dumps(row, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
            samples.append(hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest())
    return hashlib.sha256("".join(sorted(samples)).encode()).hexdigest()


def card(manifest: Mapping[str, Any], funnel: Mapping[str, Any], description: str) -> str:
    """The data set card of a release, in Markdown with the header that Hugging Face reads; every number is the manifest's."""
    outcomes = "\n".join(f"| `{name}` | {count:,} |" for name, count in funnel["outcomes"].items())
    collections = ", ".join(f"`{name}`" for name in manifest["collections"])
    before = f" It stands for `{manifest['supersedes']}`, of which something was taken down." if manifest["supersedes"] else ""
    return f"""---
configs:
- config_name: default
  data_files:
  - split: train
    path: train-*.arrow
---
# {manifest["name"]}

{manifest["samples"]:,} images with {manifest["captions"]:,} texts, kept by the recipe `{manifest["recipe"]}` from {collections}.{before}

{description}

Digest `{manifest["digest"]}`. Read it with `datasets.load_dataset("arrow", data_files="train-*.arrow")`, or map the shards with
`pyarrow.ipc.open_file`. The columns `image`, `caption` (a list), `image_id` and `split` come first, then where each pair was found
and what was measured of it.

| outcome | candidates |
|---|---:|
{outcomes}
| all | {funnel["candidates"]:,} |

The pictures and texts belong to their authors.
"""
