"""The matcher: the same scores as from files, and unequal lists."""

import json
from pathlib import Path

import pytest

from captioning.matcher import Matcher, match
from tests.training.first.small import picture, small_plan, small_releases
from training.first.loop import train


def test_scores_are_those_of_the_files(tmp_path: Path) -> None:
    model = train(small_plan(steps=1), releases=small_releases(tmp_path), out=tmp_path / "run").model
    texts = ["a red half", "a blue half beside a green half"]
    pictures = [picture("red", "blue"), picture("blue", "green")]
    lines = []
    for number, (stored, text) in enumerate(zip(pictures, texts, strict=True)):
        (tmp_path / f"{number}.png").write_bytes(stored)
        lines.append(json.dumps({"image": f"{number}.png", "captions": [text]}))
    (tmp_path / "pairs.jsonl").write_text("\n".join(lines), encoding="utf-8")
    matcher = Matcher.load(model)
    scores = matcher.score(pictures, texts)
    assert scores == pytest.approx([pair["score"] for pair in match(model, tmp_path / "pairs.jsonl")], abs=1e-6)
    assert matcher.score([], []) == []
    with pytest.raises(ValueError, match="2 pictures and 1 texts"):
        matcher.score(pictures, texts[:1])
