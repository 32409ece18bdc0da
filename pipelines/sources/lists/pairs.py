"""Imported pairs: lists of image addresses with texts, from Parquet, CSV, TSV or JSON, as
candidates without a page.
"""

import json
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice, takewhile
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.accounts import Account
from pipelines.engine.stage import Output, Part, Stage
from pipelines.schema import CANDIDATES, identify
from pipelines.sources.datasets.samples import (
    TEXT_KEYS,
    Keys,
    found_key,
    json_value,
    plain,
    texts_of,
)
from pipelines.sources.datasets.tables import is_binary, is_string, is_text
from pipelines.sources.lists.charset import UTF8, WESTERN, Charset
from pipelines.sources.lists.delimited import BLANK, DELIMITERS, Layout, Record
from pipelines.sources.lists.find import COMPRESSIONS, kind_of, lists_at
from pipelines.sources.lists.json_records import Elements, is_array, line_records
from pipelines.sources.lists.lines import LINE_BYTES, ListBytes
from pipelines.sources.lists.parquet import Slice, holds_text, list_rows, parquet_list, slices
from pipelines.sources.paths import fingerprint, opened
from pipelines.tables import write_parquet
from pipelines.urls import without_blanks

ROWS = 16_384  # of a part
PART_BYTES = 1 << 26  # of the lines of a part
# of the texts of a part; a Parquet file of kilobytes may hold terabytes of them
TEXT_BYTES = 1 << 28
# of a list before its header; a file of nothing but line ends would be read to its end
BLANK_BYTES = 1 << 20
TEXTS = 1000  # of one line; more is no image with its captions
# any case: lists of img2dataset, LAION, COYO and CC12M
URL_NAMES = ("url", "image_url", "img_url", "image_link", "image", "img", "src")
Row = tuple[int, str, str, int]  # line, URL, text, which of the texts of its line

log = logging.getLogger("winnow.pairs")
TOLD = 5  # lines that are left out, of a part; all are counted
SHOWN = 20  # columns, of those that are none


@dataclass(frozen=True, kw_only=True)
class Lines:
    """A part of a list of lines: where it begins, how many records it has, and how the file is
    written.
    """

    offset: int
    line: int
    records: int
    charset: str = UTF8
    layout: Layout | None = None  # of CSV and TSV
    array: bool = False
    damage: str = ""  # why nothing of the file is behind this part

    @classmethod
    def read(cls, text: str) -> "Lines":
        value = json.loads(text)
        layout = value.pop("layout")
        return cls(layout=Layout(**layout) if layout is not None else None, **value)

    def of(self, source: ListBytes, charset: Charset) -> Iterator[Record]:
        """The records from here on, to the end of the file."""
        if self.array:
            return iter(Elements(source.chunks(self.offset), self.offset, self.line, charset))
        lines = source.lines(self.offset, self.line)
        return (
            self.layout.records(lines, charset)
            if self.layout is not None
            else line_records(lines, charset)
        )


