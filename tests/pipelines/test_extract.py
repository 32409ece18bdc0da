"""From archives to parts of candidates."""

import gzip
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from pipelines.engine.runner import run_stage
from pipelines.schema import CANDIDATES, identify
from pipelines.sources.archives.candidates import candidates_of_page
from pipelines.sources.archives.extract import Extract
from pipelines.sources.held import ARCHIVE_IMAGES
from pipelines.store import Folder
from pipelines.tables import read_table
from pipelines.web.crawl import Crawl, crawl
from tests.pipelines.test_archives import DATA, record
from tests.pipelines.web import jpeg, served

REAL = {
    "archive.no_http": 43,
    "archive.revisit_unresolved": 9,
    "archive.truncated": 1,
    "archive.wrong_length": 1,
    "archive_images": 66,
    "candidates": 4118,
    "pages": 227,
    "pages.cut": 1,
    "record.metadata": 359,
    "record.request": 451,
    "record.unknown": 3,
    "record.warcinfo": 21,
    "records": 1347,
    "skipped.media_type": 96,
    "skipped.status": 72,
}  # of the archives that have gzip members
SHARED = DATA.parents[1]


def extract(tmp_path: Path, *archives: Path) -> Extract:
    return Extract(
        out=Folder(str(tmp_path / "candidates")), archives=tuple(str(path) for path in archives)
    )


def test_the_rows_of_a_page() -> None:
    html = b"""<html lang=en><p>Our dogs.</p><figure><img src=/a.jpg width=640 height=480 alt="A dog" srcset="/a-2.jpg 900w">
    <figcaption>Rex in the park</figcaption></figure><img src=/b.jpg alt=""></html>"""  # noqa: E501
    headers = (("X-Robots-Tag", "max-snippet:50, noai"),)
    rows = candidates_of_page(
        html, "http://a.example/p", headers, captured_at="2026-01-02T03:04:05Z", offset=7
    )
    shared = {
        "page_url": "http://a.example/p",
        "images_on_page": 2,
        "page_language": "en",
        "region": None,
        "archive": None,
        "offset": 7,
        "captured_at": "2026-01-02T03:04:05Z",
        "permission": "permission.noai",
    }
    first = {
        "image_url": "http://a.example/a-2.jpg",
        "alternatives": ["http://a.example/a.jpg"],
        "context": "Our dogs. Rex in the park",
        "place": 0,
        "declared_width": 640,
        "declared_height": 480,
    }
    second = {
        "image_url": "http://a.example/b.jpg",
        "alternatives": [],
        "context": "Our dogs. Rex in the park",
        "place": 1,
        "declared_width": None,
        "declared_height": None,
    }
    texts = [(first, "A dog", "alt"), (first, "Rex in the park", "figcaption"), (second, "", "alt")]
    assert rows == [
        {
            **shared,
            **image,
            "text": text,
            "text_source": source,
            "candidate_id": identify(
                "http://a.example/p",
                "2026-01-02T03:04:05Z",
                image["image_url"],
                text,
                source,
                image["place"],
            ),
        }
        for image, text, source in texts
    ]
    assert len({row["candidate_id"] for row in rows}) == 3
    assert all(len(row["candidate_id"]) == 32 for row in rows)


def test_a_part_for_each_archive(tmp_path: Path) -> None:
    page = record("http://a.example/1", b"<img src=a.jpg alt=x><img src=b.jpg alt=y title=z>")
    photo = record("http://a.example/a.jpg", jpeg(), "Content-Type: image/jpeg\r\n")
    missing = record("http://a.example/2", b"<img src=no.jpg>").replace(b"200 OK", b"404 NO")
    text = record("http://a.example/3", b"plain", "Content-Type: text/plain\r\n")
    (tmp_path / "a.warc").write_bytes(page + photo + missing + text)
    (tmp_path / "b.warc.gz").write_bytes(gzip.compress(page)[:-30])
    stage = extract(tmp_path, tmp_path / "*.warc*")
    manifest = run_stage(stage)
    assert manifest.counts == {
        "archive.truncated": 1,
        "archive_images": 1,
        "candidates": 3 + read_table(stage.out, "part-00001.parquet").num_rows,
        "pages": 2,
        "pages.cut": 1,
        "records": 5,
        "skipped.media_type": 1,
        "skipped.status": 1,
    }
    table = read_table(stage.out, "part-00000.parquet")
    assert table.schema.equals(CANDIDATES)
    assert table["text"].to_pylist() == ["x", "y", "z"]
    assert table["archive"].to_pylist() == [str(tmp_path / "a.warc")] * 3
    held = read_table(stage.out, "archive-images-00000.parquet")
    assert held.schema.equals(ARCHIVE_IMAGES)
    ((url, archive, offset, captured, stored_as),) = [
        tuple(row.values()) for row in held.to_pylist()
    ]
    assert (url, archive) == ("http://a.example/a.jpg", str(tmp_path / "a.warc"))
    assert (offset, captured, stored_as) == (len(page), "2026-01-02T03:04:05Z", None)


def test_the_same_archive_gives_the_same_bytes(tmp_path: Path) -> None:
    photo = record("http://a.example/a.jpg", jpeg(), "Content-Type: image/jpeg\r\n")
    (tmp_path / "a.warc").write_bytes(
        record("http://a.example/1", b"<img src=a.jpg alt=x>") + photo
    )
    stage = extract(tmp_path, tmp_path / "a.warc")
    first, again = (stage.process(stage.parts()[0]).files for _ in range(2))
    assert first == again  # names, sizes and digests


