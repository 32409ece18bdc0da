"""Imported pairs: lists of image addresses with texts, from Parquet, CSV, TSV or JSON lines, as candidates without a page."""

import csv
import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import IO, Any, ClassVar

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.datasets.import_tables import is_string, is_text
from pipelines.datasets.recognise import listing
from pipelines.datasets.samples import TEXT_KEYS, Keys, found_key, json_value, plain, texts_of
from pipelines.pages.sources import fingerprint
from pipelines.schema import CANDIDATES, identify
from pipelines.stage import Output, Part, Stage
from pipelines.store import write_parquet

ROWS = 16_384  # of a part
FIELD_BYTES = 1 << 20  # the longest field of a CSV file; Python's own limit of 128 KiB is shorter than some texts
URL_NAMES = ("url", "image_url", "img_url", "image_link", "image", "img", "src")  # any case: lists of img2dataset, LAION, COYO and CC12M
DELIMITERS = {"csv": ",", "tsv": "\t"}
FORMATS = {"parquet": "parquet", "csv": "csv", "tsv": "tsv", "jsonl": "jsonl", "ndjson": "jsonl"}
COMPRESSIONS = ("gz", "bz2", "xz", "zst")
UTF_16 = (b"\xff\xfe", b"\xfe\xff")
Row = tuple[int, str, str, int]  # line, URL, text, which of the texts of its line

log = logging.getLogger("winnow.pairs")
TOLD = 5  # lines that are left out, of a part; all are counted


@dataclass(frozen=True, kw_only=True)
class Pairs(Stage):
    """Turns lists of pairs into parts of candidates; a line that cannot be read is counted as `pairs.bad_line` and logged.

    `path` is a file, a pattern or a folder of lists. A row with several texts gives as many candidates.
    """

    name: ClassVar[str] = "pairs"
    version: ClassVar[int] = 2
    path: str
    text_column: str = ""
    url_column: str = ""

    def config(self) -> dict[str, Any]:
        return {"text_column": self.text_column, "url_column": self.url_column}

    def inputs(self) -> dict[str, str]:
        return {path: fingerprint(path) for path, _ in lists_at(self.path)}

    def parts(self) -> list[Part]:
        starts = [(path, label, start) for path, label in lists_at(self.path) for start in self._starts(path)]
        return [Part(name=f"{index:05d}", inputs=start) for index, start in enumerate(starts)]

    def _starts(self, path: str) -> list[str]:
        kind = kind_of(path)
        if kind == "parquet":
            return _row_groups(path, self._keys)
        return [f"{offset}:{line}" for offset, line in cuts(path, kind, self._keys)]

    @property
    def _keys(self) -> Keys:
        return Keys(self.text_column, self.url_column)

    def process(self, part: Part) -> Output:
        counts: Counter[str] = Counter(candidates=0)
        path, label, start = part.inputs
        rows = list(self._rows(path, start, counts))
        counts["candidates"] = len(rows)
        table = _candidates(rows, label)
        return Output(files=(write_parquet(self.out, f"part-{part.name}.parquet", self.forgotten.blank(table)),), counts=dict(counts))

    def _rows(self, path: str, start: str, counts: Counter[str]) -> Iterator[Row]:
        kind = kind_of(path)
        if kind == "parquet":
            return _parquet_rows(path, start, self._keys)
        offset, line = (int(number) for number in start.split(":"))
        return _text_rows(path, kind, offset, line, counts, self._keys)


def lists_at(path: str) -> list[tuple[str, str]]:
    """(address, label) of each list at a file, a pattern or a folder; a single file needs no label to tell its lines from others'."""
    try:
        files, _ = listing(path)
    except ValueError as error:
        raise ValueError(f"there is no list of pairs at {path}") from error
    kept = [file for file in files if _format(file.name)]
    if not kept:
        raise ValueError(f"{path} is no list of pairs: its name must end in .parquet, .csv, .tsv or .jsonl")
    return [(file.url, file.name if len(kept) > 1 else "") for file in kept]


