"""Every recipe is a plan that stands, at every size; and what users change in it."""

from pathlib import Path

import pytest

from training.config import decode, encode
from training.plan import TrainingPlan
from training.recipes import load, names


@pytest.mark.parametrize("size", ["tiny", "small", "base"])
@pytest.mark.parametrize("name", names())
def test_a_recipe_is_written_and_read(name: str, size: str) -> None:
    plan = load(name, size=size)  # type: ignore[arg-type]
    again = decode(TrainingPlan, encode(plan))
    assert again == plan
    assert again.digest == plan.digest


def test_a_plan_is_changed_by_key() -> None:
    changes = ["stages.0.batch=512", "stages.pretrain.optimizer.lr=3e-4", "precision=float32"]
    plan = load("clip", size="small", changes=changes)
    assert plan.stages[0].batch == 512
    assert plan.stages[0].optimizer.lr == 3e-4
    assert plan.precision == "float32"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("stages.0.batchs=512", "stages.0.batchs is not known; did you mean batch?"),
        ("stages.0.optimiser.lr=1", "stages.0.optimiser is not known; did you mean optimizer?"),
        ("stages.0.batch=many", "stages.0.batch: 'many' is not of type int"),
        ("stages.0.mixing=som", "is not one of sum, one, accumulate; did you mean sum?"),
        ("stages.4.batch=8", "stages.4: there are 1, counted from 0"),
        ("stages.0.weights.itk=1", "no loss 'itk'; there are itc"),
        ("stages.0.optimizer.lr=0", "lr is 0.0: it must be above 0"),
        ("stages.0.objectives.0.image=imge", "image 'imge' is none of"),
        ("batch", "a change is written KEY=VALUE"),
    ],
)
def test_a_wrong_change_is_named(change: str, message: str) -> None:
    with pytest.raises(ValueError, match=r".*") as error:
        load("clip", size="tiny", changes=[change])
    assert message in str(error.value)


def test_an_unknown_recipe_names_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"no training recipe 'blib'; there are: .* mean blip"):
        load("blib")


def test_a_file_begins_with_a_recipe_and_changes_it(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('recipe = "blip"\nsize = "tiny"\nseed = 7\n[[stages]]\nbatch = 16\n[stages.optimizer]\nlr = 0.002\n')
    plan = load(str(path))
    assert plan.seed == 7
    assert plan.stages[0].batch == 16
    assert plan.stages[0].optimizer.lr == 0.002
    assert plan.stages[0].optimizer.weight_decay == 0.05


def test_a_typo_in_a_file_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('recipe = "blip"\nsize = "tiny"\n[[stages]]\nbatchs = 16\n')
    with pytest.raises(ValueError, match=r"mine.toml, line 4: stages.0.batchs is not known"):
        load(str(path))


def test_a_module_of_ones_own_returns_a_plan(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        "from training.recipes import load\n"
        "def plan(*, size, init, **settings):\n"
        "    return load('clip', size='tiny', changes=['name=mine'])\n"
    )
    assert load(str(path)).name == "mine"

    path.write_text("x = 1\n")
    with pytest.raises(ValueError, match="has no function `plan`"):
        load(str(path))
