"""Recalls against literal ranks, and a trained model that finds what it has not seen."""

import copy
import json
import math
from pathlib import Path

import pytest
import torch

from tests.training.worlds import release
from training.data.shards import Release
from training.evaluate import encoded, matching, retrieval
from training.evaluate.encoded import encode
from training.evaluate.lines import opened, read_lines
from training.evaluate.matching import auc, hardest_pairs, random_pairs
from training.evaluate.retrieval import (
    Scores,
    best_of_rows_and_columns,
    chance,
    recalls,
    shuffled,
)
from training.evaluate.scorer import Scorer


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
    found = recalls(Scores(images=3, texts=4, odds=scores), owner)
    assert found["text_to_image"] == {"r1": 25.0, "r5": 100.0, "r10": 100.0}
    # images: 0 has its own first; of 1 the best own is .5 behind .8 and .6; of 2 .3 is behind .4
    assert found["image_to_text"] == {"r1": pytest.approx(33.33), "r5": 100.0, "r10": 100.0}


def test_ranks_do_not_depend_on_how_many_rows_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(3)
    scores = Scores(images=11, texts=30, odds=torch.rand(11, 30, generator=generator))
    owner = torch.arange(30) % 11
    whole = recalls(scores, owner)
    pairs = best_of_rows_and_columns(scores, 3)
    monkeypatch.setattr(retrieval, "ROWS", 4)
    assert recalls(scores, owner) == whole
    some = best_of_rows_and_columns(scores, 3)
    assert torch.equal(some[0], pairs[0])
    assert torch.equal(some[1], pairs[1])

    wanted = torch.zeros(11, 30, dtype=torch.bool)
    wanted[pairs] = True
    assert scores.odds is not None
    for row in range(11):
        assert wanted[row, scores.odds[row].topk(3).indices].all()
    for column in range(30):
        assert wanted[scores.odds[:, column].topk(3).indices, column].all()


def test_what_a_matching_head_judged_stands_before_all_else() -> None:
    vectors = torch.eye(3), torch.eye(3)
    pairs = torch.tensor([0, 2]), torch.tensor([1, 0]), torch.tensor([-7.0, 2.0])
    rows = Scores(images=3, texts=3, vectors=vectors, pairs=pairs).rows(0, 3)
    judged = [1e4 - math.log1p(math.exp(-odds)) for odds in (-7.0, 2.0)]  # log probabilities
    assert rows[0].tolist() == pytest.approx([1.0, judged[0], 0.0])
    assert rows[2].tolist() == pytest.approx([judged[1], 0.0, 1.0])


def test_scores_without_cosines_are_log_odds() -> None:
    odds = torch.tensor([[50.0, 60.0]])  # whose probabilities are one number
    assert Scores(images=1, texts=2, odds=odds).rows(0, 1).tolist() == [[50.0, 60.0]]


def test_a_trained_model_finds_unseen_images(scorer: Scorer, shapes: Path) -> None:
    found = retrieval.evaluate(scorer, shapes, shortlist=6)
    assert found["candidates"] == found["captions"] == 18
    assert found["chance"]["text_to_image"]["r1"] == pytest.approx(5.56)
    assert found["text_to_image"]["r5"] >= 80
    assert found["image_to_text"]["r5"] >= 80
    assert 18 * 6 <= found["pairs_judged"] <= 2 * 18 * 6


def test_scores_do_not_depend_on_the_others(scorer: Scorer, shapes: Path) -> None:
    lines = read_lines(shapes)

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


