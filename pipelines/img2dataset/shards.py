"""The work itself: the addresses of a shard are fetched, and once none is missing it is written.

What became of each address is kept in a journal beside the dataset, a file for some hundred
addresses, until the shard stands. So a killed run asks for none of them again, whichever process
had asked for it. The parts of a stage are what one process does of one shard: the addresses of its
own hosts, so that no host is asked by two.
"""

import time
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar
from urllib.parse import urlsplit

import pyarrow as pa

from pipelines.images.decode import Decoded
from pipelines.images.spool import SPOOL_BYTES, Found, Spool
from pipelines.img2dataset.config import Img2datasetConfig
from pipelines.img2dataset.output import Line, Shard, asked_address, write_shard
from pipelines.img2dataset.resize import Resized, decoder_of
from pipelines.resolve import hosts
from pipelines.schema import FETCHED
from pipelines.stage import Output, Part, Stage
from pipelines.store import Folder, LeaseHeld, lease, read_table, write_batches
from pipelines.web.addresses import is_literal, is_public
from pipelines.web.fetch import download, taking_turns
from pipelines.web.politeness import Politeness

CHUNK = 256  # addresses of a journal's file, as many as a kill costs beside those under way
AT_ONCE = (
    4  # chunks under way in a process: while one waits for its last addresses, the others go on
)
MAY_SUCCEED = (
    frozenset(  # outcomes of a moment: asked again another time, an address may give its image
        f"fetch.{name}"
        for name in (
            "timeout",
            "closed",
            "cut",
            "refused",
            "unreachable",
            "dns",
            "http_5xx",
            "http_408",
            "http_425",
            "http_429",
            "host_down",
        )
    )
    | {"fetch.host_busy", "fetch.failed"}
)
JOURNAL = pa.schema(
    [
        ("url", pa.string()),
        ("outcome", pa.string()),
        ("image", pa.binary()),  # as it is written; null unless fetched
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("original_width", pa.int32()),
        ("original_height", pa.int32()),
        ("exif", pa.string()),
        ("hash", pa.string()),
    ]
)


@dataclass(frozen=True, kw_only=True)
class DownloadShards(Stage):
    """Downloads the shards that are pending; `out` holds their rows and the journal."""

    name: ClassVar[str] = "img2dataset"
    version: ClassVar[int] = 1
    arguments: Img2datasetConfig
    pending: tuple[Shard, ...]

    def inputs(self) -> dict[str, str]:
        return {}

    def parts(self) -> list[Part]:
        lanes = [str(lane) for lane in range(self.arguments.processes_count)]
        return [
            Part(name=f"{shard.name}.{lane}", inputs=(str(place),), lane=lane)
            for place, shard in enumerate(self.pending)
            for lane in lanes
        ]

    def process(self, part: Part) -> Output:
        shard = self.pending[int(part.inputs[0])]
        rows = shard.rows(self.out)
        journal = Journal(self.out / "journal", shard.name)
        journal.begin(part.lane)

        urls = list(dict.fromkeys(asked_address(url) for url in rows["url"].to_pylist()))
        lanes = self.arguments.processes_count
        own = [url for url in urls if lane_of(url, lanes) == int(part.lane)]
        fetch = partial(
            fetch_into, journal, part.lane, self.arguments, hashes_of(rows, self.arguments)
        )

        there = journal.outcomes()
        fetch([url for url in own if url not in there])
        for _ in range(self.arguments.retries):
            outcomes = journal.outcomes()
            fetch([url for url in own if outcomes[url] in MAY_SUCCEED])

        outcomes = journal.outcomes()
        if outcomes.keys() >= set(urls):
            self._write(shard, rows, journal)
        return Output(files=(), counts=Counter(outcomes[url] for url in own))

    def _write(self, shard: Shard, rows: pa.Table, journal: "Journal") -> None:
        """Whoever brings the last address of a shard writes it."""
        try:
            with lease(self.out / "leases", f"{shard.name}.json"):
                if not shard.stands(self.arguments):
                    write_shard(
                        shard, rows, journal.read(), journal.begun(), self.arguments, self.out
                    )
                journal.remove()
        except LeaseHeld:
            return


