"""Lists as strangers write them: every line gives pairs or is counted, whatever the quotes, the
charset or the damage.
"""

import bz2
import gzip
import io
import json
import logging
import lzma
import os
import random
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given, settings

from pipelines.sources import paths as sources
from pipelines.sources.lists import lines as list_bytes
from pipelines.sources.lists import pairs
from pipelines.sources.lists.lines import CHUNK, WINDOW, ListBytes
from pipelines.sources.lists.pairs import Pairs
from pipelines.sources.lists.parquet import list_rows
from pipelines.store import Folder
from pipelines.tables import read_table
from tests.pipelines.counted import told
from tests.pipelines.mutations import mutated
from tests.pipelines.ranges import ranged

Found = tuple[list[tuple[str, str]], dict[str, int]]


def read(path: Path, **options: Any) -> Found:
    """(address, text) of all candidates of a list, and the counts, without the engine."""
    stage = Pairs(out=Folder(str(path.parent / "out")), path=str(path), **options)
    counts: Counter[str] = Counter()
    found = []
    for part in stage.parts():
        counts.update(told(stage, stage.process(part).counts))
        rows = read_table(stage.out, f"part-{part.name}.parquet").to_pylist()
        found += [(row["image_url"], row["text"]) for row in rows]
    return found, dict(counts)


def read_bytes(folder: Path, name: str, data: bytes) -> Found:
    (folder / name).write_bytes(data)
    return read(folder / name)


@pytest.mark.parametrize(
    ("name", "data", "pairs"),
    [
        pytest.param(
            "a.tsv",
            'url\ttext\nu\t"open\nv\tshut"\n',
            [("u", '"open'), ("v", 'shut"')],
            id="two fields, a record each",
        ),
        pytest.param(
            "a.tsv",
            'url\ttext\nu\t"All of it"\n',
            [("u", '"All of it"')],
            id="quotes that are the text's own",
        ),
        pytest.param(
            "a.tsv",
            'url\ttext\nu\t"Some" of it\nv\t5" by 7"\n',
            [("u", '"Some" of it'), ("v", '5" by 7"')],
            id="some of it",
        ),
        pytest.param(
            "a.tsv", 'url\ttext\nu\t"a ""b"" c"\n', [("u", 'a "b" c')], id="doubled quotes"
        ),
        pytest.param("a.tsv", 'url\ttext\nu\t"a\tb"\n', [("u", "a\tb")], id="a quoted delimiter"),
        pytest.param("a.tsv", 'url\ttext\nu\t"a\nb"\n', [("u", "a\nb")], id="a quoted line end"),
        pytest.param("a.tsv", '"url"\t"text"\n"u"\t"all"\n', [("u", "all")], id="all is quoted"),
        pytest.param(
            "a.csv",
            'url,text\nu,"a, b"\nv,"c\r\nd"\n',
            [("u", "a, b"), ("v", "c\nd")],
            id="by RFC 4180",
        ),
        pytest.param(
            "a.csv",
            'url,text\nu,"Some" of it\nv,it is 5"\n',
            [("u", '"Some" of it'), ("v", 'it is 5"')],
            id="as written",
        ),
        pytest.param(
            "a.csv",
            'text,url\n"a\nb",u\n',
            [("u", "a\nb")],
            id="a field of two lines that comes first",
        ),
        pytest.param(
            "a.csv",
            'url,text\nu,\n,t\n"",""\n',
            [("u", ""), ("", "t"), ("", "")],
            id="empty fields",
        ),
        pytest.param("a.csv", "url;text\nu;a, b\n", [("u", "a, b")], id="semicolons"),
        pytest.param("a.csv", "url\ttext\nu\ta, b\n", [("u", "a, b")], id="tabs in CSV"),
        pytest.param(
            "a.csv", "url,text\ru,a\rv,b\r", [("u", "a"), ("v", "b")], id="carriage returns alone"
        ),
        pytest.param("a.csv", "\ufeffurl,text\r\nu,a\0b\r\n", [("u", "ab")], id="mark and NUL"),
        pytest.param(
            "a.csv", "text,text,url\nfirst,second,u\n", [("u", "first")], id="a name twice"
        ),
    ],
)
def test_quotes_and_delimiters(
    tmp_path: Path, name: str, data: str, pairs: list[tuple[str, str]]
) -> None:
    assert read_bytes(tmp_path, name, data.encode()) == (pairs, {"candidates": len(pairs)})


