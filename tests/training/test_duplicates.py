"""Images that stand in a training release too, told by their hashes."""

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from filters.image.hashes import dhash
from training.data.hashes import GreysSpec, flat, hashes_of, stored_hashes
from training.data.shards import Release
from training.evaluate.duplicates import compute_hashes, near_duplicates
from training.evaluate.encoded import silent


def drawn(number: int, *, quality: int = 95, size: tuple[int, int] = (400, 300)) -> bytes:
    """A smooth picture of its own for each number, as JPEG."""
    coarse = np.random.default_rng(number).integers(0, 255, (5, 6, 3), dtype=np.uint8)
    written = io.BytesIO()
    smooth = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
    smooth.save(written, "JPEG", quality=quality)
    return written.getvalue()


def trained_on(folder: Path, images: list[bytes], **columns: list[str | None]) -> Release:
    """A release of one shard."""
    folder.mkdir()
    table = pa.table({"image": images, "caption": [["a text"]] * len(images), **columns})
    with pa.ipc.new_file(str(folder / "train-00000-of-00001.arrow"), table.schema) as file:
        file.write_table(table, max_chunksize=3)
    return Release.open(folder.name, folder)


def captions(folder: Path, images: list[bytes]) -> Path:
    for number, image in enumerate(images):
        (folder / f"{number}.jpg").write_bytes(image)
    lines = [{"image": f"{number}.jpg", "captions": ["a text"]} for number in range(len(images))]
    path = folder / "captions.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


def test_hashes_are_those_that_curation_measures() -> None:
    encoded = [drawn(number, size=(900, 700)) for number in range(8)]
    greys = np.stack([GreysSpec().pixels(one)[:, :, 0] for one in encoded])
    for found, one in zip(hashes_of(greys), encoded, strict=True):
        with Image.open(io.BytesIO(one)) as picture:
            expected = int(dhash(picture), 16)
        assert (int(found) ^ expected).bit_count() <= 1  # it was decoded at half its size


def test_a_copy_of_another_size_and_quality_is_found(tmp_path: Path) -> None:
    release = trained_on(tmp_path / "web", [drawn(number) for number in range(10)])
    asked = [drawn(3, quality=60, size=(280, 210)), drawn(7), drawn(100), drawn(101), b"none"]
    path = captions(tmp_path, asked)
    found = near_duplicates(path, {"train": release})
    assert found == {
        "images": 2,
        "share": 50.0,
        "compared": 4,
        "bits": 3,
        "releases": {"train": {"images": 2, "compared_with": 10}},
    }


def test_blank_pictures_are_not_compared(tmp_path: Path) -> None:
    written = io.BytesIO()
    Image.new("RGB", (90, 90), "white").save(written, "PNG")
    release = trained_on(tmp_path / "web", [written.getvalue(), drawn(1)])
    found = near_duplicates(captions(tmp_path, [written.getvalue()]), {"train": release})
    assert (found["images"], found["compared"]) == (0, 0)
    assert flat(np.array([0, 7, (1 << 64) - 1, 0xFFFF], dtype=np.uint64)).tolist() == [
        True,
        True,
        True,
        False,
    ]


def test_a_release_that_carries_hashes_is_not_decoded(tmp_path: Path) -> None:
    hashes = ["00ff00ff00ff00ff", None, "0123456789abcdef"]
    columns = {"image.dhash": hashes}
    release = trained_on(tmp_path / "web", [b"no picture"] * 3, **columns)
    found = stored_hashes(release)
    assert found is not None
    assert found.tolist() == [0x00FF00FF00FF00FF, 0x0123456789ABCDEF]
    told = near_duplicates(captions(tmp_path, [drawn(1)]), {"train": release})
    assert told["releases"] == {"train": {"images": 0, "compared_with": 2}}


def test_computed_hashes_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    release = trained_on(tmp_path / "web", [drawn(number) for number in range(4)])
    path = captions(tmp_path, [drawn(2)])
    cache = tmp_path / "cache"
    first = near_duplicates(path, {"train": release}, cache=cache)
    assert len(list(cache.glob("hashes-*.npy"))) == 1
    assert stored_hashes(release) is None
    assert len(compute_hashes(release, 0, silent)) == 4
    monkeypatch.setattr(GreysSpec, "pixels", lambda *_, **__: np.zeros((8, 9, 3), np.uint8))
    again = near_duplicates(path, {"train": release}, cache=cache)
    assert (
        again["releases"]["train"]["compared_with"] == first["releases"]["train"]["compared_with"]
    )
