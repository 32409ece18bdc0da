"""Releases of a small collection in both formats: what readers find, what comes back on import,
what a kill or a full disk leaves.

Slow for a test file: it curates a small collection a dozen times, seconds each.
"""

import errno
import io
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from filters.given_models import Given
from flows.status import status
from flows.training import address
from pipelines import store
from pipelines.collect.config import CollectConfig
from pipelines.collect.run import collect
from pipelines.curate import curate
from pipelines.decide.decision import decide
from pipelines.engine.stage import StageFailed
from pipelines.lease import LeaseHeld, lease
from pipelines.releases import shards as release
from pipelines.releases.croissant import told
from pipelines.releases.publish import CurateConfig
from pipelines.store import Folder
from pipelines.tables import read_table
from pipelines.takedown.run import forget
from pipelines.validate import validate
from tests.pipelines.test_decide import PICTURES, URLS, make
from training.data.shards import Release as Training

ROWS = (
    ((2, 1, False), (5, 2, False), (2, 5, False), (4, 1, False)),
    ((6, 3, False), (1, 2, False), (4, 4, False)),
)
CAPTIONS = [["a dog", "two cats"], ["a red boat at sea"], ["dog", "three green birds"]]
FIRST = [
    "image",
    "caption",
    "image_id",
    "split",
    "text_source",
    "page_url",
    "image_url",
    "candidate_id",
]


def released(root: Folder, name: str, **options: Any) -> Folder:
    return curate(
        root, CurateConfig(recipe="everything", collections=("a",), release=name, **options)
    ).folder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """A root with a collection of three pictures with five texts, and its release in both formats,
    in shards of about two pairs.
    """
    root = Folder(str(tmp_path_factory.mktemp("releases") / "root"))
    make(root, "a", ROWS)
    released(root, "arrow", shard_samples=2)
    released(root, "tars", shard_samples=2, format="webdataset")
    return root


@pytest.fixture
def root(made: Folder, tmp_path: Path) -> Folder:
    shutil.copytree(made.path(), tmp_path / "root")
    return Folder(str(tmp_path / "root"))


def shards(folder: Folder, ending: str) -> list[str]:
    return [folder.path(name) for name in folder.names() if name.endswith(ending)]


def rows_of(folder: Folder) -> list[dict[str, Any]]:
    return [
        row
        for path in shards(folder, ".arrow")
        for row in read_table(folder, Path(path).name).to_pylist()
    ]


def pairs_of(folder: Folder) -> set[tuple[bytes, str]]:
    return {(row["image"], text) for row in rows_of(folder) for text in row["caption"]}


def test_an_arrow_release_reads_as_vilt_datasets_and_training_read_it(
    made: Folder, tmp_path: Path
) -> None:
    folder = made / "releases" / "arrow"
    paths = shards(folder, ".arrow")
    assert len(paths) == 3
    # as the original ViLT code does
    tables = [pa.ipc.RecordBatchFileReader(pa.memory_map(path)).read_all() for path in paths]
    assert [table.column_names[: len(FIRST)] for table in tables] == [FIRST] * 3
    assert (
        sorted(caption for table in tables for caption in table["caption"].to_pylist()) == CAPTIONS
    )
    two = next(row for row in rows_of(folder) if "two cats" in row["caption"])
    assert two["page_url"] == ["http://p.example/0", "http://p.example/0"]
    assert two["image_url"] == [URLS[1], URLS[1]]
    assert two["text_source"] == ["alt", "alt"]
    training = Training.of("arrow", paths)
    assert sorted(training[row].captions for row in range(len(training))) == CAPTIONS
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    loaded = datasets.load_dataset(
        "arrow", data_files=paths, split="train", cache_dir=str(tmp_path)
    )
    assert sorted(loaded["caption"]) == CAPTIONS


@pytest.mark.parametrize("share", [float("nan"), float("inf"), -0.1, 1, 1.5])
def test_what_is_no_share_to_hold_out_is_refused(share: float) -> None:
    with pytest.raises(
        ValueError,
        match=r"is no share to hold out: write a number from 0 to less than 1, e\.g\. 0\.02",
    ):
        CurateConfig(recipe="everything", collections=("a",), release="x", heldout=share)


