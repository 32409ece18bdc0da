"""The bytes of held images, archive by archive: WARC records, tar members, files, rows of Parquet
and Arrow.
"""

import errno
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import groupby
from typing import IO, Any

import fsspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from pipelines.permission.outcomes import headers_outcome
from pipelines.schema import FETCHED
from pipelines.sources.archives.responses import RECORD_BLOCK, response_of
from pipelines.sources.fetch_result import FetchResult
from pipelines.sources.lists.parquet import DAMAGE, first_of
from pipelines.sources.paths import opened as opened_archive

BATCH = 64  # rows of a Parquet file in memory at once
FILE_MAGIC = b"ARROW1"
ABSENT = frozenset(
    {
        errno.ENOENT,
        errno.ENOTDIR,
        errno.EISDIR,
        errno.EACCES,
        errno.EPERM,
        errno.ELOOP,
        errno.ENAMETOOLONG,
        errno.EINVAL,
    }
)
Row = Mapping[str, Any]  # of PLACES
# address, what became of it, its bytes if it was found
Held = Iterator[tuple[str, FetchResult, bytes | None]]


def opened(url: str) -> AbstractContextManager[IO[bytes]]:
    """A seekable binary file at a path or fsspec URL; ValueError if it is not there, Unreachable
    where the network fails.
    """
    system, path = fsspec.core.url_to_fs(url)
    # a pipe would be waited for
    if isinstance(system, LocalFileSystem) and not os.path.isfile(path):
        raise ValueError(
            f"there is no file at {url}: what was imported must stay in its place until its images"
            " are read"
        )
    return opened_archive(url)


def warc_records(archive: str, rows: Sequence[Row], limit: int) -> Held:
    """Stored responses, in the order of their records; one that is cut, or another's, is as if it
    were not held.
    """
    with opened_archive(archive, RECORD_BLOCK) as stream:
        for row in rows:
            url, target = row["image_url"], row["stored_as"] or row["image_url"]
            response = response_of(stream, row["offset"], limit=limit, target=target)
            if response is not None and not response.cut:
                result = FetchResult(
                    outcome=headers_outcome(response.headers) or FETCHED,
                    status=response.status,
                    final_url=url,
                    content_type=response.header("content-type") or None,
                    fetched_at=response.captured_at,
                )
                yield url, result, response.body if result.outcome == FETCHED else None


def tar_members(archive: str, rows: Sequence[Row], limit: int) -> Held:
    with opened(archive) as file:
        for row in rows:
            if row["size"] > limit:
                yield row["image_url"], _too_large(row["size"], limit), None
                continue
            file.seek(row["offset"])
            data = file.read(row["size"])
            whole = len(data) == row["size"]
            cut = FetchResult(
                outcome="fetch.cut",
                detail=f"the tar file ends after {len(data)} of {row['size']} bytes",
            )
            yield (
                row["image_url"],
                FetchResult(outcome=FETCHED) if whole else cut,
                data if whole else None,
            )


def whole_file(archive: str, rows: Sequence[Row], limit: int) -> Held:
    try:
        data = _content(archive, limit)
    except OSError as error:
        if error.errno not in ABSENT and not isinstance(error, FileNotFoundError):
            raise
        result, found = (
            FetchResult(
                outcome="fetch.missing", detail=f"{error.strerror or 'no such file'}: {archive}"
            ),
            None,
        )
    else:
        large = len(data) > limit
        result, found = (
            (_too_large(None, limit), None) if large else (FetchResult(outcome=FETCHED), data)
        )
    for row in rows:
        yield row["image_url"], result, found


def _content(path: str, limit: int) -> bytes:
    """At most a byte more than the limit; OSError for what is no ordinary file, such as a pipe,
    which would never end.
    """
    system, name = fsspec.core.url_to_fs(path)
    if not isinstance(system, LocalFileSystem):
        return bytes(system.cat_file(name, start=0, end=limit + 1))
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError(errno.EINVAL, "no ordinary file")
    with open(path, "rb") as file:
        return file.read(limit + 1)


def parquet_rows(archive: str, rows: Sequence[Row], limit: int) -> Held:
    with opened(archive) as file:
        try:
            source = pq.ParquetFile(file)
        except DAMAGE as error:
            yield from _unreadable(rows, error)
            return
        for (group, column), wanted in groupby(
            rows, key=lambda row: (row["offset"], row["column"])
        ):
            yield from _of_batches(_batches(source, group, column), list(wanted), limit)


def _batches(source: pq.ParquetFile, group: int, column: str) -> Iterator[pa.Array]:
    """The bytes of one row group, some rows at a time."""
    for batch in source.iter_batches(
        batch_size=BATCH, row_groups=[group], columns=[column], use_threads=False
    ):
        yield values_of(batch, column)


def values_of(batch: pa.RecordBatch, column: str) -> pa.Array:
    """A column that may lie in a struct: `image.bytes`."""
    name, _, child = column.partition(".") if column not in batch.schema.names else (column, "", "")
    found = first_of(batch, name)
    return pc.struct_field(found, child) if child else found


