"""Statistics and samples beside outcomes: exact counts by host, language and source, and the same
candidates drawn everywhere.
"""

from pathlib import Path

import pyarrow as pa
import pytest

from pipelines.decide.statistics import (
    modulus_for,
    part_statistics,
    read_statistics,
    registrable,
    sample_rows,
    write_statistics,
)
from pipelines.store import Folder
from pipelines.tables import read_table


def outcomes(rows: int = 6) -> pa.Table:
    pages = [
        "http://www.news.example.co.uk/a",
        "https://example.co.uk:8080/b",
        "http://192.0.2.7/c",
        None,
        None,
        "http://blog.example.org/",
    ]
    images = ["http://x.example/1.png", "given://coco/00001/7", "http://cdn.example.net/2.png"]
    return pa.table(
        {
            "collection": ["c"] * rows,
            "outcome": [("kept", "text.too_short")[place % 2] for place in range(rows)],
            "image_id": [None if place % 5 == 4 else f"{place // 2:064x}" for place in range(rows)],
            "page_url": pa.array([pages[place % 6] for place in range(rows)], pa.string()),
            "image_url": [images[place % 3] for place in range(rows)],
            "text": [f"text {place}" for place in range(rows)],
            "text_source": ["alt", "alt", None, "title", "alt", "alt"] * (rows // 6),
            "page_language": ["en-GB", "EN", "de", None, "zh_TW", "nonsense"] * (rows // 6),
            "text.words": pa.array([2] * rows, pa.int32()),
        }
    )


def test_counts_by_host_language_and_source(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    written = write_statistics(folder, "part-00000", outcomes(), ["text.words"], modulus=1)
    assert [file.name for file in written] == ["statistics/part-00000.parquet"]
    found = read_statistics(folder)
    assert found.counts() == {"": {"kept": 3, "text.too_short": 3}}
    assert found.counts("host") == {
        "example.co.uk": {"kept": 1, "text.too_short": 1},
        "192.0.2.7": {"kept": 1},
        "example.org": {"text.too_short": 1},
        "given://coco": {"kept": 1},
        "x.example": {"text.too_short": 1},
    }
    assert {name: sum(counts.values()) for name, counts in found.counts("language").items()} == {
        "en": 2,
        "unknown": 2,
        "de": 1,
        "zh": 1,
    }
    assert {name: sum(counts.values()) for name, counts in found.counts("source").items()} == {
        "alt": 4,
        "title": 1,
        "unknown": 1,
    }
    assert found.statistics("text.words", by="host", of="example.co.uk").mean == 2


def test_parts_add_up(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    for part in range(150):
        write_statistics(folder, f"part-{part:05d}", outcomes(), ["text.words"], modulus=1)
    found = read_statistics(folder)
    assert found.counts() == {"": {"kept": 450, "text.too_short": 450}}
    assert found.statistics("text.words", "kept").rows == 450


def test_what_was_measured_says_the_language_first() -> None:
    table = outcomes().append_column(
        "text.language", pa.array(["fr", None, "fr", "fr", "fr", "fr"])
    )
    found = part_statistics(table, []).filter(
        pa.compute.equal(part_statistics(table, [])["by"], "language")
    )
    assert sorted(set(found["of"].to_pylist())) == ["en", "fr"]


def test_an_empty_part(tmp_path: Path) -> None:
    assert part_statistics(outcomes(0), ["text.words"]).num_rows == 0
    assert read_statistics(Folder(str(tmp_path))).counts() == {}


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("a.b.example.com", "example.com"),
        ("example.co.uk", "example.co.uk"),
        ("co.uk", "co.uk"),
        ("localhost", "localhost"),
        ("www.shop.example", "shop.example"),
        ("192.0.2.7", "192.0.2.7"),
        ("", "unknown"),
        ("[2001:db8::1]", "[2001:db8::1]"),
    ],
)
def test_registrable(host: str, expected: str) -> None:
    assert registrable(host) == expected


def test_the_sample_draws_all_texts_of_an_image_and_the_same_ones_under_every_recipe(
    tmp_path: Path,
) -> None:
    table = outcomes(6000)
    sixteenth, eighth = sample_rows(table, 16), sample_rows(table, 8)
    assert 200 < sixteenth.num_rows < 600
    drawn = set(sixteenth["image_id"].to_pylist()) - {None}
    whole = table.filter(pa.compute.is_in(table["image_id"], pa.array(sorted(drawn))))
    assert whole.num_rows == sixteenth.filter(pa.compute.is_valid(sixteenth["image_id"])).num_rows
    assert set(sixteenth["text"].to_pylist()) <= set(eighth["text"].to_pylist())
    other = table.set_column(
        table.column_names.index("outcome"), "outcome", pa.array(["kept"] * 6000)
    )
    assert sample_rows(other, 16)["text"].equals(sixteenth["text"])
    cleaned = table.append_column("original_text", table["text"]).set_column(
        5, "text", pa.array(["cut"] * 6000)
    )
    assert sample_rows(cleaned, 16)["original_text"].equals(sixteenth["text"])
    written = write_statistics(Folder(str(tmp_path)), "part-00000", table, [], modulus=16)
    assert [file.name for file in written] == [
        "statistics/part-00000.parquet",
        "sample/part-00000.parquet",
    ]
    assert (
        read_table(Folder(str(tmp_path)) / "sample", "part-00000.parquet").num_rows
        == sixteenth.num_rows
    )


def test_how_many_are_drawn() -> None:
    assert [
        modulus_for(candidates) for candidates in (0, 1_000_000, 1_000_001, 10_000_000, 10**9)
    ] == [1, 1, 2, 16, 1024]
