"""What HTTP wraps around a body, undone: chunks, and content codings one in the other.

What was inflated before a fault counts, as browsers show it: they check no sums, and servers send
wrong ones. All of it is bounded, so that a bomb gives what is asked for and no more.
"""

import re
from collections.abc import Callable, Sequence
from itertools import pairwise

import brotli
from backports import zstd

from pipelines.sources.archives.frames import BROKEN, GZIP, ZSTD, Decoder, Inflater

CODINGS = 5  # one in the other, at most; libcurl has the same limit
STEPS = (4096, 64, 1)  # bytes, ever fewer, by which a fault is approached
SIZE_LINE = re.compile(rb"[ \t]*([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\n]{0,1024})?\r?\n")
LINE_END = re.compile(rb"\r?\n")
FAULTS: tuple[type[Exception], ...] = (*BROKEN, brotli.error)

Make = Callable[[], Decoder]


class Brotli:
    """A decoder of brotli with the manners of the others."""

    unused_data = b""

    def __init__(self) -> None:
        self._inner = brotli.Decompressor()

    @property
    def eof(self) -> bool:
        return bool(self._inner.is_finished())

    @property
    def needs_input(self) -> bool:
        return bool(self._inner.can_accept_more_data())

    def decompress(self, data: bytes, max_length: int) -> bytes:
        made = self._inner.process(data, output_buffer_limit=max_length)
        while len(made) < max_length and not self.eof:  # a limit makes it stop short of it, too
            more = self._inner.process(b"", output_buffer_limit=max_length - len(made))
            if not more:
                break
            made += more
        return bytes(made)


def undone(body: bytes, transfer: Sequence[str], content: Sequence[str], limit: int) -> bytes:
    """A body without its transfer and content codings, at most `limit` bytes.

    Archives often keep the header and not the coding: what does not have one stays as it is.
    """
    for name in reversed(transfer[-CODINGS:]):
        body = unchunked(body) if name == "chunked" else inflated(body, name, limit)
    for name in reversed(content[-CODINGS:]):
        body = inflated(body, name, limit)
    return body[:limit]


def unchunked(body: bytes) -> bytes:
    """The data of a chunked body up to where it is badly framed; as it is, if it is not chunked."""
    chunks: list[bytes] = []
    place = 0
    while (line := SIZE_LINE.match(body, place)) is not None:
        size = int(line[1], 16)
        if size == 0:
            return b"".join(chunks)
        chunks.append(body[line.end() : line.end() + size])
        place = line.end() + size
        end = LINE_END.match(body, place)
        place = end.end() if end is not None else place
    return b"".join(chunks) if chunks else body


def inflated(body: bytes, coding: str, limit: int) -> bytes:
    """One content coding undone, over all its frames, as far as it goes; an unknown one is not."""
    if coding in ("gzip", "x-gzip"):
        return _made(Inflater, body, limit)[0] if body.startswith(GZIP) else body
    if coding == "zstd":
        return _made(zstd.ZstdDecompressor, body, limit)[0] if body.startswith(ZSTD) else body
    if coding == "deflate":
        return _deflated(body, limit)
    if coding == "br":
        made, whole = _made(Brotli, body, limit)
        return made if made or whole else body
    return body


def _deflated(body: bytes, limit: int) -> bytes:
    """Deflate with the header of zlib or without: servers send both."""
    wrapped, whole = _made(lambda: Inflater(15), body, limit)
    if whole:
        return wrapped
    raw, whole = _made(lambda: Inflater(-15), body, limit)
    return (raw if whole or len(raw) > len(wrapped) else wrapped) or body


def _made(make: Make, body: bytes, limit: int) -> tuple[bytes, bool]:
    """What a body inflates to before its first fault, and whether it has none."""
    try:
        return _fed(make, body, limit), True
    except FAULTS:
        pass

    good = 0
    for step in STEPS:
        made, good = _before_fault(make, body, good, step, limit)
    return made, False


def _fed(make: Make, body: bytes, limit: int) -> bytes:
    """What a body inflates to, frame behind frame."""
    made = bytearray()
    while body and len(made) < limit:
        decoder = make()
        made += decoder.decompress(body, limit - len(made))
        body = (decoder.unused_data or b"") if decoder.eof else b""
    return bytes(made[:limit])


def _before_fault(make: Make, body: bytes, good: int, step: int, limit: int) -> tuple[bytes, int]:
    """What comes before a fault that lies behind `good` bytes, and a later such place."""
    made, decoder = bytearray(), make()
    for start, end in pairwise([0, *range(good, len(body), step), len(body)]):
        try:
            piece = body[start:end]
            while piece and len(made) < limit:
                made += decoder.decompress(piece, limit - len(made))
                piece = b""
                if decoder.eof:
                    piece, decoder = decoder.unused_data or b"", make()
        except FAULTS:
            return bytes(made[:limit]), start
        if len(made) >= limit:
            break
    return bytes(made[:limit]), len(body)
