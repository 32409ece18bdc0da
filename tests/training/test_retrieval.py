"""Recalls against literal ranks, and a trained model that finds what it has not seen."""

import json
from pathlib import Path

import pytest
import torch

from tests.training.worlds import COLOURS, SHAPES, picture, release, shapes_plan
from training.evaluate.lines import read_lines
from training.evaluate.retrieval import chance, evaluate, owners, recalls, scored
from training.evaluate.scorer import Scorer
from training.export import load_scorer
from training.train import train


def _captions(folder: Path) -> Path:
    """Every colour and shape once."""
    lines = []
    for colour in COLOURS:
        for shape in SHAPES:
            (folder / f"{colour}-{shape}.png").write_bytes(picture(colour, shape, seed=99))
            line = {"image": f"{colour}-{shape}.png", "captions": [f"a {colour} {shape} on white"]}
            lines.append(json.dumps(line))
    path = folder / "captions.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def scorer(tmp_path_factory: pytest.TempPathFactory) -> Scorer:
    folder = tmp_path_factory.mktemp("trained")
    releases = {
        "web": release(folder / "web", 200),
        "clean": release(folder / "clean", 100, seed=1),
    }
    plan = shapes_plan(steps=120, checkpoint_steps=1000)
    return load_scorer(train(plan, releases=releases, out=folder / "run", workers=0).model)


def test_ranks_are_counted_and_ties_count_against_the_model() -> None:
    owner = torch.tensor([0, 0, 1, 2])
    scores = torch.tensor(
        [
            [0.9, 0.1, 0.5, 0.2],
            [0.8, 0.6, 0.5, 0.3],
            [0.1, 0.0, 0.4, 0.3],
        ]
    )
    # texts: the first finds its image first, the second second, the third ties, the fourth ties
    found = recalls(scores, owner)
    assert found["text_to_image"] == {"r1": 25.0, "r5": 100.0, "r10": 100.0}
    # images: 0 has its own first; of 1 the best own is .5 behind .8 and .6; of 2 .3 is behind .4
    assert found["image_to_text"] == {"r1": pytest.approx(33.33), "r5": 100.0, "r10": 100.0}


def test_a_trained_model_finds_unseen_images(scorer: Scorer, tmp_path: Path) -> None:
    found = evaluate(scorer, read_lines(_captions(tmp_path)), shortlist=6)
    assert found["candidates"] == found["captions"] == 18
    assert found["chance"]["text_to_image"]["r1"] == pytest.approx(5.56)
    assert found["text_to_image"]["r5"] >= 80
    assert found["image_to_text"]["r5"] >= 80
    assert 18 * 6 <= found["pairs_judged"] <= 2 * 18 * 6


def test_scores_do_not_depend_on_the_others(scorer: Scorer, tmp_path: Path) -> None:
    lines = read_lines(_captions(tmp_path))

    def ask(chosen: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        scorer.forget()
        scorer.images([lines[row].image.read_bytes() for row in chosen])
        scorer.texts([lines[row].captions[0] for row in chosen])
        rows = torch.arange(len(chosen))
        return scorer.similarity().diagonal(), scorer.match(rows, rows)

    near, odds = ask(list(range(18)))
    some_near, some_odds = ask([3, 11])
    torch.testing.assert_close(some_near, near[[3, 11]], rtol=0, atol=1e-5)
    torch.testing.assert_close(some_odds, odds[[3, 11]], rtol=0, atol=1e-5)


def test_a_score_that_is_no_number_is_an_error(scorer: Scorer, tmp_path: Path) -> None:
    lines = read_lines(_captions(tmp_path))[:4]
    scorer.forget()
    scorer.images([line.image.read_bytes() for line in lines])
    scorer.texts([line.captions[0] for line in lines])
    head = scorer.model.heads["match"].linear.weight  # type: ignore[union-attr]
    before = head.detach().clone()  # type: ignore[operator, union-attr]
    try:
        with torch.no_grad():
            head.fill_(float("nan"))  # type: ignore[operator, union-attr]
        with pytest.raises(ValueError, match="scores are not numbers"):
            scored(scorer, 4, 4, shortlist=2)
    finally:
        with torch.no_grad():
            head.copy_(before)  # type: ignore[operator, union-attr]


def test_chance_is_what_random_orders_give(tmp_path: Path) -> None:
    images = [{"image": "a.png", "captions": ["x"] * count} for count in (1, 2, 5)]
    (tmp_path / "a.png").write_bytes(b"")
    path = tmp_path / "captions.jsonl"
    path.write_text("\n".join(map(json.dumps, images)))
    lines = read_lines(path)
    owner = owners(lines)
    assert owner.tolist() == [0, 1, 1, 2, 2, 2, 2, 2]

    expected = chance(lines)
    generator = torch.Generator().manual_seed(0)
    found = [recalls(torch.rand(3, 8, generator=generator), owner) for _ in range(2000)]
    for way in ("text_to_image", "image_to_text"):
        for cut in ("r1", "r5"):
            mean = sum(one[way][cut] for one in found) / len(found)
            assert mean == pytest.approx(expected[way][cut], abs=2.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "line 1: not JSON"),
        ('{"captions": ["x"]}', 'needs "image"'),
        ('{"image": "a.png", "captions": []}', 'needs "captions"'),
        ('{"image": "b.png", "captions": ["x"]}', "no such image"),
        ("", "is empty"),
    ],
)
def test_wrong_lines_are_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    path = tmp_path / "captions.jsonl"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_lines(path)
