"""Indexes of archives: the columnar index of Common Crawl (Parquet), CDX and CDXJ files; of all
their records, those that are chosen.

Columns and fields: Common Crawl's cc-index-table and pywb's CDXJ; CDX as the Internet Archive's CDX
file format of 2015 has it.
"""

import json
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, ClassVar

import fsspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from fsspec.implementations.http import HTTPFileSystem

from pipelines.accounts import Account
from pipelines.engine.stage import Output, Part, Stage
from pipelines.sources.archives import wacz
from pipelines.sources.archives.responses import HTML
from pipelines.sources.lists.lines import ListBytes
from pipelines.sources.paths import Source, expand, fingerprint, is_local, joiner, opened
from pipelines.tables import write_batches

CHOSEN = pa.schema(
    [("archive", pa.string()), ("offset", pa.int64()), ("length", pa.int64()), ("url", pa.string())]
)
CHOSEN_FILE = "chosen.arrow"
ROWS = 2048  # records of a part of extraction
# bytes of a remote table asked for at once: some columns of some row groups are read
TABLE_BLOCK = 1024 * 1024
HEAD_LINES = 64  # looked at for whether a text is an index at all
PLACE = re.compile(r"[0-9]{1,18}")  # a byte of a file, or a number of them
LINES = 20_000  # of a text index, read into a record batch
# of the table of chosen records, which lies on the disk
SORTING: dict[str, Any] = {"memory_limit": "1GB", "threads": "1"}
COLUMNS = {
    "archive": "warc_filename",
    "offset": "warc_record_offset",
    "length": "warc_record_length",
    "url": "url",
}
# of the header of a CDX file
LETTERS = {"a": "url", "m": "mime", "s": "status", "S": "length", "V": "offset", "g": "filename"}


