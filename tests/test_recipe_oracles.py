"""The outcome of every candidate of real collections under published recipes, against oracles that
go row by row.

The oracles (`tests/oracles.py`) measure and decide by themselves. What a paper leaves to a model or
a list that it does not publish is given to them: they read it back from the decision.
"""

import json
from collections import Counter
from pathlib import Path

import pytest

from pipelines.collect.run import CollectConfig, collect
from pipelines.store import Folder
from tests.oracles import Oracle, Row, cc3m, coyo, datacomp_basic, lait, rows_of

SHARED = Path(__file__).parents[2] / "shared/data"
WORDING = Path(__file__).parent / "filters/wording"
COLLECTIONS = ("webalt-0", "webalt-1", "coco", "archives")
pytestmark = [pytest.mark.real, pytest.mark.timeout(1200)]


def lines_of(name: str) -> list[str]:
    return [
        line.split("\t")[-1]
        for line in (WORDING / f"{name}.txt").read_text(encoding="utf-8").splitlines()
        if line
    ]


def webalt(root: Folder, scratch: Path) -> None:
    """Two web sites, each with the alternative texts beside its images."""
    for number, site in enumerate(sorted((SHARED / "webalt").iterdir())):
        pairs = [
            json.loads(line)
            for line in (site / "pairs.jsonl").read_text(encoding="utf-8").splitlines()
        ]
        listed = scratch / f"webalt-{number}.jsonl"
        listed.write_text(
            "".join(
                json.dumps({"image": pair["path"], "captions": [pair["alt"]]}) + "\n"
                for pair in pairs
            )
        )
        collect(
            root,
            CollectConfig(imports=str(listed), import_images=str(site / "images")),
            id=f"webalt-{number}",
        )


def coco(root: Folder, scratch: Path) -> None:
    """The photographs, which come without captions, with texts of our own wording: some shared,
    some twice, some faulty.
    """
    texts = [
        *lines_of("faithful"),
        *lines_of("shared"),
        *lines_of("boilerplate"),
        *lines_of("filenames"),
        *lines_of("foreign"),
    ]
    photos = sorted((SHARED / "coco_mini").rglob("*.jpg"))
    listed = scratch / "coco.jsonl"
    of_photos = [
        [texts[(7 * number + step * 31) % len(texts)] for step in range(3)]
        for number in range(len(photos))
    ]
    named = [
        (str(photo.relative_to(SHARED / "coco_mini")), captions)
        for photo, captions in zip(photos, of_photos, strict=True)
    ]
    named += [(name, ["The same words under a dozen of the photographs"]) for name, _ in named[:12]]
    listed.write_text(
        "".join(
            json.dumps({"image": name, "captions": captions}) + "\n" for name, captions in named
        )
    )
    collect(
        root, CollectConfig(imports=str(listed), import_images=str(SHARED / "coco_mini")), id="coco"
    )


def archives(root: Folder) -> None:
    paths = sorted(
        str(path)
        for pattern in ("*.warc", "*.warc.gz")
        for path in (SHARED / "warc").rglob(pattern)
    )
    collect(root, CollectConfig(warc=tuple(paths), fetch=False), id="archives")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    if not SHARED.exists():
        pytest.skip(f"{SHARED} is not here")
    root = Folder(str(tmp_path_factory.mktemp("root")))
    webalt(root, tmp_path_factory.mktemp("lists"))
    coco(root, tmp_path_factory.mktemp("lists"))
    archives(root)
    return root


@pytest.fixture(scope="module")
def rows(root: Folder) -> list[Row]:
    """Every candidate, with its image where there is one, and what the collection itself made of
    it.
    """
    found = rows_of(root, COLLECTIONS)
    assert Counter(row.collection for row in found).keys() == set(COLLECTIONS)
    return found


def check(oracle: Oracle, root: Folder, rows: list[Row], **options: object) -> Counter[str]:
    """Outcomes as the oracle's, candidate by candidate; how many there are of each."""
    expected, decided = oracle(root, rows, COLLECTIONS)
    wrong = [
        (row.text, row.side, decided[row.id], expected[row.id])
        for row in rows
        if decided[row.id] != expected[row.id]
    ]
    assert wrong == []
    assert decided.keys() == expected.keys() == {row.id for row in rows}
    return Counter(expected.values())


def test_datacomp_basic(root: Folder, rows: list[Row]) -> None:
    outcomes = check(datacomp_basic, root, rows)
    assert {
        "kept",
        "text.language",
        "text.too_short",
        "image.too_small",
        "image.aspect",
    } <= outcomes.keys()


def test_cc3m(root: Folder, rows: list[Row]) -> None:
    outcomes = check(cc3m, root, rows)
    assert {
        "kept",
        "text.capitals",
        "text.no_determiner",
        "text.no_preposition",
        "image.format",
        "image.too_small",
    } <= outcomes.keys()


def test_lait(root: Folder, rows: list[Row]) -> None:
    outcomes = check(lait, root, rows)
    assert {
        "kept",
        "text.language",
        "text.too_short",
        "image.too_small",
        "group.shared_text",
        "group.duplicate",
    } <= outcomes.keys()


def test_coyo(root: Folder, rows: list[Row]) -> None:
    outcomes = check(coyo, root, rows)
    assert {
        "kept",
        "text.too_short",
        "text.language",
        "image.too_few_bytes",
        "image.too_small",
        "group.shared_text",
    } <= outcomes.keys()