def test_a_share_that_selects_nothing_says_so(root: Folder) -> None:
    words = [
        sys.executable,
        "-m",
        "flows.cli",
        "curate",
        "--root",
        root.path(),
        "--collection",
        "a",
        "--recipe",
        "everything",
    ]
    done = subprocess.run(
        [*words, "--release", "none", "--heldout", "0.000001"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    assert "none of the 3 images fell into the split heldout with --heldout 1e-06" in done.stderr
    whole = curate(root, CurateConfig(recipe="everything", collections=("a",), release="whole"))
    assert (whole.splits, whole.empty_splits) == ({"train": 3}, ())


def test_few_open_files_suffice(root: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(release, "OPEN_FILES", 1)
    folder = released(root, "few", shard_samples=2)
    assert (
        folder.read_json("manifest.json")["files"]
        == (root / "releases" / "arrow").read_json("manifest.json")["files"]
    )


def test_training_asks_for_arrow(made: Folder) -> None:
    assert len(Training.open("arrow", address(made, "arrow")).shards) == 3
    with pytest.raises(
        ValueError, match="training maps Arrow shards: curate another with --format arrow"
    ):
        address(made, "tars")


def test_both_formats_hold_the_same_samples(made: Folder) -> None:
    arrow, tars = (
        (made / "releases" / name).read_json("manifest.json") for name in ("arrow", "tars")
    )
    assert arrow["digest"] == tars["digest"]
    assert (
        (arrow["samples"], arrow["captions"], arrow["splits"])
        == (tars["samples"], tars["captions"], tars["splits"])
        == (3, 5, {"train": 3})
    )
    assert validate(made) == []


def test_webdataset_and_datasets_read_the_tars(made: Folder, tmp_path: Path) -> None:
    webdataset, datasets = pytest.importorskip("webdataset"), pytest.importorskip("datasets")
    paths = shards(made / "releases" / "tars", ".tar")
    found = list(webdataset.WebDataset(paths, shardshuffle=False))
    assert {sample["png"] for sample in found} == {PICTURES[URLS[number]] for number in (1, 2, 3)}
    assert sorted(sample["txt"].decode() for sample in found) == [
        captions[0] for captions in CAPTIONS
    ]
    assert sorted(json.loads(sample["json"])["caption"] for sample in found) == CAPTIONS
    assert all(sample["__key__"].isdigit() and len(sample["__key__"]) == 11 for sample in found)
    datasets.disable_progress_bars()
    loaded = datasets.load_dataset(
        "webdataset", data_files=paths, split="train", cache_dir=str(tmp_path)
    )
    assert sorted(loaded["txt"]) == [captions[0] for captions in CAPTIONS]


@pytest.mark.parametrize(("name", "pattern"), [("tars", "*.tar"), ("arrow", "*.arrow")])
def test_a_release_is_imported_again(made: Folder, tmp_path: Path, name: str, pattern: str) -> None:
    again = Folder(str(tmp_path / "again"))
    collect(again, CollectConfig(imports=(made / "releases" / name).path(pattern)), id="a")
    assert pairs_of(released(again, "back")) == pairs_of(made / "releases" / "arrow")


@pytest.mark.parametrize("name", ["arrow", "tars"])
def test_the_croissant_file_is_valid(
    made: Folder, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    croissant = pytest.importorskip("mlcroissant", reason="mlcroissant is not installed")
    folder = made / "releases" / name
    with caplog.at_level(logging.WARNING):
        metadata = croissant.Dataset(jsonld=folder.path("croissant.json")).metadata
    assert "not standard" not in caplog.text
    assert [one.sha256 for one in metadata.file_objects] == [
        file["sha256"] for file in folder.read_json("manifest.json")["files"]
    ]
    assert told(folder.read_json("croissant.json")) >= {*FIRST}
    assert "samples" in {one.name for one in metadata.record_sets} or name == "arrow"


RECORDS = """
import io, json, sys
import mlcroissant
release = mlcroissant.Dataset(jsonld=sys.argv[1])
found = {name: list(release.records(name)) for name in sys.argv[2:]}
for one in found.get("samples", ()):
    one["samples/image"] = list(one["samples/image"].size)
print(json.dumps(found, default=bytes.decode))
"""


def records(folder: Folder, cache: Path, *names: str) -> Any:
    """The records that mlcroissant generates of a release, in a process of its own: it reads where
    its cache lies when it is imported.
    """
    words = [sys.executable, "-c", RECORDS, folder.path("croissant.json"), *names]
    done = subprocess.run(
        words,
        env={**os.environ, "CROISSANT_CACHE": str(cache)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def test_mlcroissant_reads_pictures_and_texts_of_tars_in_both_splits(
    root: Folder, tmp_path: Path
) -> None:
    pytest.importorskip("mlcroissant", reason="mlcroissant is not installed")
    folder = released(root, "split", format="webdataset", heldout=0.5, shard_samples=2)
    splits = folder.read_json("manifest.json")["splits"]
    assert min(splits.values()) > 0
    found = records(folder, tmp_path / "cache", "splits", "samples")
    assert found["splits"] == [{"splits/name": "train"}, {"splits/name": "heldout"}]
    assert sorted(one["samples/caption"] for one in found["samples"]) == [
        captions[0] for captions in CAPTIONS
    ]
    assert len({one["samples/key"] for one in found["samples"]}) == 3
    sides = {one["samples/caption"]: one["samples/image"] for one in found["samples"]}
    assert sides == {"a dog": [30, 30], "a red boat at sea": [50, 50], "dog": [40, 40]}


def test_of_arrow_files_the_croissant_file_claims_no_samples(made: Folder, tmp_path: Path) -> None:
    pytest.importorskip("mlcroissant", reason="mlcroissant is not installed")
    folder = made / "releases" / "arrow"
    assert records(folder, tmp_path, "splits") == {"splits": [{"splits/name": "train"}]}
    assert [one["@id"] for one in folder.read_json("croissant.json")["recordSet"]] == ["splits"]
    assert "it has no records of samples" in folder.read("README.md").decode()


@pytest.mark.parametrize("format", ["arrow", "webdataset"])
@pytest.mark.parametrize("heldout", [0.99, 1e-9])
def test_the_line_of_the_card_reads_what_is_there_where_a_split_is_empty(
    root: Folder, tmp_path: Path, format: str, heldout: float
) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    folder = released(root, "one-sided", format=format, heldout=heldout, shard_samples=2)
    whole, empty = ("heldout", "train") if heldout > 0.5 else ("train", "heldout")
    assert folder.read_json("manifest.json")["splits"] == {whole: 3, empty: 0}
    (line,) = re.findall(
        r"samples = datasets\.load_dataset\((.*)\)", folder.read("README.md").decode()
    )
    kind, _, files = line.partition(", data_files=")
    found = datasets.load_dataset(
        json.loads(kind),
        data_files=json.loads(files),
        data_dir=folder.path(),
        cache_dir=str(tmp_path),
    )
    assert {split: len(rows) for split, rows in found.items()} == {whole: 3}
    assert validate(root) == []


@pytest.mark.parametrize("streaming", [False, True])
def test_images_of_a_release_decode(root: Folder, tmp_path: Path, streaming: bool) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    rule = (
        '[[rule]]\nmeasure = "{}"\nop = ">="\nvalue = {}\nreason = "text.none"\nsource = "test"\n'
    )
    rules = [("text.words", 0), ("text.english", 0.0), ("image.area", 1), ("image.aspect", 0.0)]
    recipe = tmp_path / "shown.toml"
    recipe.write_text(
        'name = "shown"\ndescription = "All, with what was measured."\n'
        + "".join(rule.format(*one) for one in rules)
    )
    config = CurateConfig(recipe=str(recipe), collections=("a",), release="shown", shard_samples=2)
    folder = curate(root, config).folder
    loaded = datasets.load_dataset(
        folder.path(), split="train", streaming=streaming, cache_dir=str(tmp_path)
    )
    shards = sorted(name for name in folder.names() if name.endswith(".arrow"))
    tables = [read_table(folder, name) for name in shards]
    expected = pa.concat_tables(tables).to_pylist()
    rows = list(loaded)
    assert [row["image"].size for row in rows] == [
        Image.open(io.BytesIO(row["image"])).size for row in expected
    ]
    for row, bare in zip(rows, expected, strict=True):
        assert {**row, "image": None} == {**bare, "image": None}


def test_the_card_says_what_was_done(made: Folder) -> None:
    card = (made / "releases" / "tars").read("README.md").decode()
    assert "3 images with 5 texts, kept by the recipe `everything` from `a`" in card
    assert "| `fetch.http_404` | 1 |" in card
    assert "path: train-*.tar" in card
    assert "None: everything that was fetched and decoded is here." in card


def test_a_release_that_cannot_be_written_again_keeps_no_other_from_it(
    root: Folder, tmp_path: Path
) -> None:
    (tmp_path / "words.txt").write_text("bad\n")
    rule = 'measure = "text.profanities"\nop = "=="\nvalue = 0\nreason = "text.bad"\nsource = "s"\n'
    (tmp_path / "clean.toml").write_text(f'name = "clean"\ndescription = "d"\n[[rule]]\n{rule}')
    given = Given(profanity=(str(tmp_path / "words.txt"),))
    curate(
        root,
        CurateConfig(
            recipe=str(tmp_path / "clean.toml"), collections=("a",), release="aa", given=given
        ),
    )
    (tmp_path / "words.txt").unlink()
    report = forget(root, urls=[URLS[1]])
    assert report.reissued == {"aa": None, "arrow": "arrow.r1", "tars": "tars.r1"}
    assert "words.txt" in report.causes["aa"]
    assert (
        f"release aa: could not be written again ({report.causes['aa']}): curate a new one"
        in report.lines()
    )


def test_one_damaged_manifest_hides_nothing_else(root: Folder) -> None:
    (root / "collections" / "b").write_json("manifest.json", {"counts": {}})
    (root / "releases" / "cut").write_bytes("manifest.json", b'{"recipe": ')
    found = status(root)
    assert list(found["collections"]) == ["a"]
    assert list(found["releases"]) == ["arrow", "tars"]
    assert found["damaged"] == ["collections/b", "releases/cut"]
    with pytest.raises(
        ValueError,
        match=(
            r"b/manifest\.json is damaged, or of another version of Winnow \(KeyError\('digest'\)\)"
        ),
    ):
        decide(root, "everything", ["b"])


@pytest.mark.parametrize("name", ["ä", "../x", "a/b", "", ".", "a\nb", " a", "a\0", "x" * 300])
def test_what_is_no_name_of_a_release_is_refused(name: str) -> None:
    with pytest.raises(
        ValueError,
        match=(
            r"is no name of a release: (use letters, digits|it has 300 characters, more than 200)"
        ),
    ):
        CurateConfig(recipe="everything", collections=("a",), release=name)


def photograph(seed: int) -> np.ndarray:
    """A smooth picture, so that its near duplicates look alike."""
    coarse = np.random.default_rng(seed).integers(0, 255, (9, 9, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((96, 96), Image.Resampling.BICUBIC))


def test_near_duplicates_are_never_in_two_splits(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for number in range(24):
        for copy in range(3):
            path = tmp_path / "photos" / f"{number:02d}-{copy}.jpg"
            Image.fromarray(photograph(number)).save(path, quality=95 - 10 * copy)
            path.with_suffix(".txt").write_text(f"picture {number}")
    root = Folder(str(tmp_path / "root"))
    collect(root, CollectConfig(imports=str(tmp_path / "photos")), id="a")
    folder = released(root, "split", heldout=0.4, shard_samples=20)
    splits: dict[str, set[str]] = {}
    for row in rows_of(folder):
        splits.setdefault(row["caption"][0], set()).add(row["split"])
    assert len(splits) == 24
    assert all(len(several) == 1 for several in splits.values())
    assert {split for several in splits.values() for split in several} == {"train", "heldout"}
    assert validate(root) == []


@pytest.mark.parametrize("file", ["train-00001", "manifest.json"])
@pytest.mark.parametrize("format", ["arrow", "webdataset"])
def test_a_full_disk_leaves_nothing_half_visible(
    root: Folder, monkeypatch: pytest.MonkeyPatch, format: str, file: str
) -> None:
    real = store._Hashing.write

    def write(self: Any, data: Any) -> int:
        if file in self._file.name and "/releases/" in self._file.name:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(self, data)

    monkeypatch.setattr(store._Hashing, "write", write)
    with pytest.raises((StageFailed, OSError), match="No space left on device"):
        released(root, "full", shard_samples=2, format=format)
    folder = root / "releases" / "full"
    assert not folder.exists("manifest.json")
    assert not [name for name in os.listdir(folder.path()) if name.startswith((".tmp", file))]
    monkeypatch.undo()
    released(root, "full", shard_samples=2, format=format)
    expected = {"arrow": "arrow", "webdataset": "tars"}[format]
    assert (
        folder.read_json("manifest.json")["files"]
        == (root / "releases" / expected).read_json("manifest.json")["files"]
    )


def test_a_name_that_is_taken_is_refused_before_anything_is_measured(
    root: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("nothing is to be decided")

    monkeypatch.setattr("pipelines.curate.decide", never)
    said = (
        r"^release arrow stands already, made with recipe everything from a: releases do not"
        r" change, choose another name \({}\)$"
    )
    with pytest.raises(ValueError, match=said.format(r"heldout was 0\.0 and is 0\.1")):
        released(root, "arrow", shard_samples=2, heldout=0.1)
    with pytest.raises(
        ValueError,
        match=said.format(
            r"recipe was everything and is winnow; collections was a and is a, b; .*"
        ),
    ):
        curate(root, CurateConfig(recipe="winnow", collections=("b", "a"), release="arrow"))
    (root / "releases/arrow").write_json("superseded.json", {"by": "arrow.r1"})
    with pytest.raises(
        ValueError, match=r"held what was taken down since, and lacks it now: use arrow\.r1"
    ):
        released(root, "arrow", shard_samples=2)


def test_a_release_is_written_by_one_command_at_a_time(root: Folder) -> None:
    with (
        lease(root / "releases/new", "writer.json"),
        pytest.raises(LeaseHeld, match="releases/new"),
    ):
        released(root, "new", shard_samples=2)
    assert validate(root) == []
    new = released(root, "new", shard_samples=2)
    assert (
        new.read_json("manifest.json")["files"]
        == (root / "releases/arrow").read_json("manifest.json")["files"]
    )


KILLED = """
import os, signal, sys
from pipelines.curate import curate
from pipelines.releases.croissant import told
from pipelines.releases.publish import CurateConfig
from pipelines.store import Folder

def run(root, format, moment):
    real, count = os.replace, 0
    def replace(source, target):
        nonlocal count
        if "/releases/" in str(target) and not str(target).endswith(("lease.json", "writer.json")):
            count += 1
            if count == moment:
                os.kill(os.getpid(), signal.SIGKILL)
        real(source, target)
    os.replace = replace
    curate(Folder(root), CurateConfig(recipe="everything", collections=("a",), release="killed", shard_samples=2, format=format))

for root in sys.argv[1:]:
    if os.fork() == 0:
        _, format, moment = root.rsplit("-", 2)
        run(root, format, int(moment))
        os._exit(0)
    print(os.WTERMSIG(os.wait()[1]))
"""  # noqa: E501


def test_a_killed_release_is_completed_to_the_same_bytes(made: Folder, tmp_path: Path) -> None:
    moments = [
        (format, moment)
        for format, several in (("arrow", (2, 9)), ("webdataset", (5, 9)))
        for moment in several
    ]
    roots = [tmp_path / f"root-{format}-{moment}" for format, moment in moments]
    for path in roots:
        shutil.copytree(made.path(), path)
    child = subprocess.run(
        [sys.executable, "-c", KILLED, *map(str, roots)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ},
        check=False,
    )
    assert child.stdout.split() == [str(int(signal.SIGKILL))] * len(roots), child.stderr
    for path, (format, _) in zip(roots, moments, strict=True):
        root = Folder(str(path))
        assert not (root / "releases" / "killed").exists("manifest.json")
        folder = released(root, "killed", shard_samples=2, format=format)
        whole = root / "releases" / {"arrow": "arrow", "webdataset": "tars"}[format]
        assert (
            folder.read_json("manifest.json")["digest"]
            == whole.read_json("manifest.json")["digest"]
        )
        for name in whole.names():
            if name.endswith((".arrow", ".tar")):
                assert folder.read(name) == whole.read(name), name
        assert not [name for name in os.listdir(folder.path()) if name.startswith(".tmp")]


def test_what_is_taken_down_goes_from_the_tars_too(root: Folder) -> None:
    webdataset = pytest.importorskip("webdataset")
    gone = PICTURES[URLS[2]]
    report = forget(root, urls=[URLS[2]])
    assert report.releases == {"arrow": 1, "tars": 1}
    assert report.reissued == {"arrow": "arrow.r1", "tars": "tars.r1"}
    for name in ("arrow", "tars", "arrow.r1", "tars.r1"):
        folder = root / "releases" / name
        held = b"".join(folder.read(file) for file in folder.names() if "." in file)
        for secret in (gone, b"three green birds", URLS[2].encode()):
            assert secret not in held, name
    left = [
        sample["txt"].decode()
        for sample in webdataset.WebDataset(
            shards(root / "releases" / "tars", ".tar"), shardshuffle=False
        )
    ]
    assert sorted(left) == ["a dog", "a red boat at sea"]
    new = [
        (root / "releases" / name).read_json("manifest.json")["digest"]
        for name in ("arrow.r1", "tars.r1")
    ]
    assert new[0] == new[1] != (root / "releases" / "arrow").read_json("manifest.json")["digest"]
    assert validate(root) == []
    assert forget(root).releases == {}


def test_a_second_place_of_a_picture_is_taken_down(root: Folder) -> None:
    """Where a text was found twice, or a picture lies at two addresses, each is found again in the
    release.
    """
    # the copy of the first picture, under another address
    report = forget(root, domains=["h9.example"])
    assert report.releases == {"arrow": 1, "tars": 1}
    assert validate(root) == []
