"""Take-down on a small real collection: found, left out, erased to the last byte, written again,
and completed after a kill.

Slow for a test file: it crawls a site once, then curates a dozen copies of the collection, a second
or two each.
"""

import dataclasses
import gzip
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fastwarc.warc import ArchiveIterator
from PIL import Image

from flows.status import status, status_table
from flows.training import address as training_address
from pipelines.collect.run import collect
from pipelines.curate import curate
from pipelines.decide.decision import decide
from pipelines.lease import LeaseHeld, lease
from pipelines.permission.takedown_list import FORGOTTEN, TakedownList, address
from pipelines.releases.publish import CurateConfig, Release
from pipelines.sources.archives.responses import response_at
from pipelines.store import Folder
from pipelines.tables import read_table, write_parquet
from pipelines.takedown.redact_records import blank_record
from pipelines.takedown.run import forget
from pipelines.validate import validate
from tests.pipelines.web import served
from training.data.shards import Release as TrainingRelease

try:
    from pipelines.collect.config import CollectConfig
except ImportError:  # where the configuration lies beside the function
    from pipelines.collect.run import CollectConfig  # type: ignore[attr-defined,no-redef]


# --- the list


def test_addresses_are_one_however_they_are_spelled() -> None:
    listed = TakedownList.of(
        urls=["http://Example.org:80/a/../b%7e.jpg#top", "https://Bücher.example/ü?q=1"]
    )
    assert listed.urls == {"//example.org/b~.jpg", "//xn--bcher-kva.example/%C3%BC?q=1"}
    same = [
        "https://example.org/b~.jpg",
        "HTTP://me:secret@EXAMPLE.org./b%7E.jpg#x",
        "https://xn--bcher-kva.example:443/%c3%bc?q=1",
    ]
    other = [
        "https://example.org:8443/b~.jpg",
        "https://example.org/b~.jpg?x",
        "https://www.example.org/b~.jpg",
        "data:,x",
        "",
    ]
    assert [listed.url(url) for url in same + other] == [True] * 3 + [False] * 5
    column = pa.chunked_array([pa.array([*same, None]), pa.array(other)])
    assert listed.addresses(column).tolist() == [True] * 3 + [False] * 6


