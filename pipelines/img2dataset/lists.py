"""The lists of img2dataset, read row by row, so that one broken row is counted and left out.

A list becomes one Arrow file whose record batches are the rows of its shards. The types of columns
are those that img2dataset finds (pyarrow's, which reads the values of CSV), save that what JSON
cannot say is text where a JSON file is written beside each image.
"""

import csv
import json
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from pipelines.img2dataset.config import Img2datasetConfig
from pipelines.sources.datasets.samples import json_value, plain
from pipelines.sources.lists.charset import Charset
from pipelines.sources.lists.delimited import BLANK, DELIMITERS, Layout, Record
from pipelines.sources.lists.json_records import Elements, is_array, line_records
from pipelines.sources.lists.lines import ListBytes
from pipelines.sources.lists.parquet import DAMAGE, parquet_list
from pipelines.sources.paths import opened

BAD_ROW, CUT = "list.bad_row", "list.truncated"
JSON_BYTES = 1 << 29  # of a list that is one JSON object, which is held at once
SHOWN = 2_000  # characters of the names of columns, where some are missing


def lists_at(config: Img2datasetConfig) -> list[str]:
    """The lists: a file whatever it is called, of a folder those that end as the format does."""
    system, path = fsspec.core.url_to_fs(config.url_list)

    if not system.isdir(path):
        if not system.exists(path):
            raise ValueError(f"--url_list: there is no list at {config.url_list}")
        return [str(system.unstrip_protocol(path))]

    found = sorted(system.glob(f"{path.rstrip('/')}/*.{config.input_format}"))
    if not found:
        raise ValueError(
            f"--url_list: no file in {config.url_list} ends in .{config.input_format}: "
            "name the format of the lists with --input_format"
        )
    return [str(system.unstrip_protocol(name)) for name in found]


def read_list(path: str, config: Img2datasetConfig, counts: Counter[str]) -> pa.Table:
    """The rows of a list: the columns that are kept, as they are called then. Bad rows are
    counted.
    """
    kind = config.input_format.removesuffix(".gz")
    columns = config.columns
    table = (
        _parquet(path, columns, counts) if kind == "parquet" else _text(path, kind, columns, counts)
    )

    taken = {name: table[source] for name, source in columns.items()}
    taken["url"] = _as_text(taken["url"])
    if config.output_format in ("files", "webdataset"):
        taken = {
            name: column if _json_can_say(column.type) else _as_text(column)
            for name, column in taken.items()
        }
    return pa.table(taken)


def _text(path: str, kind: str, columns: Mapping[str, str], counts: Counter[str]) -> pa.Table:
    source, charset = ListBytes(path), Charset()

    if kind == "txt":
        lines = _good(line_records(source.lines(), charset), counts)
        urls = pa.array([plain(line.value.strip()) for line in lines], pa.string())
        table = pa.table({columns["url"]: urls})
    elif kind in DELIMITERS:
        table = _delimited(path, kind, source, charset, columns, counts)
    else:
        table = _objects(path, _values(path, kind, source, charset, counts), columns, counts)

    charset.decided(path)  # which says that a list is in a charset that cannot be told
    counts[CUT] += bool(source.damage)
    return table


def _good(records: Iterable[Record], counts: Counter[str]) -> Iterator[Record]:
    """Records that can be read; others are counted, unless they are blank."""
    for record in records:
        if not record.fault:
            yield record
        elif record.fault != BLANK:
            counts[BAD_ROW] += 1


def _delimited(
    path: str,
    kind: str,
    source: ListBytes,
    charset: Charset,
    columns: Mapping[str, str],
    counts: Counter[str],
) -> pa.Table:
    """CSV or TSV record by record; what is good is read again by pyarrow, which finds the types."""
    layout, header = _layout(path, kind, columns)
    sources = list(dict.fromkeys(columns.values()))
    places = [header.value.index(name) for name in sources]
    records = layout.records(source.lines(header.end, header.number), charset)

    with tempfile.TemporaryFile() as raw:
        with open(raw.fileno(), "w", newline="", encoding="utf-8", closefd=False) as text:
            writer = csv.writer(text)
            writer.writerow(range(len(sources)))
            for record in _good(records, counts):
                writer.writerow([plain(record.value[place]) for place in places])
        raw.seek(0)
        table = pa_csv.read_csv(
            raw,
            parse_options=pa_csv.ParseOptions(newlines_in_values=True),
            convert_options=pa_csv.ConvertOptions(
                column_types={str(sources.index(columns["url"])): pa.string()}
            ),
        )
    return table.rename_columns(sources)


def _layout(path: str, kind: str, columns: Mapping[str, str]) -> tuple[Layout, Record]:
    """How a file is written, and its header; ValueError if that lacks a column."""
    wrong = None
    for delimiter in DELIMITERS[kind]:
        layout = Layout(delimiter=delimiter, quoted=kind == "csv")
        records = layout.records(ListBytes(path).lines(), Charset())
        header = next((record for record in records if record.fault != BLANK), Record(0, 0, []))
        names: list[str] = header.value or []
        if names and all(len(name) > 1 and name[0] == name[-1] == '"' for name in names):
            names, layout = [name[1:-1] for name in names], replace(layout, quoted=True)
        try:
            _check(path, names, columns)
        except ValueError as error:
            wrong = wrong or error
            continue
        url = names.index(columns["url"])
        return replace(layout, width=len(names), url=url, text=url), header._replace(value=names)
    assert wrong is not None, "there is more than one delimiter"
    raise wrong


