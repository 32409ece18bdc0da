"""Images that need no fetching: those that the archives of a collection hold, or the data set that
it was imported from.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

import numpy as np
import pyarrow as pa

from pipelines.engine.children import children, in_order
from pipelines.images.decode import Decoded, Undecodable
from pipelines.images.isolated import decode_isolated
from pipelines.sources.fetch_result import FetchResult
from pipelines.sources.held_readers import READERS, Held
from pipelines.sources.spool import Found, Spool, settled
from pipelines.store import Folder
from pipelines.tables import read_table

HELD = "archive-images-"  # files of the index of images beside the candidates
WARC, MISSING, OUTSIDE = "warc", "missing", "outside"

ARCHIVE_IMAGES = pa.schema(
    [
        ("image_url", pa.string()),
        ("archive", pa.string()),  # path or URL of the archive
        ("offset", pa.int64()),  # byte of the record
        ("captured_at", pa.string()),
        # the address that the record has, where another record refers to it
        ("stored_as", pa.string()),
    ]
)
PLACES = pa.schema(
    [
        # `offset` is a byte of a WARC or tar file, a row group of Parquet, a record batch of Arrow
        *ARCHIVE_IMAGES,
        # warc (where the column is absent), tar, file, parquet, arrow; missing, outside: why there
        # is none
        ("kind", pa.string()),
        ("size", pa.int64()),  # bytes of a tar member
        ("row", pa.int64()),  # within the row group or record batch
        ("column", pa.string()),  # of the bytes, e.g. image.bytes
    ]
)
Picture = Decoded | Undecodable
Decoder = Callable[[bytes], Picture]


def from_archives(
    held: Folder | None,
    urls: Sequence[str],
    spool: Spool,
    *,
    limit: int,
    decode: Decoder = decode_isolated,
) -> dict[str, Found]:
    """Those addresses whose images the archives hold, by the index beside the candidates in `held`;
    `limit` is in bytes an image.

    Each archive is opened once and read from its front to its end; a row group or record batch is
    read once for all its images.
    """
    if held is None or not urls:
        return {}
    found: dict[str, Found] = {}
    rows = _index(held, _version(held)).rows(urls)
    rows.sort(key=lambda row: (row["kind"], row["archive"], row["offset"] or 0, row["row"] or 0))
    for (kind, archive), group in groupby(rows, key=lambda row: (row["kind"], row["archive"])):
        for url, attempt, picture in _decoded(READERS[kind](archive, list(group), limit), decode):
            found[url] = settled(attempt, spool.keep(picture) if picture is not None else None)
    return found


def _decoded(held: Held, decode: Decoder) -> Iterator[tuple[str, FetchResult, Picture | None]]:
    """The same with pictures in place of bytes, decoded on as many cores as this process may use
    while the archive is read on.
    """

    def shown(
        one: tuple[str, FetchResult, bytes | None],
    ) -> tuple[str, FetchResult, Picture | None]:
        url, attempt, data = one
        return url, attempt, decode(data) if data is not None else None

    return in_order(shown, held, children().count)


class Index:
    """Where each held image lies, searched by a hash of its address: about 50 bytes an image in
    memory (150 for an image in a file).
    """

    def __init__(self, places: pa.Table) -> None:
        absent = np.isin(places["kind"].to_numpy(zero_copy_only=False), (MISSING, OUTSIDE))
        hashes = _hashes(places["image_url"].to_pylist())
        # stable: the first of equal addresses, one that is there before one that is not
        self._order = np.lexsort((absent, hashes))
        self._hashes = hashes[self._order]
        columns = [(name, places[name]) for name in places.column_names if name != "image_url"]
        self._places = pa.table(
            {
                name: column.dictionary_encode() if column.type == pa.string() else column
                for name, column in columns
            }
        )

    def rows(self, urls: Sequence[str]) -> list[dict[str, object]]:
        """The place of each address that is held, as a row of PLACES."""
        if not len(self._hashes):
            return []
        wanted = _hashes(urls)
        spot = np.minimum(np.searchsorted(self._hashes, wanted), len(self._hashes) - 1)
        hit = np.flatnonzero(self._hashes[spot] == wanted)
        places = self._places.take(pa.array(self._order[spot[hit]])).to_pylist()
        return [
            {"image_url": urls[which], **place}
            for which, place in zip(hit.tolist(), places, strict=True)
        ]


def _hashes(urls: Sequence[str]) -> np.ndarray:
    """Python's own 64-bit hash of each address, seeded anew in each process: nobody can make two
    addresses meet.
    """
    return np.fromiter(map(hash, urls), dtype=np.int64, count=len(urls))


def _version(held: Folder) -> str:
    """What tells one state of the folder from another."""
    return (
        held.read("manifest.json").decode()
        if held.exists("manifest.json")
        else " ".join(held.names())
    )


@functools.lru_cache(maxsize=1)
def _index(held: Folder, version: str) -> Index:
    """The index of a folder of candidates, read once by each process that fetches."""
    tables = [_completed(read_table(held, name)) for name in held.names() if name.startswith(HELD)]
    return Index(pa.concat_tables([PLACES.empty_table(), *tables]))


def _completed(table: pa.Table) -> pa.Table:
    """An index of web archives with the columns that it does without."""
    rows = table.num_rows
    absent = {"kind": pa.array([WARC] * rows, pa.string())}
    return pa.table(
        [
            (
                table[entry.name]
                if entry.name in table.column_names
                else absent.get(entry.name, pa.nulls(rows, entry.type))
            )
            for entry in PLACES
        ],
        schema=PLACES,
    )