def _format(name: str) -> str | None:
    endings = [ending for ending in name.rsplit("/", 1)[-1].lower().split(".")[1:] if ending not in COMPRESSIONS]
    return FORMATS.get(endings[-1]) if endings else None


def kind_of(path: str) -> str:
    """The format of a list by its name, a compression left aside."""
    found = _format(path)
    assert found is not None, "only lists are taken"
    return found


def _opened(path: str) -> IO[bytes]:
    try:
        file: IO[bytes] = fsspec.open(path, "rb", compression="infer").open()
    except (FileNotFoundError, IsADirectoryError) as error:
        raise ValueError(f"there is no list of pairs at {path}") from error
    return file


def columns_of(path: str, names: list[str], keys: Keys) -> tuple[str, str]:
    """The columns that hold address and text; ValueError, naming what is there, if one is missing."""
    url = keys.url if keys.url in names else None if keys.url else found_key(names, URL_NAMES)
    others = [name for name in names if name != url]
    text = keys.text if keys.text in names else None if keys.text else found_key(others, TEXT_KEYS)
    if url is None or text is None:
        wanted = f"it needs one named {keys.url or 'url'} and one named {keys.text or 'text (or caption)'}"
        remedy = "" if any(keys) else "; --url-column and --text-column name others"
        raise ValueError(f"{path} has the columns {', '.join(names) or 'none'}; {wanted}{remedy}")
    return url, text


def _row_groups(path: str, keys: Keys) -> list[str]:
    """Runs of row groups of about a part's rows, as `first:end`."""
    with _opened(path) as file:
        source = _parquet(path, file)
        _parquet_columns(path, source.schema_arrow, keys)
        metadata = source.metadata
        runs, first, rows = [], 0, 0
        for index in range(metadata.num_row_groups):
            rows += metadata.row_group(index).num_rows
            if rows >= ROWS or index == metadata.num_row_groups - 1:
                runs.append(f"{first}:{index + 1}")
                first, rows = index + 1, 0
    return runs


def _parquet(path: str, file: IO[bytes]) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(file)
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path} is no Parquet file: {error}") from error


def _parquet_rows(path: str, run: str, keys: Keys) -> Iterator[Row]:
    first, end = (int(number) for number in run.split(":"))
    with _opened(path) as file:
        source = _parquet(path, file)
        url, text = _parquet_columns(path, source.schema_arrow, keys)
        line = sum(source.metadata.row_group(index).num_rows for index in range(first))
        table = source.read_row_groups(list(range(first, end)), columns=[url, text], use_threads=False)
    urls, texts = table[url].to_pylist(), table[text].to_pylist()
    for number, (address, words) in enumerate(zip(urls, texts, strict=True), start=line):
        yield from _of_line(number, address, words)


def _parquet_columns(path: str, schema: pa.Schema, keys: Keys) -> tuple[str, str]:
    """The columns by name, of a kind that can be addresses and texts; ValueError else, as for a table that holds the images themselves."""
    names = [entry.name for entry in schema if is_text(entry.type) or entry.name in keys or not pa.types.is_nested(entry.type)]
    url, text = columns_of(path, [name for name in names if not pa.types.is_binary(schema.field(name).type)], keys)
    if not is_string(schema.field(url).type):
        raise ValueError(f"{path}: the column {url} holds {schema.field(url).type}, not addresses; images are taken by --import")
    return url, text


def _of_line(number: int, address: Any, words: Any) -> Iterator[Row]:
    """A row for each text of a line, one with an empty text where there is none."""
    url = "".join(texts_of(address)[:1])
    for which, text in enumerate(texts_of(words) or [""]):
        yield number, url, text, which


