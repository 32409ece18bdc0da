"""JPEGs by their frame type: what libjpeg does not decode, or Pillow decodes beyond its buffer, is
refused before any decoder.
"""

import io
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from filters.image import pixels as pictures
from filters.image.is_photo import NaturalFilter
from filters.image.is_photo import decode as looked_at
from pipelines.images.decode import Decoded, Undecodable, decode
from pipelines.images.encode import Encoding
from pipelines.images.isolated import fault
from tests.pipelines.pictures import encoded, gradient
from tests.pipelines.web import jpeg
from training.data.decode import open_image as trained_on

LOSSLESS = (
    Path(__file__).resolve().parents[2].parent
    / "shared/cases/fetch-decode/lossless-jpeg/random8_94x97_lossless.jpg"
)
PLAIN = jpeg(64, 48)
FRAME = PLAIN.index(b"\xff\xc0")
SMALLER = Encoding(resize="keep_ratio", size=16)


def of_type(marker: int, data: bytes = PLAIN) -> bytes:
    """A JPEG whose frame header has another marker."""
    place = data.index(b"\xff\xc0")
    return data[:place] + bytes((0xFF, marker)) + data[place + 2 :]


def segment(marker: int, content: bytes) -> bytes:
    return bytes((0xFF, marker)) + struct.pack(">H", len(content) + 2) + content


def before_frame(*pieces: bytes) -> bytes:
    """A lossless JPEG with something before its frame header, which may hide that from a careless
    reader.
    """
    data = of_type(0xC3)
    return data[:FRAME] + b"".join(pieces) + data[FRAME:]


