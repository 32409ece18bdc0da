"""The work itself: the addresses of a shard are fetched, and once none is missing it is written.

What became of each address is kept in a journal beside the dataset, a file for some hundred
addresses, until the shard stands. So a killed run asks for none of them again, whichever process
had asked for it. The parts of a stage are what one process does: the addresses of its own hosts in
all shards, so that no host is asked by two. It works on some shards at once: while one waits for
its last addresses, or is written, the next are fetched.
"""

import contextlib
import logging
import time
import traceback
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Executor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar
from urllib.parse import urlsplit

import pyarrow as pa

from pipelines.engine.children import children
from pipelines.engine.shuffle import hosts
from pipelines.engine.stage import RECEIPTS, Output, Part, Stage
from pipelines.images.decode import Decoded
from pipelines.img2dataset.config import Img2datasetConfig
from pipelines.img2dataset.decoders import Decode, Resized, decoder_of, resized
from pipelines.img2dataset.output import Line, Shard, asked_address, write_shard
from pipelines.lease import LeaseHeld, lease
from pipelines.permission.networks import is_literal, is_public
from pipelines.schema import FETCHED
from pipelines.sources.spool import SPOOL_BYTES, Found, Spool
from pipelines.store import FULL, Folder
from pipelines.tables import read_table, write_batches
from pipelines.web.budget import spent_file
from pipelines.web.fetch import download, taking_turns
from pipelines.web.guest_options import bytes_at_most
from pipelines.web.politeness import Politeness

CHUNK = 256  # addresses of a journal's file, as many as a kill costs beside those under way
CHUNKS_AT_ONCE = 4  # in a process: while one waits for its last addresses, the others go on
SHARDS_AT_ONCE = 3  # in a process: one is written, one waits for its last addresses, one is fetched
OF_A_MOMENT = frozenset(  # asked again another time, an address may give its image
    f"fetch.{name}"
    for name in (
        "timeout",
        "closed",
        "cut",
        "refused",
        "unreachable",
        "dns",
        "proxy",
        "failed",
        "http_5xx",
        "http_408",
        "http_425",
        "http_429",
        "host_down",
        "host_busy",
    )
)
MAY_SUCCEED = OF_A_MOMENT | {"fetch.budget"}  # by another run
log = logging.getLogger("winnow.img2dataset")
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
        return [Part(name=f"lane-{lane}", lane=lane) for lane in lanes]

    def process(self, part: Part) -> Output:
        counts: Counter[str] = Counter()
        if not self.arguments.disable_all_reencoding:
            children().start(resized)  # what its imports take is nobody's time of an image
        with _threads(CHUNKS_AT_ONCE) as chunks, _threads(SHARDS_AT_ONCE) as shards:
            work = partial(self._done, part.lane, chunks)
            for found in shards.map(work, self.pending):
                counts.update(found)
        return Output(files=(), counts=counts)

    def _done(self, lane: str, chunks: Executor, shard: Shard) -> Counter[str]:
        """The outcomes of a shard's own addresses; of one that fails the error is left behind."""
        try:
            return self._shard(lane, chunks, shard)
        except CancelledError:  # Ctrl-C
            raise
        except Exception as error:
            if isinstance(error, OSError) and error.errno in FULL:
                raise
            log.error("shard %s failed: %s", shard.name, error)
            words = "".join(traceback.format_exception(error))
            (self.out / RECEIPTS).write_json(f"{shard.name}.{lane}.failed", words)
            return Counter()

    def _shard(self, lane: str, chunks: Executor, shard: Shard) -> Counter[str]:
        if shard.stands(self.arguments):  # this part was begun before
            return Counter()
        rows = shard.rows(self.out)
        journal = Journal(self.out / "journal", shard.name)
        lanes = self.arguments.processes_count
        urls = dict.fromkeys(asked_address(url) for url in rows["url"].to_pylist())
        own = [url for url in urls if lane_of(url, lanes) == int(lane)]
        decode = decoder_of(self.arguments, hashes_of(rows, self.arguments))
        fetch = partial(fetch_into, journal, lane, self.arguments, decode, chunks)

        journal.begin(lane)
        there = journal.outcomes()
        fetch([url for url in own if url not in there])
        for _ in range(self.arguments.retries):
            outcomes = journal.outcomes()
            fetch([url for url in own if outcomes[url] in OF_A_MOMENT])

        outcomes = journal.outcomes()
        found = Counter(outcomes[url] for url in own)
        receipts = self.out / RECEIPTS
        receipts.write_json(f"{shard.name}.{lane}.done", dict(found))
        if all(receipts.exists(f"{shard.name}.{other}.done") for other in range(lanes)):
            self._write(shard, rows, journal)
        return found

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


@contextlib.contextmanager
def _threads(count: int) -> Iterator[Executor]:
    """Some threads, which an error waits for, and Ctrl-C does not."""
    threads = ThreadPoolExecutor(count, thread_name_prefix="shards")
    try:
        yield threads
    except KeyboardInterrupt:
        threads.shutdown(wait=False, cancel_futures=True)
        raise
    except BaseException:
        threads.shutdown(cancel_futures=True)
        raise
    threads.shutdown()


def hashes_of(rows: pa.Table, arguments: Img2datasetConfig) -> frozenset[str]:
    """The hashes that some rows want, where hashes are verified; which wants which is seen
    later.
    """
    if arguments.verify_hash is None:
        return frozenset()
    return frozenset(str(hash) for hash in rows[arguments.verify_hash[1]].to_pylist())


def fetch_into(
    journal: "Journal",
    lane: str,
    arguments: Img2datasetConfig,
    decode: Decode,
    chunks: Executor,
    urls: Sequence[str],
) -> None:
    """Ask for addresses, some chunks at a time, which leave slow ones behind for the last call."""

    def chunk(urls: Sequence[str], *, leave: bool) -> list[str]:
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
    pieces = [turns[start : start + CHUNK] for start in range(0, len(turns), CHUNK)]
    left = [url for behind in chunks.map(partial(chunk, leave=True), pieces) for url in behind]
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
    """Which process asks for an address: one for a host, which paces it; private ones are dealt
    out.
    """
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        host = ""
    private = host == "localhost" or (is_literal(host) and not is_public(host))
    return zlib.crc32((url if private else host).encode("utf-8", "surrogatepass")) % lanes


def politeness_of(config: Img2datasetConfig) -> Politeness:
    most = bytes_at_most(config.max_bytes)
    return Politeness(
        allow_private_addresses=config.allow_private_addresses,
        allow_private_proxy=config.allow_private_proxy,
        ca_file=config.ca_file,
        contact=config.contact,
        images_per_second=config.images_per_second,
        connections=config.thread_count,
        seconds=config.timeout,
        max_bytes=most,
        spent_in=spent_file(Folder(config.output_folder).path()) if most is not None else None,
    )
