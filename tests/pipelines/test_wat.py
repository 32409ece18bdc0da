"""WAT records to candidates, whatever they hold, and what that road loses."""

import gzip
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from pipelines.engine.runner import run_stage
from pipelines.html.relative_urls import Base
from pipelines.schema import CANDIDATES, identify
from pipelines.sources.archives.compare_wat import compare_roads
from pipelines.sources.archives.extract import ExtractWat
from pipelines.sources.archives.wat import cut_record, page_of, whole_record
from pipelines.sources.archives.wat_rows import WatRows
from pipelines.store import Folder
from pipelines.tables import read_table
from tests.pipelines.test_archives import DATA, record
from tests.pipelines.wats import dumped, envelope, image, request, wat

URL = "https://a.example/blog/page.html"


def extracted(
    tmp_path: Path, content: bytes, **options: Any
) -> tuple[list[dict[str, Any]], dict[str, int]]:
    (tmp_path / "a.warc.wat.gz").write_bytes(content)
    stage = ExtractWat(
        out=Folder(str(tmp_path / "candidates")), wat=(str(tmp_path / "a.warc.wat.gz"),), **options
    )
    output = stage.process(stage.parts()[0])
    table = read_table(stage.out, "part-00000.parquet")
    assert table.schema.equals(CANDIDATES)
    return table.to_pylist(), {name: count for name, count in output.counts.items() if count}


def test_the_rows_of_a_page(tmp_path: Path) -> None:
    links = [
        {"path": "A@/href", "url": "/next", "text": "next"},
        image("/a.jpg", alt="A dog", title="Rex"),
        image("b.jpg", alt=""),
        image("//cdn.example/c.jpg", title="Only a title"),
        {"path": "IMG@/longdesc", "url": "/why"},
    ]
    head = {
        "Metas": [
            {"name": "HTML@/lang", "content": "en-US"},
            {"name": "robots", "content": "max-snippet:50, noai"},
        ]
    }
    rows, counts = extracted(tmp_path, wat(request(URL), envelope(URL, links, head=head)))
    assert counts == {
        "candidates": 3,
        "pages": 1,
        "records": 2,
        "skipped.no_page": 1,
        "skipped.no_text": 1,
    }
    shared = {
        "page_url": URL,
        "images_on_page": 3,
        "page_language": "en-US",
        "archive": str(tmp_path / "a.warc.wat.gz"),
        "offset": len(wat(request(URL))),
        "captured_at": "2026-01-02T03:04:05Z",
        "permission": "permission.noai",
        "alternatives": [],
        "context": "",
        "region": None,
        "declared_width": None,
        "declared_height": None,
    }
    images = [
        ("https://a.example/a.jpg", 0),
        ("https://a.example/a.jpg", 0),
        ("https://cdn.example/c.jpg", 2),
    ]
    texts = [("A dog", "alt"), ("Rex", "title"), ("Only a title", "title")]
    assert rows == [
        {
            **{name: shared.get(name) for name in CANDIDATES.names},
            "image_url": url,
            "place": place,
            "text": text,
            "text_source": source,
            "candidate_id": identify(URL, "2026-01-02T03:04:05Z", url, text, source, place),
        }
        for (url, place), (text, source) in zip(images, texts, strict=True)
    ]


def test_images_without_a_text_on_request(tmp_path: Path) -> None:
    links = [
        image("/a.jpg"),
        image("/b.jpg", alt=""),
        image("/c.jpg", title="C"),
        image("/d.jpg", alt="", title="D"),
    ]
    links.append(image("/e.jpg", alt="E"))
    rows, counts = extracted(tmp_path, wat(envelope(URL, links)), textless=True)
    found = [(row["image_url"][-5], row["text_source"], row["text"]) for row in rows]
    assert found == [
        ("a", "alt", ""),
        ("b", "alt", ""),
        ("c", "title", "C"),
        ("d", "alt", ""),
        ("d", "title", "D"),
        ("e", "alt", "E"),
    ]
    assert counts == {"candidates": 6, "pages": 1, "records": 1}
    rows, counts = extracted(tmp_path, wat(envelope(URL, links)))
    assert [row["text"] for row in rows] == ["C", "D", "E"]
    assert counts["skipped.no_text"] == 2


