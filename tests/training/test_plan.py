"""What a plan means: its rates, its name by values, and what it refuses."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.training.worlds import shapes_plan
from training.data.buckets import Buckets
from training.optimizer import learning_rate
from training.plan import Momentum, Schedule, smoke
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


def test_a_batch_fits_what_takes_it_in() -> None:
    """Fewer rows than a bucket takes together would be written over those of the next batch."""
    plan = shapes_plan()
    stage = plan.stages[0]
    buckets = Buckets(budget=100, window=32, multiple=16)
    with pytest.raises(ValueError, match="stage web: batch 8 is less than the 16 rows"):
        replace(stage, buckets=buckets)
    with pytest.raises(ValueError, match="a batch of 8 does not fit into a queue of 7"):
        replace(stage, momentum=Momentum(queue=7))

    large = replace(stage, batch=64, buckets=buckets, momentum=Momentum(queue=64))
    small = smoke(replace(plan, stages=(large,))).stages[0]
    assert (small.batch, small.buckets) == (8, Buckets(budget=100, window=64, multiple=8))


def test_a_file_says_as_a_whole_what_a_stage_reads(tmp_path: Path) -> None:
    """Releases of the recipe that it does not name are not read; weights of losses are merged."""
    path = tmp_path / "ours.toml"
    path.write_text(
        'recipe = "vilt"\nsize = "tiny"\n[[stages]]\n'
        "data = { web = 10, clean = 4 }\nweights = { itm = 0.5 }\n"
    )
    plan = load(str(path))
    assert plan.releases == ["clean", "web"]
    assert plan.stages[0].weights == {"wra": 0.1, "itm": 0.5}
