"""The same commands on real material: a served site of real photographs with known faults, and real
web archives.
"""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipelines.collect.collection import open_collection
from pipelines.decide.decision import Decision, decide
from pipelines.store import Folder
from pipelines.tables import read_table
from tests import quality

SHARED, PHOTOS = quality.SHARED, quality.PHOTOS
ARCHIVES = SHARED / "data/warc"

pytestmark = [pytest.mark.real, pytest.mark.timeout(1200)]


def winnow(*words: str) -> str:
    """Run the command line as a user would and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", *words],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, (
        f"winnow {' '.join(words)} ended with {done.returncode}:\n{done.stderr[-4000:]}"
    )
    return done.stdout


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not PHOTOS.exists():
        pytest.skip(f"{PHOTOS} is not here")
    out = tmp_path_factory.mktemp("photos")
    maker = SHARED / "tools/make_site.py"
    subprocess.run(
        [sys.executable, maker, "--pairs", PHOTOS, "--out", out, "--limit", "1500", "--seed", "11"],
        check=True,
    )
    return out


@pytest.fixture(scope="module")
def served(site: Path) -> Iterator[str]:
    """The site on a plain static server, as anybody would start one."""
    command = [
        sys.executable,
        "-m",
        "http.server",
        "0",
        "--bind",
        "127.0.0.1",
        "--directory",
        str(site / "site"),
    ]
    with subprocess.Popen(
        [command[0], "-u", *command[1:]],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as server:
        assert server.stdout is not None
        port = server.stdout.readline().split(" port ")[1].split()[0]
        yield f"http://127.0.0.1:{port}"
        server.kill()


@pytest.fixture(scope="module")
def root(served: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root that holds the collection `photos` and the release `photos` of the site."""
    root = tmp_path_factory.mktemp("root")
    winnow(
        "collect",
        "--root",
        str(root),
        "--id",
        "photos",
        "--seed",
        f"{served}/",
        "--allow-private-addresses",
    )
    winnow(
        "curate",
        "--root",
        str(root),
        "--recipe",
        "winnow",
        "--collection",
        "photos",
        "--release",
        "photos",
    )
    return root


@pytest.fixture(scope="module")
def decision(root: Path) -> Decision:
    return decide(Folder(str(root)), "winnow", ["photos"])


@pytest.fixture(scope="module")
def references(site: Path, root: Path) -> list[dict[str, Any]]:
    return quality.references(site / "truth.jsonl", Folder(str(root)), "photos")


def test_every_reference_of_the_truth_is_found(references: list[dict[str, Any]]) -> None:
    assert [row for row in references if row["outcome"] is None] == []


def test_counts_are_conserved(decision: Decision, root: Path) -> None:
    collection = open_collection(Folder(str(root)), "photos")
    assert (
        sum(decision.funnel.outcomes.values())
        == decision.funnel.candidates
        == collection.counts["candidates"]
    )
    assert decision.failed == 0


def test_faults_are_dropped_for_a_reason_that_names_them(references: list[dict[str, Any]]) -> None:
    found = quality.by_fault(references)
    for fault, reasons in quality.NAMED.items():
        named = sum(found[fault][reason] for reason in reasons)
        assert named >= 0.95 * found[fault].total(), f"{fault}: {found[fault]}"


def test_faithful_pairs_are_kept(references: list[dict[str, Any]]) -> None:
    outcomes = quality.by_fault(references)["faithful"]
    assert outcomes["kept"] >= 0.98 * outcomes.total(), quality.table(references)


def test_the_release_loads_as_a_data_set_and_as_a_map(
    root: Path, decision: Decision, tmp_path: Path
) -> None:
    from datasets import load_dataset

    folder = root / "releases/photos"
    shards = sorted(str(path) for path in folder.glob("train-*.arrow"))
    manifest = json.loads((folder / "manifest.json").read_text())
    loaded = load_dataset("arrow", data_files=shards, split="train", cache_dir=str(tmp_path))
    assert loaded.column_names[:4] == ["image", "caption", "image_id", "split"]
    assert len(loaded) == manifest["samples"]
    mapped = pa.ipc.open_file(pa.memory_map(shards[0]))
    assert mapped.schema.names[:4] == ["image", "caption", "image_id", "split"]
    assert set(mapped.schema.names) >= set(decision.recipe.reads)
    assert all(
        mapped.get_batch(index).num_rows <= 256 for index in range(mapped.num_record_batches)
    )
    assert winnow("validate", "--root", str(root)) == "every file is as its manifest says\n"


def test_the_release_trains_and_is_evaluated(root: Path, tmp_path: Path) -> None:
    heldout = [json.loads(line) for line in PHOTOS.read_text().splitlines()[-40:]]
    captions = tmp_path / "captions.jsonl"
    lines = [
        {"image": str(PHOTOS.parent / row["image"]), "captions": row["captions"][:1]}
        for row in heldout
    ]
    captions.write_text("".join(json.dumps(line) + "\n" for line in lines))
    winnow(
        "train",
        "vilt",
        "--smoke",
        "--root",
        str(root),
        "--release",
        "photos",
        "--out",
        str(tmp_path / "model"),
    )
    found = json.loads(
        winnow("evaluate", str(tmp_path / "model/model"), "--captions", str(captions), "--json")
    )
    assert found["candidates"] == 40
    assert 0 <= found["text_to_image"]["r1"] <= found["text_to_image"]["r10"] <= 100


def test_real_archives_give_candidates_and_their_own_images(tmp_path: Path) -> None:
    if not ARCHIVES.exists():
        pytest.skip(f"{ARCHIVES} is not here")
    archives = sorted(
        str(path) for pattern in ("*.warc", "*.warc.gz") for path in ARCHIVES.rglob(pattern)
    )
    assert len(archives) >= 20
    words = [
        "collect",
        "--root",
        str(tmp_path),
        "--id",
        "archive",
        "--no-fetch",
        "--json",
        "--warc",
        *archives,
    ]
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", *words],
        capture_output=True,
        text=True,
        check=False,
    )
    found = json.loads(done.stdout)
    assert done.returncode == (1 if found["failed"] else 0), done.stderr
    root = Folder(str(tmp_path))
    decision = decide(root, "everything", ["archive"])
    assert decision.funnel.candidates == found["counts"]["candidates"] > 0
    fetches = open_collection(root, "archive").folder / "fetches"
    tables = [
        read_table(fetches, name, ["outcome"])
        for name in fetches.names()
        if name.endswith(".parquet")
    ]
    outcomes = Counter(pa.concat_tables(tables)["outcome"].to_pylist())
    assert outcomes["fetched"] > 0, "no archive held the image of one of its pages"
    assert outcomes["fetch.not_asked"] > 0
