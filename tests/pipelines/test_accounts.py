"""Accounts: what goes into a stage adds up to what it became, and a stage that loses something is
set aside.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest

from flows.progress import accounts_table, collection_table
from pipelines.accounts import Account, Miscounted, check
from pipelines.collect.collection import Collection
from pipelines.collect.config import CollectConfig
from pipelines.collect.run import collect
from pipelines.engine.runner import run_stage
from pipelines.engine.stage import Output, Part, Stage
from pipelines.store import Folder
from pipelines.web.crawl import accounts_of
from tests.pipelines.web import Reply, jpeg, served

RECORDS = Account(of="records", into=("pages", "skipped."), also=("skipped.note",))


def test_what_adds_up() -> None:
    counts = {
        "records": 6,
        "pages": 1,
        "skipped.status": 3,
        "skipped.kind": 2,
        "skipped.note": 9,
        "pages.cut": 1,
        "empty": 0,
    }
    assert RECORDS.check(6, counts, "here") == {"skipped.status": 3, "skipped.kind": 2, "pages": 1}
    check([RECORDS, Account(of="others", into=())], counts, "here")


@pytest.mark.parametrize("pages", [0, 2])
def test_what_does_not(pages: int) -> None:
    with pytest.raises(Miscounted, match=r"here: 6 records became"):
        RECORDS.check(6, {"pages": pages, "skipped.status": 5}, "here")


@dataclass(frozen=True, kw_only=True)
class Lossy(Stage):
    name: ClassVar[str] = "lossy"
    version: ClassVar[int] = 1
    accounts: ClassVar[tuple[Account, ...]] = (RECORDS,)

    def inputs(self) -> dict[str, str]:
        return {}

    def parts(self) -> list[Part]:
        return [Part(name="0", inputs=("1",)), Part(name="1", inputs=("2",))]

    def process(self, part: Part) -> Output:
        return Output(files=(), counts={"records": 2, "pages": int(part.inputs[0])})


def test_a_part_that_loses_something_is_set_aside(tmp_path: object) -> None:
    manifest = run_stage(Lossy(out=Folder(str(tmp_path))))
    assert manifest.counts == {"records": 2, "pages": 2}
    assert list(manifest.failed) == ["0"]
    assert "stage lossy, part 0: 2 records became 1" in manifest.failed["0"]


def test_how_it_is_told() -> None:
    told = accounts_table(
        [{"of": "records", "in": 1200, "went": {"pages": 1000, "skipped.status": 200}}]
    )
    assert told.splitlines() == [
        "where everything went:",
        "         1,200 records      1,000 pages, 200 skipped.status",
    ]


def test_what_else_was_counted_is_told_once_and_nothing_of_what_is_not_there() -> None:
    counts = {
        "candidates": 2,
        "images": 1,
        "lines": 3,
        "pairs.taken": 2,
        "pairs.bad_line": 1,
        "held": 4,
        "repeated": 0,
    }
    accounts = [
        {"of": "lines", "in": 3, "went": {"pairs.taken": 2, "pairs.bad_line": 1}},
        {"of": "candidates", "in": 2, "went": {}},
    ]
    assert collection_table("web", counts, accounts).splitlines() == [
        "collection web: 2 candidates, 1 images",
        "where everything went:",
        "             3 lines        2 pairs.taken, 1 pairs.bad_line",
        "             2 candidates   ",
        "  beside these 4 held",
    ]


def collected(root: Path, **options: Any) -> Collection:
    return collect(
        Folder(str(root)),
        CollectConfig.model_validate({"fetch": False, "allow_private_addresses": True, **options}),
    )


def told(found: Collection, of: str) -> tuple[int, dict[str, int]]:
    """What went in of one kind, and where."""
    (one,) = [account for account in found.accounts if account["of"] == of]
    return one["in"], dict(one["went"])


def test_lines_and_files_of_lists(tmp_path: Path) -> None:
    lists = tmp_path / "lists"
    lists.mkdir()
    (lists / "a.csv").write_text(
        "url,text\nhttp://a.example/1.jpg,one\n\nhttp://a.example/2.jpg,two,three\n"
    )
    (lists / "b.jsonl").write_text(
        '{"url": "http://a.example/3.jpg", "text": ["x", "y", "z"]}\nnone\n'
    )
    (lists / "c.parquet").write_text("no table")
    (lists / "readme.md").write_text("of lists")
    found = collected(tmp_path / "root", pairs=str(lists))
    assert told(found, "files") == (
        4,
        {"pairs.list": 2, "pairs.bad_list": 1, "pairs.other_file": 1},
    )
    assert told(found, "lines") == (
        5,
        {"pairs.taken": 2, "pairs.bad_line": 2, "pairs.blank_line": 1},
    )
    assert told(found, "candidates")[0] == 4


def test_files_of_saved_pages(tmp_path: Path) -> None:
    saved = tmp_path / "saved/page_files"
    saved.mkdir(parents=True)
    (saved / "a.jpg").write_bytes(jpeg(20, 20))
    (saved / "style.css").write_text("")
    (saved.parent / "page.html").write_text('<img src="page_files/a.jpg" alt="a">')
    found = collected(tmp_path / "root", html=str(saved.parent))
    assert told(found, "files") == (3, {"pages": 1, "pages.other_file": 2})


def test_entries_of_data_sets(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "a.jpg").write_bytes(jpeg(20, 20))
    lines = [
        '{"image": "a.jpg", "captions": ["x", "y"]}',
        "none",
        "",
        '{"image": "b.jpg", "captions": []}',
        '{"image": "../c.jpg"}',
    ]
    (data / "captions.jsonl").write_text("\n".join(lines) + "\n")
    found = collected(tmp_path / "root", **{"import": str(data / "captions.jsonl")})
    assert told(found, "entries") == (
        5,
        {"samples": 3, "import.bad_line": 1, "import.blank_line": 1},
    )
    assert told(found, "samples") == (3, {"archive_images": 2, "import.outside": 1})


def test_pages_of_a_crawl_and_what_is_tried_again(tmp_path: Path) -> None:
    links = "".join(
        f'<a href="{to}">x</a>'
        for to in ("/1", "/2", "/moved", "/gone", "/3", "http://other.example/")
    )
    pages = {
        "/": f"{links}<img src=/i.jpg alt=i><img src=/no.jpg alt=n>",
        "/1": "<p>",
        "/2": "<p>",
        "/3": "<p>",
    }
    site: dict[str, Any] = {
        **pages,
        "/moved": Reply(status=301, headers=(("Location", "/1"),)),
        "/i.jpg": Reply(body=jpeg(20, 20)),
    }
    with served(site) as web:
        found = collected(tmp_path, seeds=[f"{web.url}/"], fetch=True, max_pages=4)
        again = collected(tmp_path, retry=["fetch"], earlier=[found.id])
    assert told(found, "page_addresses") == (
        6,
        {"crawled": 4, "pages.fetch.http_404": 1, "redirected": 1},
    )
    assert told(found, "links_left") == (1, {"pages.left.other_site": 1})
    assert told(again, "candidates_before") == (2, {"candidates": 1, "retry.ended_otherwise": 1})


def test_a_crawl_that_lost_an_address() -> None:
    report: dict[str, Any] = {
        "pages": 3,
        "redirects": 1,
        "refused": {"permission.robots": 1},
        "errors": {},
        "images": {"fetched": 2},
    }
    report["left"] = {"max_depth": 2, "nofollow": 9}
    assert (
        accounts_of(report | {"known": 7})
        == accounts_of(report)
        == [
            {
                "of": "page_addresses",
                "in": 7,
                "went": {
                    "crawled": 3,
                    "pages.left.max_depth": 2,
                    "pages.permission.robots": 1,
                    "redirected": 1,
                },
            },
            {"of": "links_left", "in": 9, "went": {"pages.left.nofollow": 9}},
            {"of": "page_images", "in": 2, "went": {"fetched": 2}},
        ]
    )
    with pytest.raises(Miscounted, match="crawl: 8 page_addresses became 7"):
        accounts_of(report | {"known": 8})
