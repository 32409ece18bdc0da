"""Erasing what was taken down from files that stand: rows keep their places, archives their
offsets, and every change is on record.

A file is written anew beside the old one, its redaction (old and new digest) is put on record under
`redactions/`, and only then does it take the old one's name: a file is thus always as its manifest
or as the last of its redactions says, or still waits to be erased.
"""

import hashlib
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import IO, Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.permission.takedown_list import TakedownList, among, emptied, erased
from pipelines.store import TEMPORARY, Folder, Written, digest

REDACTIONS = "redactions"
# [n] rows to erase, by the keys of a table and the names of all its columns
Mask = Callable[[pa.Table, set[str]], np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Affected:
    """What of one collection was taken down, by id and by address."""

    forgotten: TakedownList
    candidates: pa.Array  # candidate_id
    images: pa.Array  # image_id, of images that nothing else in the root refers to
    addresses: pa.Array  # image_url, of images that no other candidate names
    pages: frozenset[str]  # page_url

    def __bool__(self) -> bool:
        return bool(len(self.candidates) or len(self.images) or len(self.addresses) or self.pages)

    def address(self, url: str) -> bool:
        """Whether what an archive holds under an address is to be erased."""
        return url in self.pages or url in self._addresses or self.forgotten.url(url)

    @cached_property
    def _addresses(self) -> frozenset[str]:
        return frozenset(self.addresses.to_pylist())


@dataclass(frozen=True, kw_only=True)
class Place:
    """A file that may be erased from: of which collection or release, in which folder of it, under
    which name.
    """

    home: Folder
    inside: str  # "" for the home itself
    name: str

    @property
    def folder(self) -> Folder:
        return self.home / self.inside if self.inside else self.home

    @property
    def path(self) -> str:
        return f"{self.inside}/{self.name}" if self.inside else self.name


def sha256_of(folder: Folder, name: str) -> str:
    """Of a file, some megabytes at a time."""
    found = hashlib.sha256()
    with fsspec.open(folder.path(name), "rb") as file:
        while block := file.read(1 << 22):
            found.update(block)
    return found.hexdigest()


@contextmanager
def replaced(place: Place, forgotten: TakedownList, rows: int | None = None) -> Iterator[IO[bytes]]:
    """A file to write instead of one that stands; when the block ends well, its redaction is
    recorded, then it takes the name.
    """
    folder = place.folder
    beside = folder.path() if folder.is_local else None
    with tempfile.NamedTemporaryFile(dir=beside, prefix=TEMPORARY, delete=False) as file:
        try:
            yield file
            file.flush()
            os.fsync(file.fileno())
            new = hashlib.file_digest(open(file.name, "rb"), "sha256").hexdigest()  # noqa: SIM115 - closed when it is forgotten
            _record(
                place,
                Written(name=place.path, bytes=os.path.getsize(file.name), sha256=new, rows=rows),
                forgotten,
            )
            if folder.is_local:
                os.chmod(file.name, os.stat(folder.path(place.name)).st_mode & 0o777)
                os.replace(file.name, folder.path(place.name))
            else:
                system, path = fsspec.core.url_to_fs(folder.url)
                system.put_file(file.name, f"{path}/{place.name}")
        finally:
            if os.path.exists(file.name):
                os.unlink(file.name)


def _record(place: Place, new: Written, forgotten: TakedownList) -> None:
    value = {
        "file": new.name,
        "before": sha256_of(place.folder, place.name),
        "sha256": new.sha256,
        "bytes": new.bytes,
        "rows": new.rows,
        "forgotten": forgotten.digest,
    }
    (place.home / REDACTIONS).write_json(f"{digest(value)[:32]}.json", value)


def redactions(home: Folder) -> dict[str, dict[str, set[str]]]:
    """For each redacted file of a collection or release: digest before -> digests after."""
    found: dict[str, dict[str, set[str]]] = {}
    folder = home / REDACTIONS
    for name in folder.names():
        one = folder.read_json(name)
        if one["before"] != one["sha256"]:
            found.setdefault(one["file"], {}).setdefault(one["before"], set()).add(one["sha256"])
    return found


def last_digests(written: str, chain: dict[str, set[str]]) -> set[str]:
    """What a file may look like after all its redactions: those digests that no redaction starts
    from.
    """
    seen, ahead = {written}, [written]
    while ahead:
        fresh = chain.get(ahead.pop(), set()) - seen
        seen |= fresh
        ahead += fresh
    return {one for one in seen if one not in chain}


def rows_of(doomed: Affected) -> Mask:
    """Which rows of a table of a collection are to be erased, by what the table is keyed by."""

    def mask(table: pa.Table, names: set[str]) -> np.ndarray:
        if "candidate_id" in names:
            return among(table["candidate_id"], doomed.candidates)
        if _of_images(names):
            return among(table["image_id"], doomed.images)
        if "image_url" in names:
            return _of_doomed_addresses(table, doomed)
        return np.zeros(table.num_rows, dtype=bool)

    return mask


def _of_doomed_addresses(table: pa.Table, doomed: Affected) -> np.ndarray:
    return np.asarray(
        among(table["image_url"], doomed.addresses) | doomed.forgotten.addresses(table["image_url"])
    )


def _of_images(names: set[str]) -> bool:
    """Whether a table has a row for each image; one with addresses and no pictures has one for each
    address.
    """
    return "image_id" in names and ("image" in names or "image_url" not in names)


def _keys(names: set[str]) -> list[str]:
    wanted = (
        "candidate_id",
        "image_id",
        "page_url",
        "image_url",
        "alternatives",
        "caption",
        "original_text",
    )
    return [name for name in wanted if name in names]


def _kept(names: set[str]) -> tuple[str, ...]:
    """Columns that stay in an erased row: its key, and its place among other rows."""
    if "candidate_id" in names:
        return ("candidate_id",)
    return ("image_id",) if _of_images(names) else ("part", "row")


def _only_address(table: pa.Table, names: set[str], doomed: Affected | None) -> np.ndarray:
    """Which images stay although the address that they were fetched from goes: another one leads to
    them too.
    """
    if doomed is None or not _of_images(names) or "image_url" not in names:
        return np.zeros(table.num_rows, dtype=bool)
    return _of_doomed_addresses(table, doomed)


def _clean(table: pa.Table, gone: np.ndarray, only_address: np.ndarray) -> pa.Table:
    """A table without what is to be erased."""
    names = set(table.column_names)
    if gone.any():
        table = erased(
            table, gone, keep=_kept(names), mark="outcome" if "outcome" in names else "permission"
        )
    if only_address.any():
        table = emptied(table, "image_url", only_address, "")
    return table


def dirty_rows(place: Place, mask: Mask, doomed: Affected | None = None) -> int:
    """How many rows of a table still hold what is to be erased."""
    with _opened(place) as (schema, groups, _):
        return sum(
            _differing(read(None), clean)
            for read in groups
            if (clean := _cleaned(read, schema, mask, doomed)) is not None
        )


def erase_table(
    place: Place, mask: Mask, forgotten: TakedownList, doomed: Affected | None = None
) -> int:
    """Erase rows of a Parquet or Arrow file, its row groups and record batches as they were;
    returns how many, 0 if it stays as it is.
    """
    rows = dirty_rows(place, mask, doomed)
    if rows:
        with (
            _opened(place) as (schema, groups, total),
            replaced(place, forgotten, total) as file,
            _writer(place.name, file, schema) as write,
        ):
            for read in groups:
                clean = _cleaned(read, schema, mask, doomed)
                write(read(None) if clean is None else clean)
    return rows


def _cleaned(
    read: "Read", schema: pa.Schema, mask: Mask, doomed: Affected | None
) -> pa.Table | None:
    """A group of rows as it should be; None where nothing of it is to be erased, of which only the
    keys are read.
    """
    names = set(schema.names)
    keys = read(_keys(names))
    gone, only_address = mask(keys, names), _only_address(keys, names, doomed)
    return _clean(read(None), gone, only_address) if gone.any() or only_address.any() else None


def _differing(before: pa.Table, after: pa.Table) -> int:
    """Rows that are not as they were; quick where nothing changed, as columns are shared then."""
    changed = np.zeros(before.num_rows, dtype=bool)
    for old, new in zip(before.columns, after.columns, strict=True):
        if old is not new and not old.equals(new):
            other = pc.and_(pc.is_valid(old), pc.is_null(new))
            if not pa.types.is_nested(old.type):
                other = pc.or_(other, pc.coalesce(pc.not_equal(old, new), pc.is_valid(new)))
            changed |= np.asarray(other.to_numpy())
    return int(changed.sum())


Read = Callable[[list[str] | None], pa.Table]  # some columns of a group of rows, or all
Groups = Sequence[Read]


@contextmanager
def _opened(place: Place) -> Iterator[tuple[pa.Schema, Groups, int]]:
    """The schema of a table file, what reads each of its groups of rows (some columns, or all), and
    its rows.
    """
    with place.folder.open(place.name) as source:
        if place.name.endswith(".parquet"):
            file = pq.ParquetFile(source)

            def group(index: int) -> Read:
                return lambda columns: file.read_row_group(
                    index, columns=columns, use_threads=False
                )

            yield (
                file.schema_arrow,
                [group(index) for index in range(file.num_row_groups)],
                file.metadata.num_rows,
            )
            return
        reader = pa.ipc.open_file(source)

        def batch(index: int) -> Read:
            def read(columns: list[str] | None) -> pa.Table:
                table = pa.Table.from_batches([reader.get_batch(index)])
                return table.select(columns) if columns is not None else table

            return read

        rows = [batch(index) for index in range(reader.num_record_batches)]
        yield (
            reader.schema,
            rows,
            sum(reader.get_batch(index).num_rows for index in range(len(rows))),
        )


@contextmanager
def _writer(name: str, file: IO[bytes], schema: pa.Schema) -> Iterator[Callable[[pa.Table], None]]:
    if name.endswith(".parquet"):
        with pq.ParquetWriter(file, schema, compression="zstd") as parquet:
            yield lambda table: parquet.write_table(table, row_group_size=max(1, table.num_rows))
        return
    with pa.ipc.new_file(file, schema) as arrow:

        def write(table: pa.Table) -> None:
            for batch in table.combine_chunks().to_batches() or [
                pa.RecordBatch.from_pylist([], schema)
            ]:
                arrow.write_batch(batch)

        yield write


def scrub(folder: Folder, doomed: Affected) -> None:
    """Take doomed addresses out of what reports and errors say; what its user configured stays,
    being its user's own words.
    """
    for name in folder.names():
        if name.endswith((".json", ".failed")) and name not in ("configuration.json", "lease.json"):
            said = folder.read_json(name)
            kept = (
                {key: said[key] for key in said.keys() & {"config", "inputs"}}
                if isinstance(said, dict)
                else {}
            )
            left = _scrubbed(said, doomed)
            left = {**left, **kept} if kept else left
            if left != said:
                folder.write_json(name, left)


def _scrubbed(value: Any, doomed: Affected) -> Any:
    if isinstance(value, str):
        return re.sub(
            r"[A-Za-z][A-Za-z0-9+.-]*://[^\s\"'<>\\]+", lambda found: _said(found[0], doomed), value
        )
    if isinstance(value, list):
        return [_scrubbed(one, doomed) for one in value]
    return (
        {key: _scrubbed(one, doomed) for key, one in value.items()}
        if isinstance(value, dict)
        else value
    )


def _said(url: str, doomed: Affected) -> str:
    """An address in a sentence, without what punctuation may follow it; empty if it is doomed."""
    bare = url.rstrip(".,:;)]}")
    return url[len(bare) :] if doomed.address(bare) else url


def copied(source: Any, target: IO[bytes], size: int | None) -> None:
    """So many bytes from one file to another, all the rest if None."""
    while size is None or size > 0:
        block = source.read(1 << 20 if size is None else min(size, 1 << 20))
        if not block:
            return
        target.write(block)
        size = None if size is None else size - len(block)
