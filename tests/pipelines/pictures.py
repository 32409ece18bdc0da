"""Encoded pictures and colour profiles for tests, byte by byte where no encoder writes them."""

import io
import struct
import zlib
from typing import Any

from PIL import Image

# 2.4, 1/1.055, .055/1.055, 1/12.92, .04045
SRGB_CURVE = b"para" + bytes(4) + struct.pack(">HH5i", 3, 0, 157286, 62119, 3417, 5073, 2651)
# red, green, blue in XYZ under D50
DISPLAY_P3 = (
    (0.51512, 0.24120, -0.00105),
    (0.29198, 0.69225, 0.04189),
    (0.15710, 0.06657, 0.78407),
)
SRGB = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410))


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def gradient(mode: str = "RGB", size: tuple[int, int] = (40, 30)) -> Image.Image:
    return Image.linear_gradient("L").resize(size).convert(mode)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(
    width: int, height: int, depth: int, color_type: int, rows: bytes, *between: bytes
) -> bytes:
    """A PNG, chunk by chunk; `between` are chunks before its pixels."""
    header = struct.pack(">IIBBBBB", width, height, depth, color_type, 0, 0, 0)
    chunks = (
        chunk(b"IHDR", header),
        *between,
        chunk(b"IDAT", zlib.compress(rows)),
        chunk(b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def png16(color_type: int, samples: tuple[int, ...], size: int = 8, *between: bytes) -> bytes:
    """A 16-bit PNG of one colour."""
    row = b"\0" + struct.pack(f">{len(samples)}H", *samples) * size
    return png(size, size, 16, color_type, row * size, *between)


def exif(orientation: int, order: str = "<") -> bytes:
    """EXIF data that say how a picture is turned, and no more."""
    mark = b"II*\0" if order == "<" else b"MM\0*"
    return mark + struct.pack(order + "IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)


def profile(
    space: bytes, tags: dict[bytes, bytes], connection: bytes = b"XYZ ", kind: bytes = b"mntr"
) -> bytes:
    """An ICC profile of version 2.4."""
    start = 132 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    for name, data in tags.items():
        table += struct.pack(">4sII", name, start + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    head = struct.pack(
        ">I4sI4s4s4s12s4s",
        start + len(body),
        b"test",
        0x02400000,
        kind,
        space,
        connection,
        bytes(12),
        b"acsp",
    )
    return (
        head.ljust(68, b"\0") + struct.pack(">3i", 63190, 65536, 54061) + bytes(48) + table + body
    )


def xyz(values: tuple[float, float, float]) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(value * 65536) for value in values))


def rgb_profile(
    primaries: tuple[tuple[float, float, float], ...], curve: bytes = SRGB_CURVE
) -> bytes:
    """A profile of three primaries and one curve."""
    tags = {b"wtpt": xyz((0.9642, 1.0, 0.8249))}
    tags |= {
        name: xyz(primary)
        for name, primary in zip((b"rXYZ", b"gXYZ", b"bXYZ"), primaries, strict=True)
    }
    return profile(b"RGB ", tags | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve))


def grey_profile(gamma: float) -> bytes:
    return profile(
        b"GRAY",
        {
            b"wtpt": xyz((0.9642, 1.0, 0.8249)),
            b"kTRC": b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256)),
        },
    )


def cmyk_profile() -> bytes:
    """Inks that take lightness alone: full cyan 20 of 100, magenta 30, yellow 10, black 60."""
    lightness = [
        max(0, 100 - 20 * (i >> 3 & 1) - 30 * (i >> 2 & 1) - 10 * (i >> 1 & 1) - 60 * (i & 1))
        for i in range(16)
    ]
    grid = b"".join(bytes((round(value * 2.55), 128, 128)) for value in lightness)
    identity = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
    table = (
        b"mft1"
        + bytes(4)
        + bytes((4, 3, 2, 0))
        + identity
        + bytes(range(256)) * 4
        + grid
        + bytes(range(256)) * 3
    )
    return profile(b"CMYK", {b"wtpt": xyz((0.9642, 1.0, 0.8249)), b"A2B0": table}, b"Lab ", b"prtr")
