"""Whatever an image says of itself, what is stored of it is read without an error, and shown
unturned, by what reads images in Python.
"""

import functools
import io
import struct
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from pipelines.images.decode import Decoded, decode
from pipelines.images.encode import Encoding
from tests.pipelines.pictures import (
    DISPLAY_P3,
    SRGB,
    chunk,
    encoded,
    exif,
    gradient,
    png,
    rgb_profile,
)
from tests.pipelines.web import jpeg

# of EXIF data that are cut, which readers then pass over
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")

XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="%d"/></x:xmpmeta>'
HEXADECIMAL = "\nexif\n   {}\n{}\n"
BROKEN_EXIF = {
    "no TIFF": b"this is no TIFF at all",
    "empty": b"",
    "of an unknown order": b"XX*\0" + exif(1)[4:],
    "cut within its header": exif(1)[:6],
    "a repeated mark": b"Exif\0\0" + b"no TIFF",
}
# A tag's type and value that say 6 to some readers and nothing to others.
ODD_TURNS = {
    "signed": struct.pack("<HHIi", 0x0112, 9, 1, 6),
    "a pair": struct.pack("<HHIHH", 0x0112, 3, 2, 6, 6),
    "a float": struct.pack("<HHIf", 0x0112, 11, 1, 6.0),
    "a byte": struct.pack("<HHIB3x", 0x0112, 1, 1, 6),
}


def directory(*entries: bytes) -> bytes:
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + b"".join(entries) + bytes(4)


def in_jpeg(*segments: tuple[int, bytes]) -> bytes:
    plain = jpeg(60, 40, "teal")
    return (
        plain[:2]
        + b"".join(
            bytes((0xFF, code)) + struct.pack(">H", len(data) + 2) + data for code, data in segments
        )
        + plain[2:]
    )


def in_png(*chunks: bytes, behind: bytes = b"") -> bytes:
    plain = encoded(gradient(), "PNG")
    return plain[:33] + b"".join(chunks) + plain[33:-12] + behind + plain[-12:]


def in_webp(**chunks: bytes) -> bytes:
    plain = encoded(gradient(), "WEBP")
    flags = {"EXIF": 8, "XMP": 4, "ICCP": 32}
    extended = (
        b"VP8X"
        + struct.pack("<IB3x", 10, sum(flags[name] for name in chunks))
        + b"\x27\0\0\x1d\0\0"
    )
    told = {
        name: name.ljust(4).encode() + struct.pack("<I", len(data)) + data + bytes(len(data) & 1)
        for name, data in chunks.items()
    }
    body = b"WEBP" + extended + told.pop("ICCP", b"") + plain[12:] + b"".join(told.values())
    return b"RIFF" + struct.pack("<I", len(body)) + body


