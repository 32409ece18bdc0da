"""Data sets as strangers leave them: cut, damaged, in other charsets, of odd types; every member,
row and line is counted.
"""

import io
import json
import os
import random
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings

from pipelines.sources.datasets import tars as import_tar
from pipelines.sources.datasets.imports import Import
from pipelines.sources.held_readers import READERS
from pipelines.store import Folder
from pipelines.tables import read_table
from tests.pipelines.counted import told
from tests.pipelines.mutations import mutated
from tests.pipelines.web import jpeg

JPEG = jpeg()
Counts = dict[str, int]


def read(path: Path, **options: Any) -> tuple[list[tuple[str, str]], Counts]:
    """(last part of the address, text) of all candidates of a data set, and the counts, without the
    engine.
    """
    stage = Import(out=Folder(str(path.parent / "out")), path=str(path), **options)
    counts: Counter[str] = Counter()
    found = []
    for part in stage.parts():
        counts.update(told(stage, stage.process(part).counts))
        rows = read_table(stage.out, f"part-{part.name}.parquet").to_pylist()
        found += [(row["image_url"].rsplit("/", 1)[-1], row["text"]) for row in rows]
    return found, {name: count for name, count in counts.items() if count}


def tar_of(members: list[tuple[str, bytes]]) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in members:
            about = tarfile.TarInfo(name)
            about.size = len(data)
            tar.addfile(about, io.BytesIO(data))
    return sink.getvalue()


def read_tar(folder: Path, data: bytes) -> tuple[list[tuple[str, str]], Counts]:
    (folder / "a.tar").write_bytes(data)
    return read(folder / "a.tar")


@pytest.mark.parametrize(
    ("name", "data", "text", "odd"),
    [
        ("txt", "café".encode("cp1252"), "café", 1),
        ("txt", "“café”".encode("cp1252"), "“café”", 1),
        ("txt", "日本".encode("utf-16"), "日本", 0),
        ("caption", "日本".encode("utf-32"), "日本", 0),
        ("txt", "é".encode("utf-8-sig"), "é", 0),
        ("json", '{"caption": "é"}'.encode("cp1252"), "é", 1),
        ("json", '{"caption": "é"}'.encode("utf-8-sig"), "é", 0),
        ("json", '{"caption": "é"}'.encode("utf-16"), "é", 0),
    ],
)
def test_texts_beside_an_image_in_every_charset(
    tmp_path: Path, name: str, data: bytes, text: str, odd: int
) -> None:
    counts = {"candidates": 1, "archive_images": 1} | ({"import.not_utf8": odd} if odd else {})
    assert read_tar(tmp_path, tar_of([("a.jpg", JPEG), (f"a.{name}", data)])) == (
        [("a.jpg", text)],
        counts,
    )
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/a.jpg").write_bytes(JPEG)
    (tmp_path / f"folder/a.{name}").write_bytes(data)
    assert read(tmp_path / "folder") == ([("a.jpg", text)], counts)


@pytest.mark.parametrize(
    ("data", "texts", "bad"),
    [
        (b'{"caption": ' + b"[" * 600 + b"]" * 600 + b"}", [""], 0),
        (b'{"caption": ' + b"[" * 100_000, [""], 1),
        (b'{"caption": NaN, "url": {"a": 1}}', [""], 0),
        (b'{"caption": "\\ud800"}', ["?"], 0),
        (b'{"caption": ' + b"9" * 5000 + b"}", [""], 1),
        (b'["one", "two"]', ["one", "two"], 0),
        (b"", [""], 1),
    ],
)
def test_json_of_odd_shape_beside_an_image(
    tmp_path: Path, data: bytes, texts: list[str], bad: int
) -> None:
    found, counts = read_tar(tmp_path, tar_of([("a.jpg", JPEG), ("a.json", data)]))
    assert [text for _, text in found] == texts
    assert counts.get("import.bad_sidecar", 0) == bad


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    about = tarfile.TarInfo(name)
    about.size, about.type = size, kind
    return about.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.XGLTYPE])
def test_a_name_of_gigabytes_is_not_held(tmp_path: Path, kind: bytes) -> None:
    good = tar_of([("a.jpg", JPEG)]).rstrip(b"\0")
    data = good + bytes(-len(good) % 512) + header("x", 1 << 33, kind) + bytes(1 << 20)
    found, counts = read_tar(tmp_path, data)
    assert found == [("a.jpg", "")]
    assert counts["import.truncated"] == 1


def test_members_without_end_are_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_tar, "MEMBERS", 50)
    found, counts = read_tar(tmp_path, tar_of([(f"{number}.jpg", JPEG) for number in range(60)]))
    assert len(found) == 50
    assert counts["import.truncated"] == 1