@dataclass(frozen=True, kw_only=True)
class Pairs(Stage):
    """Turns lists of pairs into parts of candidates; a line that cannot be read is counted as
    `pairs.bad_line` and logged.

    `path` is a file, a pattern or a folder of lists. A row with several texts gives as many
    candidates. Of several lists one that cannot be read is counted as `pairs.bad_list`; what else
    lies in their folder, as `pairs.other_file`.
    """

    name: ClassVar[str] = "pairs"
    version: ClassVar[int] = 4
    accounts: ClassVar[tuple[Account, ...]] = (
        Account(of="files", into=("pairs.list", "pairs.bad_list", "pairs.other_file")),
        Account(of="lines", into=("pairs.taken", "pairs.bad_line", "pairs.blank_line")),
    )
    path: str
    text_column: str = ""
    url_column: str = ""

    def config(self) -> dict[str, Any]:
        return {"text_column": self.text_column, "url_column": self.url_column}

    def inputs(self) -> dict[str, str]:
        return {path: fingerprint(path) for path, _ in lists_at(self.path)[0]}

    def parts(self) -> list[Part]:
        lists, others = lists_at(self.path)
        found: list[tuple[str, ...]] = []
        faults = []
        for path, label in lists:
            try:
                found += [(path, label, start) for start in self._starts(path)]
            except ValueError as error:
                faults.append(error)
        if len(faults) == len(lists):
            raise faults[0]
        for fault in faults:
            log.warning("a list is left out: %s", fault)
        if len(lists) + others > 1:
            found.append(("", str(len(lists)), str(len(faults)), str(others)))
        return [Part(name=f"{index:05d}", inputs=start) for index, start in enumerate(found)]

    def _starts(self, path: str) -> list[str]:
        kind = kind_of(path)
        if kind == "parquet":
            return [json.dumps(which) for which in _parquet_slices(path, self._keys)]
        return [json.dumps(asdict(part)) for part in cuts(path, kind, self._keys)]

    @property
    def _keys(self) -> Keys:
        return Keys(self.text_column, self.url_column)

    def process(self, part: Part) -> Output:
        counts: Counter[str] = Counter(candidates=0)
        path, label, *which = part.inputs
        if not path:
            bad, others = map(int, which)
            counts.update(
                {
                    "files": int(label) + others,
                    "pairs.list": int(label) - bad,
                    "pairs.bad_list": bad,
                    "pairs.other_file": others,
                }
            )
        rows = list(self._rows(path, which[0], counts)) if path else []
        counts["candidates"] = len(rows)
        table = _candidates(rows, label)
        files = (write_parquet(self.out, f"part-{part.name}.parquet", self.forgotten.blank(table)),)
        del counts["told"]
        return Output(
            files=files,
            counts={name: count for name, count in counts.items() if count or name == "candidates"},
        )

    def _rows(self, path: str, start: str, counts: Counter[str]) -> Iterator[Row]:
        lines = _parquet_lines if kind_of(path) == "parquet" else _text_lines
        size = 0
        for number, address, words in lines(path, start, self._keys, counts):
            size += sum(map(len, words))
            if size > TEXT_BYTES:
                _leave_out(
                    path,
                    number,
                    f"there are more than {TEXT_BYTES:,} bytes of texts in its part",
                    counts,
                )
                continue
            counts["pairs.taken"] += 1
            for which, text in enumerate(words or [""]):
                yield number, address, text, which


def columns_of(path: str, names: Sequence[str], keys: Keys) -> tuple[str, str]:
    """The columns that hold address and text; ValueError, naming what is there, if one is
    missing.
    """
    url = keys.url if keys.url in names else None if keys.url else found_key(names, URL_NAMES)
    others = [name for name in names if name != url]
    text = keys.text if keys.text in names else None if keys.text else found_key(others, TEXT_KEYS)
    if url is None or text is None:
        wanted = (
            f"it needs one named {keys.url or 'url'} and one named"
            f" {keys.text or 'text (or caption)'}"
        )
        remedy = "" if any(keys) else "; --url-column and --text-column name others"
        raise ValueError(f"{path} has the columns {_shown(names)}; {wanted}{remedy}")
    return url, text


def _shown(names: Sequence[str]) -> str:
    shown = [name if len(name) < 100 else f"{name[:100]}…" for name in names[:SHOWN]]
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return (", ".join(shown) or "none") + more


def cuts(path: str, kind: str, keys: Keys) -> list[Lines]:
    """The parts of a list of lines or of a JSON array. What is not as the name of its file says, or
    damaged, is said once.
    """
    source, charset = ListBytes(path), Charset()
    begin = _beginning(path, kind, keys)
    records = begin.of(source, charset)
    found, place, count = list[Lines](), begin, 0
    for record in records:
        count += 1
        if count == ROWS or record.end - place.offset >= PART_BYTES:
            found.append(replace(place, records=count))
            place, count = replace(begin, offset=record.end, line=record.number), 0
            if isinstance(records, Elements):
                records.begin_part()
    if count or not found:
        found.append(replace(place, records=count))
    name = charset.decided(path)
    found[-1] = replace(found[-1], damage=source.damage)
    _say_once(path, source, charset, name)
    return [replace(part, charset=name) for part in found]