@pytest.mark.parametrize(
    ("head", "headers", "url", "permission"),
    [
        ({}, {}, "https://a.example/blog/x.jpg", None),
        ({"Base": "/other/"}, {}, "https://a.example/other/x.jpg", None),
        ({"Base": "https://cdn.example/"}, {"Base": "nonsense"}, "https://cdn.example/x.jpg", None),
        ({}, {"Base": "https://no.example/"}, "https://a.example/blog/x.jpg", None),
        ({}, {"X-Robots-Tag": "noimageai"}, "https://a.example/blog/x.jpg", "permission.noimageai"),
        ({}, {"tdm-reservation": "1"}, "https://a.example/blog/x.jpg", "permission.tdm"),
        (
            {"Metas": [{"name": "TDM-Reservation", "content": "1"}]},
            {},
            "https://a.example/blog/x.jpg",
            "permission.tdm",
        ),
        (
            {"Metas": [{"name": "ROBOTS", "content": "NOINDEX"}]},
            {},
            "https://a.example/blog/x.jpg",
            "permission.noindex",
        ),
        (
            {"Metas": [{"property": "og:image", "content": "noindex"}, {"name": "viewport"}]},
            {},
            "https://a.example/blog/x.jpg",
            None,
        ),
    ],
)
def test_base_and_permission(
    tmp_path: Path, head: dict[str, Any], headers: dict[str, str], url: str, permission: str | None
) -> None:
    rows, _ = extracted(
        tmp_path, wat(envelope(URL, [image("x.jpg", alt="x")], head=head, headers=headers))
    )
    assert [(row["image_url"], row["permission"]) for row in rows] == [(url, permission)]


def oracle(data: bytes) -> list[tuple[str, str, str, str]]:
    """(page, source address, text_source, text) of a record by the standard library's JSON alone,
    each text that says something.
    """
    envelope = json.loads(data)["Envelope"]
    page = envelope["WARC-Header-Metadata"]["WARC-Target-URI"]
    html = envelope["Payload-Metadata"]["HTTP-Response-Metadata"]["HTML-Metadata"]
    base = (
        Base(Base(page).join(html["Head"]["Base"]) or page)
        if html["Head"].get("Base")
        else Base(page)
    )
    found = []
    for link in html["Links"]:
        url = (
            base.join(link["url"])
            if link["path"] == "IMG@/src" and isinstance(link.get("url"), str)
            else ""
        )
        texts = [(name, link[name]) for name in ("alt", "title") if isinstance(link.get(name), str)]
        found += [
            (page, url, name, text)
            for name, text in texts
            if url and (text.strip() if name == "title" else text)
        ]
    return found


def read(*records: bytes) -> list[tuple[str, str, str, str]]:
    """The same by the reader: records together, as they come in a file."""
    rows = WatRows()
    for data in records:
        found = cut_record(data) or whole_record(data)
        assert found is not None
        page = page_of(*found, 0, Counter())
        assert page is not None
        rows.append(page)
    return [
        (row["page_url"], row["image_url"], row["text_source"], row["text"])
        for row in rows.table().to_pylist()
    ]


ODD = [
    '"',
    "\\",
    '\\"',
    '"}',
    "}]",
    '"}]',
    "]}",
    '{"path":"IMG@/src",',
    "IMG@",
    '"Links":[',
    '":"}',
    ":",
    "",
    "é東",
    "\n\t",
    "</a>",
    "a",
]


