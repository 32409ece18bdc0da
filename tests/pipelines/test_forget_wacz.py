"""Take-down in collections made from WACZ files: nothing of it is left in the root, and the package
that was given is named.
"""

import gzip
from pathlib import Path

import pytest

from pipelines.collect.run import CollectConfig, collect
from pipelines.curate import curate
from pipelines.decide.decision import decide
from pipelines.releases.publish import CurateConfig
from pipelines.store import Folder
from pipelines.takedown.run import forget
from pipelines.validate import validate
from tests.pipelines.test_archives import record
from tests.pipelines.test_forget import holders, image_id, picture, samples
from tests.pipelines.test_wacz import package

BOAT, LAKE, BIRD = (picture(seed) for seed in (11, 12, 13))
TEXTS = {BOAT: "a boat on calm water", LAKE: "hidden words of a lake", BIRD: "a bird on a wire"}
SITE = "http://site.example"
NEEDLES = (b"hidden words", b"secret.html", b"lake.png", LAKE)


def member(url: str, body: bytes, kind: str = "text/html") -> bytes:
    return gzip.compress(record(url, body, f"Content-Type: {kind}\r\n"))


def shown(name: str, data: bytes) -> bytes:
    return f'<img src="/{name}.png" alt="{TEXTS[data]}">'.encode()


def page_and_image(page: str, name: str, data: bytes) -> bytes:
    return member(f"{SITE}/{page}.html", shown(name, data)) + member(
        f"{SITE}/{name}.png", data, "image/png"
    )


@pytest.fixture(params=["one package", "packages in a package"])
def given(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A package with three pages, each with its picture, in two archives."""
    archives = {
        "archive/a.warc.gz": (
            page_and_image("boat", "boat", BOAT) + page_and_image("secret", "lake", LAKE)
        ),
        "archive/b.warc.gz": page_and_image("bird", "bird", BIRD),
    }
    if request.param != "one package":
        archives = {
            f"{name[8:9]}.wacz": package({name: data, "datapackage.json": b"{}"})
            for name, data in archives.items()
        }
    (tmp_path / "given.wacz").write_bytes(package({**archives, "datapackage.json": b"{}"}))
    return tmp_path / "given.wacz"


@pytest.mark.parametrize("what", ["page", "image", "hash"])
def test_a_page_or_picture_of_a_package(tmp_path: Path, given: Path, what: str) -> None:
    root, before = Folder(str(tmp_path / "root")), given.read_bytes()
    found = collect(root, CollectConfig(warc=(str(given),), fetch=False), id="web")
    assert (found.counts["candidates"], found.counts["images"]) == (3, 3)
    curate(root, CurateConfig(recipe="everything", collections=("web",), release="all"))
    assert holders(root, *NEEDLES)
    asked = {
        "page": {"urls": [f"{SITE}/secret.html"]},
        "image": {"urls": [f"{SITE}/lake.png"]},
        "hash": {"sha256": [image_id(LAKE)]},
    }[what]
    would = forget(root, **asked, dry_run=True)
    assert holders(root, *NEEDLES)
    report = forget(root, **asked)
    assert (report.collections, report.releases, report.reissued) == (
        would.collections,
        {"all": 1},
        {"all": "all.r1"},
    )
    assert report.outside == would.outside
    (outside,) = report.outside
    assert outside.startswith("zip://")
    assert outside.endswith(f"::{given}")
    assert holders(root, *NEEDLES) == []
    assert samples(root, "all.r1") == sorted(
        (image_id(data), [TEXTS[data]]) for data in (BOAT, BIRD)
    )
    assert validate(root) == []
    assert dict(decide(root, "everything", ["web"]).funnel.outcomes) == {
        "permission.forgotten": 1,
        "kept": 2,
    }
    assert given.read_bytes() == before
    again = collect(root, CollectConfig(warc=(str(given),), fetch=False), id="again")
    assert again.counts["images"] == 2
    assert dict(decide(root, "everything", ["again"]).funnel.outcomes) == {
        "permission.forgotten": 1,
        "kept": 2,
    }
    kept = (b"hidden words", b"secret.html", LAKE) if what == "page" else (LAKE,)
    assert holders(root / "collections" / "again", *kept) == []


def test_a_domain_of_a_package(tmp_path: Path, given: Path) -> None:
    root = Folder(str(tmp_path / "root"))
    collect(root, CollectConfig(warc=(str(given),), fetch=False), id="web")
    report = forget(root, domains=["site.example"])
    assert report.collections["web"]["images"] == 3
    assert len(report.outside) == 2
    assert holders(root, b"site.example", b"a boat", b"hidden words", BOAT, LAKE, BIRD) == []
