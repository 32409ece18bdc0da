"""Imported pairs: a list of image addresses with texts, from Parquet, CSV, TSV or JSON lines, as candidates without a page."""

import csv
import json
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

from pipelines.extract import fingerprint
from pipelines.schema import CANDIDATES, identify
from pipelines.stage import Output, Part, Stage
from pipelines.store import write_parquet

ROWS = 16_384  # of a part
FIELD_BYTES = 1 << 20  # the longest field of a CSV file; Python's own limit of 128 KiB is shorter than some texts
URL_NAMES = ("url", "image_url", "img_url", "image")  # any case: img2dataset's lists and those of LAION, COYO and CC12M
TEXT_NAMES = ("text", "caption", "alt", "alt_text", "title")
DELIMITERS = {"csv": ",", "tsv": "\t"}
FORMATS = {"parquet": "parquet", "csv": "csv", "tsv": "tsv", "jsonl": "jsonl", "ndjson": "jsonl"}
Row = tuple[int, str, str]  # line, URL, text

log = logging.getLogger("winnow.pairs")


@dataclass(frozen=True, kw_only=True)
class Pairs(Stage):
    """Turns a list of pairs into parts of candidates; a line that cannot be read is counted as `pairs.bad_line` and logged."""

    name: ClassVar[str] = "pairs"
    version: ClassVar[int] = 1
    path: str

    def inputs(self) -> dict[str, str]:
        kind_of(self.path)  # a wrong name is said first
        return {self.path: fingerprint(self.path)}

    def parts(self) -> list[Part]:
        kind = kind_of(self.path)
        starts = _row_groups(self.path) if kind == "parquet" else [f"{offset}:{line}" for offset, line in cuts(self.path, kind)]
        return [Part(name=f"{index:05d}", inputs=(start,)) for index, start in enumerate(starts)]

    def process(self, part: Part) -> Output:
        counts: Counter[str] = Counter(candidates=0)
        rows = list(self._rows(part.inputs[0], counts))
        counts["candidates"] = len(rows)
        table = _candidates(rows)
        return Output(files=(write_parquet(self.out, f"part-{part.name}.parquet", table),), counts=dict(counts))

    def _rows(self, start: str, counts: Counter[str]) -> Iterator[Row]:
        kind = kind_of(self.path)
        if kind == "parquet":
            return _parquet_rows(self.path, start)
        offset, line = (int(number) for number in start.split(":"))
        return _text_rows(self.path, kind, offset, line, counts)


def kind_of(path: str) -> str:
    """The format of a list by its name, a compression left aside; ValueError for others."""
    name = path.rsplit("/", 1)[-1].lower()
    endings = [ending for ending in name.split(".")[1:] if ending not in ("gz", "bz2", "xz", "zst")]
    if not endings or endings[-1] not in FORMATS:
        raise ValueError(f"{path} is no list of pairs: its name must end in .parquet, .csv, .tsv or .jsonl")
    return FORMATS[endings[-1]]


def _opened(path: str) -> IO[bytes]:
    try:
        file: IO[bytes] = fsspec.open(path, "rb", compression="infer").open()
    except (FileNotFoundError, IsADirectoryError) as error:
        raise ValueError(f"there is no list of pairs at {path}") from error
    return file


def columns_of(path: str, names: list[str]) -> tuple[str, str]:
    """The columns that hold address and text; ValueError, naming what is there, if one is missing."""
    lower = {name.strip().lower(): name for name in reversed(names)}
    found = [next((lower[name] for name in wanted if name in lower), None) for wanted in (URL_NAMES, TEXT_NAMES)]
    if found[0] is None or found[1] is None:
        raise ValueError(f"{path} has the columns {', '.join(names) or 'none'}; it needs one named url and one named text (or caption)")
    return found[0], found[1]


def _row_groups(path: str) -> list[str]:
    """Runs of row groups of about a part's rows, as `first:end`."""
    with _opened(path) as file:
        metadata = _parquet(path, file).metadata
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


def _parquet_rows(path: str, run: str) -> Iterator[Row]:
    first, end = (int(number) for number in run.split(":"))
    with _opened(path) as file:
        source = _parquet(path, file)
        url, text = columns_of(path, source.schema_arrow.names)
        line = sum(source.metadata.row_group(index).num_rows for index in range(first))
        table = source.read_row_groups(list(range(first, end)), columns=[url, text], use_threads=False)
    urls, texts = table[url].to_pylist(), table[text].to_pylist()
    for number, (address, words) in enumerate(zip(urls, texts, strict=True), start=line):
        yield number, _string(address), _string(words)


def _string(value: Any) -> str:
    return "" if value is None else str(value)


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
            yield data.decode("utf-8-sig" if self.line == 1 else "utf-8", errors="replace").replace("\0", "")


def _records(lines: _Lines, kind: str) -> Iterator[Any]:
    """CSV records as lists, JSON lines as text."""
    if kind == "jsonl":
        return (line for line in lines if line.strip())
    csv.field_size_limit(FIELD_BYTES)
    return (record for record in csv.reader(iter(lines), delimiter=DELIMITERS[kind]) if record)


def cuts(path: str, kind: str) -> list[tuple[int, int]]:
    """(byte, line) where each part of a text file begins."""
    with _opened(path) as file:
        lines = _Lines(file, 0, 0)
        records = _records(lines, kind)
        if kind != "jsonl":
            columns_of(path, next(records, []))
        found = [(lines.offset, lines.line)]
        while sum(1 for _ in islice(records, ROWS)) == ROWS:
            found.append((lines.offset, lines.line))
    return found


def _text_rows(path: str, kind: str, offset: int, line: int, counts: Counter[str]) -> Iterator[Row]:
    with _opened(path) as file:
        url, text = (0, 0) if kind == "jsonl" else _places(path, file, kind)
        file.seek(offset)
        lines = _Lines(file, offset, line)
        for record in islice(_records(lines, kind), ROWS):
            try:
                address, words = _of_json(path, record) if kind == "jsonl" else (record[url], record[text])
            except (ValueError, IndexError) as error:
                counts["pairs.bad_line"] += 1
                log.warning("%s, line %d is left out: %s", path, lines.line, error)
                continue
            yield lines.line - 1, address, words


def _places(path: str, file: IO[bytes], kind: str) -> tuple[int, int]:
    """The places of address and text in the records of a file with a header."""
    header: list[str] = next(_records(_Lines(file, 0, 0), kind), [])
    url, text = columns_of(path, header)
    return header.index(url), header.index(text)


def _of_json(path: str, line: str) -> tuple[str, str]:
    value = json.loads(line)
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    url, text = columns_of(path, list(value))
    return _string(value[url]), _string(value[text])


def _candidates(rows: list[Row]) -> pa.Table:
    """Rows of CANDIDATES; the place of a pair is its line, which tells equal pairs apart."""
    count = len(rows)
    known: dict[str, Any] = {
        "candidate_id": [identify(None, None, url, text, "given", line) for line, url, text in rows],
        "image_url": [url.strip() for _, url, _ in rows],
        "alternatives": [[]] * count,
        "text": [text for _, _, text in rows],
        "text_source": ["given"] * count,
        "context": [""] * count,
        "place": np.array([line for line, _, _ in rows], dtype=np.int32),
        "images_on_page": np.ones(count, dtype=np.int32),
    }
    return pa.table([pa.array(known.get(entry.name, [None] * count), entry.type) for entry in CANDIDATES], schema=CANDIDATES)
