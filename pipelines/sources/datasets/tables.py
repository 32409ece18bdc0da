"""Samples of tables that hold images: Parquet and Arrow of Hugging Face, img2dataset and Winnow's
own releases.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types as kinds

from pipelines.sources.datasets.samples import (
    FOUND_BY_NAME,
    NOWHERE,
    TEXT_KEYS,
    URL_KEYS,
    WEB,
    Keys,
    Place,
    Sample,
    found_key,
    joined,
    texts_of,
)
from pipelines.sources.held_readers import RecordBatches, opened, values_of
from pipelines.sources.lists.parquet import DAMAGE, chunks, first_of, opened_parquet, python_values

ROWS = 16_384  # of a part, at least one row group or record batch
IMAGE_KEYS = (
    "image",
    "jpg",
    "jpeg",
    "png",
    "webp",
    "img",
    "image_bytes",
    "bytes",
    "image_data",
    "content",
    "picture",
    "photo",
)
SUCCESS = "success"  # img2dataset's status of a row whose image it wrote


@dataclass(frozen=True, kw_only=True)
class Columns:
    """The columns of a table that matter; empty where there is none."""

    image: str = ""  # of the bytes, `image.bytes` in a struct
    path: str = ""  # `image.path` in a struct
    text: str = ""
    url: str = ""
    page_url: str = ""
    status: str = ""
    key: str = ""

    def plain(self) -> list[str]:
        return [
            name for name in (self.text, self.url, self.page_url, self.status, self.key) if name
        ]


def is_text(kind: pa.DataType) -> bool:
    """Whether a column can hold texts: strings, lists of them, objects with one, or nothing but
    nulls.
    """
    if kinds.is_list(kind) or kinds.is_large_list(kind) or kinds.is_fixed_size_list(kind):
        return is_text(kind.value_type)
    if kinds.is_struct(kind):
        return any(entry.name == "raw" or entry.name in TEXT_KEYS for entry in kind)
    return is_string(kind) or bool(kinds.is_null(kind))


def is_string(kind: pa.DataType) -> bool:
    value = kind.value_type if kinds.is_dictionary(kind) else kind
    return bool(
        kinds.is_string(value) or kinds.is_large_string(value) or kinds.is_string_view(value)
    )


def is_binary(kind: pa.DataType) -> bool:
    return bool(kinds.is_binary(kind) or kinds.is_large_binary(kind) or kinds.is_binary_view(kind))


def columns_of(
    where: str, schema: pa.Schema, keys: Keys = FOUND_BY_NAME, *, images: bool = True
) -> Columns:
    """The columns of a table by name and type; ValueError, naming what is there, if the images or
    the texts cannot be told.
    """
    strings = [entry.name for entry in schema if is_string(entry.type)]
    texts = [entry.name for entry in schema if is_text(entry.type)]
    for wanted in filter(None, keys):
        if wanted not in schema.names:
            raise ValueError(f"{where} has no column {wanted}; it has {', '.join(schema.names)}")
    image, path = _image_column(where, schema) if images else ("", "")
    named = {
        # our own releases list those of each text
        "url": keys.url or found_key(strings, URL_KEYS) or found_key(texts, URL_KEYS) or "",
        "page_url": found_key(texts, ("page_url",)) or "",
        "status": found_key(strings, ("status",)) or "",
        "key": found_key(strings, ("key",)) or "",
    }
    # strings, without saying so
    opaque = [entry.name for entry in schema if is_binary(entry.type) and entry.name != image]
    text = keys.text or found_key(texts, TEXT_KEYS) or found_key(opaque, TEXT_KEYS) or ""
    others = [
        name
        for name in texts
        if name not in named.values() and name not in ("image_id", "split", "__key__", "__url__")
    ]
    if images and not text and others:
        raise ValueError(
            f"{where} has no column named caption or text; name the one to take with --text-column:"
            f" {', '.join(others)}"
        )
    return Columns(image=image, path=path, text=text, **named)


def _image_column(where: str, schema: pa.Schema) -> tuple[str, str]:
    structs = {
        entry.name: entry.type
        for entry in schema
        if kinds.is_struct(entry.type) and _has_bytes(entry.type)
    }
    plain = [
        entry.name
        for entry in schema
        if is_binary(entry.type) and entry.name.lower() not in TEXT_KEYS
    ]
    found = found_key([*structs, *plain], IMAGE_KEYS) or next(iter([*structs, *plain]), None)
    if found is None:
        has = ", ".join(schema.names) or "none"
        raise ValueError(
            f"{where} has the columns {has}; none holds image bytes. A list of addresses is taken"
            " by --pairs"
        )
    if found in structs:
        return f"{found}.bytes", (
            f"{found}.path" if structs[found].get_field_index("path") >= 0 else ""
        )
    return found, ""


def _has_bytes(kind: pa.DataType) -> bool:
    index = kind.get_field_index("bytes")
    return bool(index >= 0 and is_binary(kind.field(index).type))


def runs(rows: list[int]) -> list[tuple[int, int]]:
    """Runs of row groups (first, end) of about a part's rows."""
    found, first, seen = [], 0, 0
    for index, count in enumerate(rows):
        seen += count
        if seen >= ROWS or index == len(rows) - 1:
            found.append((first, index + 1))
            first, seen = index + 1, 0
    return found


def parquet_file(url: str, file: Any) -> pq.ParquetFile:
    try:
        return opened_parquet(file)
    except DAMAGE as error:
        raise ValueError(f"{url} is no Parquet file, or it is cut: {error}") from error


def parquet_runs(url: str) -> list[tuple[int, int]]:
    with opened(url) as file:
        metadata = parquet_file(url, file).metadata
        return runs(
            [metadata.row_group(index).num_rows for index in range(metadata.num_row_groups)]
        )


