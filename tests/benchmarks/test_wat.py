"""WAT to candidates beside cc2dataset's parse function, on the same file, with the same pairs.

Reported: records a second of CPU. Asserted: the same pairs, and a floor of the ratio of CPU seconds
in one run.
"""

import io
import logging
import sys
import types
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from fastwarc.warc import ArchiveIterator

from pipelines.html.relative_urls import absolute
from pipelines.sources.archives.wat import pages_of
from pipelines.sources.archives.wat_rows import WatRows
from tests.benchmarks.ratios import compare
from tests.benchmarks.wat_made import made

FLOOR = 2.5  # times the peer's speed, in CPU time


@pytest.fixture
def peer(monkeypatch: pytest.MonkeyPatch) -> Any:
    """cc2dataset's function from stream to links, without Spark, which it does not use."""
    for name in ("pyspark", "pyspark.sql", "pyspark.sql.functions"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    for name, attribute in (
        ("pyspark", "SparkContext"),
        ("pyspark.sql", "SparkSession"),
        ("pyspark.sql.functions", "rand"),
    ):
        setattr(sys.modules[name], attribute, object)
    monkeypatch.setitem(
        sys.modules, "loguru", types.SimpleNamespace(logger=logging.getLogger("cc2dataset"))
    )
    return pytest.importorskip(
        "cc2dataset.main", reason="make bench installs cc2dataset"
    ).extract_documents_from_wat


def candidates(path: Path) -> pa.Table:
    rows = WatRows(archive=str(path))
    for page in pages_of(str(path), Counter()):
        rows.append(page)
    return rows.table()


def read(path: Path) -> None:
    """The limit: every record inflated, nothing looked at."""
    with open(path, "rb") as file:
        for record in ArchiveIterator(file, parse_http=False):
            record.reader.read()


def test_wat_to_candidates(tmp_path: Path, peer: Any) -> None:
    path = tmp_path / "a.warc.wat.gz"
    made(path, 3000)
    theirs = peer(io.BytesIO(path.read_bytes()), "image")
    table = candidates(path)
    ours = (
        table.filter(pc.equal(table["text_source"], "alt"))
        .select(["page_url", "image_url", "text"])
        .to_pylist()
    )
    assert len(theirs) > 20_000
    spelled = (
        (one["page_url"], absolute(one["page_url"], one["url"]), one["alt"]) for one in theirs
    )
    assert Counter((row["page_url"], row["image_url"], row["text"]) for row in ours) == Counter(
        spelled
    )
    found = compare(
        {
            "read": lambda: read(path),
            "cc2dataset": lambda: peer(io.BytesIO(path.read_bytes()), "image"),
            "winnow": lambda: candidates(path),
        },
        rounds=7,
    )
    ratio = found["cc2dataset"].cpu / found["winnow"].cpu
    print(
        f"winnow is {ratio:.2f} times as fast as cc2dataset, floor {FLOOR}"
        f" ({9000 / found['winnow'].cpu:,.0f} records a second of CPU)"
    )
    assert ratio >= FLOOR
