"""Bytes to stored pictures: what is kept as it came, what is encoded anew, and what is no picture."""

import hashlib
import io
import struct
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pipelines.decode import Decoded, Undecodable, decode
from tests.pipelines.web import jpeg

BAD = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "bad_images"


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def picture(data: bytes) -> Decoded:
    found = decode(data)
    assert isinstance(found, Decoded), found
    return found


def shown(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(picture(data).image))


def outcome(data: bytes, **options: Any) -> str:
    found = decode(data, **options)
    assert isinstance(found, Undecodable), found
    return found.outcome


def gradient(mode: str = "RGB", size: tuple[int, int] = (40, 30)) -> Image.Image:
    return Image.linear_gradient("L").resize(size).convert(mode)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (jpeg(), "JPEG"),
        (encoded(gradient("L"), "JPEG"), "JPEG"),
        (encoded(gradient(), "JPEG", progressive=True), "JPEG"),
        (encoded(gradient(), "PNG"), "PNG"),
        (encoded(gradient("L"), "PNG"), "PNG"),
        (encoded(gradient("P"), "PNG"), "PNG"),
        (encoded(gradient("1"), "PNG"), "PNG"),
        (encoded(gradient(), "WEBP"), "WEBP"),
    ],
)
def test_what_every_reader_shows_alike_is_kept(data: bytes, kind: str) -> None:
    found = picture(data)
    assert found.image == data
    assert (found.format, found.original_bytes, found.image_id) == (kind, len(data), hashlib.sha256(data).hexdigest())
    assert (found.width, found.height) == (found.original_width, found.original_height) == (40, 30)


@pytest.mark.parametrize(
    ("data", "kind", "stored"),
    [
        (encoded(gradient("CMYK"), "JPEG"), "JPEG", ("JPEG", "RGB")),
        (encoded(gradient("RGBA"), "PNG"), "PNG", ("PNG", "RGB")),
        (encoded(gradient("LA"), "PNG"), "PNG", ("PNG", "RGB")),
        (encoded(Image.new("RGBA", (40, 30), (9, 9, 9, 99)), "WEBP"), "WEBP", ("JPEG", "RGB")),
        (encoded(gradient("P"), "GIF"), "GIF", ("PNG", "RGB")),
        (encoded(gradient(), "BMP"), "BMP", ("PNG", "RGB")),
        (encoded(gradient(), "TIFF"), "TIFF", ("JPEG", "RGB")),
        (encoded(gradient("P"), "GIF", save_all=True, append_images=[gradient("P").rotate(180)]), "GIF", ("PNG", "RGB")),
        (encoded(gradient(), "PNG", save_all=True, append_images=[gradient().rotate(180)]), "PNG", ("PNG", "RGB")),
    ],
)
def test_what_readers_show_differently_is_encoded_anew(data: bytes, kind: str, stored: tuple[str, str]) -> None:
    found = picture(data)
    image = shown(data)
    assert (found.format, image.format, image.mode.replace("L", "RGB")) == (kind, *stored)
    assert found.image_id == hashlib.sha256(data).hexdigest()
    assert image.size == (found.width, found.height) == (40, 30)
    assert getattr(image, "n_frames", 1) == 1


def close(found: Any, expected: tuple[int, ...], by: int = 3) -> bool:
    values = found if isinstance(found, tuple) else (found,) * 3
    return all(abs(value - wanted) <= by for value, wanted in zip(values, expected, strict=True))


def test_transparency_lies_on_white() -> None:
    clear = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    half = Image.new("RGBA", (8, 8), (255, 0, 0, 128))
    assert shown(encoded(clear, "PNG")).getpixel((4, 4)) == (255, 255, 255)
    assert close(shown(encoded(half, "PNG")).getpixel((4, 4)), (255, 127, 127))
    keyed = encoded(Image.new("P", (8, 8), 0), "PNG", transparency=0)
    assert shown(keyed).getpixel((4, 4)) == (255, 255, 255)


