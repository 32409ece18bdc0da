"""Bombs, damage and torture: whatever the bytes, an outcome in bounded time and memory. Half a
minute, in three processes.
"""

import io
import json
import os
import random
import re
import resource
import struct
import subprocess
import sys
import time
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pipelines.images.decode import Decoded, Undecodable, decode
from tests.pipelines.pictures import DISPLAY_P3, chunk, encoded, exif, gradient, png, rgb_profile
from tests.pipelines.web import jpeg

BAD = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "bad_images"
OUTCOMES = {
    "decoded",
    *(
        f"decode.{why}"
        for why in ("not_an_image", "unsupported", "corrupt", "truncated", "too_many_pixels")
    ),
}
CUT = (
    "jpeg",
    "progressive",
    "cmyk",
    "png",
    "palette",
    "gif",
    "webp",
    "moving webp",
    "lossless webp",
    "tiff",
    "bmp",
    "avif",
)
# bytes of address space for a process that decodes any file of 32 MiB; Python, numpy and Pillow
# alone map 0.5 GiB
MEMORY = 2 * 1024**3


def segments(*parts: tuple[int, bytes]) -> bytes:
    return b"".join(
        bytes((0xFF, marker)) + struct.pack(">H", len(data) + 2) + data for marker, data in parts
    )


def after_start(data: bytes, *parts: tuple[int, bytes]) -> bytes:
    return data[:2] + segments(*parts) + data[2:]


def directory(entries: int, at_most: int) -> bytes:
    """EXIF data of which every entry points at everything."""
    body = b"".join(struct.pack("<HHII", 0x0400 + index, 7, at_most, 0) for index in range(entries))
    return (b"II*\0" + struct.pack("<IH", 8, entries) + body).ljust(at_most, b"\0")