def random_record(draw: random.Random) -> Any:
    """A record whose strings are made of what could fool a reader that cuts."""

    def text() -> str:
        return (
            "".join(draw.choices(ODD, k=draw.randint(0, 4)))
            if draw.random() < 0.1
            else draw.choice(("", "photo", "a-b/c.jpg"))
        )

    def link() -> dict[str, Any]:
        path = draw.choices(["IMG@/src", "A@/href", "IMG@/longdesc"], (60, 38, 2))[0]
        pairs: list[tuple[str, Any]] = [("path", path), ("url", text())]
        pairs += [(name, text()) for name in ("alt", "title", "text") if draw.random() < 0.5]
        if draw.random() < 0.03:
            pairs.append(("alt", draw.choice([None, 7, True, ["x"], {"y": "z"}])))
        if draw.random() < 0.03:
            draw.shuffle(pairs)
        return dict(pairs)

    head: dict[str, Any] = {
        "Title": text(),
        "Base": text(),
        "Metas": [{"name": text(), "content": text()}],
    }
    for name in ("Link", "Scripts"):
        if draw.random() < 0.7:
            head[name] = [{"path": "LINK@/href", "url": text()} for _ in range(draw.randint(0, 2))]
    value = envelope(
        f"{URL}?{text()}&",
        [link() for _ in range(draw.randint(0, 6))],
        head=head,
        headers={text(): text()},
    )
    if draw.random() < 0.2:  # other writers order keys otherwise
        html = value["Envelope"]["Payload-Metadata"]["HTTP-Response-Metadata"]
        html["HTML-Metadata"] = dict(reversed(html["HTML-Metadata"].items()))
    return value


def test_no_record_loses_a_pair_however_its_strings_look() -> None:
    draw = random.Random(1)
    records = [dumped(random_record(draw)) for _ in range(4000)]
    for data in records:
        assert read(data) == oracle(data), data
    assert read(*records) == [row for data in records for row in oracle(data)]
    # the short way is the usual one
    assert sum(cut_record(data) is not None for data in records) > 2000


def test_identifiers_are_those_of_the_warc_road() -> None:
    draw = random.Random(2)
    rows = WatRows(textless=True)
    for _ in range(300):
        data = dumped(random_record(draw))
        page = page_of(
            *(cut_record(data) or whole_record(data) or pytest.fail("no JSON")), 0, Counter()
        )
        if page is not None:
            rows.append(page)
    for row in rows.table().to_pylist():
        fields = (
            row["page_url"],
            row["captured_at"],
            row["image_url"],
            row["text"],
            row["text_source"],
            row["place"],
        )
        assert row["candidate_id"] == identify(*fields)


@pytest.mark.parametrize(
    "data",
    [
        json.dumps(envelope(URL, [image("x.jpg", alt="x")])).encode(),
        json.dumps(envelope(URL, [image("x.jpg", alt="x")]), indent=1).encode(),
        dumped(
            envelope(
                URL, [{"url": "x.jpg", "alt": "x", "path": "IMG@/src"}, image("y.jpg", alt="y")]
            )
        ),
        dumped(envelope(URL, [image("x.jpg", alt="x")])).replace(b"IMG@/src", b"IMG@\\/src"),
    ],
)
def test_other_spellings_of_the_same_json(data: bytes) -> None:
    assert read(data) == oracle(data) != []


def test_what_is_no_json_is_counted_and_lone_surrogates_are_replaced(tmp_path: Path) -> None:
    page = envelope(URL, [image("x.jpg", alt="x")])
    surrogate = dumped(page).replace(b'"alt":"x"', b'"alt":"\\ud800 y"')
    latin = dumped(page).replace(b'"alt":"x"', b'"alt":"caf\xe9"')
    rows, counts = extracted(
        tmp_path, wat(dumped(page)[:-9], surrogate, latin, b"[]", dumped(page))
    )
    assert [row["text"] for row in rows] == ["? y", "caf\ufffd", "x"]
    assert counts == {"archive.bad_json": 2, "candidates": 3, "pages": 3, "records": 5}


