"""Imported lists of pairs, as candidates."""

import gzip
import json
import logging
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.pairs import ROWS, Pairs
from pipelines.schema import CANDIDATES, identify
from pipelines.stage import run_stage
from pipelines.store import Folder, read_table


def imported(path: Path) -> tuple[list[tuple[str, str]], dict[str, int]]:
    """(address, text) of all candidates of a list, and the counts."""
    out = Folder(str(path.parent / "candidates"))
    manifest = run_stage(Pairs(out=out, path=str(path)))
    tables = [read_table(out, name) for name in manifest.names(".parquet")]
    assert all(table.schema.equals(CANDIDATES) for table in tables)
    assert manifest.failed == {}
    return [(row["image_url"], row["text"]) for table in tables for row in table.to_pylist()], dict(manifest.counts)


PAIRS = [("http://a.example/1.jpg", "one"), ("http://a.example/2.jpg", '=HYPERLINK("x"), <script>'), ("", "")]


def lists(folder: Path) -> list[Path]:
    """The same pairs in every format."""
    urls, texts = [url for url, _ in PAIRS], [text for _, text in PAIRS]
    pq.write_table(pa.table({"TEXT": texts, "URL": urls}), folder / "a.parquet")
    commas = '\ufeffurl,caption\nhttp://a.example/1.jpg,one\nhttp://a.example/2.jpg,"=HYPERLINK(""x""), <script>"\n,\n'
    (folder / "a.csv").write_text(commas)
    tabs = 'text\tid\turl\none\t1\thttp://a.example/1.jpg\n"=HYPERLINK(""x""), <script>"\t2\thttp://a.example/2.jpg\n\t3\t\n'
    (folder / "a.tsv").write_text(tabs)
    objects = [{"url": urls[0], "text": texts[0], "n": 1}, {"caption": texts[1], "URL": urls[1]}, {"url": None, "text": None}]
    (folder / "a.jsonl").write_text("\n\n".join(json.dumps(value) for value in objects))
    (folder / "b.jsonl.gz").write_bytes(gzip.compress((folder / "a.jsonl").read_bytes()))
    return sorted(path for path in folder.iterdir() if path.is_file())


def test_every_format_gives_the_same_pairs(tmp_path: Path) -> None:
    for path in lists(tmp_path):
        found, counts = imported(path)
        assert found == PAIRS, path.name
        assert counts == {"candidates": 3}, path.name


def test_the_row_of_a_pair(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("url,text\nhttp://a.example/1.jpg,one\n")
    stage = Pairs(out=Folder(str(tmp_path / "out")), path=str(tmp_path / "a.csv"))
    stage.process(stage.parts()[0])
    (row,) = read_table(stage.out, "part-00000.parquet").to_pylist()
    empty: dict[str, Any] = dict.fromkeys(CANDIDATES.names)
    assert row == empty | {
        "candidate_id": identify(None, None, "http://a.example/1.jpg", "one", "given", 1),
        "image_url": "http://a.example/1.jpg",
        "alternatives": [],
        "text": "one",
        "text_source": "given",
        "context": "",
        "place": 1,
        "images_on_page": 1,
    }


def test_bad_lines_are_counted_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lines = ['{"url": "u", "text": "t"}', "{broken", "[1]", '{"text": "no address"}', "\xff", '{"url": "v", "text": "w"}']
    (tmp_path / "a.jsonl").write_text("\n".join(lines), "latin-1")
    (tmp_path / "b.csv").write_text('url,text\nu,t\nonly-one-field\n"v","w"\n')
    with caplog.at_level(logging.WARNING):
        assert imported(tmp_path / "a.jsonl") == ([("u", "t"), ("v", "w")], {"candidates": 2, "pairs.bad_line": 4})
        assert imported(tmp_path / "b.csv") == ([("u", "t"), ("v", "w")], {"candidates": 2, "pairs.bad_line": 1})
    assert [f"line {number} is left out" in caplog.text for number in (2, 3, 4, 5)] == [True] * 4


def test_long_lists_are_cut_into_parts(tmp_path: Path) -> None:
    count = 2 * ROWS + 10
    expected = [(f"http://a.example/{number}", f'a "text"\nof {number}') for number in range(count)]
    body = "".join(f'{url},"{text.replace(chr(34), chr(34) * 2)}"\n' for url, text in expected)
    (tmp_path / "a.csv").write_text(f"url,text\n{body}")
    table = pa.table({"url": [url for url, _ in expected], "text": [text for _, text in expected]})
    pq.write_table(table, tmp_path / "b.parquet", row_group_size=10_000)
    for name, parts in (("a.csv", 3), ("b.parquet", 2)):
        stage = Pairs(out=Folder(str(tmp_path / "x")), path=str(tmp_path / name))
        assert len(stage.parts()) == parts
        assert imported(tmp_path / name)[0] == expected


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"link,words\nx,y\n", r"a\.csv has the columns link, words; it needs one named url and one named text"),
        ("a.csv", b"", r"a\.csv has the columns none"),
        ("a.txt", b"x", r"must end in \.parquet, \.csv, \.tsv or \.jsonl"),
        ("a.parquet", b"no parquet at all", r"a\.parquet is no Parquet file"),
    ],
)
def test_lists_that_cannot_be(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        Pairs(out=Folder(str(tmp_path / "x")), path=str(tmp_path / name)).parts()


def test_a_missing_list_is_named(tmp_path: Path) -> None:
    gone = Pairs(out=Folder(str(tmp_path / "x")), path=str(tmp_path / "gone.csv"))
    with pytest.raises(ValueError, match=r"there is no list of pairs at .*gone\.csv"):
        gone.parts()
    with pytest.raises(ValueError, match=r"there is no file at .*gone\.csv"):
        run_stage(gone)