def hashes_of(rows: pa.Table, arguments: Img2datasetConfig) -> dict[str, set[str]]:
    """The hashes that the rows of an address want, where hashes are verified."""
    found: dict[str, set[str]] = {}
    if arguments.verify_hash is not None:
        wanted = rows[arguments.verify_hash[1]].to_pylist()
        for url, hash in zip(rows["url"].to_pylist(), wanted, strict=True):
            found.setdefault(asked_address(url), set()).add(str(hash))
    return found


def fetch_into(
    journal: "Journal",
    lane: str,
    arguments: Img2datasetConfig,
    hashes: Mapping[str, set[str]],
    urls: Sequence[str],
) -> None:
    """Ask for addresses, some chunks at a time, which leave slow ones behind for the last call."""

    def chunk(urls: Sequence[str], *, leave: bool) -> list[str]:
        wanted = frozenset(hash for url in urls for hash in hashes.get(url, ()))
        decode = decoder_of(arguments, wanted)
        with Spool() as spool:
            found = download(
                urls, politeness_of(arguments), decode=decode, keep=spool.keep, leave=leave
            )
            journal.write(lane, _batches(found, spool))
        return [url for url in urls if url not in found]

    if not urls:
        return
    order = taking_turns(hosts(pa.chunked_array([pa.array(urls)])))
    turns = [urls[place] for place in order.tolist()]
    chunks = [turns[start : start + CHUNK] for start in range(0, len(turns), CHUNK)]
    threads = ThreadPoolExecutor(AT_ONCE)
    try:
        left = [url for behind in threads.map(partial(chunk, leave=True), chunks) for url in behind]
    finally:
        threads.shutdown(wait=False, cancel_futures=True)  # Ctrl-C waits for none of them
    if left:
        chunk(left, leave=False)


@dataclass(frozen=True)
class Journal:
    """What became of the addresses of one shard; the last line about an address counts."""

    folder: Folder
    shard: str

    def _names(self) -> list[str]:
        return [name for name in self.folder.names() if name.startswith(f"{self.shard}.")]

    def tables(self) -> Iterator[pa.Table]:
        for name in self._names():
            yield read_table(self.folder, name)

    def outcomes(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for table in self.tables():
            found.update(zip(table["url"].to_pylist(), table["outcome"].to_pylist(), strict=True))
        return found

    def read(self) -> dict[str, Line]:
        """Where the line of each address is."""
        return {
            url: Line(table, row)
            for table in self.tables()
            for row, url in enumerate(table["url"].to_pylist())
        }

    def begin(self, lane: str) -> None:
        """An empty file says when the first address was asked for."""
        if not self._names():
            self.write(lane, ())

    def begun(self) -> float:
        """Epoch seconds."""
        return int(self._names()[0].split(".")[1]) / 1e9

    def write(self, lane: str, batches: Iterable[pa.RecordBatch]) -> None:
        # by name they are in the order in which they were written
        name = f"{self.shard}.{time.time_ns():020d}.{lane}.arrow"
        write_batches(self.folder, name, JOURNAL, batches)

    def remove(self) -> None:
        for name in self._names():
            self.folder.remove(name)


def _batches(found: Mapping[str, Found], spool: Spool) -> Iterator[pa.RecordBatch]:
    """Lines of the journal, some megabytes at a time."""
    batch: list[dict[str, Any]] = []
    size = 0
    for url, (result, picture) in found.items():
        line: dict[str, Any] = {"url": url, "outcome": result.outcome}
        if isinstance(picture, Decoded):
            assert result.outcome == FETCHED
            assert isinstance(picture, Resized)
            line |= {name: getattr(picture, name) for name in JOURNAL.names if name not in line}
            line["image"] = spool.read(picture.image_id)
            size += len(line["image"])
        batch.append(line)
        if size > SPOOL_BYTES:
            yield pa.RecordBatch.from_pylist(batch, JOURNAL)
            batch, size = [], 0
    yield pa.RecordBatch.from_pylist(batch, JOURNAL)


def lane_of(url: str, lanes: int) -> int:
    """Which process asks for an address: one for a host, which paces it; private ones are dealt out."""
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        host = ""
    private = host == "localhost" or (is_literal(host) and not is_public(host))
    return zlib.crc32((url if private else host).encode("utf-8", "surrogatepass")) % lanes


def politeness_of(config: Img2datasetConfig) -> Politeness:
    return Politeness(
        allow_private_addresses=config.allow_private_addresses,
        contact=config.contact,
        images_per_second=config.images_per_second,
        connections=config.thread_count,
        seconds=config.timeout,
    )
