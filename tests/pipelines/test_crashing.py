"""Images that kill their decoder cost themselves, wherever images are decoded and whoever runs the
part.
"""

import json
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.collect.collection import Collection
from pipelines.collect.run import CollectConfig, collect
from pipelines.curate import curate
from pipelines.decide.decision import decide
from pipelines.engine.children import Limits
from pipelines.engine.stage import Engine, Manifest
from pipelines.images.decode import Decoded, Undecodable
from pipelines.images.isolated import decode_isolated
from pipelines.releases.publish import CurateConfig
from pipelines.store import Folder
from pipelines.tables import read_table
from pipelines.validate import validate
from tests.pipelines.crashing import deadly_decoder, deadly_jpeg, deadly_png
from tests.pipelines.pictures import encoded, gradient
from tests.pipelines.web import Reply, jpeg, served

PICTURES = {
    "red.jpg": jpeg(60, 40, "red"),
    "sand.png": encoded(gradient(), "PNG"),
    "abort.png": deadly_png("abort"),
    "later.jpg": deadly_jpeg("abort"),
    "blue.png": encoded(gradient("P"), "PNG"),
}
OUTCOMES = {name: "decode.crashed" if name == "abort.png" else "fetched" for name in PICTURES}


@pytest.fixture
def deadly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with deadly_decoder(tmp_path, monkeypatch):
        yield


def outcomes(collection: Collection) -> dict[str, str]:
    """By the name of each image."""
    manifest = Manifest.read(collection.folder / "fetches")
    assert manifest is not None
    assert manifest.failed == {}
    rows = [
        row
        for name in manifest.names(".parquet")
        for row in read_table(collection.folder / "fetches", name).to_pylist()
    ]
    assert len(rows) == len({row["image_url"] for row in rows}) == len(PICTURES)
    return {row["image_url"].rsplit("/", 1)[1]: row["outcome"] for row in rows}


def imported(folder: Path, engine: Engine) -> Collection:
    """A collection of the pictures, as a folder of images with texts."""
    (folder / "photos").mkdir(exist_ok=True)
    for name, data in PICTURES.items():
        (folder / "photos" / name).write_bytes(data)
        (folder / "photos" / name).with_suffix(".txt").write_text(f"the picture called {name}")
    return collect(
        Folder(str(folder / "root")),
        CollectConfig(imports=str(folder / "photos")),
        id="c",
        engine=engine,
    )


@pytest.mark.usefixtures("deadly")
@pytest.mark.parametrize("workers", [1, 2])
def test_collect_from_the_web(tmp_path: Path, workers: int) -> None:
    pages = {
        f"/{name}": Reply(body=data, type="image/" + name[-3:]) for name, data in PICTURES.items()
    }
    with served(pages) as web:
        lines = [
            json.dumps({"url": f"{web.url}/{name}", "text": f"called {name}"}) for name in PICTURES
        ]
        (tmp_path / "list.jsonl").write_text("\n".join(lines))
        config = CollectConfig(pairs=str(tmp_path / "list.jsonl"), allow_private_addresses=True)
        found = collect(
            Folder(str(tmp_path / "root")), config, id="c", engine=Engine(workers=workers)
        )
        asked = [path for path in web.asked if path[1:] in PICTURES]
    assert outcomes(found) == OUTCOMES
    assert sorted(asked) == sorted(pages)  # nothing was asked for again


@pytest.mark.usefixtures("deadly")
@pytest.mark.parametrize("workers", [1, 2])
def test_import(tmp_path: Path, workers: int) -> None:
    assert outcomes(imported(tmp_path, Engine(workers=workers))) == OUTCOMES


@pytest.mark.usefixtures("deadly")
def test_an_archive(tmp_path: Path) -> None:
    page = "".join(
        f'<p><img src="/{name}" alt="the picture called {name}"></p>' for name in PICTURES
    )
    records = [record("page", "text/html", f"<html><body>{page}</body></html>".encode())]
    records += [record(name, f"image/{name[-3:]}", data) for name, data in PICTURES.items()]
    archive = tmp_path / "a.warc"
    archive.write_bytes(b"".join(records))
    found = collect(
        Folder(str(tmp_path / "root")), CollectConfig(warc=(str(archive),), fetch=False), id="c"
    )
    assert outcomes(found) == OUTCOMES


