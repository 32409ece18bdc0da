"""What is not wanted any more goes, whole or unfinished; what something stands on does not."""

import fcntl
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from flows.remove import remove_all
from flows.status import status
from pipelines.lease import LeaseHeld, lease
from pipelines.store import Folder


def written(path: Path, value: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


@pytest.fixture
def root(tmp_path: Path) -> Folder:
    """Two collections of which the second refers to the first, a release of the second, a model of
    that release, one that goes on from it, and an unfinished run.
    """
    counts = {"counts": {}, "failed": {}, "digest": "c"}
    written(tmp_path / "collections/first/manifest.json", counts)
    written(tmp_path / "collections/second/manifest.json", {**counts, "refers_to": ["first"]})
    written(tmp_path / "memory/second/manifest.json", {})
    written(tmp_path / "outcomes/aa/decision.json", {"collections": ["second"]})
    written(tmp_path / "outcomes/bb/decision.json", {"collections": ["first"]})
    release = {"collections": {"second": "c"}, "digest": "r", "recipe": "x", "samples": 1}
    written(tmp_path / "releases/web/manifest.json", {**release, "shards": 1})
    written(tmp_path / "models/clip/plan.json", {"releases": {"train": "r"}, "plan": {}})
    written(tmp_path / "models/clip/result.json", {})
    init = {"text": str(tmp_path / "models/clip/model")}
    written(tmp_path / "models/more/plan.json", {"releases": {}, "plan": {"init": init}})
    return Folder(str(tmp_path))


def test_what_something_stands_on_is_refused_and_named(root: Folder) -> None:
    with pytest.raises(ValueError, match="collection first is needed by collection second"):
        remove_all(root, collections=["first"])
    with pytest.raises(ValueError, match="collection second is needed by release web"):
        remove_all(root, collections=["second"])
    with pytest.raises(ValueError, match="release web is needed by model clip"):
        remove_all(root, releases=["web"])
    with pytest.raises(ValueError, match="model clip is needed by model more"):
        remove_all(root, models=["clip"])
    assert set(status(root)["collections"]) == {"first", "second"}


def test_nothing_goes_where_one_of_several_is_needed(root: Folder) -> None:
    with pytest.raises(ValueError, match="release web is needed by model clip"):
        remove_all(root, models=["more"], releases=["web"])
    assert (root / "models").names() == ["clip", "more"]


def test_what_is_named_together_goes_in_its_order(root: Folder) -> None:
    gone = remove_all(
        root, collections=["second"], releases=["web"], models=["more", "clip"], dry_run=True
    )
    assert [one.name for one in gone] == ["more", "clip", "web", "second"]
    assert (root / "models").names() == ["clip", "more"]
    remove_all(root, collections=["second"], releases=["web"], models=["clip", "more"])
    assert (root / "collections").names() == ["first"]
    assert (root / "releases").names() == (root / "models").names() == []
    assert (root / "memory").names() == []
    assert (root / "outcomes").names() == ["bb"]
    assert status(root)["unfinished"] == []


def test_an_unfinished_model_goes(root: Folder) -> None:
    assert status(root)["unfinished"] == ["models/more"]
    (gone,) = remove_all(root, models=["more"])
    assert gone.bytes > 0
    assert [folder.name for folder in gone.folders] == ["more"]
    assert status(root)["unfinished"] == []


def test_what_is_being_written_stays(root: Folder) -> None:
    with lease(root / "releases" / "web", "writer.json"), pytest.raises(LeaseHeld):
        remove_all(root, models=["more", "clip"], releases=["web"])
    assert (root / "releases").names() == ["web"]


def test_a_model_that_trains_stays(root: Folder) -> None:
    lock = Path((root / "models" / "more").path(".lock"))
    with lock.open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(ValueError, match="another run trains here"):
            remove_all(root, models=["more"])
    assert (root / "models" / "more").exists("plan.json")


def test_what_is_not_there_is_named_with_what_is(root: Folder) -> None:
    with pytest.raises(ValueError, match=r"there is no release wbe .*; there are: web"):
        remove_all(root, releases=["wbe"])
    with pytest.raises(ValueError, match="name what to remove"):
        remove_all(root)
    with pytest.raises(ValueError, match=r"there is no model \.\./releases/web"):
        remove_all(root, models=["../releases/web"])
