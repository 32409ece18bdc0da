"""The index of held images and what is read through it."""

import os
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.sources import held, held_readers
from pipelines.sources.held import PLACES, from_archives
from pipelines.sources.spool import Spool
from pipelines.store import Folder
from pipelines.tables import write_parquet
from tests.pipelines.web import jpeg

RED, GREEN = jpeg(20, 10, "red"), jpeg(20, 10, "green")


def place(url: str, kind: str, archive: str = "", **where: Any) -> dict[str, Any]:
    return {
        **dict.fromkeys(PLACES.names),
        "image_url": url,
        "kind": kind,
        "archive": archive,
        **where,
    }


def indexed(folder: Path, *files: list[dict[str, Any]]) -> Folder:
    out = Folder(str(folder / "candidates"))
    for number, rows in enumerate(files):
        write_parquet(
            out, f"archive-images-{number:05d}.parquet", pa.Table.from_pylist(rows, PLACES)
        )
    return out


def outcomes(index: Folder, urls: list[str], limit: int = 100_000) -> dict[str, str]:
    with Spool() as spool:
        return {
            url: attempt.outcome
            for url, (attempt, _) in from_archives(index, urls, spool, limit=limit).items()
        }


def test_outcomes_of_each_kind(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(RED)
    (tmp_path / "a.tar").write_bytes(b"xxxx" + RED)
    os.mkfifo(tmp_path / "pipe")
    pq.write_table(
        pa.table({"image": [{"bytes": RED}, {"bytes": None}, {"bytes": b"?"}]}),
        tmp_path / "a.parquet",
    )
    table = pa.table({"jpg": [RED, None]})
    for name, maker in (("file", pa.ipc.new_file), ("stream", pa.ipc.new_stream)):
        with pa.OSFile(str(tmp_path / name), "wb") as sink, maker(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=1)
    tar, parquet = str(tmp_path / "a.tar"), str(tmp_path / "a.parquet")
    rows = {
        "fetched": place("u:file", "file", str(tmp_path / "a.jpg")),
        "fetch.missing": place("u:gone", "file", str(tmp_path / "gone.jpg")),
        "fetch.missing 2": place("u:pipe", "file", str(tmp_path / "pipe")),
        "fetch.missing 3": place("u:folder", "file", str(tmp_path)),
        "fetch.missing 4": place("u:none", "missing"),
        "fetch.outside": place("u:out", "outside"),
        "fetched 2": place("u:tar", "tar", tar, offset=4, size=len(RED)),
        "fetch.cut": place("u:cut", "tar", tar, offset=5, size=len(RED)),
        "fetch.too_large": place("u:large", "tar", tar, offset=0, size=1 << 40),
        "fetched 3": place("u:p0", "parquet", parquet, offset=0, row=0, column="image.bytes"),
        "fetch.missing 5": place("u:p1", "parquet", parquet, offset=0, row=1, column="image.bytes"),
        "decode.not_an_image": place(
            "u:p2", "parquet", parquet, offset=0, row=2, column="image.bytes"
        ),
        "fetch.missing 6": place("u:p9", "parquet", parquet, offset=0, row=9, column="image.bytes"),
    }
    for name in ("file", "stream"):
        rows[f"fetched {name}"] = place(
            f"u:{name} 0", "arrow", str(tmp_path / name), offset=0, row=0, column="jpg"
        )
        rows[f"fetch.missing {name}"] = place(
            f"u:{name} 1", "arrow", str(tmp_path / name), offset=1, row=0, column="jpg"
        )
        rows[f"fetch.missing {name} 9"] = place(
            f"u:{name} 9", "arrow", str(tmp_path / name), offset=9, row=0, column="jpg"
        )
    index = indexed(tmp_path, list(rows.values()))
    wanted = {row["image_url"]: name.split()[0] for name, row in rows.items()}
    assert outcomes(index, [*wanted, "u:unknown"]) == wanted
    assert outcomes(index, ["u:file", "u:p0", "u:stream 0"], limit=10) == dict.fromkeys(
        ["u:file", "u:p0", "u:stream 0"], "fetch.too_large"
    )
    assert outcomes(index, []) == {}


def test_of_equal_addresses_the_first_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "1.jpg").write_bytes(RED)
    (tmp_path / "2.jpg").write_bytes(GREEN)
    index = indexed(
        tmp_path,
        [place("u", "missing")],
        [place("u", "file", str(tmp_path / "1.jpg")), place("u", "file", str(tmp_path / "2.jpg"))],
    )
    with Spool() as spool:
        ((attempt, picture),) = from_archives(index, ["u"], spool, limit=1000).values()
        assert picture is not None
        assert (attempt.outcome, spool.read(picture.image_id)) == ("fetched", RED)


