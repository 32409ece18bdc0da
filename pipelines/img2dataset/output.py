"""Shards as img2dataset writes them: its keys, columns and stats files, by its own writers.

A shard stands once its stats file does.
"""

import json
import math
import os
import time
import uuid
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.images.decode import Undecodable
from pipelines.images.isolated import decode_isolated
from pipelines.img2dataset.config import Img2datasetConfig
from pipelines.img2dataset.decoders import MISMATCH
from pipelines.img2dataset.peer import peer_module
from pipelines.img2dataset.resize import Resizing
from pipelines.schema import FETCHED
from pipelines.store import Folder

SUCCESS, NO_DOWNLOAD, NO_RESIZE = "success", "failed_to_download", "failed_to_resize"
WRITERS = {
    "files": "FilesSampleWriter",
    "webdataset": "WebDatasetSampleWriter",
    "parquet": "ParquetSampleWriter",
    "dummy": "DummySampleWriter",
}
SIZES = ("width", "height", "original_width", "original_height")
NO_BOXES = "image.bad_boxes"


def asked_address(url: str | None) -> str:
    """The address that is asked for a row's."""
    return (url or "").strip()


class Line(NamedTuple):
    """What became of an address: a row of a table of the journal."""

    table: pa.Table
    row: int

    def value(self, name: str) -> Any:
        return self.table[name][self.row].as_py()


@dataclass(frozen=True, kw_only=True)
class Shard:
    """A shard: its number, its name, and its rows: a record batch of a file in the folder of
    work.
    """

    number: int
    name: str
    source: str
    batch: int

    @classmethod
    def of(cls, number: int, source: str, batch: int, arguments: Img2datasetConfig) -> "Shard":
        return cls(
            number=number,
            name=f"{number:0{arguments.oom_shard_count}d}",
            source=source,
            batch=batch,
        )

    @property
    def stats(self) -> str:
        return f"{self.name}_stats.json"

    def rows(self, work: Folder) -> pa.Table:
        reader = pa.ipc.open_file((work / "lists").open(self.source))
        return pa.Table.from_batches([reader.get_batch(self.batch)])

    def stands(self, arguments: Img2datasetConfig) -> bool:
        return Folder(arguments.output_folder).exists(self.stats)

    def key(self, index: int, arguments: Img2datasetConfig) -> str:
        """The key of a row: the numbers of shard and row, with as many digits as the largest
        needs.
        """
        digits = math.ceil(math.log10(arguments.number_sample_per_shard))
        return f"{10**digits * self.number + index:0{digits + arguments.oom_shard_count}d}"

    def table(self, arguments: Img2datasetConfig, columns: list[str]) -> pa.Table | None:
        """Columns of the table of a shard that stands; None where it has none that can be read."""
        try:
            with Folder(arguments.output_folder).open(f"{self.name}.parquet") as file:
                return pq.read_table(file, columns=columns, use_threads=False)
        except (OSError, pa.ArrowException):
            return None


def schema_of(rows: pa.Schema, arguments: Img2datasetConfig) -> pa.Schema:
    """The columns of a shard's table."""
    added = [
        ("key", pa.string()),
        ("status", pa.string()),
        ("error_message", pa.string()),
        *((name, pa.int32()) for name in SIZES),
    ]
    if arguments.extract_exif:
        added.append(("exif", pa.string()))
    if arguments.compute_hash is not None and arguments.compute_hash not in rows.names:
        added.append((arguments.compute_hash, pa.string()))
    return pa.schema([*rows, *(pa.field(name, kind) for name, kind in added)])


