"""Fetching images: chunks of addresses of one bucket of hosts, each address ending as exactly one row.

img2dataset's Downloader asks for the addresses; what opens them is our Opener, and what keeps the samples is a collector in memory.
"""

import functools
import importlib
import importlib.util
import os
import sys
import tempfile
import threading
import types
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, Any, ClassVar
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.decode import Decoded, Undecodable, decode
from pipelines.held import from_archives
from pipelines.opener import Attempt, Guest, Opener
from pipelines.permission import TOKEN, address_outcome
from pipelines.schema import FETCHES, IMAGES
from pipelines.spool import SPOOL_BYTES, Found, Keep, Spool, settled
from pipelines.stage import Manifest, Output, Part, Stage
from pipelines.store import Folder, read_table, write_batches, write_parquet

CHUNK = 256  # addresses of a part: what a kill costs a worker at most
THREADS = 32  # at once; img2dataset's own measurements peak between 32 and 64


@dataclass(frozen=True, kw_only=True)
class Fetch(Stage):
    """Turns the distinct addresses of `urls` (a file for each bucket of hosts) into images and one row for each address.

    `held` is the folder of candidates whose index names images that the archives hold; without `web` only those are read.
    """

    name: ClassVar[str] = "fetch"
    version: ClassVar[int] = 1
    images: Folder
    urls: Folder
    held: Folder | None = None
    allow_private_addresses: bool = False
    contact: str = ""
    web: bool = True
    seconds: float = 30.0  # for one image
    image_bytes: int = 32 * 1024 * 1024
    images_per_second: float = 10.0  # of one public host
    threads: int = THREADS

    def config(self) -> dict[str, Any]:
        return {
            "allow_private_addresses": self.allow_private_addresses,
            "web": self.web,
            "seconds": self.seconds,
            "image_bytes": self.image_bytes,
        }

    def folders(self) -> tuple[Folder, ...]:
        return (self.out, self.images)

    def inputs(self) -> dict[str, str]:
        folders = {"urls": self.urls} | ({"held": self.held} if self.held is not None else {})
        manifests = {name: Manifest.read(folder) for name, folder in folders.items()}
        return {name: manifest.digest for name, manifest in manifests.items() if manifest is not None}

    def parts(self) -> list[Part]:
        manifest = Manifest.read(self.urls)
        names = manifest.names(".parquet") if manifest is not None else [name for name in self.urls.names() if name.endswith(".parquet")]
        return [part for name in names for part in self._chunks(name)]

    def _chunks(self, name: str) -> Iterator[Part]:
        """The parts of one bucket: a lane of its own, so that no host is asked by two workers at once."""
        with self.urls.open(name) as file:
            rows = pq.ParquetFile(file).metadata.num_rows
        bucket = name.removesuffix(".parquet").rsplit("-", 1)[-1]
        for number, start in enumerate(range(0, rows, CHUNK)):
            yield Part(name=f"part-{bucket}-{number:05d}", inputs=(name, str(start)), lane=bucket)

    def process(self, part: Part) -> Output:
        name, start = part.inputs
        urls = [str(url) for url in read_table(self.urls, name, ["image_url"])["image_url"].slice(int(start), CHUNK).to_pylist()]
        found: dict[str, Found] = {url: (Attempt(outcome=outcome), None) for url in urls if (outcome := address_outcome(url)) is not None}
        with Spool() as spool:
            found |= from_archives(self.held, [url for url in urls if url not in found], spool, limit=self.image_bytes)
            found |= self._from_web(interleaved([url for url in urls if url not in found]), spool)
            assert found.keys() == set(urls), "an address was lost or made up"
            return self._write(part.name, [(url, *found[url]) for url in urls], spool)

    def _from_web(self, urls: Sequence[str], spool: Spool) -> dict[str, Found]:
        if not urls or not self.web:
            return {url: (Attempt(outcome="fetch.not_asked"), None) for url in urls}
        guest = Guest(
            allow_private_addresses=self.allow_private_addresses,
            contact=self.contact,
            images_per_second=self.images_per_second,
            seconds=self.seconds,
            image_bytes=self.image_bytes,
        )
        return download(urls, guest, threads=self.threads, keep=spool.keep)

    def _write(self, name: str, rows: list[tuple[str, Attempt, Decoded | None]], spool: Spool) -> Output:
        """Images first, then the rows that speak of them."""
        table = fetches_table(rows)
        images = write_batches(self.images, f"{name}.arrow", IMAGES, image_batches(rows, spool))
        counts = Counter(table["outcome"].to_pylist())
        return Output(files=(images, write_parquet(self.out, f"{name}.parquet", table)), counts={**counts, "images": images.rows or 0})


def interleaved(urls: Sequence[str]) -> list[str]:
    """Addresses in an order that goes round the hosts, so that few threads wait for one host's turn."""
    turn: Counter[str] = Counter()
    ranked = []
    for url in urls:
        host = urlsplit(url).netloc
        ranked.append((turn[host], host, url))
        turn[host] += 1
    return [url for _, _, url in sorted(ranked)]