def record(path: str, kind: str, body: bytes) -> bytes:
    answer = (
        f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        + body
    )
    head = (
        f"WARC/1.1\r\nWARC-Type: response\r\nWARC-Target-URI: http://h.example/{path}\r\nWARC-Date:"
        " 2026-01-02T03:04:05Z\r\n"
    )
    head += (
        f"WARC-Record-ID: <urn:uuid:{uuid.uuid4()}>\r\nContent-Type:"
        " application/http;msgtype=response\r\n"
    )
    return f"{head}Content-Length: {len(answer)}\r\n\r\n".encode() + answer + b"\r\n\r\n"


RECIPE = """
name = "seen"
description = "What can be looked at."
[[rule]]
measure = "image.natural"
op = ">="
value = 0.0
reason = "image.graphic"
source = "test"
"""


@pytest.mark.usefixtures("deadly")
@pytest.mark.parametrize("workers", [1, 2])
def test_measuring_gives_null_and_counts_it(
    tmp_path: Path, workers: int, caplog: pytest.LogCaptureFixture
) -> None:
    """The picture that kills who looks at it was stored: it was known to be whole without a
    decoder.
    """
    engine = Engine(workers=workers)
    collection = imported(tmp_path, engine)
    recipe = tmp_path / "seen.toml"
    recipe.write_text(RECIPE)
    funnel = decide(Folder(str(tmp_path / "root")), str(recipe), ("c",), engine=engine).funnel
    assert funnel.outcomes == {"decode.crashed": 1, "image.natural.unmeasured": 1, "kept": 3}
    (folder,) = [
        collection.folder / "measurements" / name
        for name in (collection.folder / "measurements").names()
    ]
    manifest = Manifest.read(folder)
    assert manifest is not None
    assert (manifest.failed, manifest.counts) == ({}, {"rows": 4, "crashed": 1})
    rows = [
        row for name in manifest.names(".parquet") for row in read_table(folder, name).to_pylist()
    ]
    assert sorted(row["image.natural"] is None for row in rows) == [False, False, False, True]
    said = [record.getMessage() for record in caplog.records]
    assert (
        workers > 1
        or "an image is not measured, as it stopped its decoder: killed by SIGABRT" in said
    )


@pytest.mark.usefixtures("deadly")
def test_validate_names_the_sample(tmp_path: Path) -> None:
    imported(tmp_path, Engine())
    root = Folder(str(tmp_path / "root"))
    release = curate(root, CurateConfig(recipe="everything", collections=("c",), release="r"))
    names = [
        row["image"] == PICTURES["later.jpg"]
        for row in read_table(release.folder, "train-00000-of-00001.arrow").to_pylist()
    ]
    path = release.folder.path("train-00000-of-00001.arrow")
    said = "its decoder was stopped: killed by SIGABRT"
    assert validate(root) == [
        f"{path}: 1 pictures cannot be decoded, first that of sample {names.index(True)} ({said})"
    ]


def test_one_that_hangs_waits_or_eats_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {}
    for how, limits in {
        "spin": Limits(cpu_seconds=1.0),
        "sleep": Limits(seconds=3.0),
        "eat": Limits(memory=1 << 30),
    }.items():
        (tmp_path / how).mkdir()
        with deadly_decoder(tmp_path / how, monkeypatch, limits):
            found[how] = decode_isolated(deadly_png(how))
            assert isinstance(decode_isolated(PICTURES["sand.png"]), Decoded)
    said = {
        "spin": "more than 1 s of CPU time",
        "sleep": "more than 3 s",
        "eat": "more than 1024 MiB of memory",
    }
    stopped = {
        how: Undecodable(outcome="decode.crashed", detail=f"its decoder was stopped: {words}")
        for how, words in said.items()
    }
    stopped["eat"] = Undecodable(
        outcome="decode.crashed", detail="needs more memory than it may take"
    )
    assert found == stopped