def png(width: int, height: int, depth: int, color_type: int, rows: bytes) -> bytes:
    """A PNG, chunk by chunk."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, depth, color_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def png16(color_type: int, samples: tuple[int, ...], size: int = 8) -> bytes:
    """A 16-bit PNG of one colour."""
    row = b"\0" + struct.pack(f">{len(samples)}H", *samples) * size
    return png(size, size, 16, color_type, row * size)


@pytest.mark.parametrize(
    ("color_type", "samples", "expected"),
    [(0, (30000,), (117, 117, 117)), (2, (30000, 0, 65535), (117, 0, 255)), (6, (0, 30000, 0, 65535), (0, 117, 0))],
)
def test_sixteen_bits_become_eight(color_type: int, samples: tuple[int, ...], expected: tuple[int, ...]) -> None:
    data = png16(color_type, samples)
    image = shown(data)
    assert picture(data).image != data
    assert image.mode in ("L", "RGB")
    assert close(image.getpixel((4, 4)), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int) -> None:
    upright = Image.new("RGB", (40, 20), "blue")
    upright.paste("red", (0, 0, 10, 10))
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # Image.Transpose that a viewer's turn undoes
    turned = upright if orientation == 1 else upright.transpose(Image.Transpose(undo[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(turned, "JPEG", quality=95, exif=exif)
    found, image = picture(data), shown(data)
    assert (found.width, found.height) == image.size == (40, 20)
    assert (found.original_width, found.original_height) == turned.size
    assert close(image.getpixel((2, 2)), (254, 0, 0), by=12)
    assert close(image.getpixel((37, 17)), (0, 0, 254), by=12)
    assert (found.image == data) is (orientation == 1)
    assert image.getexif().get(0x0112, 1) == 1


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "decode.not_an_image"),
        (b"<html>", "decode.not_an_image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "decode.not_an_image"),
        (b"\xff\xd8\xff", "decode.corrupt"),
        (b"\x89PNG\r\n\x1a\nrubbish", "decode.corrupt"),
        (b"GIF89a", "decode.corrupt"),
        (jpeg(200, 200)[:600], "decode.truncated"),
        (jpeg(200, 200)[:-200], "decode.truncated"),
        (encoded(gradient(size=(200, 200)), "PNG")[:-200], "decode.truncated"),
        (encoded(gradient(), "GIF")[:-100], "decode.truncated"),
    ],
)
def test_what_is_no_picture(data: bytes, expected: str) -> None:
    assert outcome(data) == expected


def test_pixels_are_counted_before_they_are_made() -> None:
    assert outcome(jpeg(100, 100), max_pixels=9_999) == "decode.too_many_pixels"
    assert picture(jpeg(100, 100)).width == 100
    assert outcome(png(60_000, 60_000, 8, 2, b"")) == "decode.too_many_pixels"
    assert outcome(png(10_000, 10_000, 8, 2, b"")) == "decode.too_many_pixels"
    assert outcome(png(2**31 - 1, 2**31 - 1, 8, 2, b"")) == "decode.too_many_pixels"


@pytest.mark.real
def test_torture_files() -> None:
    if not BAD.exists():
        pytest.skip("the shared test data are not here")
    counts: Counter[str] = Counter()
    for path in sorted(path for path in BAD.rglob("*") if path.is_file()):
        found = decode(path.read_bytes())
        counts["decoded" if isinstance(found, Decoded) else found.outcome] += 1
    assert counts["decode.too_many_pixels"] == 11
    assert counts["decode.truncated"] == 6
    assert counts["decoded"] > 900


@pytest.mark.real
@pytest.mark.parametrize("orientation", range(1, 9))
def test_real_orientations(orientation: int) -> None:
    path = BAD / "exif-orientation" / f"Landscape_{orientation}.jpg"
    if not path.exists():
        pytest.skip("the shared test data are not here")
    found = picture(path.read_bytes())
    assert found.width > found.height