def fetches_table(rows: Sequence[tuple[str, Attempt, Decoded | None]]) -> pa.Table:
    """A row of FETCHES for each address."""
    fields = [name for name in FETCHES.names if name not in ("image_url", "image_id", "held_in")]
    columns: dict[str, list[Any]] = {name: [getattr(attempt, name) for _, attempt, _ in rows] for name in fields}
    columns |= {
        "image_url": [url for url, _, _ in rows],
        "image_id": [picture.image_id if picture is not None else None for _, _, picture in rows],
        "held_in": [None] * len(rows),
    }
    return pa.table([pa.array(columns[entry.name], entry.type) for entry in FETCHES], schema=FETCHES)


def image_batches(rows: Sequence[tuple[str, Attempt, Decoded | None]], spool: Spool) -> Iterator[pa.RecordBatch]:
    """A row of IMAGES for each distinct picture, in the order of its first address, some megabytes at a time."""
    first: dict[str, tuple[str, Attempt, Decoded]] = {}
    for url, attempt, picture in rows:
        if picture is not None:
            first.setdefault(picture.image_id, (url, attempt, picture))
    batch: list[dict[str, Any]] = []
    size = 0
    for url, attempt, picture in first.values():
        own = {name: getattr(picture, name) for name in IMAGES.names if name in Decoded.__slots__}
        image = spool.read(picture.image_id)
        batch.append({**own, "image": image, "image_url": url, "fetched_at": attempt.fetched_at})
        size += len(image)
        if size > SPOOL_BYTES:
            yield pa.RecordBatch.from_pylist(batch, IMAGES)
            batch, size = [], 0
    if batch:
        yield pa.RecordBatch.from_pylist(batch, IMAGES)


@dataclass
class Collector:
    """What img2dataset writes samples to: it decodes each as it comes and hands it on."""

    keep: Keep
    found: dict[str, Decoded | Undecodable] = field(default_factory=dict)

    def __call__(self, *shard: Any) -> "Collector":
        """Stands where img2dataset makes a writer of a class."""
        return self

    def write(self, data: bytes | None, key: str, caption: str | None, meta: dict[str, Any]) -> None:
        if data is not None:
            self.found[meta["url"]] = self.keep(decode(data))

    def close(self) -> None:
        """Nothing is open."""


@functools.cache
def _opener(guest: Guest) -> Opener:
    """One opener a process: its TLS context, robots rules and paces outlive a chunk."""
    return Opener(guest)


_installed = threading.Lock()  # urllib has one opener a process, so one chunk at a time is downloaded in it


@contextmanager
def _installed_opener(guest: Guest) -> Iterator[Opener]:
    with _installed:
        opener, before = _opener(guest), urllib.request._opener  # type: ignore[attr-defined]
        opener.attempts = {}
        urllib.request.install_opener(opener)  # type: ignore[arg-type]
        try:
            yield opener
        finally:
            urllib.request.install_opener(before)
            opener.close()


def as_it_is(picture: Decoded | Undecodable) -> Decoded | Undecodable:
    """The picture with its bytes, for a few of them."""
    return picture


def download(urls: Sequence[str], guest: Guest, *, threads: int = THREADS, keep: Keep = as_it_is) -> dict[str, Found]:
    """What became of each address, fetched by img2dataset's Downloader through our opener; `keep` takes each picture over."""
    collector = Collector(keep)
    with _installed_opener(guest) as opener, tempfile.TemporaryDirectory(prefix="winnow-fetch-") as folder:
        shard = os.path.join(folder, "urls.arrow")
        _write_shard(shard, urls)
        _downloader_class()(
            sample_writer_class=collector,
            resizer=_as_they_came,
            thread_count=min(threads, len(urls)),
            save_caption=False,
            extract_exif=False,
            output_folder=folder,
            column_list=["url"],
            timeout=guest.seconds,
            number_sample_per_shard=max(2, len(urls)),
            oom_shard_count=1,
            compute_hash=None,
            verify_hash_type=None,
            encode_format="jpg",
            retries=0,  # the opener tries again where that helps
            user_agent_token=TOKEN,
            disallowed_header_directives=None,  # the opener reads X-Robots-Tag, correctly and before the body
        ).download_shard((0, shard))
        lost = Attempt(outcome="fetch.lost", detail="img2dataset did not report on this address")
        return {url: settled(opener.attempts.get(url, lost), collector.found.get(url)) for url in urls}


def _as_they_came(stream: IO[bytes], boxes: object = None) -> tuple[bytes, None, None, None, None, None]:
    """What img2dataset's Resizer does when all its encoding is off, without the 2 s that albumentations takes to import."""
    return stream.read(), None, None, None, None, None


@functools.cache
def _downloader_class() -> Any:
    """img2dataset's Downloader without its package: that imports torch, pandas, wandb and albumentations, 8 s in each worker process."""
    loaded = {name: sys.modules.get(name) for name in ("img2dataset", "wandb")}
    spec = importlib.util.find_spec("img2dataset")
    assert spec is not None, "img2dataset is a dependency"
    package = types.ModuleType("img2dataset")
    package.__path__ = list(spec.submodule_search_locations or [])
    sys.modules |= {"img2dataset": package, "wandb": types.ModuleType("wandb")}
    try:
        return importlib.import_module("img2dataset.downloader").Downloader
    finally:
        for name, module in loaded.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def _write_shard(path: str, urls: Sequence[str]) -> None:
    table = pa.table({"url": pa.array(urls, pa.string())})
    with pa.OSFile(path, "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
