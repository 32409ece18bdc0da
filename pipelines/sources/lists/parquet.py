"""Rows of addresses and texts in Parquet, as far as they can be read."""

from collections.abc import Iterator, Sequence
from typing import IO, Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

SLICES = 16  # of a row group at most: each is reached by reading what is before it
BATCH = range(8, 257)  # rows decoded at once
BATCH_BYTES = 1 << 27  # that they may become if each has the longest value that its column can hold
VALUES = 1 << 26  # of a column of a row group at most, where rows hold several
# what pyarrow says of it
DAMAGE = (pa.ArrowException, OSError, MemoryError, ValueError, OverflowError)


class Slice(NamedTuple):
    """Rows [start, end) of the row groups [first, last) taken together; `before` rows are in the
    groups before.
    """

    first: int
    last: int
    start: int
    end: int
    before: int


class ListRow(NamedTuple):
    """A row by its number from 0, or so many `lost` ones from there on, and why."""

    number: int
    address: Any
    words: Any
    fault: str = ""
    lost: int = 1


def parquet_list(url: str, file: IO[bytes]) -> pq.ParquetFile:
    """A Parquet file; ValueError if it is none."""
    try:
        return opened_parquet(file)
    except DAMAGE as error:
        raise ValueError(f"{url} is no Parquet file that can be read: {error}") from error


def opened_parquet(file: IO[bytes]) -> pq.ParquetFile:
    """A Parquet file whose columns have names; one of `DAMAGE` if it is none."""
    found = pq.ParquetFile(file)
    assert found.schema_arrow.names is not None  # which are read here: they may be no UTF-8
    return found


def holds_text(source: pq.ParquetFile, name: str) -> bool:
    """Whether the first value of a column of bytes is a text, as where strings were written without
    saying so.
    """
    try:
        for batch in source.iter_batches(BATCH[0], columns=[name], use_threads=False):
            first = next((value for value in first_of(batch, name).to_pylist() if value), b"")
            return bool(first.decode().isprintable())
    except DAMAGE:
        return False
    return True


def slices(source: pq.ParquetFile, columns: tuple[str, str], rows: int, size: int) -> list[Slice]:
    """Parts of about so many rows, or bytes of the two columns: some row groups, or a piece of a
    large one.
    """
    found: list[Slice] = []
    first = before = count = 0

    for index in range(source.metadata.num_row_groups):
        there = max(0, source.metadata.row_group(index).num_rows)
        pieces = min(SLICES, max(1, there // rows, _declared(source, index, columns) // size))

        if pieces > 1 and count:
            found.append(Slice(first, index, 0, count, before))
            first, before, count = index, before + count, 0

        count += there
        if pieces > 1:
            step = -(-there // pieces)
            found += [
                Slice(index, index + 1, at, min(at + step, there), before)
                for at in range(0, there, step)
            ]
        elif count >= rows:
            found.append(Slice(first, index + 1, 0, count, before))

        if pieces > 1 or count >= rows:
            first, before, count = index + 1, before + count, 0

    if count:
        found.append(Slice(first, source.metadata.num_row_groups, 0, count, before))
    return found


def _declared(source: pq.ParquetFile, index: int, columns: tuple[str, str]) -> int:
    """Bytes of some columns in a row group, as the file declares them; 0 if it does not."""
    try:
        return sum(chunk.total_uncompressed_size for chunk in chunks(source, index, columns))
    except DAMAGE:
        return 0


def chunks(source: pq.ParquetFile, index: int, columns: Sequence[str]) -> list[Any]:
    """What the file says of some columns of a row group; one of `DAMAGE` if that is damaged.

    Some of it is read first: that raises where the metadata of a column is damaged, while asking
    for such metadata ends the process (pyarrow 25: `terminate called after throwing an instance of
    'parquet::ParquetException'`, as for a histogram of another size).
    """
    next(
        source.iter_batches(
            1, row_groups=[index], columns=list(dict.fromkeys(columns)), use_threads=False
        ),
        None,
    )

    paths = [source.schema.column(place).path for place in range(len(source.schema))]
    wanted = [
        place
        for place, path in enumerate(paths)
        if any(path == name or path.startswith(f"{name}.") for name in columns)
    ]
    group = source.metadata.row_group(index)
    return [group.column(place) for place in wanted]


def list_rows(source: pq.ParquetFile, columns: tuple[str, str], which: Slice) -> Iterator[ListRow]:
    """The rows of a part; those of a row group behind damage are lost, and said to be."""
    at = 0  # rows of the groups of the part that were before

    for index in range(which.first, which.last):
        there = max(0, source.metadata.row_group(index).num_rows)
        start, end = max(which.start - at, 0), min(which.end - at, there)
        number = which.before + at
        done = start

        try:
            for done, address, words in _group_rows(source, index, columns, start, end, there):
                yield ListRow(number + done, address, words)
                done += 1
        except DAMAGE as error:
            yield ListRow(
                number + done, None, None, f"row group {index} is damaged: {error}", end - done
            )
        else:
            if done < end:
                yield ListRow(
                    number + done, None, None, f"row group {index} ends too early", end - done
                )

        at += there


def _group_rows(
    source: pq.ParquetFile, index: int, columns: tuple[str, str], start: int, end: int, there: int
) -> Iterator[tuple[int, Any, Any]]:
    """(number, address, words) of the rows [start, end) of a row group."""
    if sum(chunk.num_values for chunk in chunks(source, index, columns)) > VALUES + 2 * there:
        raise ValueError(f"it declares more than {VALUES:,} values")

    largest = max(1, _declared(source, index, columns))
    size = min(max(BATCH_BYTES // largest, BATCH[0]), BATCH[-1])
    number = 0

    for batch in source.iter_batches(
        size, row_groups=[index], columns=list(dict.fromkeys(columns)), use_threads=False
    ):
        if number + batch.num_rows > start:
            address, words = (python_values(first_of(batch, name)) for name in columns)
            for row in range(max(0, start - number), min(batch.num_rows, end - number)):
                yield number + row, address[row], words[row]

        number += batch.num_rows
        if number >= end:
            return


def first_of(batch: pa.RecordBatch | pa.Table, name: str) -> Any:
    """The first column of a name: some tables have it twice."""
    places = batch.schema.get_all_field_indices(name)
    if not places:
        raise ValueError(f"there is no column {name}")
    return batch.column(places[0])


def python_values(array: Any) -> list[Any]:
    """Values as Python has them; as bytes where strings are no UTF-8, which Arrow does not look
    at.
    """
    try:
        return list(array.to_pylist())
    except UnicodeDecodeError:
        kind = pa.large_binary() if pa.types.is_large_string(array.type) else pa.binary()
        strings = array.cast(array.type.value_type) if pa.types.is_dictionary(array.type) else array
        return list(strings.cast(kind).to_pylist())
