"""What the bytes of an AVIF say before its decoder sees them: AVIF 1.1 within the boxes of ISO/IEC
14496-12 and 23008-12.
"""

import itertools
import re
import struct

from pipelines.images.directories import Directories
from pipelines.images.headers import Damaged, Header, check_directories

BRANDS = 1 << 10  # bytes of a box of brands; usual ones have 28 to 40
AVIF = frozenset((b"avif", b"avis"))
OPENED = (b"avif", b"avis", b"mif1", b"msf1")  # major brands that Pillow 12.3 opens
# places in an AVIF that look like EXIF: there is one in most, and chance makes one in some hundred
# gigabytes
EXIFS = 4
EXIF = re.compile(rb"II\*\0|MM\0\*")


def brands(data: bytes) -> tuple[bytes, ...]:
    """What an ISO base media file says it is, the major brand first (ISO/IEC 14496-12 4.3); nothing
    if it is none.
    """
    if data[4:8] != b"ftyp":
        return ()
    end = min(int.from_bytes(data[:4], "big"), len(data), BRANDS)
    return (data[8:12], *(data[at : at + 4] for at in range(16, end - 3, 4)))


def is_avif(data: bytes) -> bool:
    """Whether any of its brands says so, as AVIF 1.1 has it in section 6: the major one may be that
    of a container.
    """
    return not AVIF.isdisjoint(brands(data))


def avif_header(data: bytes) -> Header:
    """An AVIF: the largest of the extents it names; which of them holds, and how it is turned, its
    decoder says.
    """
    sides: list[tuple[int, int]] = []
    pos = data.find(b"ispe")
    while pos >= 0 and len(sides) < 1_024:
        if pos + 16 <= len(data):
            sides.append(struct.unpack_from(">II", data, pos + 8))
        pos = data.find(b"ispe", pos + 4)
    _check_exif(data)
    width, height = max(sides, key=lambda size: size[0] * size[1], default=(1, 1))
    return Header(kind="AVIF", width=width, height=height, body=_as_avif(data))


def _check_exif(data: bytes) -> None:
    """Wherever EXIF data may lie in it; its decoder reads them all."""
    places = [found.start() for found in itertools.islice(EXIF.finditer(data), EXIFS + 1)]
    if len(places) > EXIFS:
        raise Damaged("decode.corrupt", f"more than {EXIFS} places that look like EXIF")
    for place in places:
        check_directories(Directories(data[place:]))


def _as_avif(data: bytes) -> bytes:
    """The same under a major brand that Pillow 12.3 opens, as it looks at no other; under `avis`
    its decoder wants tracks (`moov`).
    """
    found = brands(data)
    if found[0] in OPENED and (found[0] != b"avis" or b"moov" in data):
        return data
    return data[:8] + (b"avif" if b"avif" in found or b"moov" not in data else b"avis") + data[12:]