def test_only_answers_that_were_found_count(tmp_path: Path) -> None:
    rows, counts = extracted(tmp_path, wat(envelope(URL, [image("x.jpg", alt="x")], status="404")))
    assert (rows, counts) == ([], {"records": 1, "skipped.status": 1})


def test_a_large_file_becomes_several_parts_and_damage_is_passed_over(tmp_path: Path) -> None:
    records = [
        wat(envelope(f"{URL}?{number}", [image("x.jpg", alt=str(number))])) for number in range(500)
    ]
    records[250] = records[250][:-20] + b"\0" * 20
    path = tmp_path / "a.warc.wat.gz"
    path.write_bytes(b"".join(records))
    stage = ExtractWat(
        out=Folder(str(tmp_path / "out")), wat=(str(path),), range_bytes=path.stat().st_size // 3
    )
    manifest = run_stage(stage)
    names = manifest.names(".parquet")
    assert len(names) == 4
    texts = [text for name in names for text in read_table(stage.out, name)["text"].to_pylist()]
    assert texts == [str(number) for number in range(500) if number != 250]
    assert manifest.counts["archive.corrupt_member"] == 1


def test_what_wat_loses(tmp_path: Path) -> None:
    html = b"""<figure><img src=/a.jpg alt="A dog"><figcaption>Rex</figcaption></figure>
    <img src=/blank.gif data-src=/later.jpg alt="Lazy"><img srcset="/b-400.jpg 400w, /b-900.jpg 900w" src=/b.jpg alt=B title=T>
    <a href=/x>Go<img src=/c.jpg></a>"""  # noqa: E501
    (tmp_path / "a.warc.gz").write_bytes(
        b"".join(gzip.compress(record(url, html)) for url in (URL, "https://a.example/not-in-wat"))
    )
    links = [
        image("/a.jpg", alt="A  dog"),
        image("/blank.gif", alt="Lazy"),
        image("/b.jpg", alt="B", title="T"),
        image("/c.jpg"),
    ]
    (tmp_path / "a.wat.gz").write_bytes(
        wat(envelope(URL, links), envelope("https://a.example/not-in-warc", links))
    )
    assert compare_roads(str(tmp_path / "a.warc.gz"), str(tmp_path / "a.wat.gz")) == {
        "pages": {"warc": 2, "wat": 2, "both": 1},
        "images": {"warc": 4, "wat": 3, "lost": 1, "placeholders": 1},
        "texts": {
            "alt": {"warc": 3, "wat": 2, "lost": 1},
            "figcaption": {"warc": 1, "wat": 0, "lost": 1},
            "link": {"warc": 1, "wat": 0, "lost": 1},
            "title": {"warc": 1, "wat": 1, "lost": 0},
        },
    }


@pytest.mark.real
def test_the_real_pair_holds_no_page_in_common(tmp_path: Path) -> None:
    folder = DATA / "commoncrawl+whirlwind-python"
    if not folder.exists():
        pytest.skip("the shared test data are not here")
    found = compare_roads(str(folder / "whirlwind.warc.gz"), str(folder / "whirlwind.warc.wat.gz"))
    # of its page that WAT file holds the request alone
    assert found["pages"] == {"warc": 1, "wat": 0, "both": 0}
    assert found["images"] == {"warc": 0, "wat": 0, "lost": 0, "placeholders": 0}
    assert found["texts"] == {}
    rows, counts = extracted(tmp_path, (folder / "whirlwind.warc.wat.gz").read_bytes())
    assert (rows, counts) == ([], {"record.warcinfo": 1, "records": 2, "skipped.no_page": 1})


def test_counts_know_every_image(tmp_path: Path) -> None:
    links = [image("/a.jpg", alt="x")] * 3 + [image("/b.jpg")] * 4
    counts: Counter[str] = Counter()
    _, counted = extracted(tmp_path, wat(envelope(URL, links)))
    counts.update(counted)
    assert counts == {"candidates": 3, "pages": 1, "records": 1, "skipped.no_text": 4}