def _say_once(path: str, source: ListBytes, charset: Charset, name: str) -> None:
    said = next(
        (ending for ending in reversed(path.lower().split(".")) if ending in COMPRESSIONS), ""
    )
    if COMPRESSIONS.get(said, "") != source.compression:
        log.warning(
            "%s: its content is %s, whatever its name says; it is read so",
            path,
            source.compression or "not compressed",
        )
    if source.damage:
        log.warning("%s: %s; what came before is read", path, source.damage)
    if charset.odd:
        how = (
            "read as Windows-1252"
            if name == WESTERN
            else "what is none in them is replaced by U+FFFD"
        )
        log.warning("%s: %d lines are not UTF-8; %s", path, charset.odd, how)


def _beginning(path: str, kind: str, keys: Keys) -> Lines:
    """Where the records of a list begin, and how they are written; ValueError if its header does
    not say what they hold.
    """
    if kind == "json" and is_array(next(ListBytes(path).chunks(), b"")):
        return Lines(offset=0, line=0, records=0, array=True)
    if kind not in DELIMITERS:
        return Lines(offset=0, line=0, records=0)
    wrong = None
    for delimiter in DELIMITERS[kind]:
        layout = Layout(delimiter=delimiter, quoted=kind == "csv")
        header = _header(path, layout)
        names: list[str] = header.value or []
        # then all of the file has quotes that nothing needs
        if all(len(name) > 1 and name[0] == name[-1] == '"' for name in names):
            names, layout = [name[1:-1] for name in names], replace(layout, quoted=True)
        try:
            url, text = columns_of(path, names, keys)
        except ValueError as error:
            wrong = wrong or error
            continue
        layout = replace(layout, width=len(names), url=names.index(url), text=names.index(text))
        return Lines(offset=header.end, line=header.number, records=0, layout=layout)
    assert wrong is not None, "there is more than one delimiter"
    raise wrong


def _header(path: str, layout: Layout) -> Record:
    """The first record that is not blank, if it is near the beginning."""
    records = layout.records(ListBytes(path).lines(), Charset(WESTERN))
    near = takewhile(lambda record: record.fault != BLANK or record.end <= BLANK_BYTES, records)
    header = next((record for record in near if record.fault != BLANK), Record(0, 0, None))
    if header.fault:
        raise ValueError(f"{path} has no header that can be read: {header.fault}")
    return header


Given = tuple[int, str, list[str]]  # line, address, texts


def _text_lines(path: str, start: str, keys: Keys, counts: Counter[str]) -> Iterator[Given]:
    """What the lines of a part give; those that give nothing are counted."""
    part = Lines.read(start)
    source, charset = ListBytes(path), Charset(part.charset)
    counts["lines"] += part.records
    for record in islice(part.of(source, charset), part.records):
        if record.fault == BLANK:
            counts["pairs.blank_line"] += 1
            continue
        try:
            address, words = _of_record(record, part.layout, keys)
        except (ValueError, TypeError) as error:
            _leave_out(path, record.number, error, counts)
        else:
            yield record.number - 1, address, words
    counts["pairs.not_utf8"] += charset.odd
    counts["pairs.truncated"] += bool(part.damage)


def _of_record(record: Record, layout: Layout | None, keys: Keys) -> tuple[str, list[str]]:
    if record.fault:
        raise ValueError(record.fault)
    if layout is not None:
        return plain(record.value[layout.url]), [plain(record.value[layout.text])]
    value = json_value(record.value)
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    url, text = columns_of("it", list(value), keys)
    if isinstance(value[url], dict | list):
        raise ValueError(f"{url} is no address")
    return _given(value[url], value[text])


