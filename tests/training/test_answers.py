"""Answers to questions, and sentences about two images: how they are scored, learnt and asked."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.training.worlds import COLOURS, SHAPES, picture
from training.answers import accuracy, normal, soft_scores
from training.data.shards import Release
from training.embed import PatchesSpec
from training.evaluate import nlvr2, retrieval, vqa
from training.evaluate.encoded import silent
from training.evaluate.lines import CaptionsFile, opened_release, read_lines
from training.evaluate.scorer import Scorer
from training.evaluate.vqa import answers_to, kind_of
from training.export import load_model, load_scorer
from training.objectives.answers import Answers
from training.recipes import load
from training.train import train

Rows = list[dict[str, Any]]
SMALL = ["stages.0.batch=16", "precision=float32", "threads=1", "validate_steps=0"]
PLAIN = "model.prepare.patches.augment=null"  # 32 pixels do not stand what photographs do


@pytest.mark.parametrize(
    ("agreed", "worth"), [(0, 0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1), (10, 1)]
)
def test_accuracy_is_the_mean_over_all_people_of_what_the_others_say(
    agreed: int, worth: float
) -> None:
    assert accuracy("yes", ["yes"] * agreed + ["no"] * (10 - agreed)) == pytest.approx(worth)


def test_fewer_people_than_ten_are_enough() -> None:
    assert accuracy("Red.", ["red"]) == 1
    assert accuracy("blue", ["red"]) == 0
    assert accuracy("red", ["red", "blue"]) == 0.5
    assert soft_scores(["red"]) == {"red": 1.0}
    assert soft_scores(["red", "blue"]) == {"red": 0.5, "blue": 0.5}
    assert soft_scores(["a dog", "dog", "cat"]) == {
        "dog": pytest.approx(2 / 3),
        "cat": pytest.approx(1 / 3),
    }
    assert soft_scores(["yes"] * 9 + ["no"]) == {"yes": 1.0, "no": pytest.approx(1 / 3)}


@pytest.mark.parametrize(
    ("said", "compared"),
    [
        ("The Dog.", "dog"),
        ("two", "2"),
        ("1,000", "1000"),
        ("2.50", "2.50"),
        ("it's blue/green", "its blue green"),
        ("None", "0"),
        ("t-shirt", "t shirt"),
        ("  ", ""),
    ],
)
def test_answers_are_compared_without_what_does_not_matter(said: str, compared: str) -> None:
    assert normal(said) == compared


def test_kinds_of_questions() -> None:
    assert kind_of(["no", "yes", "no"]) == "yes/no"
    assert kind_of(["three", "3", "four"]) == "number"
    assert kind_of(["red"]) == "other"


@pytest.fixture
def written(tmp_path: Path) -> Callable[[str, Rows], Path]:
    """A file of lines about drawn shapes, which stand beside it."""
    for colour in COLOURS:
        for shape in SHAPES:
            for number in range(6):
                (tmp_path / f"{colour}-{shape}-{number}.png").write_bytes(
                    picture(colour, shape, seed=number)
                )

    def write(name: str, rows: Rows) -> Path:
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    return write


def _questions(numbers: range) -> Rows:
    rows: Rows = []
    for number in numbers:
        for colour in COLOURS:
            for shape in SHAPES:
                image = f"{colour}-{shape}-{number}.png"
                asked = {"what colour is on white": [colour] * 10, "a circle": _yes(shape)}
                rows += [{"image": image, "question": q, "answers": a} for q, a in asked.items()]
    return rows


def _yes(shape: str) -> list[str]:
    return ["yes"] * 9 + ["no"] if shape == "circle" else ["No"] * 10


def test_questions_are_learnt_by_a_model_that_judges(
    trained: Path, written: Callable[[str, Rows], Path], tmp_path: Path
) -> None:
    asked, held = written("train.jsonl", _questions(range(5))), _questions(range(5, 6))
    changes = [
        *SMALL,
        PLAIN,
        f"finetune={trained}",
        "stages.0.steps=150",
        "stages.0.optimizer.lr=3e-3",
    ]
    plan = load("vqa", size="tiny", changes=changes)
    assert set(plan.model.heads) == {"answer"}
    result = train(plan, releases={"train": asked}, out=tmp_path / "run", workers=0, say=str)

    scorer = load_scorer(result.model)
    assert scorer.answers is not None
    assert scorer.answers.classes == ("no", "yes", *sorted(COLOURS))
    (tmp_path / "red-circle-5.png").write_bytes(b"no picture")
    held.append({"image": "gone.png", "question": "a circle", "answers": ["yes"]})
    found = vqa.evaluate(scorer, written("held.jsonl", held))
    assert found["questions"] == 34
    assert found["answers"] == 8
    assert found["unreadable"] == 2
    assert (
        found["left_out"][str(tmp_path / "gone.png")] == "there is no such file, or nothing in it"
    )
    assert found["accuracy"] >= 80
    assert found["blind"]["texts_alone"]["accuracy"] <= 55
    assert found["blind"]["shuffled_images"]["accuracy"] <= 60
    assert found["blind"]["one_answer"] == {"accuracy": pytest.approx(39.71), "answer": "no"}
    assert found["best_possible"] == 100
    assert set(found["kinds"]) == {"yes/no", "other"}
    with pytest.raises(ValueError, match="neither compares nor matches"):
        retrieval.evaluate(scorer, tmp_path / "held.jsonl")


def _sentences(numbers: range) -> Rows:
    """Which of the two is the circle: the label turns with their order."""
    rows: Rows = []
    for number in numbers:
        for colour in COLOURS:
            for other in COLOURS:
                pair = [f"{colour}-circle-{number}.png", f"{other}-square-{number}.png"]
                sentence = "a circle on white"  # in the first image
                rows.append({"images": pair, "sentence": sentence, "label": True})
                rows.append({"images": pair[::-1], "sentence": sentence, "label": False})
    return rows


def test_a_sentence_about_two_images_is_judged_by_their_order(
    trained: Path, written: Callable[[str, Rows], Path], tmp_path: Path
) -> None:
    path = written("train.jsonl", _sentences(range(4)))
    plain = [PLAIN, "model.prepare.second.augment=null"]
    changes = [
        *SMALL,
        *plain,
        f"finetune={trained}",
        "stages.0.steps=140",
        "stages.0.optimizer.lr=3e-3",
    ]
    plan = load("nlvr2", size="tiny", changes=changes)
    result = train(plan, releases={"train": path}, out=tmp_path / "run", workers=0, say=str)
    model, _ = load_model(result.model)
    assert model.get_parameter("embeds.second.place") is model.get_parameter("embeds.patches.place")

    held = _sentences(range(5, 6))
    held[0]["images"][1] = "gone.png"
    found = nlvr2.evaluate(result.model, written("dev.jsonl", held))
    assert found["pairs"] == 71
    assert found["true"] == 36
    assert found["unreadable"] == 1
    assert found["accuracy"] >= 80
    assert found["blind"]["texts_alone"]["accuracy"] == pytest.approx(50, abs=1)


def test_what_is_new_is_copied_or_begins_anew(trained: Path, tmp_path: Path) -> None:
    vilt = load("vilt", size="tiny")
    plan = load("nlvr2", size="tiny")
    patches = plan.model.embeds["second"]
    assert isinstance(patches, PatchesSpec)
    assert patches.modality
    assert patches == plan.model.embeds["patches"]
    assert plan.stages[0].fresh == {
        "heads.answer.pooler": "heads.match.pooler",
        "heads.answer": "",
        "embeds.second.modality": "embeds.patches.modality",
    }
    assert vilt.model.stacks == plan.model.stacks
    assert plan.model.passes["match_second"].inputs == ("words", "second")
    with pytest.raises(ValueError, match="holds no model"):
        load("vqa", changes=[f"finetune={tmp_path}"])
    with pytest.raises(ValueError, match="as many images as passes"):
        Answers(fused=("a", "b"))


def test_a_file_is_trained_on_as_a_release_is(shapes: Path, scorer: Scorer) -> None:
    release = opened_release("mine", shapes)
    assert isinstance(release, Release)
    assert (release.name, len(release), release.home) == ("mine", 18, shapes.parent)
    assert len(list(release.all_captions())) == 18
    assert release.digest() == CaptionsFile.read(shapes).digest()
    shapes.write_text(shapes.read_text().replace("red", "reddish", 1))
    assert release.digest() != CaptionsFile.read(shapes).digest()

    with pytest.raises(ValueError, match="answers nothing"):
        vqa.evaluate(scorer, shapes)


def test_samples_without_answers_are_not_compared(shapes: Path) -> None:
    """Lines of captions behind a line with a question, in one file."""
    lines = read_lines(shapes)[:3]
    lines[0] = replace(lines[0], answers=("red",))
    answering = cast(Scorer, SimpleNamespace(answers=Answers(classes=("red",)), image_specs={}))
    with pytest.raises(ValueError, match="2 of 3 samples have no answers to compare, number 1"):
        answers_to(answering, CaptionsFile(lines), 0, silent)


def test_a_file_without_answers_teaches_none(shapes: Path, tmp_path: Path) -> None:
    plan = load("vqa", size="tiny", smoke=True, changes=["threads=1"])
    with pytest.raises(ValueError, match="train: no answers to learn from"):
        train(plan, releases={"train": shapes}, out=tmp_path / "run", workers=0)