def _values(
    path: str, kind: str, source: ListBytes, charset: Charset, counts: Counter[str]
) -> Iterator[Any]:
    """The values of JSON lines, of an array, or of columns as pandas writes them; None for bad
    ones.
    """
    if kind == "jsonl":
        records: Iterable[Record] = line_records(source.lines(), charset)
    elif is_array(next(ListBytes(path).chunks(), b"")):
        records = Elements(source.chunks(), 0, 0, charset)
    else:
        yield from _of_columns(path, source)
        return
    for record in _good(records, counts):
        try:
            yield json_value(record.value)
        except ValueError:
            yield None


def _whole(path: str, source: ListBytes) -> bytes:
    """All bytes of a list that is one JSON object; ValueError if they are too many."""
    pieces, size = list[bytes](), 0
    for piece in source.chunks():
        pieces.append(piece)
        size += len(piece)
        if size > JSON_BYTES:
            raise ValueError(
                f"{path} has more than {JSON_BYTES:,} bytes, which are not held at once: "
                "write an object on each line, for --input_format jsonl"
            )
    return b"".join(pieces)


def _of_columns(path: str, source: ListBytes) -> Iterator[Any]:
    data = _whole(path, source)
    try:
        value = json_value(data.decode("utf-8-sig", "replace"))
    except ValueError as error:
        raise ValueError(
            f"{path} is no JSON ({error}); for an object on each line --input_format is jsonl"
        ) from error
    columns = (
        {name: list(of.values()) if isinstance(of, dict) else of for name, of in value.items()}
        if isinstance(value, dict)
        else {}
    )
    if (
        not columns
        or not all(isinstance(of, list) for of in columns.values())
        or len({len(of) for of in columns.values()}) > 1
    ):
        raise ValueError(
            f"{path} is neither a list of objects nor columns of one length; "
            "for an object on each line --input_format is jsonl"
        )
    yield from (dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))


def _objects(
    path: str, rows: Iterable[Any], columns: Mapping[str, str], counts: Counter[str]
) -> pa.Table:
    """A table of JSON objects: one without an address is left out, other missing values are
    null.
    """
    sources = list(dict.fromkeys(columns.values()))
    found: dict[str, list[Any]] = {source: [] for source in sources}
    names: set[str] = set()
    for row in rows:
        names |= row.keys() if isinstance(row, dict) else set()
        if not isinstance(row, dict) or not isinstance(row.get(columns["url"]), str):
            counts[BAD_ROW] += 1
            continue
        for source in sources:
            found[source].append(row.get(source))
    if names:
        _check(path, sorted(names), columns)
    return pa.table({source: _column(values) for source, values in found.items()})


def _column(values: list[Any]) -> pa.Array:
    """Values of JSON as a column; of several types at once they are text."""
    try:
        return pa.array([plain(value) if isinstance(value, str) else value for value in values])
    except (pa.ArrowException, OverflowError, UnicodeError):
        texts = [
            value if value is None or isinstance(value, str) else json.dumps(value)
            for value in values
        ]
        return pa.array([text if text is None else plain(text) for text in texts], pa.string())


def _parquet(path: str, columns: Mapping[str, str], counts: Counter[str]) -> pa.Table:
    sources = list(dict.fromkeys(columns.values()))
    with opened(path) as file:
        source = parquet_list(path, file)
        _check(path, source.schema_arrow.names, columns)
        schema = pa.schema(
            [source.schema_arrow.field(source.schema_arrow.names.index(name)) for name in sources]
        )
        groups = [schema.empty_table()]
        for index in range(source.metadata.num_row_groups):
            try:
                group = source.read_row_group(index, columns=sources, use_threads=False)
                groups.append(_valid(group.select(sources)))
            except DAMAGE:
                counts[BAD_ROW] += max(0, source.metadata.row_group(index).num_rows)
    return pa.concat_tables(groups)


def _valid(table: pa.Table) -> pa.Table:
    """A table whose texts are UTF-8; what is not, is replaced. One of `DAMAGE` if more is wrong."""
    for place, field in enumerate(table.schema):
        if pa.types.is_string(field.type):
            column = table.column(place)
            try:
                column.validate(full=True)
            except pa.ArrowInvalid:
                table = table.set_column(place, field, _as_text(column.cast(pa.binary())))

    table.validate(full=True)
    return table


def _check(path: str, names: list[str], columns: Mapping[str, str]) -> None:
    missing = [source for source in columns.values() if source not in names]
    if missing:
        raise ValueError(
            f"{path} has the columns {', '.join(names)[:SHOWN] or 'none'}, "
            f"and not {', '.join(missing)}: name others with --url_col, --caption_col, "
            "--save_additional_columns, --bbox_col or --verify_hash"
        )


def _as_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column as text; bytes are taken for UTF-8."""
    if pa.types.is_dictionary(column.type):
        column = pc.cast(column, column.type.value_type)
    if pa.types.is_string(column.type):
        return column
    if pa.types.is_nested(column.type) or any(
        kind(column.type) for kind in (pa.types.is_binary, pa.types.is_large_binary)
    ):
        values = (
            value.decode("utf-8", "replace") if isinstance(value, bytes) else value
            for value in column.to_pylist()
        )
        texts = [value if value is None else plain(str(value)) for value in values]
        return pa.chunked_array([pa.array(texts, pa.string())])
    return pc.cast(column, pa.string())


def _json_can_say(kind: pa.DataType) -> bool:
    if pa.types.is_nested(kind):
        inner = [kind.field(index).type for index in range(kind.num_fields)]
        return not pa.types.is_map(kind) and all(_json_can_say(one) for one in inner)
    said = (
        pa.types.is_integer,
        pa.types.is_floating,
        pa.types.is_boolean,
        pa.types.is_null,
        pa.types.is_string,
        pa.types.is_large_string,
    )
    return any(holds(kind) for holds in said)
