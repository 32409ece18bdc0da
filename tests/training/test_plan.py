"""What a plan means: its rates, its name by values, and what it refuses."""

from dataclasses import replace

import pytest

from tests.training.worlds import shapes_plan
from training.optimizer import learning_rate
from training.plan import Schedule
from training.recipes import load


def test_the_rate_warms_up_and_falls_to_zero() -> None:
    stage = shapes_plan(steps=10).stages[0]
    optimizer = replace(stage.optimizer, lr=1.0)
    stage = replace(stage, optimizer=optimizer, schedule=Schedule(warmup=0.2))
    rates = [round(learning_rate(stage, step), 3) for step in range(10)]
    assert rates == [0.5, 1.0, 1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125]


def test_a_plan_is_known_by_its_values() -> None:
    plans = [shapes_plan(), shapes_plan(), shapes_plan(seed=1), shapes_plan(steps=7)]
    assert plans[0].digest == plans[1].digest
    assert len({plan.digest for plan in plans}) == 3


def test_stages_that_cannot_be_are_refused() -> None:
    plan = shapes_plan()
    with pytest.raises(ValueError, match="stage web: data names releases with shares above 0"):
        replace(plan.stages[0], data={})
    with pytest.raises(ValueError, match="different names"):
        replace(plan, stages=())
    with pytest.raises(ValueError, match="'\\(' is no regular expression"):
        replace(plan.stages[0], freeze=("(",))


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_what_is_no_number_is_not_trained_with(value: str) -> None:
    with pytest.raises(ValueError, match=r"weight_decay: .* is not a number to train with"):
        load("clip", size="tiny", changes=[f"stages.0.optimizer.weight_decay={value}"])