@dataclass(frozen=True, kw_only=True)
class Choose(Stage):
    """Writes which records of which archives an index names and the filters let through, ordered by
    archive and place.

    `languages` are three-letter codes, any of which the page must be in; `hosts` include what lies
    below them; `mime` are types that the crawler detected, `image/*` for all of a kind. `prefix` is
    what names of archives are joined to (see `sources.expand`).
    """

    name: ClassVar[str] = "choose"
    version: ClassVar[int] = 2
    accounts: ClassVar[tuple[Account, ...]] = (
        Account(
            of="index.rows",
            into=("index.chosen", "index.left_out", "index.repeated", "index.unreadable"),
        ),
    )
    index: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    mime: tuple[str, ...] = tuple(sorted(HTML))
    prefix: str = ""

    def __post_init__(self) -> None:
        odd = [
            code
            for code in self.languages
            if not (len(code) == 3 and code.isascii() and code.isalpha() and code.islower())
        ]
        if odd:
            raise ValueError(
                "an index names languages by three letters (ISO 639-3): eng, deu, zho; not"
                f" {', '.join(odd)}"
            )
        whole = [host for host in self.hosts if "/" in host or ":" in host]
        if whole:
            raise ValueError(
                f"give hosts by name alone, such as example.org; not {', '.join(whole)}"
            )

    def config(self) -> dict[str, Any]:
        return {
            "languages": self.languages,
            "hosts": self.hosts,
            "mime": self.mime,
            "prefix": self.prefix,
        }

    def inputs(self) -> dict[str, str]:
        return {source.url: fingerprint(source) for source in self._files()}

    def parts(self) -> list[Part]:
        return [Part(name="00000", inputs=tuple(source.url for source in self._files()))]

    def process(self, part: Part) -> Output:
        # where it is imported and threads live on, its bindings complain at the end of a process
        import duckdb

        counts: Counter[str] = Counter({"index.rows": 0})
        with (
            tempfile.TemporaryDirectory() as folder,
            duckdb.connect(f"{folder}/chosen", config=SORTING) as table,
        ):
            table.execute(
                'CREATE TABLE chosen (archive VARCHAR, "offset" BIGINT, length BIGINT, url VARCHAR)'
            )
            for batch in self._chosen(part.inputs, counts):
                counts["index.repeated"] += batch.num_rows
                table.register("batch", pa.Table.from_batches([batch]))
                table.execute("INSERT INTO chosen SELECT * FROM batch")
            ordered = table.sql(
                'SELECT DISTINCT archive, "offset", length, url FROM chosen ORDER BY archive,'
                ' "offset", length, url'
            )
            written = write_batches(
                self.out,
                CHOSEN_FILE,
                CHOSEN,
                (batch.cast(CHOSEN) for batch in ordered.to_arrow_reader(ROWS)),
            )
        counts["index.chosen"] = written.rows or 0
        counts["index.repeated"] -= written.rows or 0
        return Output(files=(written,), counts=dict(+counts))

    def _files(self) -> list[Source]:
        return [
            source
            for given in self.index
            for source in _tables(given) or expand([given], self.prefix, wacz.INDEXES)
        ]

    def _chosen(self, urls: tuple[str, ...], counts: Counter[str]) -> Iterator[pa.RecordBatch]:
        for url in urls:
            for batch in (
                self._of_parquet(url, counts) if _is_parquet(url) else self._of_text(url, counts)
            ):
                if batch.num_rows:
                    yield _resolved(batch, url, self.prefix)

    def _of_parquet(self, url: str, counts: Counter[str]) -> Iterator[pa.RecordBatch]:
        try:
            yield from self._rows_of_parquet(url, counts)
        except (pa.ArrowException, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise ValueError(
                f"{url} is a damaged table, or has columns of other types: {error}; fetch it again"
            ) from error

    def _rows_of_parquet(self, url: str, counts: Counter[str]) -> Iterator[pa.RecordBatch]:
        with opened(url, TABLE_BLOCK) as file:
            table = ds.ParquetFileFormat().make_fragment(pa.PythonFile(file, mode="r"))
            names = set(table.physical_schema.names)
            if missing := {*COLUMNS.values(), *self._columns_asked()} - names:
                raise ValueError(
                    f"{url} has no column {', '.join(sorted(missing))}: is it a table of Common"
                    " Crawl's columnar index?"
                )
            columns = {name: ds.field(column) for name, column in COLUMNS.items()}
            rows = table.metadata.num_rows
            counts["index.rows"] += rows
            for batch in table.scanner(
                columns=columns, filter=self._condition(names), use_threads=False
            ).to_batches():
                rows -= batch.num_rows
                sound = _sound(chosen := batch.cast(CHOSEN))
                counts["index.unreadable"] += chosen.num_rows - sound.num_rows
                yield sound
            counts["index.left_out"] += rows

    def _columns_asked(self) -> set[str]:
        asked = {
            "content_languages": self.languages,
            "url_host_name": self.hosts,
            "content_mime_detected": self.mime,
            "fetch_status": True,
        }
        return {name for name, wanted in asked.items() if wanted}

    def _condition(self, names: set[str]) -> Any:
        """The filters as an expression; that on the sort key lets whole row groups be passed
        over.
        """
        condition = ds.field("fetch_status") == 200
        if self.languages:
            condition &= pc.match_substring_regex(
                ds.field("content_languages"), rf"(^|,)({'|'.join(self.languages)})(,|$)"
            )
        if self.mime:
            condition &= _any(
                _mime_is(ds.field("content_mime_detected"), kind) for kind in self.mime
            )
        if self.hosts:
            host = ds.field("url_host_name")
            condition &= _any(
                (host == name) | pc.ends_with(host, f".{name}") for name in self.hosts
            )
            if "url_surtkey" in names:
                key = ds.field("url_surtkey")
                condition &= _any(
                    (key >= begin) & (key < f"{begin}~") for begin in map(_surt, self.hosts)
                )
        return condition

    def _of_text(self, url: str, counts: Counter[str]) -> Iterator[pa.RecordBatch]:
        rows: list[dict[str, Any]] = []
        languages = False
        for entry in _entries(url, counts):
            languages = languages or "languages" in entry
            if not self._lets_through(entry):
                counts["index.left_out"] += 1
            elif (row := _row(entry)) is None:
                counts["index.unreadable"] += 1
            else:
                rows.append(row)
            if len(rows) == LINES:
                yield pa.RecordBatch.from_pylist(rows, CHOSEN)
                rows = []
        if self.languages and not languages:
            raise ValueError(
                f"{url} does not say the language of a page: choose by host and MIME type alone, or"
                " take a columnar index"
            )
        yield pa.RecordBatch.from_pylist(rows, CHOSEN)

    def _lets_through(self, entry: Mapping[str, str]) -> bool:
        """Whether the filters let a line through."""
        mime = (entry.get("mime-detected") or entry.get("mime") or "").lower()
        return (
            entry.get("status") == "200"
            and (
                not self.languages
                or bool({*self.languages} & {*entry.get("languages", "").split(",")})
            )
            and (
                not self.mime
                or any(
                    mime == kind or (kind.endswith("/*") and mime.startswith(kind[:-1]))
                    for kind in self.mime
                )
            )
            and (not self.hosts or _below(entry.get("url", ""), self.hosts))
        )


def _row(entry: Mapping[str, str]) -> dict[str, Any] | None:
    """A line as a row of CHOSEN, if it says where its record is."""
    offset, length, name = (entry.get(field, "") for field in ("offset", "length", "filename"))
    if not (PLACE.fullmatch(offset) and PLACE.fullmatch(length) and int(length) and name):
        return None
    url = entry.get("url", "").encode("utf-8", "replace").decode()
    return {
        "archive": name.encode("utf-8", "replace").decode(),
        "offset": int(offset),
        "length": int(length),
        "url": url,
    }


def _sound(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The rows that say where a record is."""
    placed = pc.and_(pc.greater_equal(batch["offset"], 0), pc.greater(batch["length"], 0))
    return batch.filter(pc.fill_null(pc.and_(placed, batch["archive"].is_valid()), False))


def _tables(url: str) -> list[Source]:
    """The tables in a folder; none if it is no folder. Of http none is: to tell one there, the
    whole answer would have to be read.
    """
    system, path = fsspec.core.url_to_fs(url)
    if isinstance(system, HTTPFileSystem) or not system.isdir(path):
        return []
    names = [name for name in sorted(system.find(path)) if name.endswith(".parquet")]
    if not names:
        raise ValueError(
            f"the folder {url} holds no .parquet file: give the files of an index, or a folder of"
            " its tables"
        )
    return [
        Source(url=name if is_local(url) else str(system.unstrip_protocol(name))) for name in names
    ]


def _is_parquet(url: str) -> bool:
    with opened(url) as file:
        return file.read(4) == b"PAR1"


def _resolved(batch: pa.RecordBatch, url: str, prefix: str) -> pa.RecordBatch:
    """A batch whose names of archives are addresses."""
    names = batch.column("archive").dictionary_encode()
    address = joiner(url, prefix, names.dictionary[0].as_py())
    places = pa.array([address(name) for name in names.dictionary.to_pylist()], pa.string())
    return batch.set_column(0, "archive", places.take(names.indices))


def _any(conditions: Iterator[Any]) -> Any:
    found = next(conditions)
    for condition in conditions:
        found |= condition
    return found


def _mime_is(column: Any, kind: str) -> Any:
    return pc.starts_with(column, kind[:-1]) if kind.endswith("/*") else column == kind


def _surt(host: str) -> str:
    """What the sort key of a host begins with: `org,example` of www.example.org."""
    return ",".join(reversed(re.sub(r"^www\d*\.", "", host.lower()).split(".")))


def _below(url: str, hosts: tuple[str, ...]) -> bool:
    name = (
        url.split("://", 1)[-1]
        .split("/", 1)[0]
        .split("?", 1)[0]
        .rsplit("@", 1)[-1]
        .split(":", 1)[0]
        .lower()
    )
    return any(name == host or name.endswith(f".{host}") for host in hosts)


def _entries(url: str, counts: Counter[str]) -> Iterator[Mapping[str, str]]:
    """The lines of a CDX file under their names of CDXJ, those that cannot be read counted;
    ValueError if it is none.
    """
    file = ListBytes(url, opened)
    lines = file.lines()
    first = list(islice(lines, HEAD_LINES))
    header = first[0].data.decode("utf-8", "replace") if first else ""
    if not header.lstrip().startswith("CDX") and not any(b"{" in line.data for line in first):
        raise ValueError(
            f"{url} is no index: it begins with {header[:40]!r} instead of ' CDX ', a CDXJ line or"
            " a Parquet table"
        )
    columned = header.lstrip().startswith("CDX")
    read = _columned(url, header) if columned else _json_line
    for line in chain(first[1:] if columned else first, lines):
        if line.data.startswith(b"!") or not (line.data.strip() or line.fault):
            continue  # !meta of a compressed index
        counts["index.rows"] += 1
        entry = None if line.fault else read(line.data.decode("utf-8", "replace"))
        if entry is None:
            counts["index.unreadable"] += 1
        else:
            yield entry
    if file.damage:
        counts["index.damaged"] += 1  # what lies behind is not known


def _json_line(line: str) -> Mapping[str, str] | None:
    begin = line.find("{")
    try:
        entry = json.loads(line[begin:]) if begin >= 0 else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(entry, dict):
        return None
    return {name: str(value) for name, value in entry.items() if isinstance(value, str | int)}


def _columned(url: str, header: str) -> Callable[[str], Mapping[str, str] | None]:
    """What reads the lines below a header of CDX."""
    delimiter = header[0] if header[:1] in (" ", "\t") else " "
    letters = header.split()[1:]
    missing = [name for letter, name in LETTERS.items() if letter not in letters]
    if missing:
        raise ValueError(
            f"{url} has no {', '.join(missing)}: give an index of 11 columns (CDX N b a m s k r M S"
            " V g), or CDXJ"
        )

    def read(line: str) -> Mapping[str, str] | None:
        values = line.rstrip("\r\n").split(delimiter)
        named = zip(letters, values, strict=False)
        return (
            {LETTERS[letter]: value for letter, value in named if letter in LETTERS}
            if len(values) == len(letters)
            else None
        )

    return read
