"""Clusters of near duplicates: every pair within three bits, whatever the order and the cut of the
rows.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.dedup import compare as near
from pipelines.dedup.clusters import Clustered, cluster
from pipelines.dedup.compare import KEYS, Forest, near_hashes, near_vectors
from pipelines.engine.runner import run_stage
from pipelines.engine.shuffle import read_group
from pipelines.engine.stage import Manifest, Stage, StageFailed
from pipelines.store import Folder

Row = tuple[str, object]  # image_id and value


def at_once(stage: Stage) -> Manifest:
    """A stage without an engine, which takes a tenth of a second to start."""
    files, counts = [], {"unsettled": 0}
    for part in stage.parts():
        output = stage.process(part)
        files += [{"name": file.name} for file in output.files]
        counts["unsettled"] += output.counts.get("unsettled", 0)
    about = {
        "stage": stage.name,
        "version": stage.version,
        "config": stage.config(),
        "inputs": stage.inputs(),
    }
    return Manifest(**about, files=files, counts=counts, failed={}, digest=stage.identity())


def write_rows(folder: Folder, parts: Sequence[Sequence[Row]], kind: pa.DataType) -> list[str]:
    names = []
    for number, rows in enumerate(parts):
        columns = [
            pa.array([number] * len(rows), pa.int32()),
            pa.array(range(len(rows)), pa.int32()),
            pa.array([image for image, _ in rows], pa.string()),
            pa.array([value for _, value in rows], kind),
        ]
        names.append(f"part-{number:05d}.parquet")
        Path(folder.path()).mkdir(parents=True, exist_ok=True)
        pq.write_table(
            pa.table(columns, names=["part", "row", "image_id", "value"]), folder.path(names[-1])
        )
    return names


def found(clustered: Clustered, parts: int) -> list[dict[int, str]]:
    tables = [
        read_group(clustered.folder, clustered.names, part, clustered.schema)
        for part in range(parts)
    ]
    assert all(set(table["part"].to_pylist()) <= {part} for part, table in enumerate(tables))
    return [
        dict(zip(table["row"].to_pylist(), table["cluster"].to_pylist(), strict=True))
        for table in tables
    ]


def hashed(folder: Path, parts: Sequence[Sequence[Row]], **cut: int) -> list[dict[int, str]]:
    rows = Folder(str(folder / "rows"))
    names = write_rows(rows, parts, pa.string())
    done = cluster(
        out=Folder(str(folder / "out")),
        rows=rows,
        names=names,
        kind="hash",
        identity="test",
        run=at_once,
        **cut,
    )
    assert not done.folder.exists("work")
    return found(done, len(parts))


def bits(*places: int) -> str:
    """A hash that is not flat, with some of its bits turned."""
    number = 0x5A5A5A5A5A5A5A5A
    for place in places:
        number ^= 1 << place
    return f"{number:016x}"


def test_three_bits_apart_are_near_and_four_are_not(tmp_path: Path) -> None:
    parts = [
        [("b", bits()), ("d", bits(1, 30, 50, 63))],
        [("c", bits(0, 31, 62)), ("e", None), ("a", bits(0, 31, 62, 5))],
    ]
    assert hashed(tmp_path, parts) == [{0: "a", 1: "d"}, {0: "a", 2: "a"}]


def test_equal_images_and_equal_hashes_are_one_cluster(tmp_path: Path) -> None:
    assert hashed(tmp_path, [[("b", bits()), ("b", bits())], [("a", bits()), ("b", bits())]]) == [
        {0: "a", 1: "a"},
        {0: "a", 1: "a"},
    ]


def test_a_flat_hash_is_near_to_none_but_its_own_image(tmp_path: Path) -> None:
    flat = ["0" * 16, "f" * 16, "0000000000000007", "ffffffff1fffffff"]
    parts = [
        [(name, value) for name, value in zip("abcd", flat, strict=True)],
        [("e", "000000000000000f"), ("d", flat[3]), ("f", flat[0])],
    ]
    assert hashed(tmp_path, parts) == [{0: "a", 1: "b", 2: "c", 3: "d"}, {0: "e", 1: "d", 2: "f"}]


def test_nothing_to_compare(tmp_path: Path) -> None:
    assert hashed(tmp_path, [[], [("a", None)]]) == [{}, {}]


def test_a_long_chain_over_many_buckets_is_one_cluster(tmp_path: Path) -> None:
    number, chain = 0x123456789ABCDEF0, []
    for step in range(120):
        chain.append((f"{(step * 37 + 5) % 120:03d}", f"{number:016x}"))
        number ^= 0b111 << (3 * step % 61)
    apart = ("zzz", f"{0x123456789ABCDEF0 ^ 0xFFFF0000FFFF0000:016x}")
    clusters = hashed(tmp_path, [chain[:50], [*chain[50:], apart]], gathered=9, met=40)
    assert set(clusters[0].values()) == {"000"}
    assert list(clusters[1].values()) == ["000"] * 70 + ["zzz"]


def test_a_text_that_is_no_hash_is_an_error(tmp_path: Path) -> None:
    with pytest.raises((ValueError, pa.ArrowInvalid)):
        hashed(tmp_path, [[("a", "abc")]])


def oracle(rows: Sequence[Row]) -> list[str]:
    """The cluster of each row by comparing each with each."""
    names = [image for image, _ in rows]
    numbers = [int(str(value), 16) for _, value in rows]
    flat = [not 3 < number.bit_count() < 61 for number in numbers]

    def near(one: int, other: int) -> bool:
        if rows[one][0] == rows[other][0]:
            return True
        return (
            not flat[one] and not flat[other] and (numbers[one] ^ numbers[other]).bit_count() <= 3
        )

    changed = True
    while changed:
        changed = False
        for one in range(len(rows)):
            for other in range(len(rows)):
                if near(one, other) and names[other] < names[one]:
                    names[one], changed = names[other], True
    return names


turned = st.lists(st.integers(0, 63), max_size=7)
images = st.lists(
    st.tuples(st.sampled_from([0, 0x5A5A5A5A5A5A5A5A, 0x0F0F33335555AAAA]), turned),
    min_size=1,
    max_size=24,
)


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    found=images,
    copies=st.lists(st.integers(0, 1000), max_size=8),
    cut=st.integers(1, 4),
    gathered=st.integers(1, 9),
    order=st.randoms(),
)
def test_clusters_depend_on_the_rows_alone(
    tmp_path_factory: pytest.TempPathFactory,
    found: list[tuple[int, list[int]]],
    copies: list[int],
    cut: int,
    gathered: int,
    order: object,
) -> None:
    rows: list[Row] = []
    for place, (number, places) in enumerate(found):
        for bit in places:
            number ^= 1 << bit
        rows.append((f"{(place * 7) % 25:02d}", f"{number:016x}"))
    rows += [rows[copy % len(rows)] for copy in copies]
    order.shuffle(rows)  # type: ignore[attr-defined]
    size = -(-len(rows) // cut)
    parts = [rows[start : start + size] for start in range(0, len(rows), size)]
    clusters = hashed(tmp_path_factory.mktemp("cut"), parts, gathered=gathered, met=10 * gathered)
    assert [name for part in clusters for _, name in sorted(part.items())] == oracle(rows)


@pytest.mark.parametrize("crowd", [near.CROWD, 4])
def test_every_near_pair_is_found_in_crowds_too(
    crowd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(near, "CROWD", crowd)
    random = np.random.default_rng(5)
    hashes = [0x123456789ABCDEF0]
    for _ in range(700):
        hashes.append(
            hashes[random.integers(len(hashes))]
            ^ (1 << int(random.integers(64)))
            ^ (1 << int(random.integers(64)))
        )
    numbers = np.unique(np.array(hashes, dtype=np.uint64))
    pairs = [np.sort(np.stack(pair), axis=0) for key in KEYS for pair in near_hashes(numbers, key)]
    there = np.unique(np.concatenate(pairs, axis=1), axis=1)
    one, other = np.nonzero(np.bitwise_count(numbers[:, None] ^ numbers[None]) <= 3)
    assert there.tolist() == [one[one < other].tolist(), other[one < other].tolist()]


def test_a_forest_leads_each_node_to_the_least() -> None:
    forest = Forest()
    forest.gather([(np.array([5, 9]), np.array([7, 8])), (np.array([7]), np.array([3]))])
    assert [column.tolist() for column in forest.links] == [[5, 7, 9], [3, 3, 8]]
    forest.add(np.array([9]), np.array([5]))
    assert [column.tolist() for column in forest.links] == [[5, 7, 8, 9], [3, 3, 3, 3]]


def made_vectors(count: int, copied: int, cosine: float, size: int = 64) -> np.ndarray:
    """Unit vectors around some directions, as models give them; then a copy of each of the first so
    far from it as the cosine says.
    """
    random = np.random.default_rng(7)
    topics = random.normal(size=(50, size))
    first = topics[random.integers(50, size=count)] + random.normal(size=(count, size))
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    away = random.normal(size=(copied, size))
    away -= (away * first[:copied]).sum(axis=1, keepdims=True) * first[:copied]
    away /= np.linalg.norm(away, axis=1, keepdims=True)
    return np.concatenate([first, cosine * first[:copied] + np.sqrt(1 - cosine**2) * away]).astype(
        np.float32
    )


def embedded(folder: Path, vectors: np.ndarray, parts: int, **cut: int) -> list[str]:
    rows: list[Row] = [
        (f"{place:06d}", list(vector)) for place, vector in enumerate(vectors.astype(np.float16))
    ]
    size = -(-len(rows) // parts)
    split = [rows[start : start + size] for start in range(0, len(rows), size)]
    names = write_rows(Folder(str(folder / "rows")), split, pa.list_(pa.float16()))
    out, place = Folder(str(folder / "out")), Folder(str(folder / "rows"))
    done = cluster(
        out=out, rows=place, names=names, kind="embedding", identity="test", run=at_once, **cut
    )
    return [name for part in found(done, parts) for _, name in sorted(part.items())]


def test_vectors_at_a_small_angle_are_near(tmp_path: Path) -> None:
    vectors = made_vectors(300, 100, 0.97)
    clusters = embedded(tmp_path, vectors, 3)
    assert clusters == [f"{place:06d}" for place in range(300)] + [
        f"{place:06d}" for place in range(100)
    ]
    assert embedded(tmp_path / "further", made_vectors(300, 100, 0.95), 2) == [
        f"{place:06d}" for place in range(400)
    ]


def test_few_near_vectors_are_missed_where_there_are_many(tmp_path: Path) -> None:
    vectors = made_vectors(18_000, 2_000, 0.97)
    clusters = embedded(tmp_path, vectors, 4, gathered=6_000, met=15_000)
    assert clusters[:18_000] == [f"{place:06d}" for place in range(18_000)]
    right = sum(clusters[18_000 + place] == f"{place:06d}" for place in range(2_000))
    assert right >= 0.97 * 2_000, right


def test_a_cell_that_is_too_wide_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near, "WIDE", 1_000)
    vectors = made_vectors(5_000, 1_000, 0.97)
    pairs = {
        (int(a), int(b))
        for one, other in near_vectors(vectors, 0.96)
        for a, b in zip(one, other, strict=True)
    }
    assert len(pairs & {(place, 5_000 + place) for place in range(1_000)}) >= 970


def test_vectors_of_two_models_are_an_error(tmp_path: Path) -> None:
    names = write_rows(
        Folder(str(tmp_path)), [[("a", [1.0, 0.0]), ("b", [1.0])]], pa.list_(pa.float16())
    )
    with pytest.raises(ValueError, match="different lengths"):
        cluster(
            out=Folder(str(tmp_path / "out")),
            rows=Folder(str(tmp_path)),
            names=names,
            kind="embedding",
            identity="test",
            run=at_once,
        )


def test_it_goes_on_where_it_was_stopped_and_does_nothing_twice(tmp_path: Path) -> None:
    rows = Folder(str(tmp_path / "rows"))
    names = write_rows(rows, [[("b", bits()), ("a", bits(1))], [("c", bits(2))]], pa.string())
    ran: list[str] = []

    def run(stage: Stage) -> Manifest:
        ran.append(stage.name)
        if ran.count("elect") == 1 and stage.name == "elect":
            raise StageFailed("stopped")
        return run_stage(stage)

    out = Folder(str(tmp_path / "out"))

    def again() -> list[dict[int, str]]:
        return found(
            cluster(
                out=out, rows=rows, names=names, kind="hash", identity="test", run=run, gathered=2
            ),
            2,
        )

    with pytest.raises(StageFailed, match="stopped"):
        again()
    assert again() == [{0: "a", 1: "a"}, {0: "a"}]
    ran.clear()
    assert again() == [{0: "a", 1: "a"}, {0: "a"}]
    assert ran == ["clusters"]


def test_a_part_that_fails_is_named(tmp_path: Path) -> None:
    names = write_rows(Folder(str(tmp_path)), [[("a", "no hash at all!!")]], pa.string())
    with pytest.raises(StageFailed, match="stage nodes: 1 parts failed, first rows-00000"):
        cluster(
            out=Folder(str(tmp_path / "out")),
            rows=Folder(str(tmp_path)),
            names=names,
            kind="hash",
            identity="test",
            run=run_stage,
        )