def test_what_is_no_archive_is_set_aside_by_name(tmp_path: Path) -> None:
    (tmp_path / "good.warc").write_bytes(record("http://a.example/1", b"<img src=a.jpg alt=x>"))
    (tmp_path / "odd.warc").write_bytes(b"\x89PNG no archive")
    manifest = run_stage(extract(tmp_path, tmp_path / "*.warc"))
    assert manifest.counts["candidates"] == 1
    assert list(manifest.failed) == ["00001"]
    assert "odd.warc is no WARC file" in manifest.failed["00001"]


def test_a_large_archive_becomes_several_parts_of_the_same_candidates(tmp_path: Path) -> None:
    pages = [
        record(f"http://a.example/{number}", b"<img src=a.jpg alt=%d>" % number)
        for number in range(200)
    ]
    photo = record("http://a.example/a.jpg", jpeg(), "Content-Type: image/jpeg\r\n")
    path = tmp_path / "a.warc.gz"
    path.write_bytes(b"".join(gzip.compress(one) for one in [*pages, photo]))
    whole = run_stage(extract(tmp_path, path))
    expected = read_table(Folder(str(tmp_path / "candidates")), "part-00000.parquet")
    stage = Extract(
        out=Folder(str(tmp_path / "cut")),
        archives=(str(path),),
        range_bytes=path.stat().st_size // 4,
    )
    assert [part.name for part in stage.parts()] == ["00000", "00001", "00002", "00003", "00004"]
    manifest = run_stage(stage)
    assert +Counter(manifest.counts) == +Counter(whole.counts)
    tables = [read_table(stage.out, name) for name in manifest.names(".parquet", prefix="part-")]
    assert all(table.num_rows for table in tables[:4])
    assert pa.concat_tables(tables).equals(expected)


def test_a_wat_or_arc_file_among_warc_files_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.warc.wat.gz").write_bytes(b"")
    with pytest.raises(
        ValueError, match=r"a\.warc\.wat\.gz is no WARC file by its name: give WAT files as wat"
    ):
        extract(tmp_path, tmp_path / "*").parts()


def test_a_changed_archive_is_another_input(tmp_path: Path) -> None:
    path = tmp_path / "a.warc"
    path.write_bytes(record("http://a.example/1", b"<img src=a.jpg alt=x>"))
    before = extract(tmp_path, path).identity()
    assert extract(tmp_path, path).identity() == before
    path.write_bytes(record("http://a.example/1", b"<img src=b.jpg alt=x>"))
    assert extract(tmp_path, path).identity() != before


def test_a_huge_page_is_bounded(tmp_path: Path) -> None:
    body = b"<img src=a.jpg alt=x>" + b"<p>word</p>" * 5_000_000 + b"<img src=z.jpg alt=end>"
    (tmp_path / "big.warc").write_bytes(record("http://a.example/1", body))
    stage = extract(tmp_path, tmp_path / "big.warc")
    output = stage.process(stage.parts()[0])
    assert (output.counts["candidates"], output.counts["pages.cut"]) == (1, 1)


@pytest.mark.real
def test_real_archives_give_candidates(tmp_path: Path) -> None:
    if not DATA.exists():
        pytest.skip("the shared test data are not here")
    stage = extract(tmp_path, *sorted(DATA.rglob("*.warc.gz")))
    counts: Counter[str] = Counter()
    for part in stage.parts():
        output = stage.process(part)
        counts.update(output.counts)
        table = read_table(stage.out, output.files[0].name)
        assert table.num_rows == output.counts["candidates"]
        assert pc.count_distinct(table["candidate_id"]).as_py() == table.num_rows
    assert dict(counts) == REAL


@pytest.mark.real
def test_every_reference_of_a_made_site_is_found(tmp_path: Path) -> None:
    captions = SHARED / "data" / "captions" / "flickr8k-train" / "captions.jsonl"
    maker = SHARED / "tools" / "make_site.py"
    if not captions.exists() or not maker.exists():
        pytest.skip("the shared test data are not here")
    order = [
        sys.executable,
        str(maker),
        "--pairs",
        str(captions),
        "--out",
        str(tmp_path),
        "--limit",
        "60",
    ]
    subprocess.run(order, check=True, capture_output=True)
    site = tmp_path / "site"
    pages = {f"/{path.relative_to(site)}": path.read_bytes() for path in site.rglob("*.html")}
    with served({**pages, "/": pages["/index.html"]}) as web:
        crawl(
            Crawl(seeds=(f"{web.url}/",), allow_private_addresses=True),
            Folder(str(tmp_path / "pages")),
        )
    stage = Extract(out=Folder(str(tmp_path / "candidates")), pages=Folder(str(tmp_path / "pages")))
    stage.process(stage.parts()[0])
    table = read_table(stage.out, "part-00000.parquet").to_pylist()
    # the figcaption that the maker adds and does not list
    own = [row for row in table if row["text"] != "Figure"]
    found = Counter(
        (urlsplit(row["page_url"]).path, urlsplit(row["image_url"]).path, row["text"])
        for row in own
    )
    truth = [json.loads(line) for line in (tmp_path / "truth.jsonl").read_text().splitlines()]
    assert found == Counter((row["page"], row["image"], row["text"]) for row in truth)
    assert {row["archive"] for row in table} == {"part-00000.warc.gz"}
