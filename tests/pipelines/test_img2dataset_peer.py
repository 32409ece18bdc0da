"""`winnow img2dataset` beside img2dataset itself: the same lists, a server that permits all, and
what both have written.
"""

import csv
import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipelines.img2dataset.config import Img2datasetConfig
from pipelines.img2dataset.run import img2dataset
from tests.pipelines.web import Reply, served

SIZES = [(300, 200), (201, 333), (64, 64), (37, 41), (128, 127), (1, 90), (129, 255), (500, 128)]
FAILURES = {"fetch.http_404", "permission.noai", "decode.not_an_image"}
MODES = ("no", "border", "keep_ratio", "keep_ratio_largest", "center_crop")
COMMON: dict[str, Any] = {
    "image_size": 128,
    "number_sample_per_shard": 8,
    "input_format": "csv",
    "caption_col": "words",
    "save_additional_columns": ["score", "label", "count"],
}
JOBS: dict[str, dict[str, Any]] = {
    "files": {"output_format": "files"},
    "webdataset": {"output_format": "webdataset", "encode_format": "png", "encode_quality": 9},
    "parquet": {"output_format": "parquet", "encode_format": "webp", "oom_shard_count": 3},
    "smaller": {
        "output_format": "parquet",
        "resize_only_if_bigger": True,
        "resize_mode": "keep_ratio",
    },
    "kept": {
        "output_format": "parquet",
        "resize_mode": "no",
        "skip_reencode": True,
        "extract_exif": False,
    },
    "raw": {"output_format": "parquet", "disable_all_reencoding": True, "compute_hash": "md5"},
    "chosen": {
        "output_format": "parquet",
        "min_image_size": 60,
        "max_image_area": 65_000,
        "max_aspect_ratio": 2.5,
    },
    "verified": {"output_format": "parquet", "compute_hash": "md5", "verify_hash": ["hash", "md5"]},
    **{
        mode: {"output_format": "parquet", "resize_mode": mode, "upscale_interpolation": "bicubic"}
        for mode in MODES
    },
}


