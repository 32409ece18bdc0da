"""The lists of img2dataset: what its reader takes, row by row, so that one broken row is counted and left out.

A list becomes one Arrow file whose record batches are the rows of its shards. The types of columns are those that img2dataset finds
(pyarrow's, which reads the values of CSV), save that what JSON cannot say is text where a JSON file is written beside each image.
"""

import csv
import gzip
import json
import tempfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import IO, Any

import fsspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from pipelines.datasets.samples import json_value, plain
from pipelines.img2dataset.config import Img2datasetConfig

LINE_BYTES = 1 << 24  # of a line of a list; a longer one is none
FIELD_BYTES = 1 << 20  # as in `datasets.pairs`
GZIP = b"\x1f\x8b"
DELIMITERS = {"csv": ",", "tsv": "\t"}
BAD_ROW, CUT = "list.bad_row", "list.cut"


def lists_at(config: Img2datasetConfig) -> list[str]:
    """Addresses of the lists: a file whatever it is called, of a folder those that end as the format does."""
    system, path = fsspec.core.url_to_fs(config.url_list)

    if not system.isdir(path):
        if not system.exists(path):
            raise ValueError(f"--url_list: there is no list at {config.url_list}")
        return [str(system.unstrip_protocol(path))]

    found = sorted(system.glob(f"{path.rstrip('/')}/*.{config.input_format}"))
    if not found:
        raise ValueError(f"--url_list: no file in {config.url_list} ends in .{config.input_format}: name the --input_format")
    return [str(system.unstrip_protocol(name)) for name in found]


def read_list(path: str, config: Img2datasetConfig, counts: Counter[str]) -> pa.Table:
    """The rows of a list with the columns that are kept, under the names that they get; rows that cannot be read are counted."""
    kind = config.input_format.removesuffix(".gz")
    columns = config.columns

    if kind == "parquet":
        table = _parquet(path, columns)
    else:
        with fsspec.open(path, "rb").open() as file:
            table = _text(path, kind, _Lines(file, counts), columns)

    taken = {name: table[source] for name, source in columns.items()}
    taken["url"] = _as_text(taken["url"])
    if config.output_format in ("files", "webdataset"):
        taken = {name: column if _json_can_say(column.type) else _as_text(column) for name, column in taken.items()}
    return pa.table(taken)


class _Lines:
    """The lines of a file as text, as far as they can be read; a compressed file is known by its bytes."""

    def __init__(self, file: IO[bytes], counts: Counter[str]) -> None:
        start = file.read(len(GZIP))
        file.seek(0)
        self._file: IO[bytes] = gzip.GzipFile(fileobj=file) if start == GZIP else file  # type: ignore[assignment]
        self.counts = counts

    def __iter__(self) -> Iterator[str]:
        first = True
        while line := self._next():
            text = plain(line.decode("utf-8-sig" if first else "utf-8", "replace"))
            first = False
            if len(line) < LINE_BYTES:
                yield text
            else:
                self.counts[BAD_ROW] += 1
                while len(line) == LINE_BYTES and not line.endswith(b"\n"):
                    line = self._next()

    def _next(self) -> bytes:
        try:
            return self._file.readline(LINE_BYTES)
        except (EOFError, zlib.error, gzip.BadGzipFile):
            self.counts[CUT] += 1
            return b""

    def whole(self) -> bytes:
        """All that can be read of the file."""
        pieces = []
        while piece := self._next():
            pieces.append(piece)
        return b"".join(pieces)


def _text(path: str, kind: str, lines: _Lines, columns: Mapping[str, str]) -> pa.Table:
    if kind == "txt":
        urls = [line.strip() for line in lines]
        return pa.table({"url": pa.array([url for url in urls if url], pa.string())}).rename_columns([columns["url"]])
    if kind in DELIMITERS:
        return _delimited(path, DELIMITERS[kind], lines, columns)
    if kind == "jsonl":
        return _objects(path, _json_lines(lines), columns, lines.counts)
    return _objects(path, _json_rows(path, lines.whole()), columns, lines.counts)


def _delimited(path: str, delimiter: str, lines: _Lines, columns: Mapping[str, str]) -> pa.Table:
    """CSV read row by row, and its good rows once more by pyarrow, which finds the types of their columns."""
    csv.field_size_limit(FIELD_BYTES)
    rows = csv.reader(iter(lines), delimiter=delimiter)
    header = next(_rows(rows, Counter()), [])
    _check(path, header, columns)
    sources = list(dict.fromkeys(columns.values()))
    places = [header.index(source) for source in sources]

    with tempfile.TemporaryFile("w+b") as raw, open(raw.fileno(), "w", newline="", encoding="utf-8", closefd=False) as text:
        writer = csv.writer(text)
        writer.writerow(sources)
        for row in _rows(rows, lines.counts):
            if len(row) > max(places):
                writer.writerow([row[place] for place in places])
            else:
                lines.counts[BAD_ROW] += 1
        text.flush()
        raw.seek(0)
        options = pa_csv.ParseOptions(newlines_in_values=True)
        return pa_csv.read_csv(raw, parse_options=options, convert_options=pa_csv.ConvertOptions(column_types={columns["url"]: pa.string()}))


