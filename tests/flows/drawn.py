"""Collections of drawn scenes from several made-up hosts, as nightly runs would have left them."""

import hashlib
import io
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from PIL import Image

from flows.demo.scenes import chart, scene
from pipelines.collect.join_fetches import DistinctUrls, PartitionByHost
from pipelines.engine.runner import run_stage
from pipelines.engine.stage import Output, Part, Stage
from pipelines.schema import CANDIDATES, FETCHES, IMAGES, identify
from pipelines.store import Folder, digest
from pipelines.tables import read_table, write_arrow, write_parquet

HOSTILE = (
    "<script>window.hacked = 1</script> a red circle above a blue square",
    '"><img src=x onerror="window.hacked = 2"> a small green ring left of a star',
    "[a link](javascript:window.hacked=3) **not bold** a white star below a ring $x^2$ :smile:",
    '=HYPERLINK("http://evil.example/","a yellow cross right of a black circle")',
)
HOSTS = {  # how many of ten candidates are faulty, and how
    "gardens.example": (1, "short"),
    "museum.example": (1, "graphic"),
    "news.example": (3, "short"),
    "shop.example": (7, "boilerplate"),
    "blog.example": (5, "filename"),
}
LANGUAGES = ("en", "en-GB", "en", "de", None)
SOURCES = ("alt", "figcaption", "alt", "title", "aria_label")
NIGHTS = (("nightly-2026-11-19", 160), ("nightly-2026-11-20", 220), ("nightly-2026-11-21", 190))
BOILERPLATE = (
    "Click here to view larger image",
    "Add to cart",
    "logo",
    "Share on Facebook",
    "Read more",
)
GERMAN = (
    "Ein roter Kreis über einem blauen Quadrat auf einer Wiese",
    "Ein gelber Stern links von einem kleinen grünen Kreuz im Sand",
)


@dataclass(frozen=True)
class Night:
    """What one night brought: as many candidates as asked for, settled by the seed, with their
    pictures.
    """

    seed: int
    size: int


@lru_cache
def drawn(night: Night) -> list[tuple[dict[str, Any], bytes | None]]:
    """The candidates of a night as rows, each with its picture; None where that is not to be
    had.
    """
    rng = np.random.default_rng(night.seed)
    found: list[tuple[dict[str, Any], bytes | None]] = []
    for place in range(night.size):
        row, picture = _one(night, place, rng)
        if place % 40 == 39:  # a picture that stands twice
            row, picture = (
                {
                    **row,
                    "image_url": found[-1][0]["image_url"],
                    "permission": None,
                },
                found[-1][1],
            )
        found.append((row, picture))
    return found


def _one(night: Night, place: int, rng: np.random.Generator) -> tuple[dict[str, Any], bytes | None]:
    host = list(HOSTS)[int(rng.choice(len(HOSTS), p=[0.25, 0.25, 0.2, 0.2, 0.1]))]
    share, fault = HOSTS[host]
    fault = (
        fault
        if rng.integers(10) < share
        else str(rng.choice([""] * 8 + ["small", "gone", "german", "refused", "shared"]))
    )
    side = int(rng.integers(40, 150) if fault == "small" else rng.integers(165, 300))
    picture, text = (chart if fault == "graphic" else scene)(rng, side)
    row = {
        "page_url": f"https://www.{host}/{night.seed}/{int(rng.integers(night.size // 6))}.html",
        "image_url": f"https://images.{host}/{night.seed}/{place}.jpg",
        "text": _text(text, fault, rng) if place % 50 else HOSTILE[place // 50 % len(HOSTILE)],
        "text_source": SOURCES[int(rng.integers(len(SOURCES)))],
        "page_language": (
            "de" if fault == "german" else LANGUAGES[int(rng.integers(len(LANGUAGES)))]
        ),
        "captured_at": "2026-11-20T02:00:00Z",
        "permission": "permission.noai" if fault == "refused" else None,
    }
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=88)
    return row, None if fault in ("gone", "refused") else buffer.getvalue()


def _text(text: str, fault: str, rng: np.random.Generator) -> str:
    """The text as the fault makes it."""
    if fault == "short":
        return " ".join(text.split()[: int(rng.integers(0, 6))])
    files = (f"IMG_{int(rng.integers(9999)):04d}.jpg", "DSC01234", "banner-2.png")
    made = {
        "boilerplate": BOILERPLATE,
        "german": GERMAN,
        "filename": files,
        "shared": ("A quiet evening by the lake",),
    }
    return str(rng.choice(made[fault])) if fault in made else text


