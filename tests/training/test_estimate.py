"""Memory and hours of a plan, told from a few steps."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.training.worlds import release, shapes_plan
from training.estimate import _line, estimate


def test_a_line_through_two_batches() -> None:
    assert _line([8.0], [3.0], 8) == 3.0
    assert _line([8.0, 16.0], [3.0, 5.0], 64) == pytest.approx(17.0)
    # noise: a larger batch is not free, nor gives time back
    assert _line([8.0, 16.0], [3.0, 2.0], 64) == 2.0


def test_a_plan_is_told_and_nothing_is_kept(tmp_path: Path) -> None:
    shapes = release(tmp_path / "shapes", 60)
    plan = shapes_plan(steps=1000)
    stages = (replace(plan.stages[0], batch=6), replace(plan.stages[1], batch=4096, chunk=512))
    plan = replace(plan, stages=stages)
    found = estimate(plan, releases={"web": shapes, "clean": shapes}, workers=0)
    web, clean = found["stages"]
    assert (web["rows"], clean["rows"]) == ((6,), (8, 16))
    assert found["hours"] == pytest.approx(web["hours"] + clean["hours"], abs=1e-3)
    assert clean["seconds_a_step"] > web["seconds_a_step"] > 0
    assert web["hours"] == pytest.approx(1000 * web["seconds_a_step"] / 3600, rel=0.05, abs=1e-4)
    assert found["memory"] == max(web["memory"], clean["memory"])
    assert found["memory"] >= 16 * found["parameters"]
    assert [path.name for path in tmp_path.iterdir()] == ["shapes"]


def test_a_release_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="missing: clean, web"):
        estimate(shapes_plan(), releases={})