def _rows(rows: Iterator[list[str]], counts: Counter[str]) -> Iterator[list[str]]:
    """Records of CSV; one that is too long, such as what stands behind a lone quote, is counted."""
    while True:
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error:
            counts[BAD_ROW] += 1
            continue
        if row:
            yield row


def _json_lines(lines: Iterable[str]) -> Iterator[Any]:
    """The value of each line that is not empty, None where there is none."""
    for line in lines:
        if line.strip():
            try:
                yield json_value(line)
            except ValueError:
                yield None


def _json_rows(path: str, data: bytes) -> list[Any]:
    """The objects of a JSON file: a list of them, or columns of values as pandas writes them."""
    try:
        value = json_value(data.decode("utf-8-sig", "replace"))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON: {error}; for an object on each line --input_format is jsonl") from error
    if isinstance(value, list):
        return value
    if not isinstance(value, dict):
        raise ValueError(f"{path} holds neither a list of objects nor columns of values")
    columns = {name: list(of.values()) if isinstance(of, dict) else of for name, of in value.items()}
    lengths = {len(of) for of in columns.values() if isinstance(of, list)}
    if not all(isinstance(of, list) for of in columns.values()) or len(lengths) > 1:
        raise ValueError(f"{path} holds neither a list of objects nor columns of one length")
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _objects(path: str, rows: Iterable[Any], columns: Mapping[str, str], counts: Counter[str]) -> pa.Table:
    """A table of JSON objects; one without an address is counted and left out, another value that is missing is null."""
    sources = list(dict.fromkeys(columns.values()))
    found: dict[str, list[Any]] = {source: [] for source in sources}
    names: set[str] = set()
    for row in rows:
        if not isinstance(row, dict) or not isinstance(row.get(columns["url"]), str):
            counts[BAD_ROW] += 1
            continue
        names |= row.keys()
        for source in sources:
            found[source].append(row.get(source))
    if names:
        _check(path, sorted(names), columns)
    return pa.table({source: _column(values) for source, values in found.items()})


def _column(values: list[Any]) -> pa.Array:
    """Values of JSON as a column; of several types at once they are written as JSON."""
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, UnicodeError):
        return pa.array([value if value is None else plain(value if isinstance(value, str) else json.dumps(value)) for value in values])


def _parquet(path: str, columns: Mapping[str, str]) -> pa.Table:
    with fsspec.open(path, "rb").open() as file:
        try:
            source = pq.ParquetFile(file)
        except (pa.ArrowInvalid, OSError) as error:
            raise ValueError(f"{path} is no Parquet file: {error}") from error
        _check(path, source.schema_arrow.names, columns)
        return source.read(columns=list(dict.fromkeys(columns.values())), use_threads=False)


def _check(path: str, names: list[str], columns: Mapping[str, str]) -> None:
    missing = [source for source in columns.values() if source not in names]
    if missing:
        raise ValueError(
            f"{path} has the columns {', '.join(names) or 'none'}, and not {', '.join(missing)}: "
            f"name others with --url_col, --caption_col, --save_additional_columns, --bbox_col or --verify_hash"
        )


def _as_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column as text; bytes are taken for UTF-8."""
    if pa.types.is_dictionary(column.type):
        column = pc.cast(column, column.type.value_type)
    if pa.types.is_string(column.type):
        return column
    if not pa.types.is_binary(column.type) and not pa.types.is_large_binary(column.type) and not pa.types.is_nested(column.type):
        return pc.cast(column, pa.string())
    values = [value.decode("utf-8", "replace") if isinstance(value, bytes) else value for value in column.to_pylist()]
    return pa.chunked_array([pa.array([value if value is None else plain(str(value)) for value in values], pa.string())])


def _json_can_say(kind: pa.DataType) -> bool:
    if pa.types.is_nested(kind):
        return all(_json_can_say(kind.field(index).type) for index in range(kind.num_fields)) and not pa.types.is_map(kind)
    plainly = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_null, pa.types.is_string, pa.types.is_large_string)
    return any(holds(kind) for holds in plainly)
