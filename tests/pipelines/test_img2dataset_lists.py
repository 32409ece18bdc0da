"""Lists and arguments of `winnow img2dataset` as anybody may write them: rows in are rows accounted
for, and errors have words.
"""

import csv
import gzip
import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flows.cli.img2dataset import arguments
from pipelines.img2dataset.config import Img2datasetConfig
from pipelines.img2dataset.lists import BAD_ROW, CUT, lists_at, read_list

SETTINGS = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
ADDRESSES = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1).map(
    lambda name: f"http://a.example/{name}.jpg"
)
CAPTIONS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Zl", "Zp"])).map(
    str.strip
)
ROWS = st.lists(st.tuples(ADDRESSES, CAPTIONS), min_size=1, max_size=8)
DAMAGE = st.lists(
    st.tuples(
        st.sampled_from(["flip", "cut", "repeat", "insert"]),
        st.floats(0, 1, exclude_max=True),
        st.binary(min_size=1, max_size=6),
    ),
    min_size=1,
    max_size=4,
)


def written(rows: list[tuple[str, str]], kind: str) -> bytes:
    """Rows of `url` and `text` as a list of some format."""
    if kind == "txt":
        return "".join(f"{url}\n" for url, _ in rows).encode()
    if kind in ("csv", "tsv"):
        text = io.StringIO()
        writer = csv.writer(
            text,
            delimiter="," if kind == "csv" else "\t",
            quoting=csv.QUOTE_ALL if kind == "csv" else csv.QUOTE_NONE,
            quotechar='"' if kind == "csv" else None,
        )
        writer.writerows([("url", "text"), *rows])
        return text.getvalue().encode()
    named = [{"url": url, "text": caption} for url, caption in rows]
    if kind == "json":
        return json.dumps(named).encode()
    if kind == "jsonl":
        return "".join(json.dumps(row) + "\n" for row in named).encode()
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(named), sink)
    return sink.getvalue()