def boxes(size: int) -> bytes:
    """GIF sub-blocks of that many bytes together."""
    return (b"\xff" + bytes(255)) * (size // 255)


def wide_webp() -> bytes:
    canvas = (
        b"VP8X"
        + struct.pack("<I", 10)
        + b"\x02\0\0\0"
        + b"\xff\xff\0"
        + b"\xff\xff\0"
        + b"ANIM"
        + struct.pack("<IIH", 6, 0, 0)
    )
    return b"RIFF" + struct.pack("<I", len(canvas) + 4) + b"WEBP" + canvas


def ico(picture: bytes) -> bytes:
    return (
        b"\0\0\1\0\1\0" + struct.pack("<BBBBHHII", 16, 16, 0, 0, 1, 32, len(picture), 22) + picture
    )


def scans(count: int) -> bytes:
    """A progressive JPEG with one of its scans again and again."""
    data = encoded(gradient(size=(2_000, 2_000)), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * count + data[-2:]


def animation(kind: str, frames: int) -> bytes:
    pictures = [
        Image.new("RGB", (16, 16), (index % 256, index // 256, 0)) for index in range(frames)
    ]
    return encoded(pictures[0], kind, save_all=True, append_images=pictures[1:], duration=20)


def of_frames(count: int) -> bytes:
    """An animated PNG of so many frames of a point."""
    frames = b"".join(
        chunk(b"fcTL", struct.pack(">IIIIIHHBB", 2 * index, 1, 1, 0, 0, 1, 10, 0, 0))
        + chunk(b"fdAT", struct.pack(">I", 2 * index + 1) + zlib.compress(b"\0\0"))
        for index in range(count)
    )
    plain = png(1, 1, 8, 0, b"\0\0", chunk(b"acTL", struct.pack(">II", count, 0)))
    return plain[:-12] + frames + plain[-12:]


def deep(side: int) -> bytes:
    """A PNG in grey of 16 bits, all black."""
    packer = zlib.compressobj(1)
    rows = b"".join(packer.compress(bytes(1 + 2 * side)) for _ in range(side)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 16, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )


def in_a_circle() -> bytes:
    """A TIFF whose directory names itself as the next."""
    data = encoded(gradient(), "TIFF")
    first = struct.unpack_from("<I", data, 4)[0]
    end = first + 2 + 12 * struct.unpack_from("<H", data, first)[0]
    return data[:end] + struct.pack("<I", first) + data[end + 4 :]


def runs(count: int) -> bytes:
    """A BMP of that many runs of one pixel."""
    wide = 2_048
    header = struct.pack(
        "<IIIIiiHHIIIIII", 99, 0, 1_078, 40, wide, count // wide, 1, 8, 1, 2 * count, 0, 0, 256, 0
    )
    return b"BM" + header + bytes(1_024) + b"\1\0" * count


def icons(count: int) -> bytes:
    picture = encoded(gradient(size=(16, 16)), "PNG")
    entry = struct.pack("<BBBBHHII", 16, 16, 0, 0, 1, 32, len(picture), 6 + 16 * count)
    return b"\0\0\1\0" + struct.pack("<H", count) + entry * count + picture


def bombs() -> dict[str, tuple[bytes, str]]:
    """Files of which each would take gigabytes or minutes if it were believed; and what is to come
    of them.
    """
    zeros = zlib.compress(bytes(100_000_000), 9)
    text = chunk(b"zTXt", b"x\0\0" + zeros)
    gif = encoded(gradient("P"), "GIF")
    frame = gif.index(b",\0\0\0\0\x28\0")
    tiff = encoded(gradient(), "TIFF")
    return {
        "png of 88 million deep pixels": (deep(9_400), "decoded"),
        "png of 30,000 frames": (of_frames(30_000), "decoded"),
        "gif of 5,000 frames": (animation("GIF", 5_000), "decoded"),
        "jpeg of junk": (jpeg()[:20] + bytes(30_000_000) + jpeg()[20:], "decode.corrupt"),
        "jpeg of marks": (jpeg()[:-2] + b"\xff\x01" * 15_000_000, "decode.corrupt"),
        "jpeg of scans that are few enough": (scans(400), "decoded"),
        "avif of what looks like exif": (
            encoded(gradient(), "AVIF") + b"II*\0\x08\0\0\0" * 1_000_000,
            "decode.corrupt",
        ),
        "avif of extents": (encoded(gradient(), "AVIF") + b"\0\0\0\x14ispe" * 2_000_000, "decode"),
        "tiff in a circle": (in_a_circle(), "decoded"),
        "bmp of two million runs": (runs(1 << 21), "decode"),
        "bmp of runs without end": (runs(1 << 22) + b"\0\0" * 4_000_000, "decode.corrupt"),
        "ico of 65,535 pictures": (icons(65_535), "decoded"),
        "png of 60,000 x 60,000": (png(60_000, 60_000, 8, 2, b""), "decode.too_many_pixels"),
        "png with texts that explode": (png(1, 1, 8, 0, b"\0\x40", *[text] * 8), "decoded"),
        "png with a profile that explodes": (
            png(1, 1, 8, 0, b"\0\x40", chunk(b"iCCP", b"x\0\0" + zeros)),
            "decoded",
        ),
        "png with pixels that explode": (png(1, 1, 8, 0, bytes(100_000_000)), "decoded"),
        "png of chunks": (
            png(1, 1, 8, 0, b"\0\x40", *[chunk(b"abCd", b"")] * 100_000),
            "decode.corrupt",
        ),
        "png turned by a directory that explodes": (
            png(1, 1, 8, 0, b"\0\x40", chunk(b"eXIf", directory(60_000, 8_000_000))),
            "decoded",
        ),
        "gif of 65,535 x 65,535": (
            gif[:6] + b"\xff\xff\xff\xff" + gif[10:],
            "decode.too_many_pixels",
        ),
        "gif of comments": (
            gif[:frame] + b"!\xfe" + boxes(30_000_000) + b"\0" + gif[frame:],
            "decoded",
        ),
        "gif of tiny blocks": (
            gif[:frame] + b"!\xfe" + b"\1\0" * 1_000_000 + b"\0" + gif[frame:],
            "decode.corrupt",
        ),
        "jpeg of segments": (after_start(jpeg(), *[(0xFE, b"")] * 100_000), "decode.corrupt"),
        "jpeg with directories that explode": (
            after_start(jpeg(), *[(0xE1, b"Exif\0\0" + directory(5_000, 65_000))] * 60),
            "decoded",
        ),
        "jpeg with a list of pictures that explodes": (
            after_start(jpeg(), (0xE2, b"MPF\0" + directory(5_000, 65_000))),
            "decoded",
        ),
        "jpeg of scans": (scans(600), "decode.corrupt"),
        "jpeg of fill": (jpeg()[:2] + b"\xff" * 30_000_000 + jpeg()[2:], "decode.corrupt"),
        "webp of 65,536 x 65,536": (wide_webp(), "decode.too_many_pixels"),
        "webp of 2,000 frames": (animation("WEBP", 2_000), "decoded"),
        "avif of 1,000 frames": (animation("AVIF", 1_000), "decoded"),
        "tiff with a directory that explodes": (directory(60_000, 8_000_000), "decode.corrupt"),
        "tiff of 2,000 million strips": (
            tiff.replace(struct.pack("<HHI", 273, 4, 1), struct.pack("<HHI", 273, 4, 2**31)),
            "decode.corrupt",
        ),
        "tiff of a strip as high as can be": (
            tiff.replace(
                struct.pack("<HHII", 278, 4, 1, 30), struct.pack("<HHII", 278, 4, 1, 2**32 - 1)
            ),
            "decode",
        ),
        "tiff of 60,000 x 60,000": (
            tiff.replace(
                struct.pack("<HHII", 256, 4, 1, 40), struct.pack("<HHII", 256, 4, 1, 60_000)
            ).replace(struct.pack("<HHII", 257, 4, 1, 30), struct.pack("<HHII", 257, 4, 1, 60_000)),
            "decode.too_many_pixels",
        ),
        "bmp of runs": (
            b"BM"
            + struct.pack("<IIIIiiHHIIIIII", 99, 0, 54, 40, 80_000_000, 1, 1, 8, 1, 9, 0, 0, 0, 0)
            + b"\0\0",
            "decode.too_many_pixels",
        ),
        "ico that hides a png of 12,000 x 12,000": (
            ico(png(12_000, 12_000, 8, 2, b"")),
            "decode.too_many_pixels",
        ),
    }


def test_bombs() -> None:
    """In a process of their own, whose memory is limited; each within seconds."""
    found = in_process("bombs")
    wrong = {
        name: (outcome, wanted)
        for name, (outcome, wanted, _) in found.items()
        if wanted and not outcome.startswith(wanted)
    }
    # CPU seconds; most take milliseconds
    slow = {name: seconds for name, (_, _, seconds) in found.items() if seconds > 10}
    assert (wrong, slow) == ({}, {})
    assert len(found) == len(bombs())


def in_process(what: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.pipelines.test_decode_hostile", what]
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        command,
        cwd=root,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        preexec_fn=limited,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(json.loads(done.stdout))


def limited() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    os.nice(5)


def outcome(data: bytes) -> str:
    found = decode(data)
    return "decoded" if isinstance(found, Decoded) else found.outcome


def report_bombs() -> dict[str, Any]:
    found = {}
    for name, (data, wanted) in bombs().items():
        start = time.process_time()
        result = outcome(data)
        found[name] = (result, wanted, time.process_time() - start)
    return found


def report_torture() -> dict[str, Any]:
    found = {}
    for path in sorted(path for path in BAD.rglob("*") if path.is_file()):
        start = time.process_time()
        result = decode(path.read_bytes())
        stored = (
            (result.format, result.width, result.height) if isinstance(result, Decoded) else None
        )
        said = "decoded" if isinstance(result, Decoded) else result.outcome
        found[str(path.relative_to(BAD))] = (said, stored, time.process_time() - start)
    # the peak of this program alone: what getrusage says begins with that of the process which
    # started it
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert peak is not None
    found["memory"] = int(peak[1]) * 1024
    return found


def test_a_broken_picture_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    """Neither Pillow's log nor libtiff, which writes to the standard error by itself."""
    buffer = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(buffer, "TIFF", compression="tiff_adobe_deflate")
    data = buffer.getvalue()
    decode(data.replace(data[8:40], bytes(32), 1))
    with (
        Image.open(io.BytesIO(data.replace(data[8:40], bytes(32), 1))) as image,
        pytest.raises(OSError, match="error"),
    ):
        image.load()
    assert capfd.readouterr() == ("", "")


@pytest.mark.real
def test_torture_files() -> None:
    """All of the torture files in one process of limited memory: each a picture of the size that
    its header says, or an outcome.
    """
    if not BAD.exists():
        pytest.skip("the shared test data are not here")
    found = in_process("torture")
    assert found.pop("memory") < 512 * 1024**2
    assert {name: seconds for name, (_, _, seconds) in found.items() if seconds > 5} == {}
    counts = Counter(said for said, _, _ in found.values())
    assert set(counts) == OUTCOMES
    assert counts["decoded"] >= 920
    assert 8 <= counts["decode.too_many_pixels"] <= 12
    pictures = {name: stored for name, (said, stored, _) in found.items() if said == "decoded"}
    assert {
        name: stored
        for name, stored in pictures.items()
        if not same_size((BAD / name).read_bytes(), stored)
    } == {}


def same_size(data: bytes, stored: tuple[str, int, int]) -> bool:
    """Whether width and height, up to a turn, are those in the bytes where the format's
    specification puts them.
    """
    kind, *size = stored
    places = {"PNG": (">II", 16), "GIF": ("<HH", 6), "BMP": ("<ii", 18)}
    if kind == "BMP" and data[14:18] == struct.pack("<I", 12):
        places["BMP"] = ("<HH", 18)
    if kind not in places:
        return True
    read = [abs(side) for side in struct.unpack_from(*places[kind][:1], data, places[kind][1])]
    # a frame may reach beyond its screen
    beyond = kind == "GIF" and all(side >= screen for side, screen in zip(size, read, strict=True))
    return beyond or read in (size, size[::-1])


@pytest.mark.real
def test_real_orientations_show_one_picture() -> None:
    """The files of orientations 0 and 2 to 8 show what the one of orientation 1 does."""
    folder = BAD / "exif-orientation"
    if not folder.exists():
        pytest.skip("the shared test data are not here")
    pictures = []
    for orientation in range(9):
        found = decode((folder / f"Landscape_{orientation}.jpg").read_bytes())
        assert isinstance(found, Decoded)
        pictures.append(
            Image.open(io.BytesIO(found.image))
            .convert("L")
            .resize((32, 20), Image.Resampling.BOX)
            .tobytes()
        )
    # each file has its number painted on it, hence the mean
    assert [
        sum(abs(a - b) for a, b in zip(one, pictures[1], strict=True)) / 640 < 4 for one in pictures
    ] == [True] * 9


def whole_files() -> dict[str, bytes]:
    picture = Image.effect_mandelbrot((120, 90), (-2, -1.2, 1, 1.2), 60).convert("RGB")
    moving = [picture.rotate(90), picture.rotate(180)]
    return {
        "jpeg": encoded(
            picture,
            "JPEG",
            quality=90,
            exif=b"Exif\0\0" + exif(3),
            icc_profile=rgb_profile(DISPLAY_P3),
        ),
        "progressive": encoded(picture, "JPEG", progressive=True),
        "cmyk": encoded(picture.convert("CMYK"), "JPEG"),
        "png": encoded(picture, "PNG", exif=exif(6), icc_profile=rgb_profile(DISPLAY_P3)),
        "palette": encoded(picture.convert("P"), "PNG", transparency=0),
        "apng": encoded(picture, "PNG", save_all=True, append_images=moving),
        "gif": encoded(picture, "GIF", save_all=True, append_images=moving),
        "webp": encoded(
            picture, "WEBP", exif=b"Exif\0\0" + exif(6), icc_profile=rgb_profile(DISPLAY_P3)
        ),
        "moving webp": encoded(picture, "WEBP", save_all=True, append_images=moving),
        "lossless webp": encoded(picture.convert("RGBA"), "WEBP", lossless=True),
        "tiff": encoded(picture, "TIFF", tiffinfo={0x0112: 6}),
        "packed tiff": encoded(picture, "TIFF", compression="tiff_adobe_deflate"),
        "bmp": encoded(picture, "BMP"),
        "ico": encoded(picture, "ICO"),
        "avif": encoded(picture, "AVIF", exif=b"Exif\0\0" + exif(6)),
    }


@pytest.mark.parametrize("kind", CUT)
def test_a_file_cut_anywhere_is_no_picture(kind: str) -> None:
    """But for what follows the pixels, and the later frames of an animation."""
    data = whole_files()[kind]
    assert outcome(data) == "decoded"
    rng = random.Random(kind)
    end = len(data) - (16 if kind in ("png", "palette") else 2)
    if kind == "gif":
        end = data.index(b"!\xf9", 1_000)
    cut = sorted(rng.sample(range(1, end - 1), 60))
    found = {size: outcome(data[:size]) for size in cut}
    assert {
        size: said
        for size, said in found.items()
        if said not in ("decode.truncated", "decode.corrupt", "decode.not_an_image")
    } == {}


def test_a_jpeg_of_too_few_bytes_for_its_blocks_is_truncated() -> None:
    """It has its end marker, yet most of its coded data are gone: decoders show grey without a
    word.
    """
    data = jpeg(400, 400)
    start = data.index(b"\xff\xda") + 14
    assert decode(data[: start + 40] + b"\xff\xd9") == Undecodable(
        outcome="decode.truncated", detail="40 coded bytes, of at least 937"
    )


def test_a_jpeg_without_its_end_marker_is_decoded_to_know() -> None:
    data = jpeg(64, 64)
    found = decode(data[:-2])
    assert isinstance(found, Decoded) or found.outcome == "decode.truncated"
    followed = decode(data + b"\r\n<!-- a server's farewell -->")
    assert isinstance(followed, Decoded)


def mutated(data: bytes, rng: random.Random) -> bytes:
    """A file with some bytes changed, moved, doubled or gone."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 8)):
        place = (
            rng.randrange(len(changed))
            if rng.random() < 0.5
            else rng.randrange(min(200, len(changed)))
        )
        kind = rng.random()
        if kind < 0.6:
            changed[place] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        elif kind < 0.7:
            changed[place : place + 4] = rng.choice(
                (b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\0")
            )
        elif kind < 0.8:
            del changed[place : place + rng.randint(1, 300)]
        elif kind < 0.9:
            changed[place:place] = changed[place : place + rng.randint(1, 300)]
        else:
            del changed[place:]
        if not changed:
            return b""
    return bytes(changed)


def report_fuzz() -> dict[str, Any]:
    """Five CPU seconds of damaged files; the slowest of them."""
    files, counts, slowest = whole_files(), Counter[str](), 0.0
    rng, end = random.Random(4), time.process_time() + 5
    while time.process_time() < end:
        for data in files.values():
            start = time.process_time()
            counts[outcome(mutated(data, rng))] += 1
            slowest = max(slowest, time.process_time() - start)
    return {"counts": counts, "slowest": slowest}


def test_damage_of_every_kind_is_an_outcome() -> None:
    found = in_process("fuzz")
    assert set(found["counts"]) <= OUTCOMES
    assert sum(found["counts"].values()) > 1_000
    assert found["slowest"] < 5


if __name__ == "__main__":
    sys.stdout.write(
        json.dumps(
            {"bombs": report_bombs, "torture": report_torture, "fuzz": report_fuzz}[sys.argv[1]]()
        )
    )
