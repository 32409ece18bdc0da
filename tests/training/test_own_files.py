"""Files of one's own: what editors, cameras and scanners write, and what cannot be an image."""

import io
import json
import os
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from tests.training.releases import picture
from training.data.buckets import lengths_of
from training.data.decode import open_image
from training.data.images import ImageSpec
from training.data.order import Slot
from training.data.sample import SampleMaker
from training.evaluate.lines import CaptionsFile, read_lines


def _stored(image: Image.Image, kind: str, **more: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **more)
    return buffer.getvalue()


def _half_black() -> Image.Image:
    """White, and black above: 24 wide, 16 high."""
    pixels = np.full((16, 24, 3), 255, dtype=np.uint8)
    pixels[:8] = 0
    return Image.fromarray(pixels)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_camera_that_was_turned_shows_upright(kind: str) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # its rows are columns of the scene, from the right
    seen = np.asarray(open_image(_stored(_half_black(), kind, exif=exif)))
    assert seen.shape == (24, 16, 3)
    assert seen[:, 12:].mean() < 10
    assert seen[:, :4].mean() > 245
    damaged = _stored(_half_black(), kind, exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert open_image(damaged).size == (24, 16)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_is_laid_on_white(mode: str) -> None:
    image = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    image.paste((200, 200, 200, 255), (0, 0, 4, 8))
    if mode == "P":
        image = Image.new("P", (8, 8), 1)
        image.putpalette([200, 200, 200, 0, 0, 0])
        image.paste(0, (0, 0, 4, 8))
        encoded = _stored(image, "GIF", transparency=1)
    else:
        encoded = _stored(image.convert(mode), "PNG")
    seen = np.asarray(open_image(encoded))
    assert (seen[:, :4] == 200).all()
    assert (seen[:, 4:] == 255).all()


def test_sixteen_bits_are_scaled_to_eight() -> None:
    levels = np.arange(256, dtype=np.uint16).reshape(16, 16) * 257
    seen = np.asarray(open_image(_stored(Image.fromarray(levels), "PNG")))
    assert (seen == (levels >> 8)[:, :, None]).all()


def _lines(folder: Path, names: list[str], mark: str = "") -> Path:
    path = folder / "captions.jsonl"
    lines = [json.dumps({"image": name, "captions": ["a dog"]}) for name in names]
    path.write_text(mark + "\r\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_what_can_be_no_image_costs_itself(tmp_path: Path) -> None:
    (tmp_path / "good.png").write_bytes(picture(0))
    os.mkfifo(tmp_path / "pipe.png")
    with (tmp_path / "huge.png").open("wb") as huge:
        huge.truncate(1 << 40)
    names = ["good.png", "zero\0byte.png", "\ud800.png", "pipe.png", "huge.png", ".", "x" * 5000]
    samples = CaptionsFile.read(_lines(tmp_path, names, mark="\ufeff"))
    found = [samples[row].image for row in range(len(samples))]
    assert found == [picture(0)] + [b""] * 6
    samples.digest()


def test_a_line_that_is_no_json_is_told_by_its_number(tmp_path: Path) -> None:
    path = tmp_path / "captions.jsonl"
    for odd in ("[" * 100_000, '{"image": ' + "9" * 5000 + "}"):
        path.write_text(odd)
        with pytest.raises(ValueError, match="line 1: not JSON"):
            read_lines(path)


def test_other_images_under_the_same_names_are_other_data(tmp_path: Path) -> None:
    path = _lines(tmp_path, ["a.png"])
    digests = [CaptionsFile.read(path).digest()]
    for number in (1, 2):
        (tmp_path / "a.png").write_bytes(picture(number, (8 * number, 8)))
        digests.append(CaptionsFile.read(path).digest())
    assert len(set(digests)) == 3
    moved = tmp_path / "moved"
    moved.mkdir()
    (tmp_path / "a.png").rename(moved / "a.png")
    assert CaptionsFile.read(path.rename(moved / "captions.jsonl")).digest() == digests[-1]


def test_a_bomb_counts_as_a_square_where_lengths_are_asked(tmp_path: Path) -> None:
    """A header alone that claims more pixels than Pillow opens."""
    claimed = bytearray(picture(0))
    claimed[16:24] = (50_000).to_bytes(4, "big") * 2
    claimed[29:33] = zlib.crc32(claimed[12:29]).to_bytes(4, "big")
    (tmp_path / "bomb.png").write_bytes(claimed)
    samples = CaptionsFile.read(_lines(tmp_path, ["bomb.png"]))
    spec = ImageSpec(size=32, how="shorter", patch=8)
    maker = SampleMaker(releases={"captions": samples}, images={"patches": spec})
    assert lengths_of(maker, {})([Slot("captions", 0, 0, 0)]).tolist() == [[16]]
