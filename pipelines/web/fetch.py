"""Fetching images: chunks of addresses of one bucket of hosts, each address ending as exactly one
row.
"""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.accounts import Account
from pipelines.engine.shuffle import hosts
from pipelines.engine.stage import Manifest, Output, Part, Stage
from pipelines.images.decode import AS_IT_COMES, Decoded, Undecodable
from pipelines.images.encode import Encoding
from pipelines.images.isolated import isolated_decoder
from pipelines.permission.outcomes import address_outcome, is_given
from pipelines.permission.takedown_list import FORGOTTEN
from pipelines.schema import FETCHED, FETCHES, IMAGES
from pipelines.sources.fetch_result import FetchResult
from pipelines.sources.held import from_archives
from pipelines.sources.spool import SPOOL_BYTES, Found, Keep, Spool
from pipelines.store import Folder
from pipelines.tables import read_table, write_batches, write_parquet
from pipelines.web.decoding import Decode
from pipelines.web.downloader import downloader_of
from pipelines.web.politeness import Politeness

# addresses of a part: what a kill costs a worker at most, beside the slow ones that it left behind
CHUNK = 256
Row = tuple[str, FetchResult, Decoded | None]
# what is known of an address that is held already
REFERENCE = ("image_id", "held_in", "etag", "last_modified", "fetched_at")


