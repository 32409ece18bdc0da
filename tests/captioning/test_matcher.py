"""The matcher: the same scores as from files, whatever stands beside a pair, and unequal lists."""

import json
from pathlib import Path

import pytest
import torch

from captioning.matcher import Matcher, match
from tests.training.worlds import picture, release, shapes_plan
from training.recipes import load
from training.train import train

TEXTS = ["a red circle on white", "a blue square on white", "a green triangle on white"]


def _pictures() -> list[bytes]:
    return [
        picture("red", "circle", 1),
        picture("blue", "square", 2),
        picture("green", "circle", 3),
    ]


def _file(folder: Path, lines: list[tuple[bytes, list[str]]]) -> Path:
    written = []
    for number, (image, captions) in enumerate(lines):
        (folder / f"{number}.png").write_bytes(image)
        written.append(json.dumps({"image": f"{number}.png", "captions": captions}))
    (folder / "pairs.jsonl").write_text("\n".join(written), encoding="utf-8")
    return folder / "pairs.jsonl"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("matcher")
    shapes = release(folder / "shapes", 40)
    releases = {"web": shapes, "clean": shapes}
    return train(shapes_plan(steps=1), releases=releases, out=folder / "run", workers=0).model


def test_scores_are_those_of_the_files(model: Path, tmp_path: Path) -> None:
    captions = _file(
        tmp_path, [(image, [text]) for image, text in zip(_pictures(), TEXTS, strict=True)]
    )
    matcher = Matcher.load(model)
    scores = matcher.score(_pictures(), TEXTS)
    found = list(match(model, captions))
    assert scores == pytest.approx([pair["score"] for pair in found], abs=1e-6)
    assert [pair["caption"] for pair in found] == TEXTS
    assert found[1]["image"] == str(tmp_path / "1.png")
    assert matcher.score([], []) == []
    with pytest.raises(ValueError, match="3 images and 1 texts"):
        matcher.score(_pictures(), TEXTS[:1])


def test_each_image_may_have_several_captions(model: Path, tmp_path: Path) -> None:
    lines = [(image, TEXTS[: 1 + number % 3]) for number, image in enumerate(_pictures() * 30)]
    found = list(match(model, _file(tmp_path, lines)))
    assert len(found) == sum(len(captions) for _, captions in lines)
    matcher = Matcher.load(model)
    for place in (0, 64, len(found) - 1):
        pair = found[place]
        assert matcher.score([Path(pair["image"]).read_bytes()], [pair["caption"]]) == [
            pytest.approx(pair["score"], abs=1e-6)
        ]


def test_a_model_that_only_compares_gives_probabilities_too(tmp_path: Path) -> None:
    plan = load("clip", size="tiny", smoke=True, changes=["threads=1"])
    model = train(
        plan, releases={"train": release(tmp_path / "shapes", 40)}, out=tmp_path / "run", workers=0
    ).model
    scores = Matcher.load(model).score(_pictures(), TEXTS)
    assert all(0 < score < 1 for score in scores)
    assert len(set(scores)) == 3


def test_a_broken_image_costs_no_other_pair(model: Path, tmp_path: Path) -> None:
    whole = _file(tmp_path, [(_pictures()[0], TEXTS[:1]), (_pictures()[1], TEXTS[:1])])
    expected = [pair["score"] for pair in match(model, whole)]
    captions = _file(
        tmp_path, [(_pictures()[0], TEXTS[:1]), (b"no image", TEXTS), (_pictures()[1], TEXTS[:1])]
    )
    found = list(match(model, captions))
    assert [pair["score"] for pair in found[1:4]] == [None] * 3
    assert [found[0]["score"], found[4]["score"]] == pytest.approx(expected, abs=1e-6)
    assert "UnidentifiedImageError" in found[1]["error"] or "cannot identify" in found[1]["error"]


def test_a_model_that_came_apart_is_an_error(model: Path) -> None:
    matcher = Matcher.load(model)
    with torch.no_grad():
        for parameter in matcher.scorer.model.heads["match"].parameters():
            parameter.fill_(float("nan"))
    with pytest.raises(ValueError, match="1 of 1 scores are not numbers"):
        matcher.score(_pictures()[:1], TEXTS[:1])


def test_pairs_of_a_file_without_any_usable_image_have_their_errors(
    model: Path, tmp_path: Path
) -> None:
    captions = _file(tmp_path, [(b"no image", TEXTS[:2]), (b"", TEXTS[:1])])
    found = list(match(model, captions))
    assert [pair["score"] for pair in found] == [None] * 3
    assert "cannot identify image file" in found[0]["error"]
    assert "nothing in it" in found[2]["error"]
