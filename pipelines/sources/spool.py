"""What a part of the fetch has brought: its pictures until they are written, and each result with
its picture.
"""

import os
import tempfile
from collections.abc import Callable
from dataclasses import replace

from pipelines.images.decode import Decoded, Undecodable
from pipelines.permission.takedown_list import FORGOTTEN, NOTHING, TakedownList
from pipelines.schema import FETCHED
from pipelines.sources.fetch_result import FetchResult

# of pictures in memory and in a record batch; 256 pictures of the web rarely reach it
SPOOL_BYTES = 64 * 1024 * 1024
Found = tuple[FetchResult, Decoded | None]
Keep = Callable[[Decoded | Undecodable], Decoded | Undecodable]


class Spool:
    """The pictures of a part under their ids, each once: in memory while they are small together,
    else on disk.
    """

    def __init__(self, forgotten: TakedownList = NOTHING) -> None:
        self._forgotten = forgotten
        self._file = tempfile.SpooledTemporaryFile(max_size=SPOOL_BYTES)  # noqa: SIM115 - closed with the spool
        self._places: dict[str, tuple[int, int]] = {}

    def __enter__(self) -> "Spool":
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def keep(self, picture: Decoded | Undecodable) -> Decoded | Undecodable:
        """Take over the bytes of a picture; what returns is the rest of it, or why it is not
        stored.
        """
        if isinstance(picture, Undecodable):
            return picture
        if self._forgotten.image(picture.image_id):
            return Undecodable(outcome=FORGOTTEN, detail="the image was taken down")
        if picture.image_id not in self._places:
            self._places[picture.image_id] = (self._file.seek(0, os.SEEK_END), len(picture.image))
            self._file.write(picture.image)
        return replace(picture, image=b"")

    def read(self, image_id: str) -> bytes:
        start, size = self._places[image_id]
        self._file.seek(start)
        return self._file.read(size)


def settled(result: FetchResult, picture: Decoded | Undecodable | None) -> Found:
    """A result with its picture, or with the reason why there is none."""
    if result.outcome != FETCHED or isinstance(picture, Decoded):
        return result, picture if isinstance(picture, Decoded) else None
    outcome, detail = (
        (picture.outcome, picture.detail)
        if picture is not None
        else ("decode.failed", "fetched and then lost")
    )
    names = ("status", "final_url", "content_type", "etag", "last_modified", "fetched_at")
    return (
        FetchResult(
            outcome=outcome, detail=detail, **{name: getattr(result, name) for name in names}
        ),
        None,
    )
