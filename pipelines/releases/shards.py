"""Release: what a decision kept, as shards in a settled random order, Arrow files or webdataset
tars.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.engine.shuffle import read_group, write_groups
from pipelines.engine.stage import Output, Part, Stage
from pipelines.releases.sample import (
    LOCATION,
    SAMPLE,
    SHUFFLED,
    SPLITS,
    Layout,
    Summing,
    samples,
    shuffled,
    splits,
)
from pipelines.releases.webdataset import read_tar, write_tar
from pipelines.schema import KEPT
from pipelines.store import Folder, Written
from pipelines.tables import read_table, write_batches

__all__ = ["SAMPLE", "Format", "Gather", "Shard", "release_digest", "shard_batches"]

Format = Literal["arrow", "webdataset"]
ENDINGS: dict[Format, str] = {"arrow": ".arrow", "webdataset": ".tar"}
OPEN_FILES = 256  # of images at once; systems commonly allow a process a thousand
# small enough that a reader reaches any sample of a mapped file in about a millisecond
ROWS_PER_BATCH = 256


@dataclass(frozen=True, kw_only=True)
class Gather(Stage):
    """Takes the kept rows of each part of a decision to the shard where their image belongs."""

    name: ClassVar[str] = "gather"
    version: ClassVar[int] = 2
    decided: Folder
    decision: str
    names: tuple[str, ...]
    shards: int
    seed: int = 0

    @property
    def doing(self) -> str:
        return "gather samples"

    def config(self) -> dict[str, Any]:
        return {"shards": self.shards, "seed": self.seed}

    def inputs(self) -> dict[str, str]:
        return {"decision": self.decision}

    def parts(self) -> list[Part]:
        return [Part(name=name.removesuffix(".parquet"), inputs=(name,)) for name in self.names]

    def process(self, part: Part) -> Output:
        table = read_table(self.decided, part.inputs[0])
        kept = table.filter(pc.equal(table["outcome"], KEPT)).drop_columns(["outcome"])
        place = shuffled(kept["image_id"], self.seed)
        shard = np.array([one * self.shards >> 64 for one in place.to_pylist()], dtype=np.int64)
        written = write_groups(
            self.out, f"{part.name}.parquet", kept.append_column(SHUFFLED, place), shard
        )
        return Output(files=(written,), counts={"pairs": kept.num_rows})


@dataclass(frozen=True, kw_only=True)
class Shard(Stage):
    """Writes the samples of one shard: an image once, with all the texts that were kept for it."""

    name: ClassVar[str] = "shard"
    version: ClassVar[int] = 3
    manifest: ClassVar[str] = "shards.json"  # the release's own manifest comes after it
    root: Folder
    gathered: Folder
    gathered_digest: str
    names: tuple[str, ...]
    schema: pa.Schema  # of the gathered rows
    measurements: tuple[str, ...]
    shards: int
    heldout: float = 0.0
    format: Format = "arrow"

    @property
    def doing(self) -> str:
        return "write shards"

    @property
    def layout(self) -> Layout:
        return Layout(rows=self.schema, measurements=self.measurements)

    def config(self) -> dict[str, Any]:
        return {
            "shards": self.shards,
            "heldout": self.heldout,
            "format": self.format,
            "measurements": list(self.measurements),
        }

    def inputs(self) -> dict[str, str]:
        return {"gathered": self.gathered_digest}

    def parts(self) -> list[Part]:
        return [
            Part(name=f"shard-{index:05d}", inputs=(str(index),)) for index in range(self.shards)
        ]

    def process(self, part: Part) -> Output:
        index = int(part.inputs[0])
        found = samples(read_group(self.gathered, self.names, index, self.schema), self.layout)
        found = found.append_column("split", splits(found, self.heldout))
        counts = {"samples": found.num_rows, "captions": len(pc.list_flatten(found["caption"]))}
        pictures = _Pictures(self.root / "collections")
        files: list[Written] = []
        before = 0
        for split in SPLITS if self.heldout else SPLITS[:1]:
            chosen = found.filter(pc.equal(found["split"], split))
            counts[split] = chosen.num_rows
            # a tar without samples is an error to its readers
            if chosen.num_rows or self.format == "arrow":
                files.append(
                    self._write(
                        f"{split}-{index:05d}-of-{self.shards:05d}",
                        self._batches(chosen, pictures),
                        before,
                    )
                )
            before += chosen.num_rows
        return Output(files=tuple(files), counts=counts)

    def _write(self, name: str, batches: Iterator[pa.RecordBatch], first: int) -> Written:
        if self.format == "webdataset":
            return write_tar(self.out, f"{name}.tar", batches, first=first)
        return write_batches(self.out, f"{name}.arrow", self.layout.schema, batches)

    def _batches(self, chosen: pa.Table, pictures: "_Pictures") -> Iterator[pa.RecordBatch]:
        schema = self.layout.schema
        for start in range(0, chosen.num_rows, ROWS_PER_BATCH):
            rows = chosen.slice(start, ROWS_PER_BATCH).combine_chunks()
            columns = [
                pictures.of(rows) if name == "image" else rows[name].combine_chunks()
                for name in schema.names
            ]
            yield pa.RecordBatch.from_arrays(columns, schema=schema)


class _Pictures:
    """The bytes of stored images; files of images stay open as long as there are few, and only what
    is asked for is read of them.
    """

    def __init__(self, collections: Folder) -> None:
        self._collections = collections
        self._opened: dict[tuple[str, str], tuple[Any, np.ndarray]] = {}

    def of(self, rows: pa.Table) -> pa.Array:
        """The image of each row that says where it lies."""
        places: dict[tuple[str, str], list[int]] = {}
        for position, place in enumerate(
            zip(*(rows[name].to_pylist() for name in LOCATION[:2]), strict=True)
        ):
            places.setdefault(place, []).append(position)
        wanted = rows[LOCATION[2]].to_numpy()
        found = [
            image
            for place, positions in places.items()
            for image in self._read(place, wanted[positions])
        ]
        order = np.argsort(np.concatenate([np.array(positions) for positions in places.values()]))
        return pa.concat_arrays(found).take(pa.array(order))

    def _read(self, place: tuple[str, str], rows: np.ndarray) -> Iterator[pa.Array]:
        """The images of some rows of a file, in their order."""
        reader, ends = self._open(place)
        batches = np.searchsorted(ends, rows, side="right")
        starts = np.concatenate([[0], ends[:-1]])
        cuts = [0, *(np.flatnonzero(np.diff(batches)) + 1).tolist(), len(rows)]
        for start, end in pairwise(cuts):
            batch = int(batches[start])
            yield reader.get_batch(batch).column(0).take(pa.array(rows[start:end] - starts[batch]))

    def _open(self, place: tuple[str, str]) -> tuple[Any, np.ndarray]:
        """A file of images, and the row after the last of each of its record batches."""
        if place not in self._opened:
            if len(self._opened) == OPEN_FILES:
                del self._opened[next(iter(self._opened))]
            source = (self._collections / place[0] / "images").open(place[1])
            short = _narrow(source, ["width"])
            rows = [short.get_batch(number).num_rows for number in range(short.num_record_batches)]
            self._opened[place] = _narrow(source, ["image"]), np.cumsum(rows, dtype=np.int64)
        return self._opened[place]


def _narrow(source: pa.NativeFile, columns: Sequence[str]) -> Any:
    """A reader that reads only some columns of an Arrow file."""
    names = pa.ipc.open_file(source).schema.names
    return pa.ipc.open_file(
        source,
        options=pa.ipc.IpcReadOptions(included_fields=[names.index(column) for column in columns]),
    )


def shard_batches(
    folder: Folder, name: str, schema: pa.Schema, columns: Sequence[str]
) -> Iterator[pa.RecordBatch]:
    """Some columns of a shard of either format, batch by batch; nothing else of it is read from an
    Arrow file.
    """
    if name.endswith(".tar"):
        yield from read_tar(folder, name, pa.schema([schema.field(column) for column in columns]))
        return
    reader = _narrow(folder.open(name), columns)
    for number in range(reader.num_record_batches):
        yield reader.get_batch(number).select(list(columns))


def release_digest(
    folder: Folder, names: Sequence[str], schema: pa.Schema, columns: Sequence[str]
) -> str:
    """The digest of a release: that of its sorted samples (image, captions, split, measurements),
    not of times, paths or shards.

    They are sorted by split, then by their place in the shuffle, as they lie in the shards; so a
    batch at a time is in memory.
    """
    total = Summing(columns)
    for split in SPLITS:
        for name in names:
            if name.startswith(f"{split}-"):
                for batch in shard_batches(folder, name, schema, columns):
                    total.add(batch)
    return total.hexdigest()