@dataclass(slots=True)
class _Lines:
    """The lines of a file as text, and where the next one begins."""

    file: IO[bytes]
    offset: int
    line: int

    def __iter__(self) -> Iterator[str]:
        for data in self.file:
            self.offset += len(data)
            self.line += 1
            if self.line == 1 and data.startswith(UTF_16):
                raise ValueError("the file is written in UTF-16: save it as UTF-8")
            yield data.decode("utf-8-sig" if self.line == 1 else "utf-8", errors="replace").replace("\0", "")


def _records(lines: _Lines, kind: str) -> Iterator[Any]:
    """CSV records as lists (None for one that is too long, such as what stands behind a lone quote), JSON lines as text."""
    if kind == "jsonl":
        yield from (line for line in lines if line.strip())
        return
    csv.field_size_limit(FIELD_BYTES)
    reader = csv.reader(iter(lines), delimiter=DELIMITERS[kind])
    while True:
        try:
            record = next(reader)
        except StopIteration:
            return
        except csv.Error:
            record = None
        if record is None or record:
            yield record


def cuts(path: str, kind: str, keys: Keys) -> list[tuple[int, int]]:
    """(byte, line) where each part of a text file begins."""
    with _opened(path) as file:
        lines = _Lines(file, 0, 0)
        records = _records(lines, kind)
        if kind != "jsonl":
            columns_of(path, next(records, []) or [], keys)
        found = [(lines.offset, lines.line)]
        while sum(1 for _ in islice(records, ROWS)) == ROWS:
            found.append((lines.offset, lines.line))
    return found


def _text_rows(path: str, kind: str, offset: int, line: int, counts: Counter[str], keys: Keys) -> Iterator[Row]:
    with _opened(path) as file:
        url, text = (0, 0) if kind == "jsonl" else _places(path, file, kind, keys)
        file.seek(offset)
        lines = _Lines(file, offset, line)
        for record in islice(_records(lines, kind), ROWS):
            try:
                address, words = _of_json(path, record, keys) if kind == "jsonl" else (plain(record[url]), plain(record[text]))
            except (ValueError, IndexError, TypeError) as error:
                counts["pairs.bad_line"] += 1
                if counts["pairs.bad_line"] <= TOLD:
                    log.warning("%s, line %d is left out: %s", path, lines.line, error)
                continue
            yield from _of_line(lines.line - 1, address, words)


def _places(path: str, file: IO[bytes], kind: str, keys: Keys) -> tuple[int, int]:
    """The places of address and text in the records of a file with a header."""
    header: list[str] = next(_records(_Lines(file, 0, 0), kind), []) or []
    url, text = columns_of(path, header, keys)
    return header.index(url), header.index(text)


def _of_json(path: str, line: str, keys: Keys) -> tuple[Any, Any]:
    value = json_value(line)
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    url, text = columns_of(path, list(value), keys)
    if isinstance(value[url], dict | list):
        raise ValueError(f"{url} is no address")
    return value[url], value[text]


def _candidates(rows: list[Row], label: str) -> pa.Table:
    """Rows of CANDIDATES; the place of a pair is its line, which tells equal pairs apart, with the file's label where there are several."""
    count = len(rows)
    known: dict[str, Any] = {
        "candidate_id": [identify(None, None, url, text, "given", _place(label, line, which)) for line, url, text, which in rows],
        "image_url": [url.strip() for _, url, _, _ in rows],
        "alternatives": [[]] * count,
        "text": [text for _, _, text, _ in rows],
        "text_source": ["given"] * count,
        "context": [""] * count,
        "place": np.array([line for line, _, _, _ in rows], dtype=np.int32),
        "images_on_page": np.ones(count, dtype=np.int32),
    }
    return pa.table([pa.array(known.get(entry.name, [None] * count), entry.type) for entry in CANDIDATES], schema=CANDIDATES)


def _place(label: str, line: int, which: int) -> str:
    return (f"{label}#{line}" if label else str(line)) + (f".{which}" if which else "")