def _given(address: Any, words: Any) -> tuple[str, list[str]]:
    """An address and the texts of a line; ValueError if they are too many or too long."""
    url, texts = "".join(texts_of(address)[:1]), texts_of(words)
    if len(texts) > TEXTS:
        raise ValueError(f"it has {len(texts):,} texts, more than {TEXTS:,}")
    if max(map(len, (url, *texts))) > LINE_BYTES:
        raise ValueError(f"it holds a text of more than {LINE_BYTES:,} characters")
    return url, texts


def _leave_out(path: str, number: int, why: object, counts: Counter[str], lost: int = 1) -> None:
    counts["pairs.bad_line"] += lost
    if counts["told"] < TOLD:
        counts["told"] += 1
        log.warning(
            "%s, line %d%s is left out: %s",
            path,
            number,
            f" and {lost - 1:,} behind it" if lost > 1 else "",
            why,
        )


def _parquet_slices(path: str, keys: Keys) -> list[Slice]:
    with opened(path) as file:
        source = parquet_list(path, file)
        return slices(source, _parquet_columns(path, source, keys), ROWS, PART_BYTES)


def _parquet_lines(path: str, start: str, keys: Keys, counts: Counter[str]) -> Iterator[Given]:
    with opened(path) as file:
        source = parquet_list(path, file)
        columns, which = _parquet_columns(path, source, keys), Slice(*json.loads(start))
        counts["lines"] += which.end - which.start
        for row in list_rows(source, columns, which):
            try:
                if row.fault:
                    raise ValueError(row.fault)
                address, words = _given(row.address, row.words)
            except ValueError as error:
                _leave_out(path, row.number + 1, error, counts, row.lost)
            else:
                yield row.number, address, words


def _parquet_columns(path: str, source: pq.ParquetFile, keys: Keys) -> tuple[str, str]:
    """The columns by name, of a kind that can be addresses and texts; ValueError else, as for a
    table that holds the images themselves.
    """
    schema = source.schema_arrow
    kinds = {entry.name: entry.type for entry in reversed(list(schema))}  # the first of each name
    names = [
        name
        for name in dict.fromkeys(schema.names)
        if is_text(kinds[name]) or name in keys or not pa.types.is_nested(kinds[name])
    ]
    opaque = [name for name in names if _is_bytes(kinds[name]) and not holds_text(source, name)]
    url, text = columns_of(path, [name for name in names if name not in opaque], keys)
    if not (is_string(kinds[url]) or _is_bytes(kinds[url])):
        raise ValueError(
            f"{path}: the column {url} holds {kinds[url]}, not addresses; images are taken by"
            " --import"
        )
    return url, text


def _is_bytes(kind: pa.DataType) -> bool:
    return is_binary(kind.value_type if pa.types.is_dictionary(kind) else kind)


def _candidates(rows: list[Row], label: str) -> pa.Table:
    """Rows of CANDIDATES; the place of a pair is its line, which tells equal pairs apart, with the
    file's label where there are several.
    """
    count = len(rows)
    known: dict[str, Any] = {
        "candidate_id": [
            identify(None, None, url, text, "given", _place(label, line, which))
            for line, url, text, which in rows
        ],
        "image_url": [without_blanks(url) for _, url, _, _ in rows],
        "alternatives": [[]] * count,
        "text": [text for _, _, text, _ in rows],
        "text_source": ["given"] * count,
        "context": [""] * count,
        "place": np.array([line for line, _, _, _ in rows], dtype=np.int32),
        "images_on_page": np.ones(count, dtype=np.int32),
    }
    return pa.table(
        [pa.array(known.get(entry.name, [None] * count), entry.type) for entry in CANDIDATES],
        schema=CANDIDATES,
    )


def _place(label: str, line: int, which: int) -> str:
    return (f"{label}#{line}" if label else str(line)) + (f".{which}" if which else "")