@pytest.mark.parametrize("ending", ["csv", "tsv"])
def test_a_quote_that_never_closes_swallows_no_line(tmp_path: Path, ending: str) -> None:
    mark = {"csv": ",", "tsv": "\t"}[ending]
    texts = [
        '"never closed',
        "plain",
        '"The Simpsons" poster',
        'a 12" record',
        "last",
        'ends with "it"',
        '"',
        '""',
        "x",
    ]
    lines = [
        "url,text".replace(",", mark),
        *(f"https://a.example/{number}{mark}{text}" for number, text in enumerate(texts)),
    ]
    found, counts = read_bytes(tmp_path, f"a.{ending}", "\n".join(lines).encode())
    shown = [*texts[:7], "" if ending == "csv" else '""', "x"]
    assert found == [(f"https://a.example/{number}", text) for number, text in enumerate(shown)]
    assert counts == {"candidates": 9}


def test_rows_of_another_width_are_bad_lines_and_the_first_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = b"url,text\nhttps://a.example/w_1,h_2/x.jpg,waves\nu,t\nalone\n\nv,w,\n"
    with caplog.at_level(logging.WARNING):
        found, counts = read_bytes(tmp_path, "a.csv", data)
    assert found == [("u", "t")]
    assert counts == {"candidates": 1, "pairs.bad_line": 3, "pairs.blank_line": 1}
    assert [record.getMessage().partition("line ")[2] for record in caplog.records] == [
        "2 is left out: it has 3 columns where the header has 2",
        "4 is left out: it has 1 columns where the header has 2",
        "6 is left out: it has 3 columns where the header has 2",
    ]


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
@pytest.mark.parametrize(
    ("charset", "text"),
    [
        ("cp1252", "“Café” … 5 €"),
        ("latin-1", "Ünïcödé"),
        ("utf-8", "日本"),
        ("utf-8-sig", "é"),
        ("utf-16", "日本"),
        ("utf-16-le", "é"),
        ("utf-16-be", "é"),
        ("utf-32", "日本"),
        ("utf-32-be", "é"),
    ],
)
def test_charsets(tmp_path: Path, name: str, charset: str, text: str) -> None:
    lines = ["url,text", f"https://a.example/1.jpg,{text}", "https://a.example/2.jpg,plain"]
    if name.endswith("jsonl"):
        lines = [
            json.dumps({"url": one.split(",")[0], "text": one.split(",")[1]}, ensure_ascii=False)
            for one in lines[1:]
        ]
    found, counts = read_bytes(tmp_path, name, "\n".join(lines).encode(charset))
    assert found == [("https://a.example/1.jpg", text), ("https://a.example/2.jpg", "plain")]
    assert counts == {"candidates": 2} | (
        {"pairs.not_utf8": 1} if charset in ("cp1252", "latin-1") else {}
    )


def test_the_charset_is_that_of_most_lines_and_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    western = "url,text\nu,café\nv,garçon\n".encode("cp1252") + "w,naïve\n".encode()
    with caplog.at_level(logging.WARNING):
        found, counts = read_bytes(tmp_path, "a.csv", western)
    assert [text for _, text in found] == ["café", "garçon", "naïve"]
    assert counts == {"candidates": 3, "pairs.not_utf8": 2}
    assert [record.getMessage().partition(": ")[2] for record in caplog.records] == [
        "2 lines are not UTF-8; read as Windows-1252"
    ]

    damaged = "url,text\nu,日本\nv,日本\n".encode() + b"w,\xe6\x97\n"
    found, counts = read_bytes(tmp_path, "a.csv", damaged)
    assert [text for _, text in found] == ["日本", "日本", "\ufffd"]
    assert counts == {"candidates": 3, "pairs.not_utf8": 1}


@pytest.mark.parametrize(
    ("charset", "text"),
    [("cp1251", "Привет мир"), ("shift_jis", "日本語の写真"), ("gb18030", "一张照片")],
)
def test_a_charset_that_is_neither_is_refused_by_name(
    tmp_path: Path, charset: str, text: str
) -> None:
    with pytest.raises(
        ValueError,
        match=r"a\.csv is neither in UTF-8 nor in Windows-1252: save it as UTF-8, as with iconv",
    ):
        read_bytes(tmp_path, "a.csv", f"url,text\nu,{text}\n".encode(charset))


