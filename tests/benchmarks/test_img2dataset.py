"""`winnow img2dataset` against img2dataset 1.47: the same arguments, nginx on loopback, http;
thumbnails (JPEGs of 224 to 400 pixels a side) and photos (1,600 to 2,400).

Both run as the commands that people type. *Whole* is images a second of the command, start-up
included; *steady* leaves that out: from the first shard's begin to the last one's end, as their
stats files say, so that it is what a run of millions would show.
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
    "--timeout=20",
]


@dataclass(frozen=True)
class Speed:
    """Images a second."""

    whole: float
    steady: float


@dataclass(frozen=True)
class Kind:
    """What images are: how many, and how long their sides are."""

    name: str
    count: int
    sides: tuple[int, int]


THUMBNAILS = Kind("thumbnails", IMAGES, (224, 400))
# fewer are over before they are steady
PHOTOS = Kind("photos", max(900, IMAGES // 6), (1_600, 2_400))


def listed(site: Site, kind: Kind) -> Path:
    """A list of photo-like JPEGs of many sizes, which nginx serves."""
    generator = np.random.default_rng(2)
    folder = site.folder / "images" / kind.name
    folder.mkdir()
    for number in range(kind.count):
        width, height = (
            int(side) for side in generator.integers(kind.sides[0], kind.sides[1] + 1, 2)
        )
        rough = Image.fromarray(generator.integers(0, 255, (28, 28, 3), np.uint8))
        buffer = io.BytesIO()
        rough.resize((width, height), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=95)
        (folder / f"{number:05d}.jpg").write_bytes(buffer.getvalue())
    path = site.folder / f"{kind.name}.txt"
    path.write_text(
        "\n".join(
            f"{site.base('http')}{kind.name}/{number:05d}.jpg" for number in range(kind.count)
        )
    )
    return path


def speed(site: Site, kind: Kind, urls: Path, program: str, *more: str) -> Speed:
    out = site.folder / "dataset"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    command = [
        f"--url_list={urls}",
        f"--output_folder={out}",
        f"--number_sample_per_shard={kind.count // 6}",
        *ARGUMENTS,
        *more,
    ]
    begin = time.perf_counter()
    subprocess.run(
        [sys.executable, "-c", program, *command],
        check=True,
        env=_environment(site),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wall = time.perf_counter() - begin
    stats = [json.loads(path.read_text()) for path in out.glob("*_stats.json")]
    assert sum(one["successes"] for one in stats) == kind.count
    seconds = max(one["end_time"] for one in stats) - min(one["start_time"] for one in stats)
    return Speed(whole=kind.count / wall, steady=kind.count / seconds)


def compared(site: Site, kind: Kind) -> tuple[Speed, Speed]:
    """Ours and the peer's: medians of rounds in turn."""
    urls = listed(site, kind)
    ways = {"img2dataset": (PEER,), "winnow": (OURS, "--allow_private_addresses=True")}
    found: dict[str, list[Speed]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, (program, *more) in ways.items():
            found[name].append(speed(site, kind, urls, program, *more))
    medians = {
        name: Speed(
            whole=statistics.median(one.whole for one in runs),
            steady=statistics.median(one.steady for one in runs),
        )
        for name, runs in found.items()
    }
    print(
        f"\n{f'{kind.count} {kind.name} by http, border 224':<40}{'whole':>9}{'steady':>9} images a"
        " second"
    )
    for name, one in medians.items():
        print(f"{name:<40}{one.whole:>9.0f}{one.steady:>9.0f}")
    own, peer = medians["winnow"], medians["img2dataset"]
    print(f"{'ratio':<40}{own.whole / peer.whole:>9.2f}{own.steady / peer.steady:>9.2f}")
    return own, peer


@pytest.mark.timeout(3000)
def test_thumbnails_a_second(site: Site) -> None:
    """Both are bound by what pixels cost, which is the same for both: it is .94 of the peer's on a
    quiet machine.
    """
    own, peer = compared(site, THUMBNAILS)
    assert own.whole >= 2.0 * peer.whole
    assert own.steady >= 0.8 * peer.steady


@pytest.mark.timeout(3000)
def test_photos_a_second(site: Site) -> None:
    """Decoded at the fraction of their size from which the result loses nothing."""
    own, peer = compared(site, PHOTOS)
    assert own.whole >= 2.0 * peer.whole
    assert own.steady >= 2.0 * peer.steady