@dataclass(frozen=True, kw_only=True)
class Fetch(Stage):
    """Turns the distinct addresses of `urls` (a file for each bucket of hosts) into images and one
    row for each address.

    `held` is the folder of candidates whose index names images that the archives hold; without
    `web` only those are read. Addresses that an earlier collection holds (`held_in` in `urls`) are
    passed through. With `deadline_seconds`, what is not there so long after this stage was made
    ends as `fetch.deadline`; a command that goes on with an unfinished stage makes it anew and has
    its own time. A part does not wait for slow addresses: they stay under way, and the last part of
    their bucket has their rows.
    """

    name: ClassVar[str] = "fetch"
    accounts: ClassVar[tuple[Account, ...]] = (
        Account(of="distinct", into=(FETCHED, "fetch.", "decode.", "permission.", "address.")),
    )
    version: ClassVar[int] = 3
    images: Folder
    urls: Folder
    held: Folder | None = None
    allow_private_addresses: bool = False
    allow_private_proxy: bool = False
    ca_file: str | None = None
    contact: str = ""
    web: bool = True
    seconds: float = 30.0  # for one image
    image_bytes: int = 32 * 1024 * 1024
    images_per_second: float = 10.0  # of one public host
    connections: int = Politeness.connections  # at once
    encoding: Encoding = AS_IT_COMES  # what is stored of a picture
    # of all bodies of the run; what is left then ends as `fetch.budget`
    max_bytes: int | None = None
    spent_in: str | None = None  # the file where the processes of the run count them
    deadline_seconds: float | None = None
    begun: float = field(default_factory=time.time)  # epoch seconds

    def config(self) -> dict[str, Any]:
        return {
            "allow_private_addresses": self.allow_private_addresses,
            "web": self.web,
            "seconds": self.seconds,
            "image_bytes": self.image_bytes,
            **({"encoding": asdict(self.encoding)} if self.encoding != AS_IT_COMES else {}),
            **({"max_bytes": self.max_bytes} if self.max_bytes is not None else {}),
            **(
                {"deadline_seconds": self.deadline_seconds}
                if self.deadline_seconds is not None
                else {}
            ),
        }

    def folders(self) -> tuple[Folder, ...]:
        return (self.out, self.images)

    def inputs(self) -> dict[str, str]:
        folders = {"urls": self.urls} | ({"held": self.held} if self.held is not None else {})
        manifests = {name: Manifest.read(folder) for name, folder in folders.items()}
        return {
            name: manifest.digest for name, manifest in manifests.items() if manifest is not None
        }

    def parts(self) -> list[Part]:
        manifest = Manifest.read(self.urls)
        names = (
            manifest.names(".parquet")
            if manifest is not None
            else [name for name in self.urls.names() if name.endswith(".parquet")]
        )
        return [part for name in names for part in self._chunks(name)]

    def _chunks(self, name: str) -> Iterator[Part]:
        """The parts of one bucket: a lane of its own, so that no host is asked by two workers at
        once.
        """
        with self.urls.open(name) as file:
            rows = pq.ParquetFile(file).metadata.num_rows
        bucket = name.removesuffix(".parquet").rsplit("-", 1)[-1]
        for number in range(-(-rows // CHUNK)):
            yield Part(
                name=_chunk(bucket, number), inputs=(name, str(number), str(rows)), lane=bucket
            )

    def process(self, part: Part) -> Output:
        name, number, count = part.inputs
        start, last = int(number) * CHUNK, -(-int(count) // CHUNK) - 1
        table = read_table(self.urls, name)
        table = table.take(taking_turns(hosts(table["image_url"])))
        leave = int(number) < last and not self.out.exists(f"{_chunk(part.lane, last)}.parquet")
        rows = table.slice(start, CHUNK)
        if int(number) == last:
            rows = pa.concat_tables([rows, self._left_behind(table, part.lane, last)])
        urls = [str(url) for url in rows["image_url"].to_pylist()]
        gone = {
            url
            for url, taken in zip(urls, self.forgotten.addresses(rows["image_url"]), strict=True)
            if taken
        }
        held = references(rows)
        gone |= {url for url, row in held.items() if self.forgotten.image(row["image_id"])}
        known = {url: row for url, row in held.items() if url not in gone}
        decoder = isolated_decoder(self.encoding)
        found: dict[str, Found] = {
            url: (FetchResult(outcome=outcome), None)
            for url in urls
            if (outcome := address_outcome(url)) is not None
        }
        found |= {url: (FetchResult(outcome=FORGOTTEN), None) for url in gone}
        with Spool(self.forgotten) as spool:
            wanted = [url for url in urls if url not in found and url not in known]
            found |= from_archives(self.held, wanted, spool, limit=self.image_bytes, decode=decoder)
            found |= self._from_web(
                [url for url in wanted if url not in found], spool, decoder, leave
            )
            lacking = set(urls) ^ (found.keys() | known.keys())
            assert lacking <= (set(urls) if leave else set()), "an address was lost or made up"
            return self._write(
                part.name, [(url, *found[url]) for url in urls if url in found], known, spool
            )

    def _left_behind(self, table: pa.Table, bucket: str, last: int) -> pa.Table:
        """The addresses that earlier parts of a bucket had no time to wait for; all of a part that
        failed are its own to try again.
        """
        names = [(number, f"{_chunk(bucket, number)}.parquet") for number in range(last)]
        behind = [table.schema.empty_table()]
        for number, name in names:
            if self.out.exists(name):
                rows, there = (
                    table.slice(number * CHUNK, CHUNK),
                    read_table(self.out, name, ["image_url"])["image_url"],
                )
                behind.append(
                    rows.filter(
                        pc.invert(pc.is_in(rows["image_url"], value_set=there.combine_chunks()))
                    )
                )
        return pa.concat_tables(behind)

    def _from_web(
        self, urls: Sequence[str], spool: Spool, decoder: Decode, leave: bool
    ) -> dict[str, Found]:
        nowhere: dict[str, Found] = {
            url: (FetchResult(outcome="address.scheme"), None) for url in urls if is_given(url)
        }
        urls = [url for url in urls if url not in nowhere]
        if not urls or not self.web:
            return nowhere | {url: (FetchResult(outcome="fetch.not_asked"), None) for url in urls}
        guest = Politeness(
            allow_private_addresses=self.allow_private_addresses,
            allow_private_proxy=self.allow_private_proxy,
            ca_file=self.ca_file,
            contact=self.contact,
            images_per_second=self.images_per_second,
            connections=self.connections,
            seconds=self.seconds,
            image_bytes=self.image_bytes,
            max_bytes=self.max_bytes,
            spent_in=self.spent_in,
            forgotten=self.forgotten,
        )
        deadline = None if self.deadline_seconds is None else self.begun + self.deadline_seconds
        return nowhere | download(
            urls, guest, decode=decoder, keep=spool.keep, deadline=deadline, leave=leave
        )

    def _write(
        self, name: str, rows: list[Row], known: dict[str, dict[str, Any]], spool: Spool
    ) -> Output:
        """Images first, then the rows that speak of them."""
        table = pa.concat_tables([fetches_table(rows), referred_table(known)])
        images = write_batches(self.images, f"{name}.arrow", IMAGES, image_batches(rows, spool))
        counts = Counter(table["outcome"].to_pylist())
        return Output(
            files=(images, write_parquet(self.out, f"{name}.parquet", table)),
            counts={**counts, "images": images.rows or 0},
        )


def taking_turns(hosts: pa.ChunkedArray) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Row numbers in an order that goes round the hosts, so that a part asks many of them and waits
    for none alone.
    """
    codes = hosts.combine_chunks().dictionary_encode().indices.to_numpy()
    together = np.argsort(codes, kind="stable")
    begins = np.flatnonzero(np.diff(codes[together], prepend=-1))
    turn = np.empty(len(codes), dtype=np.int64)
    turn[together] = np.arange(len(codes)) - np.repeat(begins, np.diff(begins, append=len(codes)))
    return np.argsort(turn, kind="stable")


def references(rows: pa.Table) -> dict[str, dict[str, Any]]:
    """What is known of those addresses of a bucket that an earlier collection holds."""
    if "held_in" not in rows.column_names:
        return {}
    held = rows.filter(pc.is_valid(rows["held_in"])).select(["image_url", *REFERENCE])
    return {row.pop("image_url"): row for row in held.to_pylist()}


def referred_table(known: dict[str, dict[str, Any]]) -> pa.Table:
    """A row of FETCHES for each address that is held already."""
    return pa.Table.from_pylist(
        [{"image_url": url, "outcome": FETCHED, **row} for url, row in known.items()], FETCHES
    )


def fetches_table(rows: Sequence[Row]) -> pa.Table:
    """A row of FETCHES for each address."""
    fields = [name for name in FETCHES.names if name not in ("image_url", "image_id", "held_in")]
    columns: dict[str, list[Any]] = {
        name: [getattr(attempt, name) for _, attempt, _ in rows] for name in fields
    }
    columns |= {
        "image_url": [url for url, _, _ in rows],
        "image_id": [picture.image_id if picture is not None else None for _, _, picture in rows],
        "held_in": [None] * len(rows),
    }
    return pa.table(
        [pa.array(columns[entry.name], entry.type) for entry in FETCHES], schema=FETCHES
    )


def image_batches(rows: Sequence[Row], spool: Spool) -> Iterator[pa.RecordBatch]:
    """A row of IMAGES for each distinct picture, in the order of its first address, some megabytes
    at a time.
    """
    first: dict[str, tuple[str, FetchResult, Decoded]] = {}
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


def as_it_is(picture: Decoded | Undecodable) -> Decoded | Undecodable:
    """The picture with its bytes, for a few of them."""
    return picture


def _chunk(bucket: str, number: int) -> str:
    return f"part-{bucket}-{number:05d}"


def download(
    urls: Sequence[str],
    guest: Politeness,
    *,
    decode: Decode = isolated_decoder(),  # noqa: B008 - one object, which is frozen
    keep: Keep = as_it_is,
    deadline: float | None = None,
    leave: bool = False,
) -> dict[str, Found]:
    """What became of each address, by the downloader of this process; see `Downloader.fetch`."""
    return downloader_of(guest).fetch(
        urls, decode=decode, keep=keep, deadline=deadline, leave=leave
    )
