"""Imported lists of pairs, as candidates."""

import gzip
import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.engine.runner import run_stage
from pipelines.schema import CANDIDATES, identify
from pipelines.sources.datasets.samples import Keys
from pipelines.sources.lists.lines import LINE_BYTES
from pipelines.sources.lists.pairs import ROWS, Pairs, columns_of
from pipelines.store import Folder
from pipelines.tables import read_table
from tests.pipelines.counted import told


def imported(
    path: Path, out: Path | None = None, **options: Any
) -> tuple[list[tuple[str, str]], dict[str, int]]:
    """(address, text) of all candidates of a list, and the counts."""
    folder = Folder(str(out or path.parent / "candidates"))
    stage = Pairs(out=folder, path=str(path), **options)
    manifest = run_stage(stage)
    tables = [read_table(folder, name) for name in manifest.names(".parquet")]
    assert all(table.schema.equals(CANDIDATES) for table in tables)
    assert manifest.failed == {}
    return [(row["image_url"], row["text"]) for table in tables for row in table.to_pylist()], told(
        stage, manifest.counts
    )


PAIRS = [
    ("http://a.example/1.jpg", "one"),
    ("http://a.example/2.jpg", '=HYPERLINK("x"), <script>'),
    ("", ""),
]


def lists(folder: Path) -> list[Path]:
    """The same pairs in every format."""
    urls, texts = [url for url, _ in PAIRS], [text for _, text in PAIRS]
    pq.write_table(pa.table({"TEXT": texts, "URL": urls}), folder / "a.parquet")
    commas = (
        '\ufeffurl,caption\nhttp://a.example/1.jpg,one\nhttp://a.example/2.jpg,"=HYPERLINK(""x""),'
        ' <script>"\n,\n'
    )
    (folder / "a.csv").write_text(commas)
    tabs = (
        'text\tid\turl\none\t1\thttp://a.example/1.jpg\n"=HYPERLINK(""x""),'
        ' <script>"\t2\thttp://a.example/2.jpg\n\t3\t\n'
    )
    (folder / "a.tsv").write_text(tabs)
    objects = [
        {"url": urls[0], "text": texts[0], "n": 1},
        {"caption": texts[1], "URL": urls[1]},
        {"url": None, "text": None},
    ]
    (folder / "a.jsonl").write_text("\n\n".join(json.dumps(value) for value in objects))
    (folder / "b.jsonl.gz").write_bytes(gzip.compress((folder / "a.jsonl").read_bytes()))
    return sorted(path for path in folder.iterdir() if path.is_file())


def test_every_format_gives_the_same_pairs(tmp_path: Path) -> None:
    for path in lists(tmp_path):
        found, counts = imported(path)
        assert found == PAIRS, path.name
        assert counts == {"candidates": 3} | (
            {"pairs.blank_line": 2} if "jsonl" in path.name else {}
        ), path.name


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
    lines = [
        '{"url": "u", "text": "t"}',
        "{broken",
        "[1]",
        '{"text": "no address"}',
        "\xff",
        '{"url": "v", "text": "w"}',
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(lines), "latin-1")
    (tmp_path / "b.csv").write_text('url,text\nu,t\nonly-one-field\n"v","w"\n')
    with caplog.at_level(logging.WARNING):
        assert imported(tmp_path / "a.jsonl") == (
            [("u", "t"), ("v", "w")],
            {"candidates": 2, "pairs.bad_line": 4, "pairs.not_utf8": 1},
        )
        assert imported(tmp_path / "b.csv") == (
            [("u", "t"), ("v", "w")],
            {"candidates": 2, "pairs.bad_line": 1},
        )
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
        (
            "a.csv",
            b"link,words\nx,y\n",
            r"a\.csv has the columns link, words; it needs one named url and one named text",
        ),
        ("a.csv", b"", r"a\.csv has the columns none"),
        ("a.txt", b"x", r"must end in \.parquet, \.csv, \.tsv or \.jsonl"),
        ("a.parquet", b"no parquet at all", r"a\.parquet is no Parquet file"),
    ],
)
def test_lists_that_cannot_be(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        Pairs(out=Folder(str(tmp_path / "x")), path=str(tmp_path / name)).parts()


@pytest.mark.parametrize(
    ("columns", "pairs"),
    [
        ({"SAMPLE_ID": 1, "URL": "u", "TEXT": "t", "NSFW": "no"}, [("u", "t")]),  # LAION-400M
        ({"url": "u", "top_caption": "t", "similarity": 0.3}, [("u", "t")]),
        # LAION-COCO
        ({"URL": "u", "TEXT": "t", "top_caption": "other", "all_captions": ["x"]}, [("u", "t")]),
        ({"id": 1, "url": "u", "text": "t", "width": 2, "image_phash": "x"}, [("u", "t")]),  # COYO
        ({"image_url": "u", "alt": "t"}, [("u", "t")]),
        ({"image_url": "u", "caption_reference_description": "x", "title": "t"}, [("u", "t")]),
        (
            {"url": "u", "captions": ["one", None, "two", "one"]},
            [("u", "one"), ("u", "two"), ("u", "one")],
        ),
        ({"url": "u", "captions": []}, [("u", "")]),
        ({"url": " u ", "caption": None}, [("u", "")]),
        ({"image": "u", "sentences": [{"raw": "one", "tokens": ["one"]}]}, [("u", "one")]),
    ],
)
def test_the_columns_of_known_lists(
    tmp_path: Path, columns: dict[str, Any], pairs: list[tuple[str, str]]
) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps(columns))
    pq.write_table(pa.Table.from_pylist([columns]), tmp_path / "b.parquet")
    assert imported(tmp_path / "a.jsonl", tmp_path / "out-a")[0] == pairs
    assert imported(tmp_path / "b.parquet", tmp_path / "out-b")[0] == pairs


