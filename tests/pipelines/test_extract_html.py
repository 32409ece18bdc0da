"""Folders of saved pages."""

import os
from pathlib import Path
from typing import Any

import pytest

from pipelines.engine.runner import run_stage
from pipelines.schema import CANDIDATES, identify
from pipelines.sources.archives import extract_saved_pages as extract_html
from pipelines.sources.archives.extract_saved_pages import ExtractHtml
from pipelines.sources.paths import opened
from pipelines.store import Folder
from pipelines.tables import read_table
from tests.pipelines.web import jpeg


@pytest.fixture
def site(tmp_path: Path) -> Path:
    root = tmp_path / "site"
    (root / "blog" / "page_files").mkdir(parents=True)
    (root / "index.html").write_text(
        '<img src="logo.jpg" alt=Logo><img src=https://cdn.example/x.jpg alt=Far>'
    )
    page = (
        '<img src="page_files/ph%C3%B6to.jpg?v=1" alt=Photo><img src=../../secret.jpg alt=Out><img'
        " src=gone.jpg alt=Gone>"
    )
    (root / "blog" / "a page.htm").write_text(page)
    (root / "blog" / "x.XHTML").write_text("<p>no image</p>")
    (root / "logo.jpg").write_bytes(jpeg())
    (root / "blog" / "page_files" / "phöto.jpg").write_bytes(jpeg())
    (tmp_path / "secret.jpg").write_bytes(jpeg())
    (root / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    return root


def extracted(
    tmp_path: Path, html: str, **options: Any
) -> tuple[list[dict[str, Any]], dict[str, str], dict[str, int]]:
    """Candidates, archive by address of held images, and counts."""
    stage = ExtractHtml(out=Folder(str(tmp_path / "candidates")), html=html, **options)
    manifest = run_stage(stage)
    assert not manifest.failed, manifest.failed
    table = read_table(stage.out, "part-00000.parquet")
    assert table.schema.equals(CANDIDATES)
    held = (
        read_table(stage.out, "archive-images-00000.parquet").to_pylist()
        if stage.out.exists("archive-images-00000.parquet")
        else []
    )
    assert all((row["kind"], row["offset"]) == ("file", 0) for row in held)
    return (
        table.to_pylist(),
        {row["image_url"]: row["archive"] for row in held},
        dict(manifest.counts),
    )


def test_pages_with_a_base_address(tmp_path: Path, site: Path) -> None:
    rows, held, counts = extracted(tmp_path, str(site), base_url="https://a.example/root")
    page = "https://a.example/root/blog/a%20page.htm"
    assert [(row["page_url"], row["image_url"], row["text"], row["archive"]) for row in rows] == [
        (
            page,
            "https://a.example/root/blog/page_files/ph%C3%B6to.jpg?v=1",
            "Photo",
            "site/blog/a page.htm",
        ),
        (page, "https://a.example/secret.jpg", "Out", "site/blog/a page.htm"),
        (page, "https://a.example/root/blog/gone.jpg", "Gone", "site/blog/a page.htm"),
        (
            "https://a.example/root/index.html",
            "https://a.example/root/logo.jpg",
            "Logo",
            "site/index.html",
        ),
        (
            "https://a.example/root/index.html",
            "https://cdn.example/x.jpg",
            "Far",
            "site/index.html",
        ),
    ]
    assert held == {
        "https://a.example/root/blog/page_files/ph%C3%B6to.jpg?v=1": (
            f"{site}/blog/page_files/phöto.jpg"
        ),
        "https://a.example/root/logo.jpg": f"{site}/logo.jpg",
    }
    assert counts == {
        "archive_images": 2,
        "candidates": 5,
        "files": 6,
        "pages": 3,
        "pages.cut": 0,
        "pages.other_file": 3,
    }


def test_pages_without_a_base_address_keep_no_path_of_this_machine(
    tmp_path: Path, site: Path
) -> None:
    (site / "links.html").write_text("<img src=link.jpg alt=Elsewhere>")
    rows, held, _ = extracted(tmp_path, str(site))
    assert [(row["page_url"], row["image_url"]) for row in rows] == [
        ("given://site/blog/a%20page.htm", "given://site/blog/page_files/ph%C3%B6to.jpg%3Fv%3D1"),
        ("given://site/blog/a%20page.htm", "given://site/secret.jpg"),
        ("given://site/blog/a%20page.htm", "given://site/blog/gone.jpg"),
        ("given://site/index.html", "given://site/logo.jpg"),
        ("given://site/index.html", "https://cdn.example/x.jpg"),
        ("given://site/links.html", "given://site/link.jpg"),
    ]
    # nothing outside the folder
    assert sorted(held) == [
        "given://site/blog/page_files/ph%C3%B6to.jpg%3Fv%3D1",
        "given://site/logo.jpg",
    ]
    first = rows[0]
    assert first["candidate_id"] == identify(
        first["page_url"], None, first["image_url"], "Photo", "alt", 0
    )


def test_a_pattern_and_a_single_page(tmp_path: Path, site: Path) -> None:
    rows, _, counts = extracted(tmp_path / "one", str(site / "index.html"))
    assert (len(rows), counts["pages"], rows[0]["page_url"]) == (2, 1, "given://site/index.html")
    rows, _, counts = extracted(tmp_path / "two", str(site / "**" / "*.htm"))
    assert (len(rows), counts["pages"], rows[0]["page_url"]) == (3, 1, "given://blog/a%20page.htm")


def test_parts_of_a_thousand_pages_and_a_changed_page_is_another_input(tmp_path: Path) -> None:
    root = tmp_path / "many"
    root.mkdir()
    for number in range(1001):
        (root / f"{number}.html").write_text("<img src=a.jpg>")
    stage = ExtractHtml(out=Folder(str(tmp_path / "out")), html=str(root))
    assert [len(part.inputs) for part in stage.parts()] == [1002, 3]
    before = stage.identity()
    assert stage.identity() == before
    (root / "7.html").write_text("<img src=other.jpg>")
    assert stage.identity() != before


def test_one_page_that_cannot_be_read_costs_no_other(
    tmp_path: Path, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pipe, a link to nowhere, and a page that goes between the listing and the reading."""
    os.mkfifo(site / "pipe.html")
    (site / "nowhere.html").symlink_to(tmp_path / "nowhere")
    (site / "soon gone.html").write_text("<img src=a.jpg alt=a>")
    monkeypatch.setattr(
        extract_html, "opened", lambda url: opened(url.replace("soon gone", "gone"))
    )
    rows, _, counts = extracted(tmp_path, str(site))
    assert (len(rows), counts["pages"], counts["pages.unreadable"]) == (5, 3, 1)


def test_a_name_that_is_no_text_costs_no_other_page(tmp_path: Path) -> None:
    root = tmp_path / "names"
    root.mkdir()
    for name in (b"caf\xe9.html", b"line\n\x1b[31m.html", b"z.html"):
        (root / os.fsdecode(name)).write_text("<img src=https://cdn.example/x.jpg alt=a>")
    rows, _, counts = extracted(tmp_path, str(root), base_url="https://a.example/")
    assert counts["pages"] == 3
    assert [row["page_url"] for row in rows] == [
        "https://a.example/caf%E9.html",
        "https://a.example/line%0A%1B%5B31m.html",
        "https://a.example/z.html",
    ]


def test_errors_name_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError,
        match=(
            r"there is no saved page at .*: give a folder that holds \.html, \.htm or \.xhtml files"
        ),
    ):
        ExtractHtml(out=Folder(str(tmp_path)), html=str(tmp_path)).parts()
    with pytest.raises(
        ValueError,
        match=(
            r"give the base address of saved pages whole, such as https://example\.org/; not"
            r" a\.example"
        ),
    ):
        ExtractHtml(out=Folder(str(tmp_path)), html=str(tmp_path), base_url="a.example")