def damaged(data: bytes, damage: list[tuple[str, float, bytes]]) -> bytes:
    for kind, place, junk in damage:
        at = int(place * len(data))
        if kind == "cut":
            data = data[:at]
        elif kind == "repeat":
            data = data[:at] + data[at // 2 :]
        elif kind == "insert":
            data = data[:at] + junk + data[at:]
        else:
            data = data[:at] + junk + data[at + len(junk) :]
    return data


def read(folder: Path, data: bytes, kind: str) -> tuple[list[dict[str, Any]], Counter[str]]:
    """The rows of a list and what was counted."""
    path = folder / f"list.{kind}"
    path.write_bytes(data)
    captions = {} if kind.startswith("txt") else {"caption_col": "text"}
    config = Img2datasetConfig(url_list=str(path), input_format=kind, **captions)  # type: ignore[arg-type]
    counts: Counter[str] = Counter()
    (name,) = lists_at(config)
    return read_list(name, config, counts).to_pylist(), +counts


def outcome_of(
    folder: Path, data: bytes, kind: str
) -> tuple[list[dict[str, Any]], Counter[str]] | str:
    """The same, or the words of the error."""
    try:
        return read(folder, data, kind)
    except ValueError as error:
        return str(error)


@pytest.mark.parametrize("kind", ["txt", "csv", "json", "jsonl", "parquet"])
@given(rows=ROWS)
@SETTINGS
def test_what_is_written_is_read(tmp_path: Path, kind: str, rows: list[tuple[str, str]]) -> None:
    data = written(rows, kind)
    found, counts = read(tmp_path, data, kind)
    assert [row["url"] for row in found] == [url for url, _ in rows]
    assert counts == Counter()
    if kind in ("json", "jsonl", "parquet"):
        assert [row["caption"] for row in found] == [caption for _, caption in rows]
    if kind != "parquet":
        assert read(tmp_path, gzip.compress(data), f"{kind}.gz") == (found, counts)


@pytest.mark.parametrize("kind", ["txt", "csv", "tsv", "json", "jsonl", "parquet"])
@given(rows=ROWS, damage=DAMAGE)
@SETTINGS
def test_a_damaged_list_gives_rows_and_counts_or_a_reason(
    tmp_path: Path, kind: str, rows: list[tuple[str, str]], damage: list[tuple[str, float, bytes]]
) -> None:
    data = damaged(written([(url, "words") for url, _ in rows], kind), damage)
    told = outcome_of(tmp_path, data, kind)
    if isinstance(told, str):
        assert str(tmp_path) in told
        return
    found, counts = told
    assert all(row["url"] is None or isinstance(row["url"], str) for row in found)
    assert counts.keys() <= {BAD_ROW, CUT}


def test_a_text_of_parquet_that_is_no_utf8_costs_no_row(tmp_path: Path) -> None:
    data = written(
        [("http://a.example/1.jpg", "one"), ("http://a.example/2.jpg", "a red bicycle")], "parquet"
    )
    found, counts = read(tmp_path, data.replace(b"bicycle", b"bi\x80ycle"), "parquet")
    assert [row["url"] for row in found] == ["http://a.example/1.jpg", "http://a.example/2.jpg"]
    assert [row["caption"] for row in found] == ["one", "a red bi\ufffdycle"]
    assert counts == {}


@given(
    data=st.lists(
        st.sampled_from(
            [
                b"http://a.example/1.jpg",
                b'{"url": "http://a.example/1.jpg"}',
                b"caf\xe9",
                b"{",
                b"[1]",
                b"7",
            ]
        )
    )
)
@SETTINGS
def test_lines_in_are_rows_out_or_counted(tmp_path: Path, data: list[bytes]) -> None:
    for kind in ("txt", "jsonl"):
        try:
            found, counts = read(tmp_path, b"".join(line + b"\n" for line in data), kind)
        except ValueError:
            assert any(b"\xe9" in line for line in data) or kind == "jsonl"
            continue
        assert len(found) + counts[BAD_ROW] == len(data)


@given(data=st.binary(max_size=300))
@SETTINGS
@pytest.mark.parametrize("kind", ["txt.gz", "csv.gz", "tsv.gz", "json.gz", "jsonl.gz"])
def test_a_false_gzip(tmp_path: Path, kind: str, data: bytes) -> None:
    told = outcome_of(tmp_path, data, kind)
    assert str(tmp_path) in told if isinstance(told, str) else told[1].keys() <= {BAD_ROW, CUT}


# --- arguments

NAMES = st.sampled_from([*Img2datasetConfig.model_fields, "imagesize", "x", ""])
WORDS = st.text(max_size=12) | st.sampled_from(
    ["None", "True", "[", "(1,", '["a","b"]', "-1", "1e400", "nan", "jpg", "md5"]
)


@given(
    tokens=st.lists(
        st.builds("--{}={}".format, NAMES, WORDS) | st.builds("--{}".format, NAMES) | WORDS,
        max_size=6,
    )
)
@settings(max_examples=300, deadline=None)
def test_any_command_line_is_read_or_refused_in_words(tokens: list[str]) -> None:
    told = config_of(tokens)
    assert told if isinstance(told, str) else json.loads(json.dumps(told.shaping()))


def config_of(tokens: list[str]) -> Img2datasetConfig | str:
    """What a command line asks for, or why it is refused."""
    try:
        found = dict(arguments(tokens))
        found.pop("json", None)
        return Img2datasetConfig(**{"url_list": "list.txt", **found})
    except ValueError as error:
        return str(error)


@given(
    name=st.sampled_from(["url_list", "output_folder", "url_col", "contact"]),
    value=st.text("abc/.:[]()-= é", min_size=1),
)
def test_both_spellings_of_an_argument_are_one(name: str, value: str) -> None:
    joined = dict(arguments([f"--{name}={value}"]))
    assert joined.keys() == {name}
    if not value.startswith("--"):
        assert dict(arguments([f"--{name}", value])) == joined
    assert dict(arguments([f"--{name.replace('_', '-')}={value}"])) == joined
