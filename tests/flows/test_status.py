"""`winnow status` on roots that hold what it did not write."""

import json
from pathlib import Path

import pytest

from flows.status import status, status_table
from pipelines.store import Folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A collection that is whole, among others that are not."""
    whole = {"counts": {"candidates": 3}, "failed": 0, "digest": "0123"}
    manifests = {
        "collections/whole": json.dumps(whole),
        "collections/cut": json.dumps(whole)[:20],
        "collections/empty": "",
        "collections/list": "[]",
        "releases/other": '{"recipe": "winnow"}',
    }
    for folder, text in manifests.items():
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "manifest.json").write_text(text)

    (tmp_path / "collections/begun/candidates").mkdir(parents=True)
    (tmp_path / "collections/README.txt").write_text("a note of somebody")
    (tmp_path / "models/nothing").mkdir(parents=True)
    return tmp_path


def test_damaged_manifests_are_named_and_the_rest_is_shown(root: Path) -> None:
    assert status_table(status(Folder(str(root)))).splitlines() == [
        str(root),
        "  collection whole: 3 candidates",
        "  unfinished collections/begun: the same command goes on with it",
        *(
            f"  damaged {name}: remove its manifest.json and run the same command again"
            for name in (
                "collections/cut",
                "collections/empty",
                "collections/list",
                "releases/other",
            )
        ),
    ]


def test_a_root_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(
        ValueError, match=r"/data is a file: --root names the folder where all data lies$"
    ):
        status(Folder(f"{tmp_path}/data"))


def test_a_root_that_is_not_there(tmp_path: Path) -> None:
    found = status_table(status(Folder(f"{tmp_path}/data")))
    assert found.splitlines() == [f"{tmp_path}/data", "  nothing yet: `winnow collect --help`"]