def write_shard(
    shard: Shard,
    rows: pa.Table,
    lines: dict[str, Line],
    begun: float,
    arguments: Img2datasetConfig,
    work: Folder,
) -> None:
    """Write a shard aside, move it to its place, and its stats file last; `lines` has all
    addresses.
    """
    aside = work / "writing" / uuid.uuid4().hex
    system, place = fsspec.core.url_to_fs(aside.url)
    system.makedirs(place, exist_ok=True)
    writer_class = getattr(peer_module("writer"), WRITERS[arguments.output_format])
    schema = schema_of(rows.schema, arguments)
    writer = writer_class(
        shard.number,
        aside.url,
        arguments.caption_col is not None,
        arguments.oom_shard_count,
        schema,
        arguments.encode_format,
    )

    if arguments.output_format == "webdataset":
        # a time in fractions of a second costs each member a header of its own
        writer.tarwriter.mtime = int(begun)

    statuses: Counter[str] = Counter()
    outcomes: Counter[str] = Counter()
    try:
        for index, row in enumerate(rows.to_pylist()):
            image, meta = sample_of(
                row, lines[asked_address(row["url"])], shard.key(index, arguments), arguments
            )
            statuses[meta["status"]] += 1
            outcomes[meta["error_message"] or SUCCESS] += 1
            writer.write(image, meta["key"], meta.get("caption"), meta)
    finally:
        writer.close()

    _move(shard, aside, arguments)
    end = time.time()
    stats = {
        "count": rows.num_rows,
        "successes": statuses[SUCCESS],
        NO_DOWNLOAD: statuses[NO_DOWNLOAD],
        NO_RESIZE: statuses[NO_RESIZE],
        "duration": end - begun,
        "start_time": begun,
        "end_time": end,
        "status_dict": dict(outcomes),
    }
    Folder(arguments.output_folder).write_bytes(shard.stats, json.dumps(stats, indent=4).encode())


def sample_of(
    row: dict[str, Any], line: Line, key: str, arguments: Img2datasetConfig
) -> tuple[bytes | None, dict[str, Any]]:
    """The image of a row as it is written, and what is written of it."""
    verified = arguments.verify_hash[1] if arguments.verify_hash is not None else None
    meta = {name: value for name, value in row.items() if name != verified}
    meta |= {"key": key, "status": None, "error_message": None, **dict.fromkeys(SIZES)}
    if arguments.extract_exif:
        meta["exif"] = None
    if arguments.compute_hash is not None:
        meta[arguments.compute_hash] = None

    outcome: str = line.value("outcome")
    found: dict[str, Any] = {}
    if outcome == FETCHED:
        outcome, found = _image(row, line, arguments)
    if outcome != FETCHED:
        meta["status"] = NO_RESIZE if outcome.startswith(("decode.", "image.")) else NO_DOWNLOAD
        meta["error_message"] = outcome
        return None, meta

    image: bytes = found.pop("image")
    meta |= {"status": SUCCESS, **{name: found[name] or None for name in SIZES}}
    if arguments.extract_exif:
        meta["exif"] = line.value("exif")
    if arguments.compute_hash is not None:
        meta[arguments.compute_hash] = line.value("hash")
    return image, meta


def _image(
    row: dict[str, Any], line: Line, arguments: Img2datasetConfig
) -> tuple[str, dict[str, Any]]:
    """The outcome of a fetched address in one row, with image and sizes."""
    if arguments.verify_hash is not None and row[arguments.verify_hash[1]] != line.value("hash"):
        return MISMATCH, {}
    if arguments.bbox_col is None:
        return FETCHED, {name: line.value(name) for name in ("image", *SIZES)}
    try:
        boxes = _boxes(row[arguments.bbox_col])
    except (ValueError, TypeError):
        return NO_BOXES, {}
    picture = decode_isolated(
        line.value("image"), encoding=replace(Resizing.of(arguments), boxes=boxes)
    )
    if isinstance(picture, Undecodable):
        return picture.outcome, {}
    return FETCHED, {name: getattr(picture, name) for name in ("image", *SIZES)}


def _boxes(value: Any) -> tuple[tuple[float, float, float, float], ...]:
    """The boxes of a row, which may be JSON; ValueError or TypeError for anything else."""
    boxes = json.loads(value) if isinstance(value, str) else value
    found = []
    for box in boxes or ():
        left, top, right, bottom = (min(1.0, max(0.0, float(side))) for side in box)
        found.append((left, top, right, bottom))
    return tuple(found)


def _move(shard: Shard, aside: Folder, arguments: Img2datasetConfig) -> None:
    """What was written aside to its place, instead of what an earlier run left there."""
    dataset = Folder(arguments.output_folder)
    system, place = fsspec.core.url_to_fs(dataset.url)
    for name in aside.names():
        if aside.is_local and os.path.isfile(aside.path(name)):
            _on_disk(aside.path(name))
        dataset.remove(name)
        system.mv(aside.path(name), f"{place}/{name}", recursive=True)
    aside.remove()


def _on_disk(path: str) -> None:
    with open(path, "rb") as file:
        os.fsync(file.fileno())