def test_room_for_a_few_gives_the_same_numbers(
    scorer: Scorer, shapes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = retrieval.evaluate(scorer, shapes, shortlist=6)
    every = retrieval.evaluate(scorer, shapes, shortlist=0)
    assert every["pairs_judged"] == 18 * 18
    monkeypatch.setattr(encoded, "DECODED", 5)
    assert retrieval.evaluate(scorer, shapes, shortlist=6, room=1) == whole
    assert retrieval.evaluate(scorer, shapes, shortlist=0, room=1) == every


def test_a_blind_model_finds_nothing_more_than_chance(scorer: Scorer, shapes: Path) -> None:
    found = retrieval.evaluate(scorer, shapes, shortlist=6)
    blind = found["blind"]
    assert blind["texts_alone"]["image_to_text"] == found["chance"]["image_to_text"]
    assert blind["shuffled_images"]["text_to_image"]["r1"] <= 12


def test_a_release_is_asked_about_its_split(scorer: Scorer, tmp_path: Path) -> None:
    folder = release(tmp_path / "held", 18, seed=5)
    asked = Release.open("held", folder)
    found = retrieval.evaluate(scorer, asked, shortlist=6)
    assert (found["candidates"], found["captions"], found["unreadable"]) == (18, 18, 0)
    with pytest.raises(ValueError, match="with this split"):
        Release.open("held", folder, split="heldout")


def test_an_image_that_cannot_be_decoded_is_counted_and_left_out(
    scorer: Scorer, shapes: Path, tmp_path: Path
) -> None:
    (tmp_path / "red-circle.png").write_bytes(b"no picture")
    found = retrieval.evaluate(scorer, shapes, shortlist=0)
    assert (found["candidates"], found["captions"], found["unreadable"]) == (17, 17, 1)
    for image in tmp_path.glob("*.png"):
        image.write_bytes(b"no picture")
    with pytest.raises(ValueError, match="none of 18 images can be used"):
        retrieval.evaluate(scorer, shapes, shortlist=0)


def test_an_image_that_kills_its_decoder_costs_itself(
    scorer: Scorer, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process that decodes runs another `open_image`, which dies of one image."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\n"
        "class Hook:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'training.data.images':\n"
        "            sys.meta_path.remove(self)\n"
        "            import training.data.decode as d\n"
        "            real = d.open_image\n"
        "            def fake(encoded, shorter=0):\n"
        "                if encoded == b'deadly': os.abort()\n"
        "                return real(encoded, shorter)\n"
        "            d.open_image = fake\n"
        "sys.meta_path.insert(0, Hook())\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "blue-square.png").write_bytes(b"deadly")
    (tmp_path / "red-circle.png").unlink()
    found = retrieval.evaluate(scorer, shapes, shortlist=0, workers=1)
    assert (found["candidates"], found["unreadable"]) == (16, 2)
    assert found["left_out"] == {
        str(tmp_path / "blue-square.png"): "its decoder was killed by SIGABRT",
        str(tmp_path / "red-circle.png"): "there is no such file, or nothing in it",
    }


@pytest.mark.parametrize("head", ["match", "image_project", "text_project"])
def test_a_score_that_is_no_number_is_an_error(scorer: Scorer, shapes: Path, head: str) -> None:
    broken = copy.deepcopy(scorer)
    with torch.no_grad():
        broken.model.get_parameter(f"heads.{head}.linear.weight").fill_(float("nan"))
    with pytest.raises(ValueError, match="scores are not numbers"):
        retrieval.evaluate(broken, shapes, shortlist=2)
    with pytest.raises(ValueError, match="scores are not numbers"):
        matching.evaluate(broken, shapes)


def test_chance_is_what_random_orders_give() -> None:
    owner = torch.tensor([0, 1, 1, 2, 2, 2, 2, 2])
    expected = chance([1, 2, 5])
    generator = torch.Generator().manual_seed(0)

    def drawn() -> Scores:
        return Scores(images=3, texts=8, odds=torch.rand(3, 8, generator=generator))

    found = [recalls(drawn(), owner) for _ in range(1000)]
    for way in ("text_to_image", "image_to_text"):
        for cut in ("r1", "r5"):
            mean = sum(one[way][cut] for one in found) / len(found)
            assert mean == pytest.approx(expected[way][cut], abs=3.0)


def test_shuffled_texts_all_have_another_image() -> None:
    owner = torch.arange(7).repeat_interleave(3)
    other = shuffled(owner, 7)
    assert bool((other != owner).all())
    assert sorted(set(other.tolist())) == list(range(7))
    assert torch.equal(other, shuffled(owner, 7))


def test_the_area_under_the_curve_is_that_of_all_comparisons() -> None:
    true, wrong = torch.tensor([3.0, 1.0, 2.0]), torch.tensor([2.0, 0.0, 2.0, 5.0])
    told = [(a > b) + 0.5 * (a == b) for a in true.tolist() for b in wrong.tolist()]
    assert auc(true, wrong) == pytest.approx(sum(told) / len(told))
    with pytest.raises(ValueError, match="no wrong captions"):
        auc(true, torch.zeros(0))


def test_a_trained_model_tells_wrong_captions(scorer: Scorer, shapes: Path) -> None:
    found = matching.evaluate(scorer, shapes)
    assert found["true"] == 18
    assert found["random"]["wrong"] == found["hardest"]["wrong"] == 180
    assert found["random"]["auc"] > 0.7
    assert found["random"]["auc"] >= found["hardest"]["auc"]
    assert found["random"]["accuracy"] >= 50
    # every text is true once and wrong about as often as any other
    assert found["random"]["blind"]["texts_alone"]["auc"] == pytest.approx(0.5, abs=0.1)
    assert found["random"]["blind"]["shuffled_images"]["auc"] == pytest.approx(0.5, abs=0.2)


def test_a_text_that_an_image_has_itself_is_not_wrong_for_it(scorer: Scorer, shapes: Path) -> None:
    rows = [json.loads(line) for line in shapes.read_text().splitlines()]
    rows += [dict(row, captions=[row["captions"][0].upper() + "!"]) for row in rows]
    shapes.write_text("\n".join(map(json.dumps, rows)))
    made = encode(scorer, opened(shapes))
    same = torch.arange(18).repeat(2)
    for pairs in (random_pairs(made, same), hardest_pairs(made, same)):
        assert len(pairs.images) == 360
        assert bool((same[pairs.texts] != same[pairs.images]).all())
    assert matching.evaluate(scorer, shapes)["true"] == 36


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "line 1: not JSON"),
        ('{"captions": ["x"]}', 'needs "image"'),
        ('{"image": "a.png", "captions": []}', 'needs "captions"'),
        ('{"image": "a.png", "question": "what?", "answers": []}', "nobody has answered"),
        ('{"image": "a.png", "question": "what?", "answers": [1]}', "a question is written"),
        ('{"images": ["a.png"], "sentence": "x", "label": true}', 'needs "image"'),
        ('{"images": ["a.png", "a.png"], "sentence": "x", "label": 1}', "are written"),
        ("", "is empty"),
    ],
)
def test_wrong_lines_are_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    path = tmp_path / "captions.jsonl"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_lines(path)
