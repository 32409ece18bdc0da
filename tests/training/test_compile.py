"""Blocks compiled by torch.compile give what they give eagerly."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tests.training.worlds import release, shapes_plan, trained

pytestmark = pytest.mark.skipif(
    not (shutil.which("g++") or shutil.which("clang++")),
    reason="torch.compile needs a C++ compiler, and there is none",
)


def test_a_compiled_run_gives_the_losses_of_an_eager_one(tmp_path: Path) -> None:
    release(tmp_path / "web", 40)
    release(tmp_path / "clean", 30, seed=1)
    plan = shapes_plan(steps=4, checkpoint_steps=1000, validate_steps=0)
    plan = replace(plan, stages=plan.stages[:1])
    trained(plan, tmp_path, "eager")
    trained(replace(plan, compile=True), tmp_path, "compiled")
    eager, compiled = (
        [json.loads(line)["loss"] for line in (tmp_path / name / "metrics.jsonl").open()]
        for name in ("eager", "compiled")
    )
    assert len(compiled) == 4
    assert compiled == pytest.approx(eager, rel=1e-5)
