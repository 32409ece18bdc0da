"""What the bytes of an image say of it before a pixel is decoded: size, orientation, profile,
animation, and whether decoding is safe.

Each reader walks the structure of its format in bounded time, and hands on what alone is decoded:
the first frame without its metadata, so that texts, profiles and directories made to explode never
reach a decoder. JPEG has its own module. Sources: PNG third edition (W3C), GIF89a, WebP (RFC 9649),
Windows BITMAPINFOHEADER and ICONDIR, TIFF 6.0, AVIF 1.1 (ISO/IEC 23008-12).
"""

import re
import struct
import zlib
from dataclasses import dataclass

from pipelines.images.directories import Directories, Entry, orientation_of
from pipelines.images.metadata import exif_fault

# of a PNG or a WebP: 32 MiB in the usual 8 kB are 4,096; more is an attack on readers in Python
CHUNKS = 65_536
BLOCKS = 500_000  # of a GIF: 32 MiB in its 255-byte blocks are 131,586
# bytes of a text of a PNG, Pillow's own limit: it refuses the picture of a longer one
TEXT = 1 << 20
DEFLATED = 1_000  # bytes that inflate to no more than that: deflate packs at most 1,032 to 1
# bytes of a colour profile: the largest in common use, for CMYK presses, have 3 MB
PROFILE = 1 << 22
COPIED = 1 << 27  # bytes of the values in TIFF directories together, which readers copy
STRIPS = 1 << 18  # of a TIFF, each of which becomes an object in Python
LOSSLESS = re.compile(rb"\xff[\xc3\xc5-\xc7\xcb\xcd-\xcf]")  # frames of JPEG that are not decoded
# of a run-length coded BMP, which Pillow decodes in Python: a second for a million runs
RLE_PIXELS = 1 << 22
RLE_BYTES = 1 << 23  # of its file, two for each run of at least a pixel


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


# A PNG of one point in grey, between whose chunks stands what another one says of itself.
POINT = (
    _chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)),
    _chunk(b"IDAT", zlib.compress(bytes(2))),
    _chunk(b"IEND", b""),
)


class Damaged(ValueError):
    """Bytes that begin like an image and are none that can be decoded: an outcome and the cause in
    words.
    """

    def __init__(self, outcome: str, detail: str) -> None:
        super().__init__(detail)
        self.outcome = outcome


@dataclass(frozen=True, kw_only=True, slots=True)
class Header:
    """An image by its bytes alone. `plain`: every reader shows them as one opaque 8-bit picture,
    but for orientation and profile.
    """

    kind: str
    width: int  # pixels as coded, before any turning
    height: int
    body: bytes  # what to decode
    orientation: int = 1  # 1 to 8, as EXIF has it
    profile: bytes | None = None  # ICC
    note: str | None = None
    animated: bool = False
    pages: bool = False  # a file of several pictures, such as a TIFF, of which the first is taken
    plain: bool = False
    # bytes with all of its metadata, to see what readers make of them; none if it has none
    probe: bytes = b""
    fault: str | None = None  # why nobody should read its metadata
    whole: bool = False  # complete, as its structure shows without decoding
    bits: int = 8  # a channel
    channels: int = 0  # 0: not said
    # left, upper, right, lower of a first frame smaller than its canvas
    frame: tuple[int, int, int, int] | None = None


def png_header(data: bytes) -> Header:
    """A PNG, of which critical chunks and transparency alone are decoded."""
    if len(data) < 33 or data[12:16] != b"IHDR":
        raise Damaged("decode.corrupt", "begins like a PNG, yet its header cannot be read")
    width, height, bits, colour = struct.unpack_from(">IIBB", data, 16)
    kept, beside, seen = _png_chunks(data)
    profile, note = _inflated_profile(seen.get(b"iCCP", b""))
    animated = (
        struct.unpack(">I", seen[b"acTL"][:4])[0] > 1 if len(seen.get(b"acTL", b"")) >= 4 else False
    )
    opaque = colour in (0, 2, 3) and not seen.keys() & {b"tRNS", b"acTL"}
    fault = exif_fault(seen[b"eXIf"]) if b"eXIf" in seen else None
    return Header(
        kind="PNG",
        width=width,
        height=height,
        body=b"".join((data[:8], *kept)),
        orientation=orientation_of(seen.get(b"eXIf", b"")),
        profile=profile,
        note=note,
        animated=animated,
        probe=b"".join((data[:8], *beside)) if len(beside) > len(POINT) else b"",
        fault=seen[b"text"].decode() if b"text" in seen else fault,
        plain=opaque and bits <= 8,
        bits=bits,
        channels=1 if colour == 0 else 3,
    )