def photo(width: int, height: int, number: int) -> bytes:
    """A JPEG of soft colours with EXIF data."""
    generator = np.random.default_rng(number)
    rough = Image.fromarray(generator.integers(0, 255, (3, 3, 3), np.uint8)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    exif = Image.Exif()
    exif[0x010F] = f"maker {number}"
    buffer = io.BytesIO()
    rough.save(buffer, "JPEG", quality=92, exif=exif)
    return buffer.getvalue()


@dataclass(frozen=True)
class Both:
    """The folders of both, by the name of a job."""

    ours: Path
    peer: Path

    def table(self, job: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        return rows_of(self.ours / job), rows_of(self.peer / job)


def rows_of(folder: Path) -> list[dict[str, Any]]:
    rows = [row for path in folder.glob("*.parquet") for row in pq.read_table(path).to_pylist()]
    return sorted(rows, key=lambda row: row["key"])


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    import hashlib

    folder = tmp_path_factory.mktemp("beside")
    pages: dict[str, Any] = {
        f"/{number}.jpg": Reply(body=photo(*size, number), type="image/jpeg")
        for number, size in enumerate(SIZES)
    }
    hashes = [hashlib.md5(reply.body).hexdigest() for reply in pages.values()]
    hashes[2] = "0" * 32
    pages["/page.jpg"] = Reply(body=b"<!doctype html><title>Not found</title>")
    pages["/noai.jpg"] = Reply(body=photo(50, 50, 99), headers=(("X-Robots-Tag", "noai"),))
    with served(pages) as web:
        rows = [
            [f"{web.url}/{number}.jpg", f'A "photo", {number}', number / 4, number, hashes[number]]
            for number in range(len(SIZES))
        ]
        rows += [[f"{web.url}/{name}.jpg", "", 1, -1, ""] for name in ("page", "noai", "gone")]
        with (folder / "list.csv").open("w", newline="") as file:
            csv.writer(file).writerows(
                [
                    ["url", "words", "score", "count", "hash", "label"],
                    *([*row, "x"] for row in rows),
                ]
            )
        jobs = [{"url_list": str(folder / "list.csv"), **COMMON, **more} for more in JOBS.values()]
        for (name, _), job in zip(JOBS.items(), jobs, strict=True):
            (folder / "peer" / name).mkdir(parents=True)
            img2dataset(
                Img2datasetConfig(
                    **job, output_folder=str(folder / "ours" / name), allow_private_addresses=True
                )
            )
        own = [
            {**job, "output_folder": str(folder / "peer" / name)}
            for name, job in zip(JOBS, jobs, strict=True)
        ]
        (folder / "jobs.json").write_text(json.dumps(own))
        script = Path(__file__).with_name("img2dataset_peer.py")
        subprocess.run(
            [sys.executable, str(script), str(folder / "jobs.json")],
            check=True,
            env={**os.environ, "NO_ALBUMENTATIONS_UPDATE": "1"},
            stdout=subprocess.DEVNULL,
        )
        yield Both(folder / "ours", folder / "peer")


def without(row: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in names}


def pixels(image: bytes) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(io.BytesIO(image)).convert("RGB")).astype(int)


@pytest.mark.parametrize("job", JOBS)
def test_the_files_are_called_the_same(both: Both, job: str) -> None:
    names = {path.relative_to(both.peer / job).as_posix() for path in (both.peer / job).rglob("*")}
    own = {path.relative_to(both.ours / job).as_posix() for path in (both.ours / job).rglob("*")}
    assert own - {"_winnow", "_winnow/settings.json"} == names


@pytest.mark.parametrize("job", JOBS)
def test_the_tables_have_the_same_columns_and_values(both: Both, job: str) -> None:
    for path in (both.peer / job).glob("*.parquet"):
        own, other = pq.read_schema(both.ours / job / path.name), pq.read_schema(path)
        assert own.equals(other, check_metadata=False)
    ours, peer = both.table(job)
    image = JOBS[job].get("encode_format", "jpg")
    assert [without(row, "error_message", image) for row in ours] == [
        without(row, "error_message", image) for row in peer
    ]


@pytest.mark.parametrize("job", JOBS)
def test_failures_have_names_where_the_peer_has_sentences(both: Both, job: str) -> None:
    ours, peer = both.table(job)
    named = {
        (row["error_message"], other["error_message"])
        for row, other in zip(ours, peer, strict=True)
    } - {(None, None)}
    words = {
        ("fetch.http_404", "HTTP Error 404: Not Found"),
        ("permission.noai", "Use of image disallowed by X-Robots-Tag directive"),
        ("decode.not_an_image", "Image decoding error"),
    }
    if job == "chosen":
        words |= {
            ("image.too_small", "image too small"),
            ("image.too_large", "image area too large"),
            ("image.aspect", "aspect ratio too large"),
        }
    if job == "verified":
        words = {("fetch.hash_mismatch", "hash mismatch")} | words - {
            ("decode.not_an_image", "Image decoding error")
        }
    if job == "raw":
        words -= {("decode.not_an_image", "Image decoding error")}
    assert named == words


@pytest.mark.parametrize("job", JOBS)
def test_the_stats_files_count_the_same(both: Both, job: str) -> None:
    for path in (both.peer / job).glob("*_stats.json"):
        own, other = (
            json.loads((both.ours / job / path.name).read_text()),
            json.loads(path.read_text()),
        )
        assert list(own) == list(other)
        times = ("duration", "start_time", "end_time", "status_dict")
        assert without(own, *times) == without(other, *times)
        assert sorted(own["status_dict"].values()) == sorted(other["status_dict"].values())
        assert 0 <= own["duration"] == pytest.approx(own["end_time"] - own["start_time"])


@pytest.mark.parametrize("job", [job for job in JOBS if JOBS[job]["output_format"] == "parquet"])
def test_the_images_are_the_same_to_the_eye(both: Both, job: str) -> None:
    ours, peer = both.table(job)
    image = JOBS[job].get("encode_format", "jpg")
    for row, other in zip(ours, peer, strict=True):
        assert (row[image] is None) == (other[image] is None)
        if job in ("raw", "kept") or row[image] is None:
            assert row[image] == other[image]
        else:
            found, wanted = pixels(row[image]), pixels(other[image])
            assert found.shape == wanted.shape
            # levels of 255; large JPEGs are decoded at a fraction of their size
            assert np.abs(found - wanted).mean() < 2.0


def test_files_hold_what_the_peers_do(both: Both) -> None:
    names = [path.name for path in sorted((both.peer / "files" / "00000").iterdir())]
    assert len(names) == 3 * len(SIZES)
    for name in names:
        own, other = (folder / "files" / "00000" / name for folder in (both.ours, both.peer))
        if name.endswith(".jpg"):
            assert pixels(own.read_bytes()).shape == pixels(other.read_bytes()).shape
        else:
            assert own.read_text() == other.read_text()


def test_tars_hold_what_the_peers_do(both: Both) -> None:
    held = []
    for folder in (both.ours, both.peer):
        with tarfile.open(folder / "webdataset" / "00000.tar") as tar:
            held.append({member.name: tar.extractfile(member).read() for member in tar})  # type: ignore[union-attr]
    own, other = held
    assert own.keys() == other.keys()
    assert {name: data for name, data in own.items() if not name.endswith(".png")} == {
        name: data for name, data in other.items() if not name.endswith(".png")
    }