STUMBLED_OVER = {
    **{
        f"jpeg, EXIF: {name}": in_jpeg((0xE1, b"Exif\0\0" + data))
        for name, data in BROKEN_EXIF.items()
        if data
    },
    **{
        f"png, EXIF: {name}": in_png(chunk(b"eXIf", data))
        for name, data in BROKEN_EXIF.items()
        if data
    },
    **{f"webp, EXIF: {name}": in_webp(EXIF=data) for name, data in BROKEN_EXIF.items() if data},
    "jpeg, turned by XMP": in_jpeg((0xE1, b"http://ns.adobe.com/xap/1.0/\0" + XMP % 6)),
    "png, turned by XMP": in_png(chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP % 8)),
    "webp, turned by XMP": in_webp(XMP=XMP % 3),
    "png, turned by a text": in_png(
        chunk(b"tEXt", b"Raw profile type exif\0" + HEXADECIMAL.format(32, exif(6).hex()).encode())
    ),
    "png, a text that is no EXIF": in_png(
        chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(b"\nexif\n 4\nzzzz\n"))
    ),
    "png, a packed text of another kind": in_png(chunk(b"zTXt", b"Comment\0\7rubbish")),
    "png, a packed text longer than readers take": in_png(
        chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(2_000_000)))
    ),
    "png, a text longer than readers take": in_png(
        chunk(b"iTXt", b"Comment\0\0\0\0\0" + b"x" * 1_100_000)
    ),
    "png, texts that are too long together": in_png(
        *[chunk(b"tEXt", b"a%d\0" % number + b"x" * 1_000_000) for number in range(70)]
    ),
    "png, a profile packed another way": in_png(
        chunk(b"iCCP", b"x\0\1" + zlib.compress(rgb_profile(SRGB)))
    ),
    "png, a profile that explodes": in_png(
        chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(2_000_000)))
    ),
    "png, a wrong sum of a chunk beside": in_png(chunk(b"tEXt", b"Comment\0hello")[:-1] + b"!"),
    "png, a resolution cut short": in_png(chunk(b"pHYs", b"\0\0\1")),
    "png, an intent cut short": in_png(chunk(b"sRGB", b"")),
    "png, EXIF behind the pixels": in_png(behind=chunk(b"eXIf", b"no TIFF")),
    "jpeg, EXIF in pieces": in_jpeg((0xE1, b"Exif\0\0" + exif(1)), (0xE1, b"Exif\0\0" + exif(6))),
    "jpeg, a block of Photoshop cut short": in_jpeg((0xED, b"Photoshop 3.0\0" + b"8BIM\4\4")),
    "jpeg, JFIF cut short": in_jpeg((0xE0, b"JFIF\0")),
    "jpeg, Adobe cut short": in_jpeg((0xEE, b"Adobe\0")),
    "jpeg, a profile that is none": in_jpeg((0xE2, b"ICC_PROFILE\0\1\1" + b"rubbish")),
    "jpeg, a profile in lost parts": in_jpeg((0xE2, b"ICC_PROFILE\0\1\2" + rgb_profile(SRGB))),
    "webp, a profile that is none": in_webp(ICCP=b"rubbish!"),
    **{
        f"jpeg, turned by {name}": in_jpeg((0xE1, b"Exif\0\0" + directory(entry)))
        for name, entry in ODD_TURNS.items()
    },
    "jpeg, turned twice": in_jpeg(
        (
            0xE1,
            b"Exif\0\0"
            + directory(
                struct.pack("<HHIHH", 0x0112, 3, 1, 1, 0), struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0)
            ),
        )
    ),
}
KEPT = {
    "jpeg": jpeg(60, 40, "teal"),
    "jpeg, EXIF": in_jpeg((0xE1, b"Exif\0\0" + exif(1))),
    "jpeg, XMP": in_jpeg((0xE1, b"http://ns.adobe.com/xap/1.0/\0" + XMP % 1)),
    "jpeg, a comment": in_jpeg((0xFE, b"made by hand")),
    "jpeg, a profile": in_jpeg((0xE2, b"ICC_PROFILE\0\1\1" + rgb_profile(SRGB))),
    "png, texts": in_png(
        chunk(b"tEXt", b"Software\0paint"),
        chunk(b"iTXt", "Title\0\0\0\0\0ü".encode()),
        chunk(b"pHYs", bytes(9)),
    ),
    "png, EXIF": in_png(chunk(b"eXIf", exif(1, ">"))),
    "png, a wrong sum behind the pixels": in_png(
        behind=chunk(b"tEXt", b"Comment\0hello")[:-1] + b"!"
    ),
    "png, a profile": encoded(gradient(), "PNG", icc_profile=rgb_profile(SRGB)),
    "webp, EXIF and XMP": in_webp(EXIF=exif(1), XMP=XMP % 1),
    "webp, a profile": encoded(gradient(), "WEBP", icc_profile=rgb_profile(SRGB)),
}


def stored(data: bytes) -> Decoded:
    found = decode(data)
    assert isinstance(found, Decoded), found
    return found


def read_by_all(image: bytes, size: tuple[int, int]) -> Image.Image:
    """The picture as readers show it; they do not raise, and do not turn it."""
    datasets = pytest.importorskip("datasets")
    with Image.open(io.BytesIO(image)) as opened:
        opened.load()
        assert opened.getexif().get(0x0112, 1) == 1
        upright = ImageOps.exif_transpose(opened)
        assert upright is not None
        assert upright.size == opened.size == size
        cast = datasets.Image().decode_example({"path": None, "bytes": image})
        assert cast.convert("RGB").tobytes() == upright.convert("RGB").tobytes()
        return upright.convert("RGB")


@pytest.mark.parametrize("name", STUMBLED_OVER)
def test_what_readers_stumble_over_is_left_out_and_said(name: str) -> None:
    found = stored(STUMBLED_OVER[name])
    assert found.reencoded
    turned = found.width != found.original_width  # by EXIF that all understand: it is upright now
    assert turned or (found.note or "").startswith(
        ("metadata left out: ", "colour profile ignored: ")
    )
    shown = read_by_all(found.image, (found.width, found.height))
    if not turned:  # nothing but the metadata is gone
        plain = stored(
            {
                "jpeg": KEPT["jpeg"],
                "png": encoded(gradient(), "PNG"),
                "webp": encoded(gradient(), "WEBP"),
            }[name.split(",")[0]]
        )
        assert shown.tobytes() == read_by_all(plain.image, (found.width, found.height)).tobytes()