PACKED: dict[str, Callable[[bytes], bytes]] = {
    "gz": lambda data: gzip.compress(data, mtime=0),
    "bz2": lambda data: bz2.compress(data, 1),  # in blocks of 100 kB
    "xz": lzma.compress,
    "zst": zstandard.ZstdCompressor(write_checksum=True).compress,
}


def many(count: int) -> bytes:
    """A list whose texts do not pack well."""
    dice = random.Random(7)
    return b"url,text\n" + b"".join(
        b"https://a.example/%d,%d\n" % (number, dice.getrandbits(200)) for number in range(count)
    )


@pytest.mark.parametrize("ending", list(PACKED))
def test_compressions_whole_in_pieces_and_cut(
    tmp_path: Path, ending: str, caplog: pytest.LogCaptureFixture
) -> None:
    pack, data = PACKED[ending], many(5_000)
    whole, counts = read_bytes(tmp_path, f"a.csv.{ending}", pack(data))
    assert (len(whole), counts) == (5_000, {"candidates": 5_000})

    half = len(data) // 2
    assert read_bytes(tmp_path, f"b.csv.{ending}", pack(data[:half]) + pack(data[half:])) == (
        whole,
        counts,
    )

    packed = pack(data)
    with caplog.at_level(logging.WARNING):
        found, counts = read_bytes(tmp_path, f"c.csv.{ending}", packed[: len(packed) * 3 // 4])
    assert found == whole[: len(found)]
    assert 500 < len(found) < 5_000
    assert counts["pairs.truncated"] == 1
    assert counts["candidates"] == len(found)
    assert f"c.csv.{ending}: its " in caplog.text
    assert "what came before is read" in caplog.text


@pytest.mark.parametrize("ending", list(PACKED))
def test_a_compression_is_told_by_its_content(
    tmp_path: Path, ending: str, caplog: pytest.LogCaptureFixture
) -> None:
    data = b"url,text\nu,t\n"
    with caplog.at_level(logging.WARNING):
        assert read_bytes(tmp_path, f"plain.csv.{ending}", data) == (
            [("u", "t")],
            {"candidates": 1},
        )
        assert read_bytes(tmp_path, "packed.csv", PACKED[ending](data)) == (
            [("u", "t")],
            {"candidates": 1},
        )
    assert (
        f"plain.csv.{ending}: its content is not compressed, whatever its name says; it is read so"
        in caplog.text
    )
    assert "packed.csv: its content is" in caplog.text


def rle_blocks(count: int) -> bytes:
    """A zstd frame of blocks of 128 KiB in four bytes each (RFC 8878 3.1.1.2.2)."""
    heads = (1 << 17 << 3 | 1 << 1 | (number == count - 1) for number in range(count))
    return b"\x28\xb5\x2f\xfd\x00\x38" + b"".join(
        head.to_bytes(3, "little") + b"a" for head in heads
    )


@pytest.mark.parametrize("ending", [*PACKED, "blocks"])
def test_a_bomb_comes_in_pieces(tmp_path: Path, ending: str) -> None:
    size = 16 << 20
    data = rle_blocks(size >> 17) if ending == "blocks" else PACKED[ending](b"a" * size)
    (tmp_path / "bomb").write_bytes(data)
    lengths = [len(piece) for piece in ListBytes(str(tmp_path / "bomb")).chunks()]
    assert sum(lengths) == size
    assert max(lengths) <= CHUNK


def test_an_xz_file_that_looks_back_too_far_is_damaged(tmp_path: Path) -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": WINDOW}]
    (tmp_path / "a").write_bytes(lzma.compress(b"url,text\nu,t\n", filters=filters))
    source = ListBytes(str(tmp_path / "a"))
    assert b"".join(source.chunks()) == b""
    assert source.damage == "its xz data is cut or damaged (Memory usage limit exceeded)"


def test_a_damaged_checksum_is_counted_and_costs_nothing(tmp_path: Path) -> None:
    data = bytearray(gzip.compress(b"url,text\nu,t\n"))
    data[-6] ^= 1
    assert read_bytes(tmp_path, "a.csv.gz", bytes(data)) == (
        [("u", "t")],
        {"candidates": 1, "pairs.truncated": 1},
    )


@pytest.mark.parametrize(
    ("lines", "found", "bad"),
    [
        pytest.param(
            ['{"url":"u","text":"t"}', "[1]", '"x"', "3", "null", "{"],
            [("u", "t")],
            5,
            id="no objects",
        ),
        pytest.param(
            ['{"url":"a","url":"u","text":"t"}'], [("u", "t")], 0, id="the last of equal keys"
        ),
        pytest.param(
            ['{"url":"u","text":NaN}', '{"url":"v","text":Infinity}'],
            [("u", ""), ("v", "inf")],
            0,
            id="no numbers",
        ),
        pytest.param(['{"url":"u","text":"\\ud83d"}'], [("u", "?")], 0, id="a lone surrogate"),
        pytest.param(
            ['{"url":"u","text":' + "[" * 600 + "]" * 600 + "}"],
            [("u", "")],
            0,
            id="texts nested deep",
        ),
        pytest.param(
            ['{"url":"u","text":' + "[" * 200_000 + "]" * 200_000 + "}"], [], 1, id="nested deeper"
        ),
        pytest.param(['{"url":"u","text":"' + "x" * (1 << 20) + '"}'], [], 1, id="a line of a MiB"),
        pytest.param(
            ['{"url":"u","text":[' + '"x",' * 1000 + '"x"]}'], [], 1, id="a thousand and one texts"
        ),
        pytest.param(
            ['{"url":' + "9" * 5000 + ',"text":"t"}'], [], 1, id="a number of five thousand digits"
        ),
        pytest.param(['{"a":1}', '{"url":null,"text":null}'], [("", "")], 1, id="nulls"),
    ],
)
def test_json_lines(
    tmp_path: Path, lines: list[str], found: list[tuple[str, str]], bad: int
) -> None:
    expected = {"candidates": len(found)} | ({"pairs.bad_line": bad} if bad else {})
    assert read_bytes(tmp_path, "a.jsonl", "\n".join(lines).encode()) == (found, expected)


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("charset", ["utf-8", "utf-8-sig", "utf-16"])
def test_an_array_in_json(tmp_path: Path, indent: int | None, charset: str) -> None:
    value = [
        {"url": f"https://a.example/{number}", "caption": f'é, "[{number}]" }},{{'}
        for number in range(50)
    ]
    data = json.dumps(value, indent=indent, ensure_ascii=False).encode(charset)
    expected = [(entry["url"], entry["caption"]) for entry in value]
    assert read_bytes(tmp_path, "a.json", data) == (expected, {"candidates": 50})
    assert read_bytes(tmp_path, "b.json.gz", gzip.compress(data)) == (expected, {"candidates": 50})


def test_a_damaged_element_of_an_array_costs_itself(tmp_path: Path) -> None:
    data = (
        b'[{"url":"a","text":"1"}, {"url":"b","text":"5" pipe"}, {"url":"c","text":"3"}, 7,'
        b' {"url":"d","text":"4"}, {"url":"e","te'
    )
    assert read_bytes(tmp_path, "a.json", data) == (
        [("a", "1"), ("c", "3"), ("d", "4")],
        {"candidates": 3, "pairs.bad_line": 3},
    )
    assert read_bytes(tmp_path, "b.json", b'{"url":"a","text":"1"}\n{"url":"b","text":"2"}\n')[
        0
    ] == [("a", "1"), ("b", "2")]


def test_an_array_is_cut_into_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs, "ROWS", 7)
    value = [{"url": f"https://a.example/{number}", "text": f"é {number}"} for number in range(30)]
    (tmp_path / "a.json").write_text(json.dumps(value, ensure_ascii=False))
    assert len(Pairs(out=Folder("x"), path=str(tmp_path / "a.json")).parts()) == 5
    assert read(tmp_path / "a.json")[0] == [
        (str(entry["url"]), str(entry["text"])) for entry in value
    ]


@pytest.mark.parametrize(
    ("urls", "texts"),
    [
        (pa.array([b"u", b"v"]), pa.array([b"a", "é".encode()])),
        (pa.array(["u", "v"], pa.large_string()), pa.array(["a", "é"], pa.large_string())),
        (pa.array(["u", "v"]).dictionary_encode(), pa.array(["a", "é"]).dictionary_encode()),
        (
            pa.array([b"u", b"v"]).dictionary_encode(),
            pa.array([b"a", "é".encode()], pa.large_binary()),
        ),
        (pa.array(["u", "v"], pa.string_view()), pa.array(["a", "é"], pa.string_view())),
        (pa.array(["u", "v"]), pa.array([["a"], ["é"]])),
        (pa.array(["u", "v"]), pa.array([[{"raw": "a"}], [{"raw": "é"}]])),
        (pa.array(["u", "v"]), pa.array([{"raw": "a"}, {"raw": "é"}])),
    ],
)
def test_parquet_columns_of_every_kind(tmp_path: Path, urls: pa.Array, texts: pa.Array) -> None:
    pq.write_table(pa.table({"url": urls, "text": texts}), tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet") == ([("u", "a"), ("v", "é")], {"candidates": 2})


def test_parquet_with_a_name_twice_nulls_and_bytes_that_are_no_text(tmp_path: Path) -> None:
    columns = [pa.array(["u", None, "w"]), pa.array(["a", "b", None]), pa.array(["x", "y", "z"])]
    pq.write_table(
        pa.Table.from_arrays(columns, names=["url", "caption", "caption"]), tmp_path / "a.parquet"
    )
    assert read(tmp_path / "a.parquet") == ([("u", "a"), ("", "b"), ("w", "")], {"candidates": 3})

    latin = pa.array([b"caf\xe9", b"plain"]).view(pa.string())  # as some writers do
    pq.write_table(pa.table({"url": ["u", "v"], "text": latin}), tmp_path / "b.parquet")
    assert read(tmp_path / "b.parquet") == ([("u", "caf\ufffd"), ("v", "plain")], {"candidates": 2})

    pq.write_table(
        pa.table({"image": [b"\xff\xd8\xff\xe0"], "text": ["t"]}), tmp_path / "c.parquet"
    )
    with pytest.raises(
        ValueError, match=r"c\.parquet has the columns text; it needs one named url"
    ):
        read(tmp_path / "c.parquet")


def test_a_damaged_row_group_costs_its_rows(tmp_path: Path) -> None:
    rows = [(f"https://a.example/{number}", f"text {number} " * 9) for number in range(3000)]
    table = pa.table({"url": [url for url, _ in rows], "text": [text for _, text in rows]})
    pq.write_table(
        table, tmp_path / "a.parquet", row_group_size=1000, compression="zstd", use_dictionary=False
    )
    column = pq.read_metadata(tmp_path / "a.parquet").row_group(1).column(1)
    data = bytearray((tmp_path / "a.parquet").read_bytes())
    place = column.data_page_offset + column.total_compressed_size // 2
    data[place : place + 64] = bytes(64)
    found, counts = read_bytes(tmp_path, "b.parquet", bytes(data))
    assert found == [*rows[:1000], *rows[2000:]]
    assert counts == {"candidates": 2000, "pairs.bad_line": 1000}


@pytest.mark.parametrize("cut", [4, 100, 5000])
def test_a_parquet_file_without_its_end_is_refused_by_name(tmp_path: Path, cut: int) -> None:
    pq.write_table(
        pa.table({"url": ["u"] * 999, "text": [str(number) for number in range(999)]}),
        tmp_path / "a.parquet",
    )
    data = (tmp_path / "a.parquet").read_bytes()[:-cut]
    with pytest.raises(ValueError, match=r"b\.parquet is no Parquet file that can be read"):
        read_bytes(tmp_path, "b.parquet", data)


def test_metadata_that_kills_pyarrow_is_damage(tmp_path: Path) -> None:
    """Asked for the metadata of such a column, pyarrow 25 ends the process: its levels do not fit
    its histogram.
    """
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"url": ["u", "v"], "text": ["a", None]}), sink)
    optional, other = b"\x15\x0c\x25\x02\x18\x04text", b"\x15\x0c\x25\x06\x18\x04text"
    data = bytes(sink.getvalue())
    assert optional in data
    assert read_bytes(tmp_path, "a.parquet", data.replace(optional, other)) == (
        [],
        {"candidates": 0, "pairs.bad_line": 2},
    )


