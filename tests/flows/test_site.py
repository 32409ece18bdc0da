"""The demo's site: what was planned is on the pages, the truth says what is there, and the server
sends what it should.
"""

import hashlib
import http.client
import io
import json
import socket
import urllib.error
import urllib.request
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from PIL import Image, UnidentifiedImageError

from flows.demo.site import FAULTS, build_site, count_faults, serve
from flows.demo.truth import score

REFERENCES, CLEAN, HELDOUT = 240, 8, 24


class Reader(HTMLParser):
    """An independent reader of (image, text): alt and title of each img, and the caption of its
    figure.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, str]] = []
        self.figure: str | None = None
        self.in_caption = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "img":
            url = values.get("data-src") or values["src"] or ""
            url = "/" + url.removeprefix("..").lstrip("/").partition("?")[0]
            texts = [
                (values[name] or "").strip() for name in ("alt", "title") if name in values
            ] or [""]
            self.found += [(url, text) for text in texts]
            self.figure = url
        self.in_caption = tag == "figcaption"

    def handle_endtag(self, tag: str) -> None:
        self.in_caption = False

    def handle_data(self, data: str) -> None:
        if self.in_caption and self.figure:
            self.found.append((self.figure, data))


def build(folder: Path, seed: int = 3) -> Path:
    build_site(folder, references=REFERENCES, clean=CLEAN, heldout=HELDOUT, seed=seed)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("demo") / "web")


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def truth(folder: Path) -> list[dict[str, Any]]:
    return lines(folder / "truth.jsonl")


def main_rows(folder: Path) -> list[dict[str, Any]]:
    """The first row of each image; a label or an empty alt beside the text comes after it."""
    return list({row["image"]: row for row in reversed(truth(folder))}.values())


def digest(folder: Path) -> str:
    whole = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != "port":
            whole.update(str(path.relative_to(folder)).encode() + path.read_bytes())
    return whole.hexdigest()


def test_every_planned_fault_is_in_the_truth(folder: Path) -> None:
    counted = Counter(row["fault"] for row in main_rows(folder))
    sound = counted.pop(None)
    assert counted == count_faults(REFERENCES)
    assert sound + sum(counted.values()) == REFERENCES
    assert set(counted) == set(FAULTS)
    assert 0.4 < sound / REFERENCES < 0.55
    assert all(row["keep"] == (row["fault"] is None) for row in truth(folder))


def test_a_reader_finds_exactly_the_references_of_the_truth(folder: Path) -> None:
    expected: dict[str, list[tuple[str, str]]] = {}
    for row in truth(folder):
        expected.setdefault(row["page"], []).append((row["image"], row["text"]))
    pages = {
        f"/{path.relative_to(folder / 'site')}": path
        for path in (folder / "site").rglob("*.html")
        if path.name != "index.html"
    }
    assert pages.keys() == expected.keys()
    for name, path in pages.items():
        reader = Reader()
        reader.feed(path.read_text(encoding="utf-8"))
        assert sorted(reader.found) == sorted(expected[name])


def test_pages_write_pictures_in_many_ways(folder: Path) -> None:
    html = "".join(path.read_text(encoding="utf-8") for path in (folder / "site").rglob("*.html"))
    for form in (
        'src="/static/blank.gif" data-src=',
        "<picture><source srcset=",
        " srcset=",
        "<figcaption>",
        "<IMG SRC=/",
        'src="../photos',
        " title=",
    ):
        assert form in html, form


def test_pictures_have_the_faults_that_the_truth_says(folder: Path) -> None:
    by_fault: dict[str | None, list[bytes]] = {}
    for row in main_rows(folder):
        path = folder / "site" / row["image"][1:]
        by_fault.setdefault(row["fault"], []).append(path.read_bytes() if path.exists() else b"")
    for data in by_fault["thumbnail"]:
        assert 40 <= Image.open(io.BytesIO(data)).width <= 96
    for data in by_fault[None]:
        picture = Image.open(io.BytesIO(data))
        picture.load()
        assert (picture.format, picture.size) == ("JPEG", (224, 224))
    for data in by_fault["broken"]:
        with pytest.raises((UnidentifiedImageError, OSError)):
            Image.open(io.BytesIO(data)).load()
    assert set(by_fault["duplicate"]) < set(by_fault[None])


def test_texts_have_the_faults_that_the_truth_says(folder: Path) -> None:
    by_fault: dict[str | None, list[str]] = {}
    for row in main_rows(folder):
        by_fault.setdefault(row["fault"], []).append(row["text"])
    assert min(Counter(by_fault["shared_text"]).values()) > 10
    assert max(Counter(by_fault[None]).values()) <= 2
    assert set(by_fault["empty"]) == {""}
    assert not set(by_fault["swapped"]) & set(by_fault[None])
    assert len(set(by_fault["boilerplate"])) > len(by_fault["boilerplate"]) / 2


def test_heldout_captions_are_distinct_and_never_trained_on(folder: Path) -> None:
    rows = lines(folder / "heldout" / "captions.jsonl")
    captions = [row["captions"][0] for row in rows]
    trained = {row["text"] for row in truth(folder)} | {
        row["text"] for row in lines(folder / "clean.jsonl")
    }
    assert len(set(captions)) == HELDOUT
    assert not set(captions) & trained
    for row in rows:
        assert Image.open(folder / "heldout" / row["image"]).size == (224, 224)


def test_the_seed_settles_every_byte(folder: Path, tmp_path: Path) -> None:
    assert digest(build(tmp_path / "again")) == digest(folder)
    assert digest(build(tmp_path / "other", seed=4)) != digest(folder)


def test_building_again_changes_nothing_and_other_wishes_are_refused(tmp_path: Path) -> None:
    web = build(tmp_path / "web")
    before = (web / "truth.jsonl").stat().st_mtime_ns
    build(web)
    assert (web / "truth.jsonl").stat().st_mtime_ns == before
    with pytest.raises(ValueError, match="name another folder, or delete it"):
        build(web, seed=9)
    with pytest.raises(ValueError, match="at least 100"):
        build_site(tmp_path / "small", references=50, clean=1, heldout=1, seed=0)


def test_what_a_killed_build_left_is_replaced(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "web.building" / "site").mkdir(parents=True)
    (tmp_path / "web.building" / "site" / "stray.html").write_text("stray")
    assert digest(build(tmp_path / "web")) == digest(folder)
    assert not (tmp_path / "web.building").exists()


def get(url: str) -> tuple[int, bytes, str | None]:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return response.status, response.read(), response.headers["X-Robots-Tag"]
    except urllib.error.HTTPError as error:
        return error.code, b"", error.headers["X-Robots-Tag"]


def test_the_server_sends_pages_pictures_and_what_they_ask(folder: Path) -> None:
    asked = json.loads((folder / "headers.json").read_text())
    refused = {row["page"] for row in truth(folder) if row["fault"] == "noai"}
    assert asked
    with serve(folder) as base:
        for page in {row["page"] for row in truth(folder)}:
            status, body, header = get(base + page)
            assert (status, header) == (200, asked.get(page))
            assert (header is not None or b'<meta name="robots"' in body) == (page in refused)
        assert get(base + "/robots.txt")[1] == b"User-agent: *\nDisallow: /private/\n"
        assert get(base + "/")[1] == (folder / "site" / "index.html").read_bytes()
        clean = lines(folder / "clean.jsonl")[0]["url"]
        assert get(f"{base}{clean}?w=100")[1] == (folder / "site" / clean[1:]).read_bytes()
        for outside in ("/../truth.jsonl", "/%2e%2e/truth.jsonl", "/photos/", "/nowhere.html"):
            assert get(base + outside)[0] == 404


def test_the_front_page_links_to_every_page_and_no_page_to_the_clean_pictures(folder: Path) -> None:
    front = (folder / "site" / "index.html").read_text()
    assert all(f'href="{row["page"][1:]}"' in front for row in truth(folder))
    assert all(
        "/clean/" not in path.read_text(encoding="utf-8")
        for path in (folder / "site").rglob("*.html")
    )


def test_robots_txt_forbids_the_pages_of_that_fault_alone(folder: Path) -> None:
    for row in truth(folder):
        assert row["page"].startswith("/private/") == (row["fault"] == "robots")


def test_a_connection_is_kept_alive(folder: Path) -> None:
    with serve(folder) as base:
        connection = http.client.HTTPConnection(base.removeprefix("http://"), timeout=5)
        for _ in range(3):
            connection.request("GET", "/robots.txt")
            first = connection.sock
            assert connection.getresponse().read()
            assert connection.sock is first is not None
        connection.close()


def test_the_port_stays_the_same_and_a_taken_one_is_an_error(folder: Path) -> None:
    with serve(folder) as base:
        pass
    with serve(folder) as again:
        assert again == base
    with (
        socket.create_server(("127.0.0.1", int(base.rpartition(":")[2]))),
        pytest.raises(ValueError, match="is taken"),
        serve(folder),
    ):
        pass


def table(*rows: tuple[str | None, str, str, str]) -> pa.Table:
    columns = list(zip(*rows, strict=True)) or [(), (), (), ()]
    return pa.table(
        {
            name: pa.array(column, pa.string())
            for name, column in zip(
                ("page_url", "image_url", "text", "outcome"), columns, strict=True
            )
        }
    )


TRUTH = [
    {"page": "/p/1.html", "image": "/a.jpg", "text": "a red ring", "fault": None, "keep": True},
    {"page": "/p/1.html", "image": "/b.jpg", "text": "a blue ring", "fault": None, "keep": True},
    {
        "page": "/p/1.html",
        "image": "/c.jpg",
        "text": "a green ring",
        "fault": "swapped",
        "keep": False,
    },
    {
        "page": "/p/2.html",
        "image": "/d.jpg",
        "text": "IMG_1.JPG",
        "fault": "file_name",
        "keep": False,
    },
]


def write_truth(path: Path) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in TRUTH))
    return path


def test_score_counts_what_was_kept_against_the_truth(tmp_path: Path) -> None:
    base = "http://127.0.0.1:20001"
    outcomes = table(
        (f"{base}/p/1.html", f"{base}/a.jpg?w=100", "a  red\nring", "kept"),
        (f"{base}/p/1.html", f"{base}/c.jpg", "a green ring", "kept"),
        (f"{base}/p/2.html", f"{base}/d.jpg", "IMG_1.JPG", "kept"),
        (f"{base}/p/2.html", f"{base}/d.jpg", "Some words beside it", "kept"),
        (f"{base}/p/2.html", f"{base}/a.jpg", "a red ring", "text.too_short"),
        (None, f"{base}/clean/1.jpg", "a pink ring", "kept"),
    )
    assert score(write_truth(tmp_path / "truth.jsonl"), outcomes, base) == {
        "precision": 1 / 3,
        "recall": 1 / 2,
        "precision_all": 1 / 4,
        "by_fault": {
            "file_name": {"references": 1, "kept": 1},
            "none": {"references": 2, "kept": 1},
            "swapped": {"references": 1, "kept": 1},
            "unlisted": {"references": 0, "kept": 1},
        },
    }


def test_score_of_nothing_is_nought(tmp_path: Path) -> None:
    found = score(write_truth(tmp_path / "truth.jsonl"), table(), "http://127.0.0.1:1")
    assert (found["precision"], found["recall"], found["precision_all"]) == (0.0, 0.0, 0.0)


def test_keeping_exactly_the_sound_references_scores_one(folder: Path) -> None:
    base = "http://127.0.0.1:20002"
    outcomes = table(
        *(
            (
                base + row["page"],
                base + row["image"],
                row["text"],
                "kept" if row["keep"] else "dropped",
            )
            for row in truth(folder)
        )
    )
    found = score(folder / "truth.jsonl", outcomes, base + "/")
    assert (found["precision"], found["recall"], found["precision_all"]) == (1.0, 1.0, 1.0)
