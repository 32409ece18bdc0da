"""Decoding where it can do no harm: in child processes, as libraries that decode are attacked, and
crash, by what strangers send.

What costs its child its life, or more time or memory than any picture needs, is an image with an
outcome: `decode.crashed`.
"""

import functools
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from PIL import Image

from pipelines.engine.children import Died, children
from pipelines.images.decode import (
    AS_IT_COMES,
    BROKEN,
    CRASHED,
    Decoded,
    Undecodable,
    decode,
    decode_by_header,
)
from pipelines.images.encode import Encoding
from pipelines.images.jpeg import jpeg_header

Picture = Decoded | Undecodable


@dataclass(frozen=True)
class Isolated:
    """What a function makes of images in child processes: one that crashes its decoder costs
    itself.

    `known` says what needs no child, and is asked in this process. For any number of threads.
    """

    # an image that it leaves as it came returns without its bytes
    there: Callable[[bytes], Picture]
    known: Callable[[bytes], Picture | None] | None = None

    def __call__(self, data: bytes) -> Picture:
        return self.many([data])[0]

    def many(self, images: Sequence[bytes]) -> list[Picture]:
        """The same of several, for which one child is woken once."""
        found = [self.known(data) if self.known is not None else None for data in images]
        asked = [data for data, one in zip(images, found, strict=True) if one is None]
        if not asked:
            return [one for one in found if one is not None]
        answers = iter(children().call(self.there, asked))
        return [
            _brought(data, next(answers)) if one is None else one
            for data, one in zip(images, found, strict=True)
        ]


@functools.lru_cache  # one object for one encoding, which travels to a child once
def isolated_decoder(encoding: Encoding = AS_IT_COMES) -> Isolated:
    """What `decode` gives, without its dangers."""
    there = functools.partial(_decode_there, encoding=encoding)
    return Isolated(there, known=functools.partial(decode_by_header, encoding=encoding))


def decode_isolated(data: bytes, *, encoding: Encoding = AS_IT_COMES) -> Picture:
    """The same for one image."""
    return isolated_decoder(encoding)(data)


def faults(images: Iterable[bytes | None]) -> Iterator[str | None]:
    """Why each of some stored images cannot be decoded; None of those that can."""
    for found in children().map(fault, images):
        yield f"its decoder was stopped: {found.how}" if isinstance(found, Died) else found


def fault(image: bytes | None) -> str | None:
    """The same of one, in this process."""
    if image is None:
        return "there is none"
    try:
        if image.startswith(b"\xff\xd8\xff"):
            jpeg_header(image)  # refuses frames of which the decoder crashes
        with Image.open(io.BytesIO(image)) as picture:
            # of a JPEG all is read, and an eighth of its size computed
            picture.draft("RGB", (1, 1))
            picture.load()
    except (*BROKEN, Image.DecompressionBombError) as error:
        return str(error) or type(error).__name__
    return None


def _decode_there(data: bytes, encoding: Encoding) -> Picture:
    """In a child: bytes that stay as they came need not travel back."""
    found = decode(data, encoding=encoding)
    return found if isinstance(found, Undecodable) or found.reencoded else replace(found, image=b"")


def _brought(data: bytes, found: Picture | Died) -> Picture:
    if isinstance(found, Died):
        return Undecodable(outcome=CRASHED, detail=f"its decoder was stopped: {found.how}")
    return found if isinstance(found, Undecodable) or found.image else replace(found, image=data)
