"""Shards that stand, looked at again: are they of the list, and may what failed succeed by now?"""

import contextlib
import tarfile
from collections.abc import Callable, Iterator
from typing import Any, cast

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.img2dataset.config import Img2datasetConfig
from pipelines.img2dataset.decoders import MISMATCH
from pipelines.img2dataset.output import SIZES, SUCCESS, Shard, asked_address
from pipelines.img2dataset.shards import JOURNAL, MAY_SUCCEED, Journal
from pipelines.schema import FETCHED
from pipelines.store import Folder

BATCH = 256  # lines of the journal that are written at once
ASKED_AGAIN = MAY_SUCCEED | {MISMATCH}  # the latter belongs to a row, not to an address


def holds_these(shard: Shard, rows: pa.Table, arguments: Img2datasetConfig) -> bool:
    """Whether a shard that stands is of these rows; one whose table cannot be read is of none."""
    table = shard.table(arguments, ["key", "url"])
    if table is None or table.num_rows > rows.num_rows:
        return False
    there = dict(zip(table["key"].to_pylist(), table["url"].to_pylist(), strict=True))
    own = {shard.key(index, arguments): url for index, url in enumerate(rows["url"].to_pylist())}
    return there.items() <= own.items()  # img2dataset loses the rows that its JSON cannot say


def reopen(shard: Shard, journal: Journal, arguments: Img2datasetConfig) -> bool:
    """Take a shard back into the journal if some of its addresses failed for the moment only.

    What it holds is not asked for again.
    """
    table = shard.table(arguments, ["error_message"])
    assert table is not None
    passing = pc.is_in(table["error_message"], value_set=pa.array(sorted(MAY_SUCCEED)))
    if (
        arguments.bbox_col is not None or not pc.any(passing).as_py()
    ):  # of images with blurred boxes the originals are gone
        return False
    if shard.name not in {name.split(".")[0] for name in journal.folder.names()}:
        journal.write("again", _lines(shard, arguments))
    Folder(arguments.output_folder).remove(shard.stats)
    return True


def _lines(shard: Shard, arguments: Img2datasetConfig) -> Iterator[pa.RecordBatch]:
    """Lines of the journal for all that is settled in a shard; what it lacks is asked for again."""
    columns = ["key", "url", "status", "error_message", *SIZES]
    hash = arguments.compute_hash
    columns += ["exif"] if arguments.extract_exif else []
    columns += [hash] if hash is not None else []
    table = shard.table(arguments, columns)
    assert table is not None
    image_of = _images(shard, arguments)
    batch: list[dict[str, Any]] = []
    for row in table.to_pylist():
        line: dict[str, Any] = {"url": asked_address(row["url"]), "outcome": row["error_message"]}
        if row["status"] == SUCCESS:
            line |= {name: row[name] for name in SIZES}
            line |= {
                "outcome": FETCHED,
                "image": image_of(row["key"]),
                "exif": row.get("exif"),
                "hash": row[hash] if hash else None,
            }
        if line["outcome"] not in ASKED_AGAIN and not (
            row["status"] == SUCCESS and line["image"] is None
        ):
            batch.append(line)
        if len(batch) == BATCH:
            yield pa.RecordBatch.from_pylist(batch, JOURNAL)
            batch = []
    yield pa.RecordBatch.from_pylist(batch, JOURNAL)


def _images(shard: Shard, arguments: Img2datasetConfig) -> Callable[[str], bytes | None]:
    """What gives the image of a key; None where a shard has lost it."""
    dataset = Folder(arguments.output_folder)
    if arguments.output_format == "parquet":
        table = shard.table(arguments, ["key", arguments.encode_format])
        assert table is not None
        rows = {key: row for row, key in enumerate(table["key"].to_pylist())}
        return lambda key: cast(bytes | None, table[arguments.encode_format][rows[key]].as_py())
    if arguments.output_format == "files":
        return lambda key: _read(dataset / shard.name, f"{key}.{arguments.encode_format}")

    places: dict[str, tuple[int, int]] = {}
    with (
        contextlib.suppress(OSError, tarfile.TarError),
        dataset.open(f"{shard.name}.tar") as file,
        tarfile.open(fileobj=file) as tar,
    ):
        places = {member.name: (member.offset_data, member.size) for member in tar}

    def from_tar(key: str) -> bytes | None:
        start, size = places.get(f"{key}.{arguments.encode_format}", (0, 0))
        with dataset.open(f"{shard.name}.tar") as file:
            file.seek(start)
            return file.read(size) if size else None

    return from_tar


def _read(folder: Folder, name: str) -> bytes | None:
    try:
        return folder.read(name)
    except FileNotFoundError:
        return None