def test_columns_that_are_named(tmp_path: Path) -> None:
    pq.write_table(
        pa.table({"url": ["u"], "text": ["t"], "link": ["l"], "words": ["w"]}),
        tmp_path / "a.parquet",
    )
    (tmp_path / "b.csv").write_text("url,text,link,words\nu,t,l,w\n")
    for name in ("a.parquet", "b.csv"):
        assert imported(
            tmp_path / name, tmp_path / name[0], text_column="words", url_column="link"
        )[0] == [("l", "w")]
        with pytest.raises(
            ValueError,
            match=(
                "has the columns url, text, link, words; it needs one named url and one named wörds"
            ),
        ):
            columns_of(str(tmp_path / name), ["url", "text", "link", "words"], Keys("wörds"))


def test_several_lists(tmp_path: Path) -> None:
    for name in ("1.csv", "sub/2.csv"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_text("url,text\nu,t\nv,w\n")
    pq.write_table(pa.table({"url": ["x"], "text": ["y"]}), tmp_path / "in/3.parquet")
    (tmp_path / "in/notes.txt").write_text("not read")
    found, counts = imported(tmp_path / "in", tmp_path / "out-1")
    assert found == [("u", "t"), ("v", "w"), ("x", "y"), ("u", "t"), ("v", "w")]
    assert counts == {"candidates": 5, "pairs.other_file": 1}
    assert imported(tmp_path / "in/*.csv", tmp_path / "out-2")[0] == [("u", "t"), ("v", "w")]
    ids = [
        row
        for name in Folder(str(tmp_path / "out-1")).names()
        if name.startswith("part-")
        for row in _ids(tmp_path / "out-1", name)
    ]
    assert len(set(ids)) == 5
    shutil.copytree(tmp_path / "in", tmp_path / "moved/in")
    imported(tmp_path / "moved/in", tmp_path / "out-3")
    assert _ids(tmp_path / "out-3", "part-00000.parquet") == _ids(
        tmp_path / "out-1", "part-00000.parquet"
    )


def _ids(folder: Path, name: str) -> list[str]:
    return [
        str(value)
        for value in read_table(Folder(str(folder)), name, ["candidate_id"])[
            "candidate_id"
        ].to_pylist()
    ]


def test_remote_lists(tmp_path: Path) -> None:
    import fsspec

    with fsspec.open("memory://lists/a.csv.gz", "wb") as file:
        file.write(gzip.compress(b"url,text\nu,t\n"))
    stage = Pairs(out=Folder(str(tmp_path / "out")), path="memory://lists/*.csv.gz")
    stage.process(stage.parts()[0])
    assert [row["text"] for row in read_table(stage.out, "part-00000.parquet").to_pylist()] == ["t"]


def test_hostile_lines_do_not_stop_a_list(tmp_path: Path) -> None:
    deep, lone = "[" * 100_000, '{"url": "u", "text": "\\ud800 x"}'
    (tmp_path / "a.jsonl").write_text(
        "\n".join([deep, lone, '{"url": ["u"], "text": "t"}', '{"url": 7, "text": true}'])
    )
    assert imported(tmp_path / "a.jsonl", tmp_path / "out-a") == (
        [("u", "? x"), ("7", "")],
        {"candidates": 2, "pairs.bad_line": 2},
    )
    long = "x" * (LINE_BYTES + 10)
    (tmp_path / "b.csv").write_text(f'url,text\nu,t\n{long},t\nv,"a\nb"\n')
    assert imported(tmp_path / "b.csv", tmp_path / "out-b") == (
        [("u", "t"), ("v", "a\nb")],
        {"candidates": 2, "pairs.bad_line": 1},
    )
    (tmp_path / "c.csv").write_text("url,text\nu,t\n", "utf-16")
    assert imported(tmp_path / "c.csv", tmp_path / "out-c") == ([("u", "t")], {"candidates": 1})
    pq.write_table(
        pa.table({"image": [{"bytes": b"x", "path": "p"}], "text": ["t"]}), tmp_path / "d.parquet"
    )
    pq.write_table(pa.table({"url": [7], "text": ["t"]}), tmp_path / "e.parquet")
    for name, message in (
        ("d", "has the columns text; it needs one named url"),
        ("e", "holds int64, not addresses"),
    ):
        stage = Pairs(out=Folder(str(tmp_path / "x")), path=str(tmp_path / f"{name}.parquet"))
        with pytest.raises(ValueError, match=message):
            stage.parts()


def test_a_missing_list_is_named(tmp_path: Path) -> None:
    gone = Pairs(out=Folder(str(tmp_path / "x")), path=str(tmp_path / "gone.csv"))
    with pytest.raises(ValueError, match=r"there is no list of pairs at .*gone\.csv"):
        gone.parts()
    with pytest.raises(ValueError, match=r"there is no list of pairs at .*gone\.csv"):
        run_stage(gone)