@pytest.mark.parametrize("name", KEPT)
def test_what_they_read_is_kept(name: str) -> None:
    found = stored(KEPT[name])
    assert (found.image == KEPT[name], found.reencoded, found.note) == (True, False, None)
    read_by_all(found.image, (found.width, found.height))


def test_the_bytes_that_are_asked_for_whatever_they_are() -> None:
    data = STUMBLED_OVER["png, EXIF: no TIFF"]
    found = decode(data, encoding=Encoding(keep_original=True))
    assert isinstance(found, Decoded)
    assert (found.image == data, found.reencoded, found.note) == (True, False, None)


def test_what_is_encoded_anew_has_none() -> None:
    for data in STUMBLED_OVER.values():
        found = decode(data, encoding=Encoding(resize="keep_ratio", size=10))
        assert isinstance(found, Decoded)
        read_by_all(found.image, (found.width, found.height))


@functools.cache
def whole_files() -> tuple[bytes, ...]:
    told = {"exif": b"Exif\0\0" + exif(1), "icc_profile": rgb_profile(DISPLAY_P3)}
    return (
        *KEPT.values(),
        encoded(gradient(), "JPEG", progressive=True, **told),
        encoded(gradient(), "PNG", exif=exif(1)),
        encoded(gradient(), "GIF", save_all=True, append_images=[gradient().rotate(90)]),
        encoded(gradient(), "TIFF", compression="tiff_adobe_deflate"),
        encoded(gradient(), "BMP"),
        encoded(gradient(), "ICO"),
        encoded(gradient(), "AVIF", **told),
    )


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """One or two files cut, joined, with pieces turned over, repeated, or changed."""
    data = bytearray(draw(st.sampled_from(whole_files())))
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(0, len(data) - 1)))
        size = draw(st.integers(1, 200))
        match draw(st.sampled_from(["flip", "set", "cut", "drop", "repeat", "join", "four"])):
            case "flip" if data:
                data[place] ^= 1 << draw(st.integers(0, 7))
            case "set":
                data[place : place + 1] = draw(st.binary(min_size=1, max_size=8))
            case "cut":
                del data[place:]
            case "drop":
                del data[place : place + size]
            case "repeat":
                data[place:place] = data[place : place + size] * draw(st.integers(1, 40))
            case "join":
                data += draw(st.sampled_from(whole_files()))[place:]
            case "four":
                data[place : place + 4] = draw(
                    st.sampled_from(
                        [b"\xff" * 4, b"\x7f\xff\xff\xff", bytes(4), b"Exif", b"\xff\xc3\xff\xc3"]
                    )
                )
    return bytes(data)


@settings(max_examples=300, deadline=None)
@given(damaged())
def test_damage_of_any_kind_ends_as_a_picture_that_all_can_read_or_as_none(data: bytes) -> None:
    found = decode(data)
    if isinstance(found, Decoded):
        read_by_all(found.image, (found.width, found.height))
    else:
        assert found.outcome in {
            f"decode.{why}"
            for why in ("not_an_image", "unsupported", "corrupt", "truncated", "too_many_pixels")
        }


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.sampled_from(["jpeg", "png", "webp"]), st.booleans())
def test_any_exif(tail: bytes, kind: str, mark: bool) -> None:
    """Behind the mark of a TIFF or not: kept only if all can read it, and nobody turns the
    picture.
    """
    data = (b"II*\0\x08\0\0\0" if mark else b"") + tail
    segment = b"Exif\0\0" + data
    file = (
        in_jpeg((0xE1, segment))
        if kind == "jpeg"
        else in_png(chunk(b"eXIf", data))
        if kind == "png"
        else in_webp(EXIF=data)
    )
    found = stored(file)
    read_by_all(found.image, (found.width, found.height))


def test_a_palette_keeps_its_colours_without_metadata() -> None:
    rows = b"\0\0\1\0\1\0"
    data = png(
        2, 2, 8, 3, rows, chunk(b"PLTE", bytes((255, 0, 0, 0, 0, 255))), chunk(b"eXIf", b"no TIFF")
    )
    found = stored(data)
    assert found.note == "metadata left out: EXIF that is no TIFF"
    assert [read_by_all(found.image, (2, 2)).getpixel((column, 0)) for column in (0, 1)] == [
        (255, 0, 0),
        (0, 0, 255),
    ]
