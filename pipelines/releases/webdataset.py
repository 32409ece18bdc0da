"""Shards as webdataset reads them: tars in which the members of a sample follow one another and
share a key.

They are its picture as stored (.jpg, .png, .webp…), its first caption (.txt), and all else of it as
one JSON object (.json).
"""

import json
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import IO, Any

import fsspec
import pyarrow as pa

from pipelines.store import Folder, Written

ROWS = 256  # of a record batch that is read back
_BLOCK = tarfile.BLOCKSIZE
_STARTS = (
    (b"\xff\xd8\xff", "jpg"),
    (b"\x89PNG", "png"),
    (b"GIF8", "gif"),
    (b"BM", "bmp"),
    (b"II*\0", "tif"),
    (b"MM\0*", "tif"),
)


@dataclass(kw_only=True)
class Packed:
    """A sample in a tar: from which byte to which it lies there, and offset and size of each member
    by its ending.
    """

    key: str
    start: int
    end: int = 0
    members: dict[str, tuple[int, int]] = field(default_factory=dict)

    def json(self, file: IO[bytes]) -> dict[str, Any]:
        """Its JSON object; ValueError where there is none."""
        try:
            found = json.loads(self.read(file, "json"))
        except (KeyError, RecursionError) as error:
            raise ValueError(f"sample {self.key} has no readable JSON") from error
        if not isinstance(found, dict):
            raise ValueError(f"the JSON of sample {self.key} is no object")
        return found

    def image(self, file: IO[bytes]) -> bytes:
        ending = next((name for name in self.members if name not in ("txt", "json")), None)
        if ending is None:
            raise ValueError(f"sample {self.key} has no picture")
        return self.read(file, ending)

    def read(self, file: IO[bytes], ending: str) -> bytes:
        offset, size = self.members[ending]
        file.seek(offset)
        return file.read(size)


def write_tar(
    folder: Folder, name: str, batches: Iterable[pa.RecordBatch], *, first: int = 0
) -> Written:
    """A tar of samples; the same samples give the same bytes, as nothing of time or owner goes into
    the headers.

    A key is the number of the shard in five digits and that of the sample in six, from `first` on,
    since the tars of another split with the same number hold others: it says nothing of the
    picture, and no two samples of a release share one.
    """
    number, rows = name.split("-")[1], 0
    with folder.write(name) as file:
        for batch in batches:
            for row in batch.to_pylist():
                image, key = row.pop("image"), f"{number}{first + rows:06d}"
                text = next((text for text in row["caption"] or () if text is not None), "")
                for ending, data in (
                    (ending_of(image), image),
                    ("txt", text.encode()),
                    ("json", _json(row)),
                ):
                    _add(file, f"{key}.{ending}", data)
                rows += 1
        file.write(b"\0" * (2 * _BLOCK + -(file.tell() + 2 * _BLOCK) % tarfile.RECORDSIZE))
    return file.written(name, rows)


def ending_of(image: bytes) -> str:
    """What a picture's file is called, by its first bytes."""
    if image[:4] == b"RIFF" and image[8:12] == b"WEBP":
        return "webp"
    if image[4:8] == b"ftyp":
        return "avif"
    return next((ending for start, ending in _STARTS if image.startswith(start)), "img")


def _json(row: dict[str, Any]) -> bytes:
    return json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode()


def _add(file: Any, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)  # of no owner, at no time
    member.size = len(data)
    file.write(member.tobuf(tarfile.USTAR_FORMAT))
    file.write(data)
    file.write(b"\0" * (-len(data) % _BLOCK))


def read_tar(folder: Folder, name: str, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Columns of the samples of a tar, `image` from their pictures and the others from their JSON;
    ValueError, naming it, if it is cut.
    """
    rows: list[dict[str, Any]] = []
    with fsspec.open(folder.path(name), "rb") as file:
        try:
            for sample in packed(file):
                row = sample.json(file)
                rows.append(
                    {**row, "image": sample.image(file)} if "image" in schema.names else row
                )
                if len(rows) == ROWS:
                    yield pa.RecordBatch.from_pylist(rows, schema=schema)
                    rows = []
        except (ValueError, tarfile.HeaderError) as error:
            raise ValueError(f"{folder.path(name)} is no whole tar of samples: {error}") from error
    if rows:
        yield pa.RecordBatch.from_pylist(rows, schema=schema)


def packed(file: IO[bytes]) -> Iterator[Packed]:
    """The samples of a tar that `write_tar` wrote, in order; ValueError where it ends before its
    end.
    """
    size = file.seek(0, 2)
    place, current = 0, None
    while place + _BLOCK <= size:
        file.seek(place)
        header = file.read(_BLOCK)
        if not header.strip(b"\0"):
            if current is not None:
                yield current
            return
        member = tarfile.TarInfo.frombuf(header, "utf-8", "strict")
        key, _, ending = member.name.partition(".")
        if current is None or current.key != key:
            if current is not None:
                yield current
            current = Packed(key=key, start=place)
        current.members[ending] = (place + _BLOCK, member.size)
        place = current.end = place + _BLOCK + -(-member.size // _BLOCK) * _BLOCK
    raise ValueError(f"it ends after {size} bytes, before its end")
