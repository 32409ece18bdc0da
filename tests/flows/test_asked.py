"""Evaluation of a run's model on a file or on a release: what is found is kept beside the run."""

import json
from pathlib import Path
from typing import Any

import pytest

from flows import evaluation_data as asked
from flows.evaluation_data import asked_about, evaluate, trained_on
from pipelines.store import Folder
from tests.training.worlds import picture, release


@pytest.fixture
def root(tmp_path: Path) -> Folder:
    """A release of both splits, and a run that was trained on it."""
    (tmp_path / "releases").mkdir()
    folder = release(tmp_path / "releases" / "web-1", 12)
    (folder / "train-00001-of-00002.arrow").rename(folder / "heldout-00000-of-00001.arrow")
    (folder / "manifest.json").write_text(json.dumps({"digest": "ab" * 16, "format": "arrow"}))
    run = tmp_path / "models" / "one"
    (run / "model").mkdir(parents=True)
    (run / "plan.json").write_text(
        json.dumps({"name": "one", "releases": {"train": "ab" * 16, "clean": "cd" * 16}})
    )
    return Folder(str(tmp_path))


def test_a_file_or_a_split_of_a_release(root: Folder, tmp_path: Path) -> None:
    assert len(asked_about(root, None, "web-1", "heldout")) == 6
    assert len(asked_about(root, None, "web-1", "train")) == 6
    assert len(asked_about(root, None, "web-1", "all")) == 12
    with pytest.raises(ValueError, match="--captions FILE, or --release NAME"):
        asked_about(root, None, None, "heldout")
    with pytest.raises(ValueError, match="--captions FILE, or --release NAME"):
        asked_about(root, tmp_path / "captions.jsonl", "web-1", "heldout")
    with pytest.raises(ValueError, match=r"no release web-2 in .*published: web-1"):
        asked_about(root, None, "web-2", "heldout")


def test_what_a_model_was_trained_on(root: Folder, tmp_path: Path) -> None:
    found, missing = trained_on(root, tmp_path / "models" / "one" / "model")
    assert {name: one.name for name, one in found.items()} == {"train": "web-1"}
    assert missing == ["clean"]
    assert trained_on(root, tmp_path / "elsewhere") == ({}, [])


def test_findings_are_kept_beside_the_run(
    root: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Task:
        @staticmethod
        def evaluate(model: Path, samples: Any, *, workers: int, tell: Any) -> dict[str, Any]:
            return {"candidates": len(samples)}

    monkeypatch.setattr(asked, "import_module", lambda name: Task)
    model = tmp_path / "models" / "one" / "model"
    (tmp_path / "a.png").write_bytes(picture("red", "circle", 1))
    captions = tmp_path / "captions.jsonl"
    captions.write_text('{"image": "a.png", "captions": ["a red circle"]}\n')

    found = evaluate(root, model, "retrieval", release="web-1")
    assert found["candidates"] == 6
    assert found["asked"] == "web-1, heldout"
    near = found["near_duplicates"]
    assert near["releases"] == {
        "train": {
            "images": near["images"],
            "compared_with": near["releases"]["train"]["compared_with"],
        }
    }
    assert near["missing"] == ["clean"]

    evaluate(root, model, "captioning", captions=captions)
    kept = json.loads((model.parent / "evaluation.json").read_text())
    assert kept["retrieval"] == found
    assert kept["captioning"] == {"candidates": 1, "asked": str(captions)}

    elsewhere = evaluate(root, tmp_path / "elsewhere", "matching", captions=captions)
    assert "not in this root" in elsewhere["near_duplicates"]["unknown"]
    assert not (tmp_path / "evaluation.json").exists()


def test_sentences_are_for_classification(root: Folder, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match="--template is of --task classification, not of retrieval"
    ):
        evaluate(root, tmp_path, "retrieval", release="web-1", templates=["a photo of a {}."])