REFUSED = {
    **{
        f"SOF{marker - 0xC0}": of_type(marker)
        for marker in (0xC3, 0xC5, 0xC6, 0xC7, 0xCB, 0xCD, 0xCE, 0xCF)
    },
    "behind fill bytes": before_frame(b"\xff" * 40_000),
    "behind junk": before_frame(b"\0" * 500),
    "behind a stuffed zero and a length": before_frame(b"\xff\0" + struct.pack(">H", 30)),
    "behind a restart": before_frame(b"\xff\xd0"),
    "behind a mark of no meaning": before_frame(b"\xff\x01"),
    "behind an empty comment": before_frame(segment(0xFE, b"")),
    "behind a comment that holds another": before_frame(
        segment(0xFE, segment(0xC0, PLAIN[FRAME + 4 : FRAME + 19]))
    ),
    "after a first scan": PLAIN[:-2] + of_type(0xC3)[FRAME:],
    "after another frame": PLAIN[:FRAME] + PLAIN[FRAME : FRAME + 19] + of_type(0xC3)[FRAME:],
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_frame_that_is_not_decoded_is_refused_by_name(name: str) -> None:
    for encoding in (None, SMALLER, Encoding(keep_original=True)):
        found = decode(REFUSED[name], encoding=encoding)
        assert isinstance(found, Undecodable)
        assert found.outcome == "decode.unsupported"
        kind = (
            f"(frame {name})"
            if name.startswith("SOF")
            else "a lossless JPEG (frame SOF3), which is not decoded"
        )
        assert kind in found.detail
    assert "which is not decoded" in (fault(REFUSED[name]) or "")


def test_two_frame_headers_and_twelve_bits() -> None:
    twice = PLAIN[:FRAME] + PLAIN[FRAME : FRAME + 19] + PLAIN[FRAME:]
    assert decode(twice) == Undecodable(
        outcome="decode.corrupt", detail="2 frame headers in one JPEG"
    )
    deep = of_type(0xC1)[: FRAME + 4] + b"\x0c" + PLAIN[FRAME + 5 :]
    assert decode(deep) == Undecodable(
        outcome="decode.unsupported", detail="a JPEG of 12 bits a colour, which is not decoded"
    )


# libjpeg itself refuses a second frame
FIRST = {name: data for name, data in REFUSED.items() if not name.startswith("after")}


@pytest.mark.parametrize("name", FIRST)
def test_measuring_and_training_refuse_it_too(name: str) -> None:
    assert looked_at(FIRST[name]) is None
    assert pictures.rgb(FIRST[name]) is None
    with pytest.raises(OSError, match=r"a JPEG of frame type SOF\d+, which is not decoded"):
        trained_on(FIRST[name], 32)


@pytest.mark.parametrize(
    "data",
    [
        PLAIN,
        PLAIN[:FRAME] + b"\xff" * 9 + PLAIN[FRAME:],
        of_type(0xC1),
        encoded(gradient(), "JPEG", progressive=True),
        encoded(gradient(), "PNG"),
    ],
)
def test_others_are_decoded(data: bytes) -> None:
    assert isinstance(decode(data), Decoded)
    assert isinstance(decode(data, encoding=SMALLER), Decoded)
    assert fault(data) is None
    assert looked_at(data) is not None
    assert min(trained_on(data, 16).size) >= 16


@pytest.mark.parametrize("marker", [0xC3, 0xC5, 0xC7])
def test_a_tiff_of_such_jpegs(marker: int) -> None:
    plain = encoded(gradient(size=(64, 64)), "TIFF", compression="jpeg")
    assert isinstance(decode(plain), Decoded)
    place = plain.index(b"\xff\xc0")
    found = decode(plain[:place] + bytes((0xFF, marker)) + plain[place + 2 :])
    assert found == Undecodable(
        outcome="decode.unsupported",
        detail="a TIFF of lossless or hierarchical JPEG, which is not decoded",
    )


@pytest.mark.parametrize(("packing", "name"), [(4, "JPEG"), (5, "PNG")])
def test_a_bitmap_that_holds_another_format(packing: int, name: str) -> None:
    inside = of_type(0xC3)
    header = struct.pack("<IiiHHIIiiII", 40, 64, 48, 1, 0, packing, len(inside), 0, 0, 0, 0)
    data = b"BM" + struct.pack("<IHHI", 54 + len(inside), 0, 0, 54) + header + inside
    detail = f"a BMP that holds a {name}, which is not decoded"
    assert decode(data) == Undecodable(outcome="decode.unsupported", detail=detail)


def test_an_icon_that_holds_a_lossless_jpeg_is_none() -> None:
    inside = of_type(0xC3)
    data = b"\0\0\1\0\1\0" + struct.pack("<BBBBHHII", 64, 48, 0, 0, 1, 24, len(inside), 22) + inside
    found = decode(data)
    assert isinstance(found, Undecodable)


def test_the_second_picture_of_a_file_does_not_matter() -> None:
    """As in files of phones (MPO): the first is what counts, and the second is not decoded."""
    assert isinstance(decode(PLAIN + of_type(0xC3)), Decoded)
    assert isinstance(decode(PLAIN + of_type(0xC3), encoding=SMALLER), Decoded)


@pytest.mark.real
def test_the_one_that_killed() -> None:
    """In a process of its own, by every road that scales."""
    if not LOSSLESS.exists():
        pytest.skip("the shared cases are not here")
    code = (
        "import sys, pathlib; data = pathlib.Path(sys.argv[1]).read_bytes()\nfrom"
        " tests.pipelines.test_frames import *\nassert decode(data).outcome == decode(data,"
        " encoding=SMALLER).outcome == 'decode.unsupported'\nassert looked_at(data) is None and"
        " fault(data) and pictures.rgb(data) is None\ntry: trained_on(data, 32)\nexcept OSError as"
        " error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(LOSSLESS)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (
        0,
        "a JPEG of frame type SOF3, which is not decoded\n",
    ), done.stderr


@pytest.mark.parametrize(("place", "value"), [(-3, 5), (-2, 70), (-1, 0x0E), (-1, 0x31)])
def test_a_scan_that_cannot_be_is_for_the_decoder_to_judge(place: int, value: int) -> None:
    """Of a progressive picture all whose tables and markers are there: where its first scan begins
    and ends, and at which bits.
    """
    data = bytearray(encoded(gradient(), "JPEG", progressive=True))
    assert isinstance(decode(bytes(data)), Decoded)
    scan = data.index(b"\xff\xda")
    data[scan + 2 + struct.unpack_from(">H", data, scan + 2)[0] + place] = value
    found = decode(bytes(data))
    assert isinstance(found, Undecodable)
    assert found.outcome == "decode.corrupt"


def test_a_table_that_cannot_be_is_for_the_decoder_to_judge() -> None:
    """Differences of DC have 15 bits at most; libjpeg ends at a table that tells of more."""
    table = PLAIN.index(b"\xff\xc4")
    data = PLAIN[: table + 21 + 5] + b"\x40" + PLAIN[table + 21 + 6 :]
    found = decode(data)
    assert isinstance(found, Undecodable)
    assert found.outcome == "decode.corrupt"


def test_a_filter_raises_nothing_that_a_plugin_does() -> None:
    """The one of AVIF raises RuntimeError where an item has no bytes."""
    data = encoded(gradient(), "AVIF")
    place = data.index(b"iloc")
    for step in range(4, 40):
        broken = data[: place + step] + b"\0" + data[place + step + 1 :]
        assert pictures.rgb(broken) is None or looked_at(broken) is not None
    assert pictures.rgb(data) is not None


def test_a_filter_gives_null_for_it() -> None:
    import pyarrow as pa

    batch = pa.record_batch({"image": pa.array([of_type(0xC3), PLAIN, None], pa.binary())})
    assert [
        value is None for value in NaturalFilter().measure(batch)["image.natural"].to_pylist()
    ] == [True, False, True]
    assert Image.open(io.BytesIO(PLAIN)).size == (64, 48)
