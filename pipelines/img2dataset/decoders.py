"""What is done with the bytes of an image: resized and encoded in a child process, or kept as they
came; with their hash and EXIF data, as img2dataset writes them.
"""

import functools
import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, fields
from io import BytesIO
from typing import TYPE_CHECKING

import exifread

from pipelines.images.decode import Decoded, Undecodable, decode
from pipelines.images.encode import Encoding
from pipelines.images.isolated import Isolated
from pipelines.img2dataset.jpegs import ordinary_jpeg
from pipelines.img2dataset.resize import Resizing

if TYPE_CHECKING:  # it brings pydantic, which decoding children need not import
    from pipelines.img2dataset.config import Img2datasetConfig

EXIF_MARKS = (
    b"Exif",
    b"EXIF",
    b"eXIf",
    b"II*\0",
    b"MM\0*",
)  # without one of these there are no EXIF data
EXIF_READS = (
    20_000  # of an image; a photograph's tags take hundreds, those made to explode any number
)
EXIF_CHARACTERS = 1 << 16  # of their JSON; more is no description of a photograph
MISMATCH = "fetch.hash_mismatch"
Picture = Decoded | Undecodable
Decode = Callable[[bytes], Picture]

logging.getLogger("exifread").setLevel(
    logging.CRITICAL
)  # what it does not understand of a stranger's bytes is no news


@dataclass(frozen=True, kw_only=True, slots=True)
class Resized(Decoded):
    """An image as it is written, with what is written of its bytes as they came."""

    exif: str | None = None
    hash: str | None = None


def resized(
    data: bytes, *, resizing: Encoding, exif: bool, hash: str | None
) -> Resized | Undecodable:
    """Decode, resize and encode an image; one that stays as it came is given without its bytes.

    To be called in a child process; with the encoding `keep_original` an image has only to decode.
    """
    picture: Decoded | Undecodable | None = None
    if isinstance(resizing, Resizing):
        picture = ordinary_jpeg(data, resizing)
    if picture is None:
        picture = decode(data, encoding=resizing)
    if isinstance(picture, Undecodable):
        return picture
    own = {entry.name: getattr(picture, entry.name) for entry in fields(Decoded)}
    own["image"] = picture.image if picture.reencoded else b""
    found = picture.image_id if hash == "sha256" else hash_of(data, hash)
    return Resized(**own, exif=exif_of(data) if exif else None, hash=found)


def as_it_came(data: bytes, *, exif: bool, hash: str | None) -> Resized:
    """Bytes that nobody looks at, not even whether they are an image."""
    return Resized(
        image_id=hashlib.sha256(data).hexdigest(),
        image=data,
        width=0,
        height=0,
        original_width=0,
        original_height=0,
        original_bytes=len(data),
        format="",
        exif=exif_of(data) if exif else None,
        hash=hash_of(data, hash),
    )


def mismatch(data: bytes, *, hash: str, wanted: frozenset[str]) -> Undecodable | None:
    """Bytes that have none of the wanted hashes."""
    if hash_of(data, hash) in wanted:
        return None
    return Undecodable(outcome=MISMATCH, detail=f"its {hash} is not what the list says")


@functools.lru_cache(maxsize=8)  # one object for all addresses of a shard: a batch has one decoder
def decoder_of(config: "Img2datasetConfig", wanted: frozenset[str] = frozenset()) -> Decode:
    """What is done with the bytes of some addresses, whose rows want these hashes."""
    exif, hash = config.extract_exif, config.compute_hash
    known = None
    if config.verify_hash is not None:
        known = functools.partial(mismatch, hash=config.verify_hash[1], wanted=wanted)

    if config.disable_all_reencoding:
        kept = functools.partial(as_it_came, exif=exif, hash=hash)
        return kept if known is None else functools.partial(_unless, known, kept)
    # where boxes are blurred, each row has its own: its image is resized when it is written
    boxed = config.bbox_col is not None
    encoding = Encoding(keep_original=True) if boxed else Resizing.of(config)
    there = functools.partial(resized, resizing=encoding, exif=exif, hash=hash)
    return Isolated(there, known=known)


def _unless(known: Callable[[bytes], Undecodable | None], kept: Decode, data: bytes) -> Picture:
    wrong = known(data)
    return kept(data) if wrong is None else wrong


def hash_of(data: bytes, kind: str | None) -> str | None:
    return hashlib.new(kind, data).hexdigest() if kind is not None else None


class _Reads(BytesIO):
    """Bytes that may be read so many times."""

    left = EXIF_READS

    def read(self, size: int | None = -1) -> bytes:
        self.left -= 1
        if self.left < 0:
            raise ValueError(f"more than {EXIF_READS} reads for the EXIF data of one image")
        return super().read(size)


def exif_of(data: bytes) -> str | None:
    """EXIF data as img2dataset writes them: a JSON object of texts, null if they cannot be read."""
    marks = EXIF_MARKS[:1] if data.startswith(b"\xff\xd8") else EXIF_MARKS
    if not any(mark in data for mark in marks):
        return "{}"
    try:
        tags = exifread.process_file(_Reads(data), details=False)
        words = json.dumps(
            {name: str(value).strip() for name, value in tags.items() if value is not None}
        )
    except Exception:  # noqa: BLE001 - bytes that make a parser raise cost their description alone
        return None
    return words if len(words) <= EXIF_CHARACTERS else None