def test_members_that_are_no_files_and_names_that_lead_out(tmp_path: Path) -> None:
    data = (
        header("l.jpg", 0, tarfile.SYMTYPE)
        + header("f.jpg", 0, tarfile.FIFOTYPE)
        + header("l.txt", 0, tarfile.SYMTYPE)
    )
    found, counts = read_tar(
        tmp_path, data + tar_of([("../../c\x1b[31m.jpg", JPEG), ("../../c\x1b[31m.txt", b"t")])
    )
    assert found == [("l.jpg", ""), ("f.jpg", ""), ("c%1B%5B31m.jpg", "t")]
    assert (counts["import.link"], counts["import.missing"], counts["import.bad_sidecar"]) == (
        2,
        2,
        1,
    )


def test_tables_with_a_name_twice_and_texts_of_bytes(tmp_path: Path) -> None:
    twice = pa.Table.from_arrays(
        [pa.array([JPEG]), pa.array(["a"]), pa.array(["b"])], names=["image", "caption", "caption"]
    )
    opaque = pa.table({"caption": pa.array([b"caf\xc3\xa9"]), "data": pa.array([JPEG])})
    latin = pa.table(
        {"image": [JPEG, JPEG], "caption": pa.array([b"caf\xe9", b"x"]).view(pa.string())}
    )
    for number, (table, texts) in enumerate(
        [(twice, ["a"]), (opaque, ["café"]), (latin, ["caf\ufffd", "x"])]
    ):
        pq.write_table(table, tmp_path / f"{number}.parquet")
        assert [text for _, text in read(tmp_path / f"{number}.parquet")[0]] == texts
    with pa.ipc.new_file(str(tmp_path / "a.arrow"), twice.schema) as writer:
        writer.write_table(twice)
    assert read(tmp_path / "a.arrow")[0] == [("000000000", "a")]


def images(count: int) -> pa.Table:
    dice = random.Random(5)
    return pa.table(
        {
            "image": [dice.randbytes(900) for _ in range(count)],
            "caption": [f"text {number} " * 9 for number in range(count)],
        }
    )


def test_a_damaged_page_of_texts_costs_its_row_group(tmp_path: Path) -> None:
    pq.write_table(
        images(300),
        tmp_path / "a.parquet",
        row_group_size=100,
        use_dictionary=False,
        compression="zstd",
    )
    column = pq.read_metadata(tmp_path / "a.parquet").row_group(1).column(1)
    data = bytearray((tmp_path / "a.parquet").read_bytes())
    place = column.data_page_offset + column.total_compressed_size // 2
    data[place : place + 32] = bytes(32)
    (tmp_path / "b.parquet").write_bytes(data)
    found, counts = read(tmp_path / "b.parquet")
    assert [name for name, _ in found] == [
        f"{number:09d}" for number in (*range(100), *range(200, 300))
    ]
    assert counts == {"candidates": 200, "archive_images": 200, "import.damaged_row": 100}


def test_a_damaged_batch_of_an_arrow_file_costs_itself(tmp_path: Path) -> None:
    table = images(60)
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, table.schema) as writer:
        for start in range(0, 60, 20):
            writer.write_table(table.slice(start, 20))
    data = bytearray(sink.getvalue())
    place = data.find(b"text 25 ")
    offsets = data.rfind(b"\x00\x00\x00\x00", 0, place - 200)
    data[offsets : offsets + 64] = b"\xff" * 64
    (tmp_path / "a.arrow").write_bytes(data)
    found, counts = read(tmp_path / "a.arrow")
    assert counts["import.truncated"] == 1
    assert 0 < len(found) < 60


def test_an_image_in_damage_ends_by_itself(tmp_path: Path) -> None:
    pq.write_table(
        images(50),
        tmp_path / "a.parquet",
        row_group_size=25,
        use_dictionary=False,
        compression="zstd",
    )
    column = pq.read_metadata(tmp_path / "a.parquet").row_group(0).column(0)
    data = bytearray((tmp_path / "a.parquet").read_bytes())
    # the head of its first page
    data[column.data_page_offset : column.data_page_offset + 30] = b"\xff" * 30
    (tmp_path / "a.parquet").write_bytes(data)
    rows = [
        {"image_url": f"{group}-{row}", "offset": group, "row": row, "column": "image"}
        for group in (0, 1)
        for row in (0, 7)
    ]
    outcomes = {
        url: result.outcome
        for url, result, _ in READERS["parquet"](str(tmp_path / "a.parquet"), rows, 1 << 20)
    }
    assert outcomes == {
        "0-0": "fetch.unreadable",
        "0-7": "fetch.unreadable",
        "1-0": "fetched",
        "1-7": "fetched",
    }
    (tmp_path / "a.parquet").write_bytes(bytes(data[:-9]))
    outcomes = {
        url: result.outcome
        for url, result, _ in READERS["parquet"](str(tmp_path / "a.parquet"), rows, 1 << 20)
    }
    assert set(outcomes.values()) == {"fetch.unreadable"}