def _of_batches(batches: Iterator[pa.Array], wanted: list[Row], limit: int) -> Held:
    """The wanted rows of successive arrays; what cannot be read has that as its outcome."""
    pending, start = list(reversed(wanted)), 0
    try:
        for values in batches:
            while pending and pending[-1]["row"] < start + len(values):
                row = pending.pop()
                yield row["image_url"], *_of_value(values[row["row"] - start], limit)
            start += len(values)
            if not pending:
                return
    except DAMAGE as error:
        yield from _unreadable(pending, error)
        return
    for row in pending:
        yield row["image_url"], *_absent()


def _unreadable(rows: Sequence[Row], error: Exception) -> Held:
    for row in rows:
        yield (
            row["image_url"],
            FetchResult(outcome="fetch.unreadable", detail=str(error)[:300]),
            None,
        )


def _of_value(value: pa.Scalar, limit: int) -> tuple[FetchResult, bytes | None]:
    if not value.is_valid:
        return _absent()
    buffer = value.as_buffer()
    if buffer.size > limit:
        return _too_large(buffer.size, limit), None
    return FetchResult(outcome=FETCHED), buffer.to_pybytes()


def arrow_rows(archive: str, rows: Sequence[Row], limit: int) -> Held:
    batches = RecordBatches(archive)
    for number, wanted in groupby(rows, key=lambda row: row["offset"]):
        group = list(wanted)
        try:
            batch = batches.get(number)
        except DAMAGE as error:
            yield from _unreadable(group, error)
            continue
        for column, same in groupby(group, key=lambda row: row["column"]):
            yield from _of_batches(
                (values_of(one, column) for one in [batch] if one is not None), list(same), limit
            )


class RecordBatches:
    """The record batches of an Arrow file or stream by number; those of a stream in one pass, if
    asked for in their order.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        system, path = fsspec.core.url_to_fs(url)
        local = isinstance(system, LocalFileSystem)
        try:
            self._source = (
                pa.memory_map(path) if local else pa.PythonFile(system.open(path, "rb"), mode="r")
            )
            self._file = (
                None
                if self._source.read(len(FILE_MAGIC)) != FILE_MAGIC
                else pa.ipc.open_file(self._source)
            )
            self._restart()
        except FileNotFoundError as error:
            raise ValueError(
                f"there is no file at {url}: what was imported must stay in its place until its"
                " images are read"
            ) from error
        except (pa.ArrowInvalid, OSError, EOFError) as error:
            raise ValueError(
                f"{url} is neither an Arrow file nor an Arrow stream, or it is cut: {error}"
            ) from error
        self.schema: pa.Schema = self._stream.schema if self._file is None else self._file.schema

    def _restart(self) -> None:
        self._source.seek(0)
        self._stream: Any = None if self._file is not None else pa.ipc.open_stream(self._source)
        self._next = 0

    def get(self, number: int) -> pa.RecordBatch | None:
        """A record batch; None if the stream ends before it."""
        if self._file is not None:
            return (
                _checked(self._file.get_batch(number))
                if number < self._file.num_record_batches
                else None
            )
        if number < self._next:
            self._restart()
        batch = None
        while self._next <= number:
            try:
                batch = self._stream.read_next_batch()
            except StopIteration:
                return None
            self._next += 1
        return batch if batch is None else _checked(batch)

    def _size(self, number: int) -> int:
        """The rows of a batch of a file; -1 if it is damaged."""
        try:
            batch = self.get(number)
        except DAMAGE:
            return -1
        return 0 if batch is None else int(batch.num_rows)

    def rows(self) -> tuple[list[int], bool]:
        """The number of rows of each batch that can be read (0 for one among others that cannot),
        and whether that is all of them.
        """
        found: list[int] = []
        if self._file is not None:
            found = [self._size(number) for number in range(self._file.num_record_batches)]
            return [max(0, size) for size in found], min(found, default=0) >= 0
        try:
            while (batch := self.get(len(found))) is not None:
                found.append(batch.num_rows)
        except DAMAGE:
            return found, False
        return found, True


def _checked(batch: pa.RecordBatch) -> pa.RecordBatch:
    """A batch whose values lie where it says; ArrowInvalid else, for Arrow reads wherever an offset
    leads.
    """
    batch.validate(full=True)
    return batch


def nowhere(archive: str, rows: Sequence[Row], limit: int) -> Held:
    for row in rows:
        yield row["image_url"], *_absent()


def outside(archive: str, rows: Sequence[Row], limit: int) -> Held:
    for row in rows:
        yield (
            row["image_url"],
            FetchResult(outcome="fetch.outside", detail="its name leads out of the data set"),
            None,
        )


def _absent() -> tuple[FetchResult, None]:
    return (
        FetchResult(
            outcome="fetch.missing", detail="the data set names this image and does not hold it"
        ),
        None,
    )


def _too_large(size: int | None, limit: int) -> FetchResult:
    return FetchResult(
        outcome="fetch.too_large",
        detail=f"{size if size is not None else 'more'} bytes, at most {limit} are read",
    )


READERS: dict[str, Callable[[str, Sequence[Row], int], Held]] = {
    "warc": warc_records,
    "tar": tar_members,
    "file": whole_file,
    "parquet": parquet_rows,
    "arrow": arrow_rows,
    "missing": nowhere,
    "outside": outside,
}