def test_a_row_group_is_read_once_for_all_its_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(tmp_path / "a.parquet")
    pq.write_table(
        pa.table({"image": [jpeg(8, 8, (n, 0, 0)) for n in range(200)]}), path, row_group_size=100
    )
    rows = [
        place(f"u{n:03d}", "parquet", path, offset=n // 100, row=n % 100, column="image")
        for n in range(200)
    ]
    index, read = indexed(tmp_path, rows[150:], rows[:150]), Counter[tuple[int, int]]()
    batches = held_readers._batches

    def counted(source: pq.ParquetFile, group: int, column: str) -> Any:
        for number, values in enumerate(batches(source, group, column)):
            read[group, number] += 1
            assert len(values) <= held_readers.BATCH
            yield values

    monkeypatch.setattr(held_readers, "_batches", counted)
    urls = [row["image_url"] for row in rows]
    assert set(outcomes(index, [*urls[:50], *urls[100:]][::-1]).values()) == {"fetched"}
    assert read == {(0, 0): 1, (1, 0): 1, (1, 1): 1}  # the rest of the first group is left alone


def test_the_index_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = indexed(
        tmp_path, *[[place(f"u{file}-{n}", "missing") for n in range(100)] for file in range(20)]
    )
    opened: Counter[str] = Counter()
    read = held.read_table

    def counted(folder: Folder, name: str, *rest: Any) -> pa.Table:
        opened[name] += 1
        return read(folder, name, *rest)

    monkeypatch.setattr(held, "read_table", counted)
    for n in range(100):
        assert outcomes(index, [f"u{file}-{n}" for file in range(20)]) == {
            f"u{file}-{n}": "fetch.missing" for file in range(20)
        }
    assert set(opened.values()) == {1}


def test_a_changed_index_is_seen(tmp_path: Path) -> None:
    index = indexed(tmp_path, [place("u", "missing")])
    assert outcomes(index, ["u", "v"]) == {"u": "fetch.missing"}
    indexed(tmp_path, [place("u", "missing")], [place("v", "outside")])
    assert outcomes(index, ["u", "v"]) == {"u": "fetch.missing", "v": "fetch.outside"}


def test_looking_up_is_quick(tmp_path: Path) -> None:
    """200,000 images: a floor far below what it does (0.5 s to load, 0.5 ms for 256 addresses), to
    notice a scan for each chunk.
    """
    count = 200_000
    urls = pa.array([f"https://h{n % 977}.example/images/{n}.jpg" for n in range(count)])
    columns = {
        "image_url": urls,
        "kind": pa.array(["missing"] * count),
        "archive": pa.array([""] * count),
    }
    table = pa.table(
        [columns.get(entry.name, pa.nulls(count, entry.type)) for entry in PLACES], schema=PLACES
    )
    write_parquet(Folder(str(tmp_path)), "archive-images-00000.parquet", table)
    index = held._index(Folder(str(tmp_path)), "1")
    chunk = urls[1000:1256].to_pylist()
    begin = time.process_time()
    for _ in range(100):
        assert len(index.rows(chunk)) == 256
    assert time.process_time() - begin < 2.0


def test_an_archive_that_is_gone_stops_its_part(tmp_path: Path) -> None:
    for kind in ("tar", "parquet", "arrow"):
        index = indexed(
            tmp_path / kind,
            [place("u", kind, str(tmp_path / "gone"), offset=0, size=1, row=0, column="image")],
        )
        with pytest.raises(
            ValueError,
            match=r"there is no file at .*gone: what was imported must stay in its place",
        ):
            outcomes(index, ["u"])
