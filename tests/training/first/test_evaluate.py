"""Retrieval numbers on literal scores, and files that say what is wrong with them."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.training.first.small import COLOURS, picture, small_plan, small_releases
from training.first.evaluate import evaluate, match, read_lines, recalls
from training.first.loop import train
from training.first.recipes import load, names


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model trained for a few seconds on coloured halves."""
    folder = tmp_path_factory.mktemp("model")
    plan = small_plan(steps=80, lr=1e-2, dropout=0.0, every=10_000)
    return train(plan, releases=small_releases(folder), out=folder / "run").model


def _file(folder: Path, lines: list[dict[str, object]]) -> Path:
    path = folder / "captions.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def _halves(folder: Path) -> Path:
    lines: list[dict[str, object]] = []
    for left in COLOURS:
        for right in COLOURS:
            (folder / f"{left}-{right}.png").write_bytes(picture(left, right))
            lines.append({"image": f"{left}-{right}.png", "captions": [f"a {left} half beside a {right} half"]})
    return _file(folder, lines)


def test_recalls_of_a_literal_table() -> None:
    # ranks of the true image for each text (columns): 1, 2, 3; of the true text for each image (rows): 2, 1, 1
    scores = np.array([[5.0, 4.0, 6.0], [1.0, 3.0, 2.0], [0.0, 0.5, 1.0]])
    assert recalls(scores, np.arange(3)) == {
        "text_to_image": {"r1": 33.33, "r5": 100.0, "r10": 100.0},
        "image_to_text": {"r1": 66.67, "r5": 100.0, "r10": 100.0},
    }


def test_an_image_is_right_when_any_of_its_captions_is_first() -> None:
    # two images with two captions each; image 0: its second caption is first; image 1: a caption of image 0 is first
    scores = np.array([[1.0, 9.0, 2.0, 3.0], [8.0, 0.0, 7.0, 1.0]])
    found = recalls(scores, np.array([0, 0, 1, 1]))
    assert found["image_to_text"]["r1"] == 50.0
    assert found["text_to_image"]["r1"] == 50.0


def test_ties_count_against_the_model() -> None:
    found = recalls(np.zeros((20, 20)), np.arange(20))
    assert found == {"text_to_image": {"r1": 0.0, "r5": 0.0, "r10": 0.0}, "image_to_text": {"r1": 0.0, "r5": 0.0, "r10": 0.0}}


def test_a_trained_model_finds_what_it_learnt(model: Path, tmp_path: Path) -> None:
    captions = _halves(tmp_path)
    found = evaluate(model, captions, shortlist=4, threads=1)
    assert found["candidates"] == found["captions"] == 16
    assert found["pairs_fused"] < 16 * 8
    assert min(found["text_to_image"]["r5"], found["image_to_text"]["r5"]) >= 90
    assert evaluate(model, captions, shortlist=0, threads=1)["pairs_fused"] == 256


def test_a_shortlist_of_everything_equals_no_shortlist(model: Path, tmp_path: Path) -> None:
    captions = _halves(tmp_path)
    assert evaluate(model, captions, shortlist=16) == evaluate(model, captions, shortlist=0)


def test_match_scores_each_given_pair_in_order(model: Path, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(picture("red", "blue"))
    captions = ["a red half beside a blue half", "a green half beside a yellow half"]
    found = match(model, _file(tmp_path, [{"image": "a.png", "captions": captions}]))
    assert [pair["caption"] for pair in found] == captions
    assert found[0]["image"] == str(tmp_path / "a.png")
    assert 0 <= found[1]["score"] < found[0]["score"] <= 1


def test_bad_lines_are_named_with_file_and_number(tmp_path: Path) -> None:
    path = tmp_path / "captions.jsonl"
    (tmp_path / "a.png").write_bytes(picture("red", "blue"))
    good = '{"image": "a.png", "captions": ["red"]}\n'
    for bad, said in {
        "{not json}": "line 2: not JSON",
        '["a.png"]': 'line 2: needs "image"',
        '{"image": "a.png", "captions": []}': 'line 2: needs "captions"',
        '{"image": "a.png", "captions": "red"}': 'line 2: needs "captions"',
        '{"image": "b.png", "captions": ["red"]}': "line 2: no such picture",
    }.items():
        path.write_text(good + bad + "\n", encoding="utf-8")
        with pytest.raises(ValueError, match=said):
            read_lines(path)


def test_missing_and_empty_files_and_broken_pictures_are_named(model: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such file"):
        read_lines(tmp_path / "none.jsonl")
    with pytest.raises(ValueError, match="the file is empty"):
        read_lines(_file(tmp_path, []))
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"captions\.jsonl, line 1: .*a\.png cannot be read as a picture"):
        evaluate(model, _file(tmp_path, [{"image": "a.png", "captions": ["red"]}]))


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(picture("red", "blue"))
    with pytest.raises(ValueError, match=r"is not a trained model: it lacks config\.json"):
        evaluate(tmp_path, _file(tmp_path, [{"image": "a.png", "captions": ["red"]}]))


def test_recipes_are_found_by_name() -> None:
    assert names() == ["demo", "vilt"]
    vilt = load("vilt")
    assert (vilt.model.width, vilt.model.fusion_layers, vilt.stages[0].batch, vilt.stages[0].steps) == (768, 12, 4096, 100_000)
    assert load("demo").releases == ["clean", "web"]
    with pytest.raises(ValueError, match=r"no training recipe 'vlit'; there are: demo, vilt; did you mean vilt\?"):
        load("vlit")


@pytest.mark.parametrize("name", ["demo", "vilt"])
def test_the_smoke_plan_of_each_recipe_trains_and_is_evaluated(name: str, tmp_path: Path) -> None:
    plan = load(name, smoke=True)
    shards = small_releases(tmp_path)["web"]
    result = train(plan, releases=dict.fromkeys(plan.releases, shards), out=tmp_path / "run")
    assert result.steps == plan.steps
    found = evaluate(result.model, _halves(tmp_path), shortlist=4)
    # without projections there is nothing to make a shortlist with: every pair is fused
    assert (found["pairs_fused"] == 256) == (plan.model.project == 0)
