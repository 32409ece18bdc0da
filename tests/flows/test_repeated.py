"""What a schedule runs again and again: each run goes on, begins anew or has nothing to do."""

import re
from pathlib import Path

import pytest

from filters.recipe.funnel import Funnel
from filters.recipe.recipe import load
from flows.deployments import collect, curate, pretrain
from flows.training import address
from pipelines.collect.collection import Collection
from pipelines.collect.run import CollectConfig
from pipelines.decide.decision import Decision
from pipelines.store import Folder

SOURCE = CollectConfig(seeds=("https://example.org/",))
NEW = r"web-\d{8}T\d{6}Z"


def begun(root: Folder, id: str, source: CollectConfig) -> Folder:
    folder = root / "collections" / id
    folder.write_json(
        "configuration.json",
        {"settings": source.model_dump(mode="json"), "began": "2026-01-01T00:00:00Z"},
    )
    return folder


def test_an_unfinished_collection_goes_on_and_a_finished_one_does_not(tmp_path: Path) -> None:
    root = Folder(str(tmp_path))
    folder = begun(root, "web-20260101T000000Z", SOURCE)
    begun(root, "web-clean-20260102T000000Z", SOURCE)
    begun(root, "web-20260103T000000Z", CollectConfig(seeds=("https://example.com/",)))
    assert collect._turn(root, "web", SOURCE) == "web-20260101T000000Z"
    folder.write_json("manifest.json", {})
    turn = collect._turn(root, "web", SOURCE)
    assert re.fullmatch(NEW, turn)
    assert turn > "web-20260103T000000Z"
    # the others are not complete or not of this name
    assert collect._before(root, "web", turn) == "web-20260101T000000Z"
    assert collect._before(root, "web", "web-20260101T000000Z") is None


def decision(root: Folder, *collections: str) -> Decision:
    opened = tuple(
        Collection(id=id, folder=root / "collections" / id, digest=f"of {id}", counts={}, failed=0)
        for id in collections
    )
    recipe = load("everything")
    funnel = Funnel(recipe="everything", outcomes={"kept": 1})
    return Decision(
        folder=root,
        digest="d",
        names=(),
        recipe=recipe,
        collections=opened,
        funnel=funnel,
        failed=0,
    )


def test_nothing_new_is_no_new_release(tmp_path: Path) -> None:
    root = Folder(str(tmp_path))
    manifest = {
        "recipe_digest": load("everything").digest,
        "collections": {"a": "of a"},
        "digest": "x",
    }
    (root / "releases" / "web-20260101T000000Z").write_json("manifest.json", manifest)
    assert curate._turn(root, "web", decision(root, "a")) == "web-20260101T000000Z"
    assert re.fullmatch(NEW, curate._turn(root, "web", decision(root, "a", "b")))


def released(root: Folder, name: str, digest: str) -> None:
    (root / "releases" / name).write_json("manifest.json", {"digest": digest})


def test_a_training_reads_the_release_of_its_digest_else_the_newest(tmp_path: Path) -> None:
    root = Folder(str(tmp_path))
    assert pretrain._choose(root, "web", "") is None
    for name, digest in (
        ("web-20260101T000000Z", "one"),
        ("web-20260102T000000Z", "two"),
        ("web-clean-20260103T000000Z", "three"),
    ):
        released(root, name, digest)
    assert pretrain._choose(root, "web", "") == "web-20260102T000000Z"
    assert pretrain._choose(root, "web", "one") == "web-20260101T000000Z"
    assert pretrain._choose(root, "web", "three") == "web-20260102T000000Z"


def test_a_digest_that_no_release_has_is_an_error(tmp_path: Path) -> None:
    root = Folder(str(tmp_path))
    released(root, "web", "one")
    pretrain._expect(root, ["web"], "one")
    pretrain._expect(root, ["web"], "")
    with pytest.raises(
        ValueError,
        match=r"^no release of digest two is there to train on \(web has one\): was it deleted",
    ):
        pretrain._expect(root, ["web"], "two")


def test_the_address_of_a_release_that_is_not_there(tmp_path: Path) -> None:
    root = Folder(str(tmp_path))
    released(root, "web", "one")
    assert address(root, "web") == str(tmp_path / "releases/web")
    with pytest.raises(ValueError, match=r"^there is no release wbe in .* \(published: web\)$"):
        address(root, "wbe")
    with pytest.raises(
        ValueError, match=r"^there is no release web in memory:///?winnow \(published: none\)$"
    ):
        address(Folder("memory://winnow"), "web")


def test_the_plan_names_the_releases_that_its_stages_read() -> None:
    assert pretrain.read_plan("vilt", {"train": "web"}, seed=3, smoke=True).seed == 3
    with pytest.raises(
        ValueError,
        match=(
            r"^training recipe vilt reads train, but releases are given for clean, train: give a"
            r" release for each"
        ),
    ):
        pretrain.read_plan("vilt", {"train": "web", "clean": "c"}, seed=0, smoke=True)
