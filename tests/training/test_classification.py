"""Zero-shot classification of drawn shapes."""

import json
from pathlib import Path

import pytest

from tests.training.worlds import COLOURS, SHAPES, picture
from training.evaluate import classification
from training.evaluate.classification import labelled
from training.evaluate.scorer import Scorer


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    for colour in COLOURS:
        (tmp_path / "set" / colour).mkdir(parents=True)
        for shape in SHAPES:
            image = picture(colour, shape, seed=7)
            (tmp_path / "set" / colour / f"{shape}.png").write_bytes(image)
    return tmp_path / "set"


def test_colours_are_told(scorer: Scorer, folders: Path) -> None:
    templates = ["a {} circle on white", "a {} square on white"]
    found = classification.evaluate(scorer, folders, templates=templates)
    assert (found["images"], found["classes"]) == (18, 6)
    assert found["chance"] == {"top1": 16.67, "top5": 83.33}
    assert found["top1"] > 60
    assert found["blind"]["shuffled_images"]["top1"] < found["top1"]

    judged = scorer
    judged.contrast = None
    assert classification.evaluate(judged, folders, templates=templates)["top5"] > 60


def test_a_file_says_the_same_as_folders(folders: Path) -> None:
    rows = [
        {"image": f"{one.image.parent.name}/{one.image.name}", "label": one.captions[0]}
        for one in labelled(folders)
    ]
    path = folders / "labels.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    assert [(one.image, one.captions) for one in labelled(path)] == [
        (one.image, one.captions) for one in labelled(folders)
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "line 1: not JSON"),
        ('{"image": "red/circle.png"}', "line 1: needs"),
        ("", "is empty"),
    ],
)
def test_wrong_lines_are_named(folders: Path, text: str, message: str) -> None:
    path = folders / "labels.jsonl"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        labelled(path)
    (folders / "empty").mkdir()
    with pytest.raises(ValueError, match="no folders of images"):
        labelled(folders / "empty")


def test_a_template_has_a_place_for_the_name(scorer: Scorer, folders: Path) -> None:
    with pytest.raises(ValueError, match=r"a text with \{\}"):
        classification.evaluate(scorer, folders, templates=["a photo"])
