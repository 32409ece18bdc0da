"""Rows brought together by group come back whole, once, and in the order of their files."""

from collections import defaultdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.engine.shuffle import bucket_of, read_group, stable_hash, write_groups
from pipelines.store import Folder

SCHEMA = pa.schema([("value", pa.int64()), ("name", pa.string())])


@settings(
    max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
@given(
    files=st.lists(
        st.lists(st.tuples(st.integers(0, 4), st.integers()), max_size=12), min_size=1, max_size=3
    )
)
def test_groups_are_whole_and_in_order(
    tmp_path: Path, suffix: str, files: list[list[tuple[int, int]]]
) -> None:
    folder = Folder(str(tmp_path))
    expected: dict[int, list[int]] = defaultdict(list)
    names = []
    for number, rows in enumerate(files):
        clipped = [(group, value % 2**62) for group, value in rows]
        table = pa.table(
            {
                "value": [value for _, value in clipped],
                "name": [str(value) for _, value in clipped],
            },
            schema=SCHEMA,
        )
        names.append(
            write_groups(
                folder,
                f"part-{number}.{suffix}",
                table,
                np.array([group for group, _ in clipped], dtype=np.int64),
            ).name
        )
        for group, value in clipped:
            expected[group].append(value)
    for group in range(5):
        found = read_group(folder, names, group, SCHEMA)
        assert found["value"].to_pylist() == expected[group]
        assert found["name"].to_pylist() == [str(value) for value in expected[group]]
    names_alone = pa.schema([("name", pa.string())])
    if suffix == "arrow":
        assert read_group(folder, names, 0, names_alone).to_pydict() == {
            "name": [str(value) for value in expected[0]]
        }


def test_a_bucket_depends_on_the_key_alone() -> None:
    keys = pa.chunked_array([["a", "b"], ["a", None, "日本"]])
    first = bucket_of(keys, 7)
    assert first.tolist() == [stable_hash(key) % 7 for key in ("a", "b", "a", "", "日本")]
    assert bucket_of(keys, 1).tolist() == [0] * 5
    assert bucket_of(pa.chunked_array([], pa.string()), 3).tolist() == []


def test_the_hash_never_changes() -> None:
    assert stable_hash("winnow") == 0x5FCA3F8DF32145C3
    assert stable_hash("") == 0xB4B2797457A0A6E4
