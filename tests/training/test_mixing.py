"""One task a step: how often each has its turn, and what it counts then."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.training.worlds import release, shapes_plan, trained
from training.objectives.itm import Matching
from training.objectives.mlm import MaskedWords
from training.objectives.wra import Alignment


def test_a_task_counts_wholly_when_it_has_its_turn(tmp_path: Path) -> None:
    """Ratios of 6 to 8 are no factors of losses; the weight of a further loss stays one."""
    release(tmp_path / "web", 16)
    plan = shapes_plan(checkpoint_steps=1000, validate_steps=0)
    matching = Matching(alignment=Alignment())
    stage = replace(
        plan.stages[0],
        objectives=(matching, MaskedWords()),
        mixing="one",
        weights={"itm": 6.0, "wra": 0.1, "mlm": 8.0},
        steps=8,
        batch=4,
    )
    trained(replace(plan, stages=(stage,)), tmp_path, "run")

    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    turns = []
    for line in map(json.loads, lines):
        wanted = line["mlm"] if "mlm" in line else line["itm"] + 0.1 * line["wra"]
        assert line["loss"] == pytest.approx(wanted, rel=1e-6)
        turns.append("mlm" in line)
    assert set(turns) == {True, False}
