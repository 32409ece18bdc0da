"""Collections written directly, as a collecting run would have left them: what a test of decisions
starts from.
"""

import hashlib
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from PIL import Image

from pipelines.collect.join_fetches import DistinctUrls, PartitionByHost
from pipelines.engine.runner import run_stage
from pipelines.engine.stage import Output, Part, Stage
from pipelines.schema import CANDIDATES, FETCHES, IMAGES, identify
from pipelines.store import Folder, digest
from pipelines.tables import read_table, write_arrow, write_parquet

Row = tuple[str, str, str | None]  # text, image_url, what its page refuses


def png(width: int, height: int) -> bytes:
    """A noisy picture of so many pixels."""
    buffer = io.BytesIO()
    Image.fromarray(
        np.random.default_rng(width * 1000 + height).integers(
            0, 255, (height, width, 3), dtype=np.uint8
        )
    ).save(buffer, "PNG")
    return buffer.getvalue()


@dataclass(frozen=True, kw_only=True)
class Found(Stage):
    """Candidates as a test lists them, a part for each list."""

    name: ClassVar[str] = "found"
    version: ClassVar[int] = 1
    rows: tuple[tuple[Row, ...], ...]

    def inputs(self) -> dict[str, str]:
        return {"rows": digest(self.rows)}

    def parts(self) -> list[Part]:
        return [
            Part(name=f"part-{number:05d}", inputs=(str(number),))
            for number in range(len(self.rows))
        ]

    def process(self, part: Part) -> Output:
        number = int(part.inputs[0])
        empty = dict.fromkeys(CANDIDATES.names)
        rows = [
            {
                **empty,
                "candidate_id": identify(self.out.url, number, place),
                "page_url": f"http://p.example/{number}",
                "image_url": url,
                "text": text,
                "text_source": "alt",
                "permission": permission,
            }
            for place, (text, url, permission) in enumerate(self.rows[number])
        ]
        table = pa.Table.from_pylist(rows, schema=CANDIDATES)
        return Output(
            files=(write_parquet(self.out, f"{part.name}.parquet", table),),
            counts={"candidates": len(rows)},
        )


@dataclass(frozen=True, kw_only=True)
class Fetched(Stage):
    """Fetches as they would have ended, a part for each bucket of hosts; an address without a
    picture is not found.
    """

    name: ClassVar[str] = "fetched"
    version: ClassVar[int] = 1
    urls: DistinctUrls
    pictures: Mapping[str, bytes]

    def inputs(self) -> dict[str, str]:
        return {
            "urls": self.urls.identity(),
            "pictures": digest(
                {url: hashlib.sha256(data).hexdigest() for url, data in self.pictures.items()}
            ),
        }

    def parts(self) -> list[Part]:
        return [
            Part(name=f"part-{part.inputs[0].zfill(5)}-00000", inputs=(f"{part.name}.parquet",))
            for part in self.urls.parts()
        ]

    def process(self, part: Part) -> Output:
        fetches: list[dict[str, Any]] = []
        images: dict[str, dict[str, Any]] = {}
        for url in read_table(self.urls.out, part.inputs[0])["image_url"].to_pylist():
            data = self.pictures.get(url)
            outcome, identity = (
                ("fetched", hashlib.sha256(data).hexdigest()) if data else ("fetch.http_404", None)
            )
            fetches.append(
                {
                    **dict.fromkeys(FETCHES.names),
                    "image_url": url,
                    "image_id": identity,
                    "outcome": outcome,
                }
            )
            if data and identity:
                images[identity] = {"image_id": identity, "image_url": url, **of_picture(data)}
        folder = Folder(self.out.url.replace("/fetches", "/images"))
        complete = [{**dict.fromkeys(IMAGES.names), **image} for image in images.values()]
        files = (
            write_arrow(
                folder, f"{part.name}.arrow", pa.Table.from_pylist(complete, schema=IMAGES)
            ),
            write_parquet(
                self.out, f"{part.name}.parquet", pa.Table.from_pylist(fetches, schema=FETCHES)
            ),
        )
        return Output(files=files, counts=dict(Counter(row["outcome"] for row in fetches)))


def of_picture(data: bytes) -> dict[str, Any]:
    with Image.open(io.BytesIO(data)) as picture:
        width, height = picture.size
        sizes = {
            "width": width,
            "height": height,
            "original_width": width,
            "original_height": height,
            "original_bytes": len(data),
        }
        return {
            "image": data,
            "format": picture.format,
            "animated": False,
            "reencoded": False,
            **sizes,
        }


def make(
    root: Folder, name: str, rows: Sequence[Sequence[Row]], pictures: Mapping[str, bytes]
) -> None:
    """A complete collection that holds these candidates, a part for each list."""
    folder = root / "collections" / name
    stages: list[Stage] = [
        Found(out=folder / "candidates", rows=tuple(map(tuple, rows))),
        PartitionByHost.of(folder),
        DistinctUrls.of(folder),
    ]
    stages.append(Fetched(out=folder / "fetches", urls=DistinctUrls.of(folder), pictures=pictures))
    manifests = [run_stage(stage) for stage in stages]
    counts = {"candidates": manifests[0].counts["candidates"]}
    folder.write_json(
        "manifest.json",
        {"digest": digest([one.digest for one in manifests]), "counts": counts, "failed": 0},
    )