def test_a_domain_covers_its_subdomains_by_label() -> None:
    listed = TakedownList.of(domains=["Evil.example.", "192.0.2.7"])
    urls = [
        "http://evil.example/",
        "https://a.b.EVIL.example:99/x",
        "http://notevil.example/",
        "http://192.0.2.7/",
        "http://evil.example.org/",
    ]
    assert [listed.url(url) for url in urls] == [True, True, False, True, False]
    assert listed.addresses(pa.array(urls)).tolist() == [True, True, False, True, False]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"domains": ["co.uk"]},
            r"'co\.uk' is a public suffix: forgetting it would forget every domain below it",
        ),
        ({"domains": ["com"]}, "'com' is a public suffix"),
        ({"domains": ["http://x.example"]}, r"is no domain: write it as example\.org"),
        ({"domains": ["*.x.example"]}, "is no domain"),
        (
            {"urls": ["example.org/x.jpg"]},
            r"is no address: write it whole, as https://example\.org/path",
        ),
        ({"sha256": ["abc"]}, "is no sha256: give the 64 hexadecimal digits of an image_id"),
    ],
)
def test_what_cannot_be_taken_down_is_said(given: dict[str, list[str]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TakedownList.of(**given)


@pytest.mark.parametrize("url", ["file", "memory"])
def test_the_list_only_grows(url: str, tmp_path: Path) -> None:
    root = Folder(str(tmp_path) if url == "file" else f"memory://forgotten-{tmp_path.name}")
    assert not TakedownList.read(root)
    assert TakedownList.of(urls=["https://a.example/1"], domains=["b.example"]).remember(
        root, note="asked by mail"
    )
    assert not TakedownList.of(urls=["http://a.example/1"]).remember(root)
    assert TakedownList.of(urls=["http://a.example/1"], sha256=["AB" * 32]).remember(root)
    read = TakedownList.read(root)
    assert (read.urls, read.domains, read.sha256) == ({"//a.example/1"}, {"b.example"}, {"ab" * 32})
    records = [(root / "forgotten").read_json(name) for name in (root / "forgotten").names()]
    said = sorted((one["note"], one["urls"], one["domains"]) for one in records)
    assert said == [("", [], []), ("asked by mail", ["//a.example/1"], ["b.example"])]
    assert TakedownList.from_json(read.to_json()) == read == TakedownList.of(**read.to_json())
    assert read.digest == TakedownList.read(root).digest != TakedownList().digest


def test_candidates_are_taken_down_by_page_image_and_other_sizes_and_leave_nothing() -> None:
    rows = {
        "candidate_id": ["1", "2", "3", "4"],
        "page_url": ["http://p.example/", None, "http://q.example/", "http://q.example/"],
        "image_url": [
            "http://i.example/1",
            "http://i.example/2",
            "http://i.example/3",
            "http://i.example/4",
        ],
        "alternatives": [
            [],
            None,
            ["http://x.example/s", "http://i.example/large"],
            ["http://x.example/t"],
        ],
        "text": ["a", "b", "c", "d"],
        "permission": pa.array([None, "permission.noai", None, None], pa.string()),
    }
    listed = TakedownList.of(
        urls=["https://p.example", "http://i.example/2", "http://i.example/large"]
    )
    table = pa.table(rows)
    assert listed.candidates(table).tolist() == [True, True, True, False]
    left = {
        "page_url": None,
        "image_url": "",
        "alternatives": None,
        "text": "",
        "permission": FORGOTTEN,
    }
    assert listed.blank(table).to_pylist()[:3] == [{"candidate_id": name, **left} for name in "123"]
    assert listed.blank(table).slice(3).equals(table.slice(3))
    assert TakedownList().blank(table) is table


@pytest.mark.parametrize("size", [120, 230, 70_000, 65_558, 65_559, 131_099, 3_000_000])
def test_a_blank_record_takes_exactly_the_room_of_another(size: int) -> None:
    member = blank_record(size, "pages/part-00000.warc.gz:17")
    assert len(member) == size
    records = list(ArchiveIterator(io.BytesIO(member + member), parse_http=False))
    assert [record.stream_pos for record in records] == [0, size]
    assert gzip.decompress(member).startswith(b"WARC/1.1\r\nWARC-Type: metadata\r\n")


# --- a collection


def picture(seed: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (24, 24, 3), dtype=np.uint8)).save(
        buffer, "PNG"
    )
    return buffer.getvalue()


SHARED, SECRET, TWIN, PLAIN, HILL = (picture(seed) for seed in range(5))
TEXTS = {
    "index": "a harbour in the evening",
    "good": "a red boat on calm water",
    "twin": "two birds on a wire",
    "bad": "hidden words about a boat",
    "secret": "hidden words about a lake",
    "hill": "hidden words about a hill",
    "list": "a hill in the open",
}


@dataclass(frozen=True)
class Made:
    """A root with the collection `web`, its release `all`, and `list`, which refers to an image of
    `web`; the site's address.
    """

    root: Folder
    url: str
    release: Release

    @property
    def elsewhere(self) -> str:
        """The same server under the name of another host."""
        return self.url.replace("127.0.0.1", "localhost")


def refer(collection: Folder, other: str) -> None:
    """Let a collection refer to the images that another one holds, as a fetch of addresses that are
    held leaves it.
    """
    manifest, own = (
        (collection / "fetches").read_json("manifest.json"),
        collection.read_json("manifest.json"),
    )
    files = [file for file in manifest["files"] if file["name"].endswith(".parquet")]
    for file in files:
        table = read_table(collection / "fetches", file["name"])
        place = table.schema.get_field_index("held_in")
        table = table.set_column(
            place, table.schema.field(place), pa.array([other] * table.num_rows)
        )
        file.update(dataclasses.asdict(write_parquet(collection / "fetches", file["name"], table)))
    (collection / "fetches").write_json("manifest.json", {**manifest, "files": files})
    collection.write_json("manifest.json", {**own, "refers_to": [other]})
    (collection / "images").remove()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    root = Folder(str(tmp_path_factory.mktemp("forget") / "root"))
    with served({}) as web:
        other = web.url.replace("127.0.0.1", "localhost")
        web.pages |= {
            "/": (
                '<a href="/good.html">g</a><a href="/bad.html">b</a><img src="/plain.png"'
                f' alt="{TEXTS["index"]}">'
            ),
            "/good.html": (
                f'<img src="/shared.png" alt="{TEXTS["good"]}"><img src="{other}/twin.png"'
                f' alt="{TEXTS["twin"]}">'
            ),
            "/bad.html": (
                f'<img src="/shared.png" alt="{TEXTS["bad"]}"><p>so hidden</p><img'
                f' src="/secret.png" alt="{TEXTS["secret"]}"><img src="/hill.png"'
                f' alt="{TEXTS["hill"]}">'
            ),
        }
        pictures = {"plain": PLAIN, "shared": SHARED, "twin": TWIN, "secret": SECRET, "hill": HILL}
        web.pages |= {f"/{name}.png": data for name, data in pictures.items()}
        collect(root, CollectConfig(seeds=(web.url,), allow_private_addresses=True), id="web")
        pairs = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"
        pairs.write_text(json.dumps({"url": f"{web.url}/hill.png", "text": TEXTS["list"]}))
        collect(root, CollectConfig(pairs=str(pairs), allow_private_addresses=True), id="list")
        refer(root / "collections" / "list", "web")
        yield Made(
            root,
            web.url,
            curate(root, CurateConfig(recipe="everything", collections=("web",), release="all")),
        )


@pytest.fixture
def copy(made: Made, tmp_path: Path) -> Made:
    shutil.copytree(made.root.path(), tmp_path / "root")
    return Made(Folder(str(tmp_path / "root")), made.url, made.release)


def everything(root: Path) -> dict[str, bytes]:
    """All that the files of a root say, decompressed; the list itself left out."""
    found = {}
    for path in sorted(
        path
        for path in root.rglob("*")
        if path.is_file() and "forgotten" not in path.relative_to(root).parts
    ):
        data = path.read_bytes()
        if path.suffix == ".gz":
            data += gzip.decompress(data)
        if path.suffix == ".parquet":
            data += (
                repr(pq.read_table(path).to_pylist()).encode()
                + repr(pq.read_schema(path).metadata).encode()
            )
        if path.suffix == ".arrow":
            data += repr(
                [{**row, "image": None} for row in pa.ipc.open_file(data).read_all().to_pylist()]
            ).encode()
        found[str(path.relative_to(root))] = data
    return found


def holders(root: Folder, *needles: bytes) -> list[str]:
    return [
        name
        for name, data in everything(Path(root.path())).items()
        if any(needle in data for needle in needles)
    ]


def samples(root: Folder, release: str) -> list[tuple[str, list[str]]]:
    folder = root / "releases" / release
    tables = [
        read_table(folder, name, ["image_id", "caption"])
        for name in folder.names()
        if name.endswith(".arrow")
    ]
    return sorted(
        (row["image_id"], row["caption"]) for table in tables for row in table.to_pylist()
    )


def image_id(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def stored(root: Folder, data: bytes) -> bytes:
    """The bytes of a picture as the collection holds them."""
    folder = root / "collections" / "web" / "images"
    rows = [row for name in folder.names() for row in read_table(folder, name).to_pylist()]
    return next(bytes(row["image"]) for row in rows if row["image_id"] == image_id(data))


KEPT = [(PLAIN, "index"), (SHARED, "good"), (TWIN, "twin")]  # when the page bad.html is taken down


def test_what_was_made_is_as_expected(made: Made) -> None:
    assert dict(made.release.funnel.outcomes) == {"kept": 6}
    assert samples(made.root, "all") == sorted(
        [
            (image_id(PLAIN), [TEXTS["index"]]),
            (image_id(SHARED), [TEXTS["good"], TEXTS["bad"]]),
            (image_id(TWIN), [TEXTS["twin"]]),
            (image_id(SECRET), [TEXTS["secret"]]),
            (image_id(HILL), [TEXTS["hill"]]),
        ]
    )
    assert validate(made.root) == []


def test_a_dry_run_says_what_a_take_down_would_do_and_does_nothing(copy: Made) -> None:
    before = everything(Path(copy.root.path()))
    report = forget(copy.root, urls=[f"{copy.url}/bad.html"], dry_run=True)
    assert everything(Path(copy.root.path())) == before
    assert (report.releases, report.reissued, report.listed) == ({"all": 3}, {"all": "all.r1"}, 1)
    assert report.collections["web"]["candidates"] == 3
    more = dataclasses.replace(
        report, models=("vilt",), outside=("s3://x",), reissued={"all": "all.r1", "b": None}
    )
    first, *others = more.lines().split("\n")
    assert first == "1 addresses, domains and images would be taken down for ever"
    assert len(others) == 6
    assert all("would" in line for line in others)
    assert not Path(copy.root.path("forgotten")).exists()
    done = forget(copy.root, urls=[f"{copy.url}/bad.html"])
    assert "would" not in done.lines()
    assert (done.collections, done.releases, done.reissued) == (
        report.collections,
        report.releases,
        report.reissued,
    )


def test_a_take_down_of_nothing_is_a_mistake(tmp_path: Path) -> None:
    root = Folder(str(tmp_path / "data"))
    with pytest.raises(
        ValueError,
        match=(
            r"^say what is to be taken down \(--url, --domain or --sha256\): nothing was begun in"
            r" .*/data$"
        ),
    ):
        forget(root)
    assert not (tmp_path / "data").exists()
    report = forget(root, domains=["gone.example"])
    assert report.lines().splitlines()[1:] == [f"  nothing of it is in {tmp_path}/data"]
    assert forget(root).listed == 1  # completes what was begun


def test_a_page_is_taken_down_with_its_texts_and_the_images_that_only_it_shows(copy: Made) -> None:
    root, page = copy.root, f"{copy.url}/bad.html"
    secret = stored(root, SECRET)
    needles = (b"hidden words", b"so hidden", SECRET, secret, b"secret.png")
    assert holders(root, *needles)
    (root / "releases" / "all" / "features" / "tower").write_json(
        "part.json", {"says": "of the secret"}
    )
    report = forget(root, urls=[page], note="by mail")
    assert holders(root, *needles) == []
    assert not (root / "releases" / "all" / "features" / "tower").exists("part.json")
    # of the hill only the address goes: the list leads to that image too
    assert report.collections == {
        "web": {
            "candidates": 3,
            "fetches": 2,
            "images": 2,
            "pages": 2,
            "urls": 2,
            "urls/by-host": 2,
        }
    }
    assert report.releases == {"all": 3}
    assert report.reissued == {"all": "all.r1"}
    assert samples(root, "all.r1") == sorted((image_id(data), [TEXTS[name]]) for data, name in KEPT)
    assert validate(root) == []
    assert dict(decide(root, "everything", ["web"]).funnel.outcomes) == {FORGOTTEN: 3, "kept": 3}
    again = forget(root)
    assert (again.collections, again.releases, again.reissued) == ({}, {}, {})


def test_every_page_left_is_read_at_its_offset(copy: Made) -> None:
    forget(copy.root, urls=[f"{copy.url}/bad.html"])
    folder = copy.root / "collections" / "web"
    rows = read_table(folder / "candidates", "part-00000.parquet").to_pylist()
    left = {
        row["page_url"]: (folder / "pages").path(row["archive"]) for row in rows if row["page_url"]
    }
    offsets = {row["page_url"]: row["offset"] for row in rows}
    read = {url: response_at(path, offsets[url], limit=1 << 20) for url, path in left.items()}
    pages = (f"{copy.url}/", f"{copy.url}/good.html")
    assert {url: response.url for url, response in read.items() if response} == {
        url: url for url in pages
    }


def test_a_reissue_is_what_curate_would_write(copy: Made) -> None:
    report = forget(copy.root, urls=[f"{copy.url}/bad.html"])
    new = str(report.reissued["all"])
    written = (copy.root / "releases" / new).read_json("manifest.json")
    fresh = curate(
        copy.root, CurateConfig(recipe="everything", collections=("web",), release="fresh")
    )
    assert written["digest"] == fresh.digest != copy.release.digest
    assert written["supersedes"] == "all"
    assert (
        curate(
            copy.root, CurateConfig(recipe="everything", collections=("web",), release=new)
        ).digest
        == fresh.digest
    )
    card = (copy.root / "releases" / new).read("README.md").decode()
    assert "It stands for `all`, of which something was taken down." in card
    assert f"| `{FORGOTTEN}` | 3 |" in card


def test_the_old_release_says_what_to_use(copy: Made) -> None:
    forget(copy.root, urls=[f"{copy.url}/bad.html"])
    message = (
        r"release all held what was taken down since, and lacks it now: use all\.r1, which was"
        r" written without it"
    )
    with pytest.raises(ValueError, match=message):
        curate(copy.root, CurateConfig(recipe="everything", collections=("web",), release="all"))
    with pytest.raises(ValueError, match=message):
        training_address(copy.root, "all")
    assert len(TrainingRelease.open("all.r1", training_address(copy.root, "all.r1")).shards) == 1
    card = (copy.root / "releases" / "all").read("README.md").decode()
    assert "> This release held what was taken down since, and lacks it now: use `all.r1`" in card
    found = status(copy.root)
    assert (found["releases"]["all"]["superseded_by"], found["forgotten"]) == ("all.r1", 1)
    assert "release all: superseded by all.r1" in status_table(found)


def test_a_domain_takes_its_images_wherever_they_are_shown(copy: Made) -> None:
    twin = stored(copy.root, TWIN)
    report = forget(copy.root, domains=["localhost"])
    assert dict(decide(copy.root, "everything", ["web"]).funnel.outcomes) == {
        FORGOTTEN: 1,
        "kept": 5,
    }
    # the page that shows it goes from the archive too, as it holds the text; its other candidates
    # stay
    assert report.collections == {
        "web": {
            "candidates": 1,
            "fetches": 1,
            "images": 1,
            "pages": 2,
            "urls": 1,
            "urls/by-host": 1,
        }
    }
    assert holders(copy.root, twin, TWIN, TEXTS["twin"].encode(), b"localhost") == []


def test_an_image_is_taken_down_with_all_its_pairs(copy: Made) -> None:
    shared = stored(copy.root, SHARED)
    forget(copy.root, sha256=[image_id(SHARED)])
    assert dict(decide(copy.root, "everything", ["web"]).funnel.outcomes) == {
        FORGOTTEN: 2,
        "kept": 4,
    }
    assert (
        holders(copy.root, shared, SHARED, b"a red boat", b"words about a boat", b"shared.png")
        == []
    )
    left = [(PLAIN, "index"), (SECRET, "secret"), (TWIN, "twin"), (HILL, "hill")]
    assert samples(copy.root, "all.r1") == sorted(
        (image_id(data), [TEXTS[name]]) for data, name in left
    )


def test_before_anything_is_erased_the_list_alone_decides(copy: Made) -> None:
    TakedownList.of(urls=[f"{copy.url}/bad.html"]).remember(copy.root)
    assert dict(decide(copy.root, "everything", ["web"]).funnel.outcomes) == {
        FORGOTTEN: 3,
        "kept": 3,
    }
    assert Counter(validate(copy.root)) == {
        "collection web still holds 3 rows or records that were taken down: run `winnow forget`": 1,
        "release all still holds 3 samples that were taken down: run `winnow forget`": 1,
    }


def test_a_release_without_any_of_it_stands(copy: Made) -> None:
    forget(copy.root, urls=["https://elsewhere.example/"])
    assert (
        curate(
            copy.root, CurateConfig(recipe="everything", collections=("web",), release="all")
        ).digest
        == copy.release.digest
    )


def test_only_what_a_redaction_says_may_differ(copy: Made) -> None:
    forget(copy.root, urls=[f"{copy.url}/bad.html"])
    folder = copy.root / "collections" / "web" / "candidates"
    name = next(name for name in folder.names() if name.startswith("part-"))
    Path(folder.path(name)).write_bytes(Path(folder.path(name)).read_bytes() + b" ")
    assert validate(copy.root) == [f"{folder.path(name)} is not as it was written"]
    with pytest.raises(ValueError, match="cannot be read, so nobody knows what it holds"):
        forget(copy.root)


def test_nothing_left_is_no_new_release(copy: Made) -> None:
    report = forget(copy.root, domains=["127.0.0.1", "localhost"])
    assert report.reissued == {"all": None}
    assert "release all: could not be written again: curate a new one" in report.lines()
    assert validate(copy.root) == []
    # the configuration of a crawl names its seed, as its user wrote it
    assert set(holders(copy.root, b"127.0.0.1", b"localhost")) == {
        "collections/web/configuration.json",
        "collections/web/pages/crawl.json",
    }


def test_an_image_that_another_collection_refers_to_stays_until_it_is_taken_down_itself(
    copy: Made,
) -> None:
    forget(copy.root, urls=[f"{copy.url}/bad.html"])
    released = curate(
        copy.root, CurateConfig(recipe="everything", collections=("list",), release="list")
    )
    assert samples(copy.root, "list") == [(image_id(HILL), [TEXTS["list"]])]
    hill = stored(copy.root, HILL)
    assert any(
        hill in data
        for name, data in everything(Path(copy.root.path())).items()
        if name.startswith("collections/web/images")
    )
    forget(copy.root, urls=[f"{copy.elsewhere}/hill.png", f"{copy.url}/hill.png"])
    assert holders(copy.root, hill, HILL, b"in the open", b"hill.png") == []
    assert validate(copy.root) == []
    assert released.folder.read_json("superseded.json") == {"by": None, "pending": False}


def test_what_is_unfinished_is_erased_too_unless_somebody_writes_it(copy: Made) -> None:
    collection, release = copy.root / "collections" / "web", copy.root / "releases" / "all"
    for folder in (collection, collection / "fetches", release):
        folder.remove("manifest.json")
    (collection / "pages").write_json(
        "crawl.json", {"config": {}, "first_error": f"{copy.url}/bad.html: HTTP 503"}
    )
    with lease(collection), pytest.raises(LeaseHeld):
        forget(copy.root, urls=[f"{copy.url}/bad.html"])
    forget(copy.root)
    assert holders(copy.root, b"hidden words", b"so hidden", SECRET, b"secret.png") == []
    assert (collection / "pages").read_json("crawl.json")["first_error"] == ": HTTP 503"
    assert not [name for name in release.names() if name.endswith(".arrow")]


def test_what_cannot_be_reached_is_said(copy: Made) -> None:
    given = (copy.root / "collections" / "web" / "pages").path("part-00000.warc.gz")
    shutil.copy(given, Path(copy.root.path()).parent / "given.warc.gz")
    path = str(Path(copy.root.path()).parent / "given.warc.gz")
    collect(copy.root, CollectConfig(warc=(path,), fetch=False), id="archive")
    (copy.root / "models" / "runs" / "one").write_json(
        "plan.json", {"releases": {"train": copy.release.digest}}
    )
    (copy.root / "models" / "two").write_json("plan.json", {"releases": {"train": "another"}})
    report = forget(copy.root, urls=[f"{copy.url}/bad.html"])
    assert (report.models, report.outside) == (("runs/one",), (path,))
    assert (
        f"archive {path} was given and still holds pages of it: it is yours to change"
        in report.lines()
    )
    assert report.collections["archive"]["candidates"] == 3


def test_a_root_on_another_file_system(copy: Made) -> None:
    memory = fsspec.filesystem("memory")
    memory.put(copy.root.path(), f"/{Path(copy.root.path()).parent.name}", recursive=True)
    root = Folder(f"memory://{Path(copy.root.path()).parent.name}")
    report = forget(root, urls=[f"{copy.url}/bad.html"])
    assert report.reissued == {"all": "all.r1"}
    assert validate(root) == []
    back = Path(copy.root.path()).parent / "back"
    memory.get(root.url, str(back), recursive=True)
    assert holders(Folder(str(back)), b"hidden words", SECRET, stored(copy.root, SECRET)) == []
    memory.rm(root.url, recursive=True)


KILLED = """
import os, signal, sys
from pipelines.store import Folder
from pipelines.takedown.run import forget

def run(root, url, moment):
    real, count = os.replace, 0
    def replace(*names):
        nonlocal count
        count += 1
        if count == (moment + 1) // 2 and moment % 2:  # odd: the file is written, and has not got its name
            os.kill(os.getpid(), signal.SIGKILL)
        real(*names)
        if count == moment // 2 and moment % 2 == 0:  # even: just after
            os.kill(os.getpid(), signal.SIGKILL)
    os.replace = replace
    forget(Folder(root), urls=[url])

url, *roots = sys.argv[1:]
for place, root in enumerate(roots):
    if os.fork() == 0:
        run(root, url, int(root.rsplit("-", 1)[1]))
        os._exit(0)
    print(os.WTERMSIG(os.wait()[1]))
"""  # noqa: E501


def test_a_killed_take_down_is_completed(made: Made, tmp_path: Path) -> None:
    roots = [tmp_path / f"root-{moment}" for moment in (1, 4, 7, 13, 19, 24, 31)]
    for root in roots:
        shutil.copytree(made.root.path(), root)
    page = f"{made.url}/bad.html"
    child = subprocess.run(
        [sys.executable, "-c", KILLED, page, *map(str, roots)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ},
        check=False,
    )
    assert child.stdout.split() == [str(int(signal.SIGKILL))] * len(roots), child.stderr
    secret = stored(made.root, SECRET)
    for path in roots:
        root = Folder(str(path))
        forget(root)
        assert holders(root, b"hidden words", b"so hidden", SECRET, secret, b"secret.png") == [], (
            path.name
        )
        assert validate(root) == [], path.name
        assert json.loads((path / "releases/all/superseded.json").read_text()) == {
            "by": "all.r1",
            "pending": False,
        }
        assert samples(root, "all.r1") == sorted(
            (image_id(data), [TEXTS[name]]) for data, name in KEPT
        ), path.name


def test_address_is_settled() -> None:
    once = address("https://Example.org/%7Eme/./x y?b=ü&a=%2f")
    assert once == "//example.org/~me/x%20y?b=%C3%BC&a=%2F"
    assert address(once) == once