def test_large_row_groups_are_cut_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs, "ROWS", 100)
    rows = [(f"https://a.example/{number}", str(number)) for number in range(1234)]
    table = pa.table({"url": [url for url, _ in rows], "text": [text for _, text in rows]})
    pq.write_table(pa.concat_tables([table]), tmp_path / "a.parquet", row_group_size=500)
    assert len(Pairs(out=Folder("x"), path=str(tmp_path / "a.parquet")).parts()) == 5 + 5 + 2
    assert read(tmp_path / "a.parquet") == (rows, {"candidates": 1234})


def test_one_broken_list_of_several_is_counted_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/1.csv").write_text("url,text\nu,t\n")
    (tmp_path / "in/2.csv").write_text("link,words\nu,t\n")
    (tmp_path / "in/3.parquet").write_bytes(b"PAR1 and no more")
    (tmp_path / "in/4.csv").write_bytes(b"")
    (tmp_path / "in/notes.json").write_text('{"a": 1}')
    (tmp_path / "in/readme.txt").write_text("x")
    with caplog.at_level(logging.WARNING):
        assert read(tmp_path / "in") == (
            [("u", "t")],
            {"candidates": 1, "pairs.bad_list": 3, "pairs.other_file": 2},
        )
    for name in ("2.csv", "3.parquet", "4.csv"):
        assert f"a list is left out: {tmp_path}/in/{name}" in caplog.text


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        (
            "a.csv",
            b"x" * (2 << 20),
            r"a\.csv has no header that can be read: it is longer than 1,048,576 bytes",
        ),
        ("a.csv", b"\n\n\n", r"a\.csv has the columns none; it needs one named url"),
        (
            "a.csv",
            ",".join(f"c{number}" for number in range(99)).encode(),
            r"c18, c19 and 79 more; it needs",
        ),
        ("a.csv.gz", b"", r"a\.csv\.gz has the columns none"),
        (
            "a.csv.gz",
            gzip.compress(b"url,text\nu,t\n" * 99)[:14],
            r"a\.csv\.gz has (the columns none|no header that can be read)",
        ),
    ],
)
def test_lists_without_a_header(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_bytes(tmp_path, name, data)


def test_a_folder_that_is_called_a_list(tmp_path: Path) -> None:
    (tmp_path / "a.csv").mkdir()
    with pytest.raises(ValueError, match=r"a\.csv is no list of pairs"):
        read(tmp_path / "a.csv")
    (tmp_path / "a.csv/b.csv").write_text("url,text\nu,t\n")
    assert read(tmp_path / "a.csv") == ([("u", "t")], {"candidates": 1})


@contextmanager
def at_most(mebibytes: int) -> Iterator[None]:
    """Python's own memory within the block stays below so many MiB."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < mebibytes << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.json"])
def test_a_line_without_end_is_one_bad_line_in_little_memory(tmp_path: Path, name: str) -> None:
    element = '{"url":"u","text":"t"}'
    good = {
        "a.csv": "url,text\nu,t\n",
        "a.tsv": "url\ttext\nu\tt\n",
        "a.jsonl": f"{element}\n",
        "a.json": f"[{element},",
    }
    with (tmp_path / name).open("wb") as file:
        file.write(good[name].encode() + b'{"a":"')
        for _ in range(12):
            file.write(b"x" * (1 << 20))
    with at_most(48):
        found, counts = read(tmp_path / name)
    assert found == [("u", "t")]
    assert counts["pairs.bad_line"] in (1, 13)  # an array's is cut where no element may be longer


def test_a_bomb_is_read_in_little_memory(tmp_path: Path) -> None:
    packed = gzip.compress(b"url,text\nu,t\n" + bytes(1 << 26), 9)
    (tmp_path / "a.csv.gz").write_bytes(packed)
    with at_most(48):
        assert read(tmp_path / "a.csv.gz") == ([("u", "t")], {"candidates": 1, "pairs.bad_line": 1})


def test_texts_that_a_dictionary_repeats_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pairs, "TEXT_BYTES", 1 << 24)
    text = pa.array(["y" * (1 << 19)]).dictionary_encode().take(pa.array([0] * 4000))
    pq.write_table(pa.table({"url": ["u"] * 4000, "text": text}), tmp_path / "a.parquet")
    assert (tmp_path / "a.parquet").stat().st_size < 1 << 16
    found, counts = read(tmp_path / "a.parquet")
    assert counts == {"candidates": 32, "pairs.bad_line": 3968}
    assert len(found) == 32


@pytest.mark.parametrize("line", ['u,"', 'u,"""', '"', '"""', 'u,"a""', '""",""",', '","'])
def test_quotes_cost_linear_time(
    tmp_path: Path, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No line is split more than a few times, whatever the quotes of the lines around it."""
    from pipelines.sources.lists.delimited import Layout

    split = Layout.split
    seen = Counter[str]()

    def counting(self: Layout, text: str, values: list[str]) -> str | None:
        seen["characters"] += len(text)
        return split(self, text, values)

    monkeypatch.setattr(Layout, "split", counting)
    body = f"{line}\n" * 20_000
    _, counts = read_bytes(tmp_path, "a.csv", b"url,text\n" + body.encode())
    assert sum(counts.values()) <= 20_000
    assert seen["characters"] < 20 * len(body)


def test_brackets_without_end_cost_linear_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipelines.sources.lists import json_records

    monkeypatch.setattr(json_records, "IN_VAIN", 1 << 21)
    body = b"[" + b'{"a":,' * 200_000
    _, counts = read_bytes(tmp_path, "a.json", body)
    assert 0 < counts["pairs.bad_line"] < 100


TABLE = b"url,text\n" + b"".join(
    b'https://a.example/%d,"one, ""two"" %d"\n' % (number, number) for number in range(40)
)
ROWS = [(f"https://a.example/{number}", f'one, "two" {number}') for number in range(40)]
SEEDS: dict[str, bytes] = {
    "a.csv": TABLE,
    "a.tsv": TABLE.replace(b",", b"\t"),
    "a.jsonl": b"".join(
        json.dumps({"url": url, "text": text}).encode() + b"\n" for url, text in ROWS
    ),
    "a.json": json.dumps([{"url": url, "text": text} for url, text in ROWS]).encode(),
    "a.csv.gz": gzip.compress(TABLE, mtime=0),
    "a.csv.zst": zstandard.ZstdCompressor().compress(TABLE),
    "a.jsonl.bz2": bz2.compress(
        b"".join(json.dumps({"url": url, "text": text}).encode() + b"\n" for url, text in ROWS)
    ),
}


def _parquet() -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(
        pa.table({"url": [url for url, _ in ROWS], "text": [text for _, text in ROWS]}),
        sink,
        row_group_size=15,
    )
    return bytes(sink.getvalue())


SEEDS["a.parquet"] = _parquet()


PIECES = [b'"', b"\n", b",", b"\t", b"\0", b"\xff", b"\xe9", b"\r", b"{", b"]", b"\\"]


def outcome(path: Path) -> tuple[list[tuple[str, str]], dict[str, int], str]:
    """What `read` gives, or the sentence of its refusal."""
    try:
        return *read(path), ""
    except ValueError as error:
        return [], {"candidates": 0}, str(error)


@settings(max_examples=150, deadline=None)
@given(mutated(SEEDS, 60, PIECES))
def test_whatever_is_done_to_a_list_its_counts_add_up(
    tmp_path_factory: pytest.TempPathFactory, list_: tuple[str, bytes]
) -> None:
    name, data = list_
    folder = tmp_path_factory.mktemp("list")
    (folder / name).write_bytes(data)
    found, counts, said = outcome(folder / name)
    assert not said or str(folder) in said  # a sentence that names the file
    assert counts["candidates"] == len(found)
    assert set(counts) <= {
        "candidates",
        "pairs.bad_line",
        "pairs.blank_line",
        "pairs.not_utf8",
        "pairs.truncated",
    }


def test_every_line_of_a_plain_list_is_a_pair_or_counted(tmp_path: Path) -> None:
    """Without quotes each line is one record, whatever else is in it."""
    dice = random.Random(11)
    for _ in range(100):
        data = bytearray(
            b"url\ttext\n"
            + b"".join(
                b"https://a.example/%d\tsome text %d\n" % (number, number) for number in range(50)
            )
        )
        for _ in range(30):
            at = dice.randrange(9, len(data))
            data[at] = dice.choice(b"\n\t\0 xyz\xc3\xa9,;{}")
        lines = bytes(data).removesuffix(b"\n").count(b"\n")
        _, counts = read_bytes(tmp_path, "a.tsv", bytes(data))
        assert (
            counts["candidates"]
            + counts.get("pairs.bad_line", 0)
            + counts.get("pairs.blank_line", 0)
            == lines
        )


class _Breaks(io.BytesIO):
    """A file whose network fails behind its first bytes."""

    def read(self, size: int | None = -1) -> bytes:
        if self.tell() > 8:
            raise ConnectionResetError(104, "reset")
        return super().read(size)


@pytest.mark.parametrize("ending", list(PACKED))
def test_a_network_that_fails_is_no_end_of_a_file(ending: str) -> None:
    data = PACKED[ending](random.Random(1).randbytes(1 << 18))
    source = ListBytes("a", lambda url: _Breaks(data))
    with pytest.raises(ConnectionResetError):
        list(source.chunks())
    assert source.damage == ""


def test_a_network_that_fails_is_no_damage_of_a_parquet_list(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    buffer = io.BytesIO()  # with more before its end than is read to begin with
    texts = [random.Random(number).randbytes(200).hex() for number in range(1000)]
    pq.write_table(pa.table({"url": texts, "text": texts}), buffer, compression="none")

    def failing(*given: Any) -> Iterator[Any]:
        web.fail = 1000
        return list_rows(*given)

    monkeypatch.setattr("pipelines.sources.retrying.PAUSE", 0.001)
    monkeypatch.setattr(pairs, "list_rows", failing)
    with ranged({"/a.parquet": buffer.getvalue()}) as web:
        stage = Pairs(out=Folder("memory://nowhere"), path=f"{web.url}/a.parquet")
        (part,) = stage.parts()
        with pytest.raises(sources.Unreachable):
            stage.process(part)


@pytest.mark.parametrize("ending", list(PACKED))
def test_parts_of_a_compressed_list_unpack_it_once(
    tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    unpacked = list[int]()
    known = list_bytes._Unpacked._decompressed

    def counted(self: list_bytes._Unpacked) -> Iterator[bytes]:
        for piece in known(self):
            unpacked.append(len(piece))
            yield piece

    monkeypatch.setattr(list_bytes._Unpacked, "_decompressed", counted)
    monkeypatch.setattr(list_bytes, "CHUNK", 512)
    monkeypatch.setattr(pairs, "ROWS", 50)
    lines = [f"http://a.example/{number}.jpg,text {number}" for number in range(1000)]
    data = "\n".join(["url,text", *lines]).encode()
    (tmp_path / f"a.csv.{ending}").write_bytes(PACKED[ending](data))

    stage = Pairs(out=Folder(str(tmp_path / "out")), path=str(tmp_path / f"a.csv.{ending}"))
    parts = stage.parts()
    assert len(parts) == 20
    unpacked.clear()
    assert [stage.process(part).counts["candidates"] for part in parts] == [50] * 20
    assert sum(unpacked) <= len(data) + 512

    # in any order they are the same, and what is written anew is read anew
    texts = [stage._rows(part.inputs[0], part.inputs[2], Counter()) for part in reversed(parts)]
    assert sorted(row[2] for rows in texts for row in rows) == sorted(
        f"text {n}" for n in range(1000)
    )
    (tmp_path / f"a.csv.{ending}").write_bytes(PACKED[ending](data.replace(b"text", b"word")))
    rows = stage._rows(parts[3].inputs[0], parts[3].inputs[2], Counter())
    assert [row[2] for row in rows][:2] == ["word 150", "word 151"]


@pytest.mark.parametrize("name", ["a.csv", "a.parquet", "a.jsonl"])
def test_what_is_no_ordinary_file_is_not_waited_for(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    stage = Pairs(out=Folder(str(tmp_path / "out")), path=str(tmp_path / name))
    assert stage.identity()
    with pytest.raises(
        ValueError, match=rf"(there is no archive at .*)?{name}( is no ordinary file)?"
    ):
        stage.parts()
    (tmp_path / name).unlink()
    (tmp_path / name).symlink_to("/dev/zero")
    assert stage.identity()
    with pytest.raises(
        ValueError, match=rf"(there is no archive at .*)?{name}( is no ordinary file)?"
    ):
        stage.parts()


def test_what_grows_as_no_list_does_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blank lines by the hundred million: a bzip2 of a kilobyte that costs an hour."""
    monkeypatch.setattr(list_bytes, "BOMB_BYTES", 1 << 20)
    (tmp_path / "a.csv.bz2").write_bytes(
        bz2.compress(b"url,text\nu,t\n" + (b" " * 4095 + b"\n") * (1 << 11))
    )
    found, counts = read(tmp_path / "a.csv.bz2")
    assert found == [("u", "t")]
    assert counts["pairs.truncated"] == 1
    assert 1 << 8 <= counts["pairs.blank_line"] <= 3 << 8  # of a MiB and what was read at once


def test_a_header_behind_a_megabyte_of_blank_lines_is_none(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes((b" " * 4095 + b"\n") * 300 + b"url,text\nu,t\n")
    with pytest.raises(ValueError, match=r"a\.csv has the columns none"):
        read(tmp_path / "a.csv")
    (tmp_path / "b.csv").write_bytes(b"\n" * 1000 + b"url,text\nu,t\n")
    assert read(tmp_path / "b.csv") == ([("u", "t")], {"candidates": 1})
