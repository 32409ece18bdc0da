"""Images that need no fetching: those that the archives of a collection hold."""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.archives import response_at
from pipelines.decode import decode
from pipelines.opener import Attempt
from pipelines.permission import headers_outcome
from pipelines.schema import FETCHED
from pipelines.spool import Found, Spool, settled
from pipelines.store import Folder, read_table

HELD = "archive-images-"  # files of the index of images beside the candidates

ARCHIVE_IMAGES = pa.schema(
    [
        ("image_url", pa.string()),
        ("archive", pa.string()),  # path or URL of the archive
        ("offset", pa.int64()),  # byte of the record
        ("captured_at", pa.string()),
    ]
)


def from_archives(held: Folder | None, urls: Sequence[str], spool: Spool, *, limit: int) -> dict[str, Found]:
    """Those addresses whose images the archives hold, by the index beside the candidates in `held`; `limit` is in bytes an image."""
    places = _places(held, urls)
    found = {}
    for url, (archive, offset) in places.items():
        response = response_at(archive, offset, limit=limit)
        if response is not None and response.url == url and not response.cut:
            attempt = Attempt(
                outcome=headers_outcome(response.headers) or FETCHED,
                status=response.status,
                final_url=url,
                content_type=response.header("content-type") or None,
                fetched_at=response.captured_at,
            )
            found[url] = settled(attempt, spool.keep(decode(response.body)) if attempt.outcome == FETCHED else None)
    return found


def _places(held: Folder | None, urls: Sequence[str]) -> dict[str, tuple[str, int]]:
    """(archive, offset) of the addresses that the index of archived images names, the first of each."""
    places: dict[str, tuple[str, int]] = {}
    for name in held.names() if held is not None else []:
        if name.startswith(HELD):
            assert held is not None
            index = read_table(held, name, ["image_url", "archive", "offset"])
            for row in index.filter(pc.is_in(index["image_url"], value_set=pa.array(urls, pa.string()))).to_pylist():
                places.setdefault(row["image_url"], (row["archive"], row["offset"]))
    return places