def _png_chunks(data: bytes) -> tuple[list[bytes], list[bytes], dict[bytes, bytes]]:
    """Chunks to decode, whole; all others around a single point; and the contents of what is read
    here.

    `text` stands for texts that are not to be read, and says why.
    """
    kept: list[bytes] = []
    beside = [POINT[0]]
    seen: dict[bytes, bytes] = {}
    view, pos = memoryview(data), 8
    for _ in range(CHUNKS):
        if pos + 8 > len(data):
            if not any(one[4:8] == b"IDAT" for one in kept):
                raise Damaged("decode.truncated", "ends before its pixels")
            break
        size, kind = struct.unpack_from(">I4s", data, pos)
        content = slice(pos + 8, pos + 8 + size)
        if kind in (b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS"):
            if kind == b"IDAT" and POINT[1] not in beside[-1:]:
                beside.append(POINT[1])
            kept.append(bytes(view[pos : content.stop + 4]))
        else:
            beside.append(bytes(view[pos : content.stop + 4]))
        if kind in (b"iCCP", b"eXIf", b"acTL", b"tRNS"):
            seen.setdefault(kind, bytes(view[content]))
        elif (
            kind in (b"tEXt", b"zTXt", b"iTXt")
            and (fault := _text_fault(kind, view[content])) is not None
        ):
            seen[b"text"] = fault.encode()
        if kind == b"IEND":
            break
        pos = content.stop + 4
    else:
        raise Damaged("decode.corrupt", f"more than {CHUNKS} chunks")
    return kept, [*beside, POINT[2]], seen


def _text_fault(kind: bytes, content: memoryview) -> str | None:
    """Why a text should not be read: it may be longer than readers accept, or is EXIF, which some
    turn the picture by.
    """
    name, _, rest = bytes(content[:82]).partition(b"\0")
    deflated = kind == b"zTXt" or (kind == b"iTXt" and rest[:1] == b"\1")
    if len(content) > (DEFLATED if deflated else TEXT):
        return "texts that may be longer than readers accept"
    return "EXIF in a text" if name == b"Raw profile type exif" else None


def _inflated_profile(chunk: bytes) -> tuple[bytes | None, str | None]:
    """The profile in an iCCP chunk, and why there is none."""
    if not chunk:
        return None, None
    inflater = zlib.decompressobj()
    try:
        profile = inflater.decompress(chunk.partition(b"\0")[2][1:], PROFILE)
    except zlib.error as error:
        return None, f"colour profile ignored: {error}"
    if inflater.eof:
        return profile, None
    return None, f"colour profile ignored: more than {PROFILE} bytes, or cut short"


def gif_header(data: bytes) -> Header:
    """A GIF, of which the first frame alone is decoded."""
    if len(data) < 14:
        raise Damaged("decode.corrupt", "begins like a GIF, yet its header cannot be read")
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    start = 13 + _palette(flags)
    budget = [BLOCKS]
    control, place, _ = _next_frame(data, start, budget)
    if place + 10 > len(data):
        raise Damaged("decode.truncated", "ends before its first frame")
    left, upper, wide, high, flags = struct.unpack_from("<HHHHB", data, place + 1)
    end = _blocks_end(data, place + 11 + _palette(flags), budget)
    frame = (left, upper, left + wide, upper + high)
    screen = struct.pack(
        "<HH", min(max(width, frame[2]), 65_535), min(max(height, frame[3]), 65_535)
    )
    canvas = max(width, frame[2]), max(height, frame[3])
    return Header(
        kind="GIF",
        width=canvas[0],
        height=canvas[1],
        body=b"".join(
            (
                data[:6],
                screen,
                data[10:start],
                control,
                data[place:end],
                b";" if end <= len(data) else b"",
            )
        ),
        animated=_next_frame(data, end, budget)[2],
        frame=None if frame == (0, 0, *canvas) else frame,
    )


def _palette(flags: int) -> int:
    return 6 << (flags & 7) if flags & 0x80 else 0  # bytes


def _blocks_end(data: bytes, pos: int, budget: list[int]) -> int:
    """The place behind a chain of sub-blocks; beyond the data if that ends first."""
    while pos < len(data) and data[pos]:
        pos += data[pos] + 1
        budget[0] -= 1
        if budget[0] < 0:
            raise Damaged("decode.corrupt", f"more than {BLOCKS} blocks")
    return pos + 1


def _next_frame(data: bytes, pos: int, budget: list[int]) -> tuple[bytes, int, bool]:
    """The graphic control extension of the next frame, where that begins, and whether there is
    one.
    """
    control = b""
    while pos + 1 < len(data) and data[pos] in b"\x21\x00":
        if not data[pos]:  # stray terminators, which readers skip
            pos += 1
            budget[0] -= 1
            continue
        end = _blocks_end(data, pos + 2, budget)
        if data[pos + 1] == 0xF9:
            control = data[pos:end]
        pos = end
        if budget[0] < 0:
            raise Damaged("decode.corrupt", f"more than {BLOCKS} blocks")
    found = pos < len(data) and data[pos] == 0x2C
    return control, pos if found else len(data), found


def webp_header(data: bytes) -> Header:
    """A WebP; its canvas is known before its decoder makes one."""
    width = height = frames = 0
    flags = 0
    told: dict[bytes, bytes] = {}
    kept: list[bytes] = []
    pos = 12
    for _ in range(CHUNKS):
        if pos + 8 > len(data):
            break
        kind, size = struct.unpack_from("<4sI", data, pos)
        content = data[pos + 8 : pos + 8 + min(size, 16)]
        if kind == b"VP8X" and len(content) >= 10:
            flags = content[0]
            width, height = (int.from_bytes(content[at : at + 3], "little") + 1 for at in (4, 7))
        elif kind == b"VP8 " and not width and content[3:6] == b"\x9d\x01\x2a":
            width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", content, 6))
        elif kind == b"VP8L" and not width and content[:1] == b"\x2f":
            packed = int.from_bytes(content[1:5], "little")
            width, height, flags = (
                (packed & 0x3FFF) + 1,
                (packed >> 14 & 0x3FFF) + 1,
                flags | (packed >> 24 & 0x10),
            )
        frames += kind == b"ANMF"
        end = pos + 8 + size + (size & 1)
        if kind in (b"EXIF", b"XMP ", b"ICCP"):
            told.setdefault(kind, data[pos + 8 : pos + 8 + size])
        else:
            kept.append(data[pos:end])
        pos = end
    else:
        raise Damaged("decode.corrupt", f"more than {CHUNKS} chunks")
    if not width or not height:
        raise Damaged("decode.corrupt", "begins like a WebP, yet its header cannot be read")
    if pos > len(data) + 1:
        raise Damaged("decode.truncated", f"{pos} bytes announced, {len(data)} there")
    return _webp(data, (width, height), told, kept, animated=frames > 1, plain=not flags & 0x12)


def _webp(
    data: bytes, size: tuple[int, int], told: dict[bytes, bytes], kept: list[bytes], **said: bool
) -> Header:
    """The header of a WebP that tells EXIF, XMP and a profile, and without them is made of the
    chunks `kept`.
    """
    profile = told.get(b"ICCP")
    long = profile is not None and len(profile) > PROFILE
    return Header(
        kind="WEBP",
        width=size[0],
        height=size[1],
        body=_without_told(kept) if told else data,
        orientation=orientation_of(told.get(b"EXIF", b"")),
        profile=None if long else profile,
        note=f"colour profile ignored: more than {PROFILE} bytes" if long else None,
        probe=data if told else b"",
        fault=exif_fault(told[b"EXIF"]) if b"EXIF" in told else None,
        channels=3,
        **said,  # type: ignore[arg-type]
    )


def _without_told(chunks: list[bytes]) -> bytes:
    """A WebP of these chunks, whose extended header tells of no EXIF, XMP or profile."""
    plain = [
        (
            chunk[:8] + bytes((chunk[8] & ~0x2C,)) + chunk[9:]
            if chunk[:4] == b"VP8X" and len(chunk) > 8
            else chunk
        )
        for chunk in chunks
    ]
    body = b"".join((b"WEBP", *plain))
    return b"RIFF" + struct.pack("<I", len(body)) + body


def bmp_header(data: bytes) -> Header:
    """A BMP, with the small header of OS/2 or one of Windows'."""
    if len(data) < 26:
        raise Damaged("decode.corrupt", "begins like a BMP, yet its header cannot be read")
    width, height, packing = _dib(data, 14)
    if packing in (4, 5):
        raise Damaged(
            "decode.unsupported",
            f"a BMP that holds a {'JPEG' if packing == 4 else 'PNG'}, which is not decoded",
        )
    if packing == 2:
        raise Damaged("decode.unsupported", "a BMP of 4-bit runs, which Pillow 12.3 shows wrong")
    if packing == 1 and width * height > RLE_PIXELS:
        raise Damaged(
            "decode.too_many_pixels",
            f"{width} x {height} pixels in runs, at most {RLE_PIXELS} are decoded",
        )
    if packing == 1 and len(data) > RLE_BYTES:
        raise Damaged("decode.corrupt", f"{len(data)} bytes of runs, at most {RLE_BYTES} are read")
    return Header(kind="BMP", width=width, height=height, body=data)


def _dib(data: bytes, at: int) -> tuple[int, int, int]:
    """Width, height and compression of a device-independent bitmap."""
    size = struct.unpack_from("<I", data, at)[0]
    if size == 12:
        return (*struct.unpack_from("<HH", data, at + 4), 0)
    if size < 16 or at + 20 > len(data):
        raise Damaged("decode.corrupt", "a bitmap whose header cannot be read")
    width, height, _, packing = struct.unpack_from("<iiII", data, at + 4)
    return abs(width), abs(height), packing


def ico_header(data: bytes) -> Header:
    """An ICO: the size of the largest picture inside, whatever its directory says of it."""
    count = struct.unpack_from("<H", data, 4)[0] if len(data) >= 6 else 0
    sides = [
        _icon(data, struct.unpack_from("<I", data, 18 + 16 * index)[0])
        for index in range(min(count, (len(data) - 6) // 16))
    ]
    if not sides:
        raise Damaged("decode.corrupt", "begins like an ICO, yet its directory cannot be read")
    width, height = max(sides, key=lambda size: size[0] * size[1])
    return Header(kind="ICO", width=width, height=height, body=data)


def _icon(data: bytes, at: int) -> tuple[int, int]:
    if data[at : at + 8] == b"\x89PNG\r\n\x1a\n" and at + 24 <= len(data):
        return struct.unpack_from(">II", data, at + 16)
    if at + 26 > len(data):
        raise Damaged("decode.truncated", "ends before a picture that its directory names")
    width, height, _ = _dib(data, at)
    return width, height // 2  # colours above, mask below


def tiff_header(data: bytes) -> Header:
    """A TIFF or BigTIFF: its first directory."""
    try:
        directories = Directories(data)
    except ValueError as error:
        raise Damaged(
            "decode.corrupt", "begins like a TIFF, yet its header cannot be read"
        ) from error
    check_directories(directories)
    entries: dict[int, Entry] = {}
    for entry in directories.entries(directories.first):
        entries.setdefault(entry[0], entry)
    numbers = {tag: directories.number(entry) for tag, entry in entries.items()}
    if not numbers.get(256) or not numbers.get(257):
        raise Damaged("decode.corrupt", "a TIFF that does not say its size")
    if numbers.get(259) in (6, 7) and LOSSLESS.search(data):
        raise Damaged(
            "decode.unsupported", "a TIFF of lossless or hierarchical JPEG, which is not decoded"
        )
    if max(entries[tag][2] if tag in entries else 0 for tag in (273, 324)) > STRIPS:
        raise Damaged("decode.corrupt", f"more than {STRIPS} strips or tiles")
    return Header(
        kind="TIFF",
        width=numbers[256],
        height=numbers[257],
        body=data,
        orientation=orientation_of(data),
        pages=directories.after(directories.first) != 0,
        bits=numbers.get(258) or 1,
        channels=numbers.get(277) or 1,
    )


def check_directories(directories: Directories) -> None:
    """Damaged if their values together are more than a reader should copy."""
    if directories.copied() > COPIED:
        raise Damaged("decode.corrupt", f"directories that point at more than {COPIED} bytes")