def test_lines_in_other_charsets_blank_and_without_end(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(JPEG)
    line = '{"image": "a.jpg", "caption": "é"}\n'
    (tmp_path / "a.jsonl").write_bytes(
        line.encode("cp1252") + b"\n[1]\n" + line.encode() + b'{"image":"' + b"x" * (2 << 20)
    )
    found, counts = read(tmp_path / "a.jsonl")
    assert found == [("a.jpg", "é"), ("a.jpg", "é")]
    assert counts == {
        "candidates": 2,
        "archive_images": 2,
        "import.not_utf8": 1,
        "import.blank_line": 1,
        "import.bad_line": 2,
    }
    (tmp_path / "b.jsonl").write_bytes(line.encode("utf-16"))
    assert read(tmp_path / "b.jsonl") == ([("a.jpg", "é")], {"candidates": 1, "archive_images": 1})


@pytest.mark.parametrize("name", ["", ".", "/"])
def test_a_first_line_whose_image_has_no_name_costs_itself(tmp_path: Path, name: str) -> None:
    lines = [{"image": name, "caption": "none"}, {"image": "4.jpg", "caption": "a cat"}]
    path = tmp_path / "captions.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found, counts = read(path)
    assert [text for _, text in found if text != "none"] == ["a cat"]
    assert counts.get("import.bad_line", 0) + len(found) == 2


def test_coco_with_entries_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "coco").mkdir()
    (tmp_path / "coco/1.jpg").write_bytes(JPEG)
    value = {
        "images": [{"id": 1, "file_name": "1.jpg"}, 5, {"id": 2, "file_name": "gone.jpg"}, None],
        "annotations": [
            {"image_id": 1, "caption": "é"},
            {"image_id": 1},
            {"image_id": 2, "caption": "b"},
            7,
        ],
    }
    (tmp_path / "coco/captions_x.json").write_bytes(
        json.dumps(value, ensure_ascii=False).encode("latin-1")
    )
    found, counts = read(tmp_path / "coco")
    assert found == [("1.jpg", "é"), ("gone.jpg", "b")]
    assert counts == {"candidates": 2, "archive_images": 2, "import.bad_line": 4}


def test_a_folder_of_loops_pipes_and_names_that_are_no_text(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a\x1b[31m\n.jpg").write_bytes(JPEG)
    (folder / "a\x1b[31m\n.txt").write_bytes("café".encode("latin-1"))
    (folder / "loop").symlink_to(folder)
    (folder / "self.jpg").symlink_to("self.jpg")
    (folder / "out.jpg").symlink_to("/etc/hostname")
    (folder / "out.txt").symlink_to("/etc/hostname")
    os.mkfifo(folder / "pipe.jpg")
    os.mkfifo(folder / "pipe.txt")
    (folder / os.fsdecode(b"caf\xe9.jpg")).write_bytes(JPEG)
    found, counts = read(folder)
    texts = dict(found)
    assert texts == {
        "a%1B%5B31m%0A.jpg": "café",
        "caf%E9.jpg": "",
        "out.jpg": "",
        "pipe.jpg": "",
        "self.jpg": "",
    }
    assert (counts["import.bad_sidecar"], counts["import.outside"], counts["import.missing"]) == (
        2,
        1,
        1,
    )


FOUR = [
    (f"{number}.{kind}", data)
    for number in range(4)
    for kind, data in (("jpg", JPEG), ("txt", b"t"))
]
SEEDS: dict[str, bytes] = {"a.tar": tar_of(FOUR)}


def _tables() -> None:
    table = images(30)
    parquet, file, stream = io.BytesIO(), io.BytesIO(), io.BytesIO()
    pq.write_table(table, parquet, row_group_size=10)
    with pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=10)
    with pa.ipc.new_stream(stream, table.schema) as writer:
        writer.write_table(table, max_chunksize=10)
    SEEDS.update(
        {"a.parquet": parquet.getvalue(), "b.arrow": file.getvalue(), "c.arrow": stream.getvalue()}
    )
    SEEDS["a.jsonl"] = b"".join(
        b'{"image": "%d.jpg", "caption": "t"}\n' % number for number in range(9)
    )


_tables()


def outcome(path: Path) -> tuple[list[tuple[str, str]], Counts, str]:
    """What `read` gives, or the sentence of its refusal."""
    try:
        return *read(path), ""
    except ValueError as error:
        return [], {}, str(error)


@settings(max_examples=150, deadline=None)
@given(mutated(SEEDS, 600, [bytes(512), b"\n", b"{", b"\xff"]))
def test_whatever_is_done_to_a_data_set_its_counts_add_up(
    tmp_path_factory: pytest.TempPathFactory, given_: tuple[str, bytes]
) -> None:
    name, data = given_
    folder = tmp_path_factory.mktemp("set")
    (folder / name).write_bytes(data)
    found, counts, said = outcome(folder / name)
    assert not said or str(folder) in said  # a sentence that names the file
    assert counts.get("candidates", 0) == len(found)
    assert all(
        key == "candidates" or key == "archive_images" or key.startswith("import.")
        for key in counts
    )
