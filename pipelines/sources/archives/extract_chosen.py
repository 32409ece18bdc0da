"""From chosen records to candidates: of the archives that hold them, only their bytes are read."""

import dataclasses
import io
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from typing import Any, ClassVar
from urllib.parse import urlsplit

import pyarrow as pa

from pipelines.accounts import Account
from pipelines.engine.stage import Manifest, Output, Part, Stage
from pipelines.html.images_of_page import TARGET_WIDTH
from pipelines.sources.archives.extract import RECORDS, Found
from pipelines.sources.archives.indexes import CHOSEN_FILE
from pipelines.sources.archives.responses import Response, response_of
from pipelines.sources.paths import read_range
from pipelines.store import Folder

# bytes between two records that are read along rather than asked for apart: less than a request
# costs
NEAR = 16 * 1024
RANGE = 8 * 1024 * 1024  # bytes asked for at once
# of a record as it is stored; what an index says of more is not believed
RECORD_BYTES = 64 * 1024 * 1024
CONNECTIONS = 4  # ranges asked for at the same time by one worker


@dataclass(frozen=True, kw_only=True)
class Place:
    """A record in an archive: its first byte, its length, and the address that the index has for
    it.
    """

    offset: int
    length: int
    url: str


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """Bytes [start, end) of an archive and the records in them."""

    archive: str
    start: int
    end: int
    places: tuple[Place, ...]


@dataclass(frozen=True, kw_only=True)
class ExtractChosen(Stage):
    """Reads the records that `Choose` wrote into `chosen`: a part for each of its record batches.

    `near`: bytes between two records up to which they are read in one range; `connections`: ranges
    asked for at once by each worker.
    """

    name: ClassVar[str] = "extract"
    version: ClassVar[int] = 3
    accounts: ClassVar[tuple[Account, ...]] = (RECORDS,)
    chosen: Folder
    target_width: int = TARGET_WIDTH
    surrounding: bool = False
    near: int = NEAR
    connections: int = CONNECTIONS

    def config(self) -> dict[str, Any]:
        return {"target_width": self.target_width, "surrounding": self.surrounding}

    def inputs(self) -> dict[str, str]:
        manifest = Manifest.read(self.chosen)
        return {"chosen": manifest.digest} if manifest is not None else {}

    def parts(self) -> list[Part]:
        with self.chosen.open(CHOSEN_FILE) as file:
            batches = pa.ipc.open_file(file).num_record_batches
        return [Part(name=f"{index:05d}", inputs=(str(index),)) for index in range(batches)]

    def process(self, part: Part) -> Output:
        with self.chosen.open(CHOSEN_FILE) as file:
            rows = pa.ipc.open_file(file).get_batch(int(part.inputs[0])).to_pylist()
        found = Found(label="", target_width=self.target_width, surrounding=self.surrounding)
        for stretch, data in fetched(stretches(rows, self.near), self.connections):
            for place in stretch.places:
                self._add(found, stretch, place, data)
        return found.output(self.out, part.name, self.forgotten)

    def _add(self, found: Found, stretch: Stretch, place: Place, data: bytes | None) -> None:
        """One record as a candidate's page or a held image, or counted for what it is instead."""
        found.counts["records"] += 1
        if data is None:
            found.counts["archive.missing"] += 1
            return
        record = data[place.offset - stretch.start : place.offset - stretch.start + place.length]
        if place.length > RECORD_BYTES:
            found.counts["archive.large_record"] += 1
            return
        if len(record) < place.length:
            found.counts["archive.short_range"] += 1
            return
        response = response_of(io.BytesIO(record))
        if response is None:
            found.counts["archive.no_record"] += 1
        elif not same_address(response.url, place.url):
            found.counts["archive.other_record"] += 1
        elif found.wants(response.status, response.media_type):
            found.label = stretch.archive
            found.add(_placed(response, place), stretch.archive)


def _placed(response: Response, place: Place) -> Response:
    return dataclasses.replace(response, offset=place.offset)


def same_address(one: str, other: str) -> bool:
    """Whether two spellings name one page: case of scheme and host, a default port, a fragment and
    an empty path aside.
    """
    return not other or one == other or _spelled(one) == _spelled(other)


def _spelled(url: str) -> tuple[str, str, str, str]:
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "") + ("" if parts.port in (None, 80, 443) else f":{parts.port}")
    except ValueError:
        return url, "", "", ""
    return parts.scheme, host, parts.path or "/", parts.query


def stretches(rows: Sequence[dict[str, Any]], near: int) -> Iterator[Stretch]:
    """Ordered records put together where at most `near` bytes lie between them, up to `RANGE`
    bytes.
    """
    for archive, group in groupby(rows, key=lambda row: row["archive"]):
        places: list[Place] = []
        start = end = 0
        for row in group:
            place = Place(offset=row["offset"], length=row["length"], url=row["url"])
            behind = max(end, place.offset + place.length)
            if places and (place.offset > end + near or behind - start > RANGE):
                yield Stretch(archive=archive, start=start, end=end, places=tuple(places))
                places = []
            if not places:
                start, behind = place.offset, place.offset + place.length
            places.append(place)
            end = behind
        yield Stretch(archive=archive, start=start, end=end, places=tuple(places))


def fetched(wanted: Iterable[Stretch], connections: int) -> Iterator[tuple[Stretch, bytes | None]]:
    """The bytes of stretches in their order, some asked for ahead; None where there is no such
    archive. Unreachable if it stays so.
    """
    ahead: deque[tuple[Stretch, Future[bytes | None]]] = deque()
    with ThreadPoolExecutor(connections, thread_name_prefix="ranges") as pool:
        try:
            for stretch in wanted:
                ahead.append((stretch, pool.submit(_read, stretch)))
                if len(ahead) > connections:
                    first, future = ahead.popleft()
                    yield first, future.result()
            while ahead:
                first, future = ahead.popleft()
                yield first, future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _read(stretch: Stretch) -> bytes | None:
    try:
        return read_range(
            stretch.archive, stretch.start, min(stretch.end, stretch.start + RANGE + RECORD_BYTES)
        )
    except ValueError:  # there is no such file
        return None