@dataclass(frozen=True, kw_only=True)
class Found(Stage):
    """The candidates of a night, in parts of a hundred."""

    name: ClassVar[str] = "found"
    version: ClassVar[int] = 1
    night: Night

    def inputs(self) -> dict[str, str]:
        return {"night": digest([self.night.seed, self.night.size])}

    def parts(self) -> list[Part]:
        return [
            Part(name=f"part-{number:05d}", inputs=(str(number),))
            for number in range(-(-self.night.size // 100))
        ]

    def process(self, part: Part) -> Output:
        start = 100 * int(part.inputs[0])
        found = enumerate(drawn(self.night)[start : start + 100], start)
        rows = [
            {
                **dict.fromkeys(CANDIDATES.names),
                "candidate_id": identify(self.night.seed, place),
                **row,
            }
            for place, (row, _) in found
        ]
        table = pa.Table.from_pylist(rows, schema=CANDIDATES)
        return Output(
            files=(write_parquet(self.out, f"{part.name}.parquet", table),),
            counts={"candidates": len(rows)},
        )


@dataclass(frozen=True, kw_only=True)
class Fetched(Stage):
    """What became of the addresses of a night, a part for each bucket of hosts."""

    name: ClassVar[str] = "fetched"
    version: ClassVar[int] = 1
    night: Night
    urls: DistinctUrls

    def inputs(self) -> dict[str, str]:
        return {"urls": self.urls.identity()}

    def parts(self) -> list[Part]:
        return [
            Part(name=f"part-{part.inputs[0].zfill(5)}-00000", inputs=(f"{part.name}.parquet",))
            for part in self.urls.parts()
        ]

    def process(self, part: Part) -> Output:
        pictures = {row["image_url"]: data for row, data in drawn(self.night)}
        fetches, images = [], {}
        for url in read_table(self.urls.out, part.inputs[0])["image_url"].to_pylist():
            data = pictures[url]
            identity = hashlib.sha256(data).hexdigest() if data else None
            fetched = (
                {"outcome": "fetched", "status": 200}
                if data
                else {"outcome": "fetch.http_404", "status": 404}
            )
            fetches.append(
                {**dict.fromkeys(FETCHES.names), "image_url": url, "image_id": identity, **fetched}
            )
            if data and identity:
                images[identity] = {
                    **dict.fromkeys(IMAGES.names),
                    "image_id": identity,
                    "image": data,
                    "image_url": url,
                    **_sides(data),
                }
        folder = Folder(self.out.url.replace("/fetches", "/images"))
        table = pa.Table.from_pylist(list(images.values()), schema=IMAGES)
        files = (
            write_arrow(folder, f"{part.name}.arrow", table),
            write_parquet(
                self.out, f"{part.name}.parquet", pa.Table.from_pylist(fetches, schema=FETCHES)
            ),
        )
        return Output(files=files, counts=dict(Counter(row["outcome"] for row in fetches)))


def _sides(data: bytes) -> dict[str, Any]:
    width, height = Image.open(io.BytesIO(data)).size
    size = {"width": width, "height": height, "original_width": width, "original_height": height}
    return {
        **size,
        "original_bytes": len(data),
        "format": "JPEG",
        "reencoded": False,
        "animated": False,
    }


def collect(root: Folder, name: str, night: Night) -> None:
    """A collection of what a night brought."""
    folder = root / "collections" / name
    stages = [
        Found(out=folder / "candidates", night=night),
        PartitionByHost.of(folder),
        DistinctUrls.of(folder),
    ]
    stages.append(Fetched(out=folder / "fetches", night=night, urls=DistinctUrls.of(folder)))
    manifests = [run_stage(stage) for stage in stages]
    counts = {"candidates": manifests[0].counts["candidates"]}
    folder.write_json(
        "manifest.json",
        {"digest": digest([one.digest for one in manifests]), "counts": counts, "failed": 0},
    )


def collect_all(root: Folder) -> list[str]:
    """Some nights; their names."""
    for seed, (name, size) in enumerate(NIGHTS):
        collect(root, name, Night(seed, size))
    return [name for name, _ in NIGHTS]
