"""`winnow img2dataset` against img2dataset 1.47: the same arguments, JPEGs of 224 to 400 pixels a side, nginx on loopback, http.

Both run as the commands that people type. *Whole* is images a second of the command, start-up included; *steady* leaves that out:
from the first shard's begin to the last one's end, as their stats files say, so that it is what a run of millions would show.
"""

import io
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.benchmarks.test_fetch import ROUNDS, Site, _environment, site

__all__ = ["site"]

IMAGES = int(os.environ.get("BENCH_IMAGES", "6000"))
PEER = "from img2dataset import main; main()"
OURS = "import sys; from flows.cli import main; sys.argv.insert(1, 'img2dataset'); main()"
ARGUMENTS = [
    "--image_size=224",
    "--output_format=webdataset",
    "--processes_count=2",
    "--thread_count=32",
    f"--number_sample_per_shard={IMAGES // 6}",
    "--timeout=20",
]


@dataclass(frozen=True)
class Speed:
    """Images a second."""

    whole: float
    steady: float


@pytest.fixture(scope="module")
def urls(site: Site) -> Path:
    """A list of photo-like JPEGs of many sizes, some 34 kB each, which nginx serves."""
    generator = np.random.default_rng(2)
    folder = site.folder / "images" / "mixed"
    folder.mkdir()
    for number in range(IMAGES):
        width, height = (int(side) for side in generator.integers(224, 401, 2))
        rough = Image.fromarray(generator.integers(0, 255, (28, 28, 3), np.uint8))
        buffer = io.BytesIO()
        rough.resize((width, height), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=95)
        (folder / f"{number:05d}.jpg").write_bytes(buffer.getvalue())
    path = site.folder / "mixed.txt"
    path.write_text("\n".join(f"{site.base('http')}mixed/{number:05d}.jpg" for number in range(IMAGES)))
    return path


def speed(site: Site, urls: Path, program: str, *more: str) -> Speed:
    out = site.folder / "dataset"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    begin = time.perf_counter()
    subprocess.run(
        [sys.executable, "-c", program, f"--url_list={urls}", f"--output_folder={out}", *ARGUMENTS, *more],
        check=True,
        env=_environment(site),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wall = time.perf_counter() - begin
    stats = [json.loads(path.read_text()) for path in out.glob("*_stats.json")]
    assert sum(one["successes"] for one in stats) == IMAGES
    seconds = max(one["end_time"] for one in stats) - min(one["start_time"] for one in stats)
    return Speed(whole=IMAGES / wall, steady=IMAGES / seconds)


@pytest.mark.timeout(3000)
def test_images_a_second(site: Site, urls: Path) -> None:
    ways = {"img2dataset": (PEER,), "winnow": (OURS, "--allow_private_addresses=True")}
    found: dict[str, list[Speed]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, (program, *more) in ways.items():
            found[name].append(speed(site, urls, program, *more))
    medians = {
        name: Speed(
            whole=statistics.median(one.whole for one in runs), steady=statistics.median(one.steady for one in runs)
        )
        for name, runs in found.items()
    }
    print(f"\n{IMAGES} images by http, border 224{'whole':>12}{'steady':>9} images a second")
    for name, one in medians.items():
        print(f"{name:<32}{one.whole:>12.0f}{one.steady:>9.0f}")
    own, peer = medians["winnow"], medians["img2dataset"]
    print(f"{'ratio':<32}{own.whole / peer.whole:>12.2f}{own.steady / peer.steady:>9.2f}")
    assert own.whole >= 2.0 * peer.whole
