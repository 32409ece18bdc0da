"""Captions of drawn shapes by a small model, scored against what they show."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest

from tests.training.worlds import COLOURS, SHAPES, captions_plan, picture, release
from training.evaluate.captioning import Captioner, evaluate
from training.evaluate.lines import CaptionsFile, Line, read_lines
from training.evaluate.scorer import Scorer
from training.export import load_scorer
from training.generate import Decoding
from training.objectives.lm import Captions
from training.train import train


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("captioner")
    releases = {
        "web": release(folder / "web", 40),
        "clean": release(folder / "clean", 240, seed=1),
    }
    return train(captions_plan(160), releases=releases, out=folder / "run", workers=0).model


@pytest.fixture
def scorer(model: Path) -> Scorer:
    return load_scorer(model)


@pytest.fixture
def lines(tmp_path: Path) -> list[Line]:
    """Every colour and shape once."""
    rows = []
    for colour in COLOURS:
        for shape in SHAPES:
            (tmp_path / f"{colour}-{shape}.png").write_bytes(picture(colour, shape, seed=99))
            rows.append(
                {"image": f"{colour}-{shape}.png", "captions": [f"A {colour} {shape} on white."]}
            )
    path = tmp_path / "captions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read_lines(path)


def test_a_stage_before_the_last_is_not_forgotten(scorer: Scorer) -> None:
    assert scorer.captions == Captions()
    assert scorer.contrast is not None


def test_unseen_shapes_are_named_and_shuffled_ones_are_not(
    scorer: Scorer, lines: list[Line]
) -> None:
    found = evaluate(scorer, lines, java=False)
    assert found["images"] == found["captions"] == 18
    assert found["unreadable"] == 0
    assert found["decoding"]["how"] == "greedy"
    assert found["decoding"]["longest"] == 11  # 12 places, of which [DEC] takes one
    # colours are told apart at once, shapes less surely; all captions have three words in common
    assert found["cider"] > 250
    assert found["blind"]["shuffled_images"]["cider"] < found["cider"] / 2
    assert set(found["skipped"]) <= {"meteor", "spice"}


def _texts(captioner: Captioner, lines: list[Line]) -> list[str]:
    return [one.text for one in captioner.write(CaptionsFile(lines))]


def test_a_broken_image_has_no_caption_and_costs_no_other(
    scorer: Scorer, lines: list[Line]
) -> None:
    scorer.batch = 4
    lines = lines[:6]
    whole = Captioner(scorer=scorer).write(CaptionsFile(lines))
    assert all(one.text.endswith("on white") and not one.bad for one in whole)

    lines[2].image.write_bytes(lines[2].image.read_bytes()[:40])
    found = Captioner(scorer=scorer).write(CaptionsFile(lines))
    assert found[2].text == ""
    assert found[2].bad
    assert [*found[:2], *found[3:]] == [*whole[:2], *whole[3:]]

    scored = evaluate(scorer, lines, java=False)
    assert (scored["images"], scored["unreadable"]) == (6, 1)
    assert list(scored["left_out"]) == [str(lines[2].image)]
    assert len(scored["examples"]) == 5
    assert scored["examples"][0]["image"].startswith("data:image/jpeg;base64,")
    assert scored["examples"][0]["references"] == list(lines[0].captions)
    with pytest.raises(ValueError, match="none of 1 images can be used"):
        evaluate(scorer, lines[2:3], java=False)


def test_a_prompt_is_gone_on_with(scorer: Scorer, lines: list[Line]) -> None:
    prompted = _texts(Captioner(scorer=scorer, prompt="a green"), lines[:3])
    assert all(text.endswith("on white") for text in prompted)
    assert not any("green" in text for text in prompted)


@pytest.mark.parametrize("how", ["beam", "nucleus"])
def test_other_ways_of_choosing_give_the_same_in_any_batches(
    scorer: Scorer, lines: list[Line], how: Literal["beam", "nucleus"]
) -> None:
    captioner = Captioner(scorer=scorer, decoding=Decoding(how=how), seed=3)
    whole = _texts(captioner, lines[:5])
    scorer.batch = 2
    assert _texts(captioner, lines[:5]) == whole
    later = captioner.write(CaptionsFile(lines[3:5]), start=3)
    assert [one.text for one in later] == whole[3:]


def test_a_model_without_a_decoder_says_so(scorer: Scorer, lines: list[Line]) -> None:
    scorer.captions = None
    with pytest.raises(ValueError, match="writes no captions"):
        evaluate(scorer, lines, java=False)


def test_images_that_nobody_has_described_are_left_out(scorer: Scorer, lines: list[Line]) -> None:
    found = evaluate(scorer, [*lines, replace(lines[0], captions=())], java=False)
    wanted = evaluate(scorer, lines, java=False)
    assert found["cider"] == wanted["cider"]
    assert (found["images"], found["unreadable"]) == (18, 1)