def arrow_runs(url: str) -> list[tuple[int, int]]:
    sizes, whole = RecordBatches(url).rows()
    # where nothing can be read, one that says so
    return runs(sizes) if sizes or whole else [(0, 0)]


def schema_of(url: str) -> pa.Schema:
    if not url.lower().endswith(".parquet"):
        return RecordBatches(url).schema
    with opened(url) as file:
        return parquet_file(url, file).schema_arrow


def parquet_samples(
    url: str, label: str, first: int, end: int, columns: Columns, counts: Counter[str]
) -> Iterator[Sample]:
    """A sample for each row of some row groups; the image column is read only where it has nulls.

    The rows of a group whose texts are damaged are counted as `import.damaged_row`.
    """
    with opened(url) as file:
        source = parquet_file(url, file)
        start = sum(source.metadata.row_group(index).num_rows for index in range(first))
        for group in range(first, end):
            rows = source.metadata.row_group(group).num_rows
            counts["entries"] += rows
            try:
                table = source.read_row_group(group, columns=columns.plain(), use_threads=False)
            except DAMAGE:
                counts["import.damaged_row"] += rows
                start += rows
                continue
            there, paths = _parquet_images(source, group, columns, rows)
            places = [
                Place("parquet", url, group, None, row, columns.image) if there[row] else None
                for row in range(rows)
            ]
            yield from _samples(table, label, start, places, paths, columns)
            start += rows


def _parquet_images(
    source: pq.ParquetFile, group: int, columns: Columns, rows: int
) -> tuple[list[bool], list[str | None]]:
    """Which rows of a row group have bytes, and the paths of those without."""
    if _nulls(source, group, columns.image) == 0:
        return [True] * rows, []
    there: list[bool] = []
    paths: list[str | None] = []
    wanted = [name for name in (columns.image, columns.path) if name]
    try:
        for batch in source.iter_batches(
            batch_size=64, row_groups=[group], columns=wanted, use_threads=False
        ):
            there += values_of(batch, columns.image).is_valid().to_pylist()
            paths += values_of(batch, columns.path).to_pylist() if columns.path else []
    except DAMAGE:  # it ends each of them when it is fetched
        there += [True] * (rows - len(there))
        paths += [None] * (rows - len(paths))
    return there, paths


def _nulls(source: pq.ParquetFile, group: int, column: str) -> int | None:
    """The nulls of a column of a row group by its statistics; None where they do not say."""
    try:
        first = next(iter(chunks(source, group, [column])), None)
    except DAMAGE:
        return None
    statistics = first.statistics if first is not None else None
    return (
        int(statistics.null_count) if statistics is not None and statistics.has_null_count else None
    )


def arrow_samples(
    url: str, label: str, first: int, end: int, columns: Columns, counts: Counter[str]
) -> Iterator[Sample]:
    """A sample for each row of some record batches; what lies behind the damage of a cut stream is
    lost, and counted.
    """
    batches = RecordBatches(url)
    sizes, whole = batches.rows()
    counts["import.truncated"] += not whole and end == len(sizes)
    start = sum(sizes[:first])
    for number in range(first, end):
        if not sizes[number]:
            continue
        batch = batches.get(number)
        assert batch is not None, "it was there a moment ago"
        counts["entries"] += sizes[number]
        valid = values_of(batch, columns.image).is_valid().to_pylist()
        paths = (
            values_of(batch, columns.path).to_pylist() if columns.path and not all(valid) else []
        )
        places = [
            Place("arrow", url, number, None, row, columns.image) if there else None
            for row, there in enumerate(valid)
        ]
        yield from _samples(pa.Table.from_batches([batch]), label, start, places, paths, columns)
        start += len(valid)


def _samples(
    table: pa.Table,
    label: str,
    start: int,
    places: list[Place | None],
    paths: list[str | None],
    columns: Columns,
) -> Iterator[Sample]:
    values = {name: python_values(first_of(table, name)) for name in columns.plain()}
    nothing: list[Any] = [None] * len(places)
    texts, urls, pages, states = (
        values.get(name, nothing)
        for name in (columns.text, columns.url, columns.page_url, columns.status)
    )
    for row, place in enumerate(places):
        sample = Sample(
            key=joined(label, f"{start + row:09d}"), texts=texts_of(texts[row]), place=place
        )
        sample.url, sample.page_url = (
            "".join(texts_of(urls[row])[:1]),
            "".join(texts_of(pages[row])[:1]),
        )
        path = paths[row] if paths and place is None else None
        if path and WEB.match(path):
            sample.url = sample.url or path
        elif place is None and (path or states[row] == SUCCESS):
            sample.place = NOWHERE
        yield sample


def joined_samples(
    url: str, label: str, columns: Columns, there: dict[str, list[Sample]], counts: Counter[str]
) -> Iterator[Sample]:
    """img2dataset's rows, failed ones too, each with a sample that has its key; then the samples
    without a row.

    A row whose sample is not there is an entry of its own.
    """
    with opened(url) as file:
        source = parquet_file(url, file)
        for batch in source.iter_batches(columns=columns.plain(), use_threads=False):
            for row in batch.to_pylist():
                own = there.get(str(row[columns.key]))
                counts["entries"] += not own
                yield _joined(row, label, columns, own.pop(0) if own else None)
    for left in there.values():
        yield from left


def _joined(row: dict[str, Any], label: str, columns: Columns, there: Sample | None) -> Sample:
    key = str(row[columns.key])
    sample = there or Sample(
        key=joined(label, key), place=NOWHERE if row[columns.status] == SUCCESS else None
    )
    sample.texts = texts_of(row.get(columns.text)) or sample.texts
    sample.url = sample.url or "".join(texts_of(row.get(columns.url))[:1])
    return sample
