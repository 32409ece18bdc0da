"""AVIFs under every brand that says what they are, and files of the same family that are none."""

import io
import struct

import pytest
from PIL import Image

from pipelines.images.decode import Decoded, Undecodable, decode
from tests.pipelines.pictures import encoded, exif, gradient

PLAIN = encoded(gradient(size=(64, 48)), "AVIF", quality=90)
MOVING = encoded(gradient(), "AVIF", save_all=True, append_images=[gradient().rotate(180)])


def branded(data: bytes, major: bytes, *compatible: bytes) -> bytes:
    """The same under other brands; places in the file are counted from its start, so the box keeps
    its size.
    """
    size = struct.unpack(">I", data[:4])[0]
    filled = [*compatible, *[compatible[-1]] * (size // 4 - 4 - len(compatible))]
    assert len(filled) == size // 4 - 4
    return data[:8] + major + data[12:16] + b"".join(filled) + data[size:]


@pytest.mark.parametrize(
    "major", [b"avif", b"avis", b"mif1", b"msf1", b"miaf", b"MA1B", b"MA1A", b"1pic", b"mif2"]
)
@pytest.mark.parametrize(
    "others", [(b"avif",), (b"mif1", b"avif"), (b"mif1", b"miaf", b"MA1B", b"avif")]
)
def test_any_brand_says_it(major: bytes, others: tuple[bytes, ...]) -> None:
    data = branded(PLAIN, major, *others)
    found = decode(data)
    assert isinstance(found, Decoded)
    assert (found.format, found.width, found.height, found.original_bytes) == (
        "AVIF",
        64,
        48,
        len(data),
    )
    plain = decode(PLAIN)
    assert isinstance(plain, Decoded)
    # the id is of the bytes as they came
    assert (found.image, found.image_id == plain.image_id) == (plain.image, data == PLAIN)
    with Image.open(io.BytesIO(found.image)) as image:
        assert image.format == "JPEG"  # anew: other readers open none of these


@pytest.mark.parametrize("major", [b"avis", b"msf1", b"miaf"])
def test_a_sequence(major: bytes) -> None:
    found = decode(branded(MOVING, major, b"avis", b"msf1"))
    assert isinstance(found, Decoded)
    assert (found.animated, found.note) == (True, "the first of several frames")


def test_its_turning_is_kept_under_another_brand() -> None:
    data = encoded(gradient(size=(64, 48)), "AVIF", exif=b"Exif\0\0" + exif(6))
    found = decode(branded(data, b"MA1B", b"miaf", b"avif"))
    assert isinstance(found, Decoded)
    assert (found.width, found.height, found.original_width) == (48, 64, 64)


@pytest.mark.parametrize(
    ("brands", "outcome", "words"),
    [
        (b"heicmif1heic", "decode.unsupported", "HEIC, which is not decoded"),
        (b"mif1heicmif1", "decode.unsupported", "HEIF, which is not decoded"),
        (b"heixmif1heix", "decode.unsupported", "HEIC, which is not decoded"),
        (b"msf1hevcmsf1", "decode.unsupported", "HEIF, which is not decoded"),
        (b"miafMA1BMA1B", "decode.unsupported", "HEIF, which is not decoded"),
        (b"isomiso2mp41", "decode.not_an_image", "begins with"),
    ],
)
def test_other_files_of_the_family(brands: bytes, outcome: str, words: str) -> None:
    body = b"ftyp" + brands[:4] + bytes(4) + brands[4:]
    found = decode(
        struct.pack(">I", len(body) + 4) + body + PLAIN[struct.unpack(">I", PLAIN[:4])[0] :]
    )
    assert isinstance(found, Undecodable)
    assert found.outcome == outcome
    assert words in found.detail


def test_a_brand_alone_is_no_picture() -> None:
    for size in (0, 1, 8, 20, 24, 2**32 - 1):
        found = decode(struct.pack(">I", size) + b"ftypmiaf\0\0\0\0avif" + b"mif1")
        assert isinstance(found, Undecodable)
        assert found.outcome in (
            "decode.corrupt",
            "decode.truncated",
            "decode.not_an_image",
            "decode.unsupported",
        )
