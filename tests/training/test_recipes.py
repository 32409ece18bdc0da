"""Every recipe is a plan that stands, at every size; and what users change in it."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from tests.training.worlds import release
from training.config import decode, encode
from training.data.augment import RandAugment
from training.data.images import ImageSpec
from training.embed import PatchesSpec
from training.export import load_model
from training.objectives.itc import Contrast
from training.objectives.itm import Matching
from training.plan import TrainingPlan
from training.recipes import load, names
from training.train import train

PLAIN = ["precision=float32", "threads=1"]  # bfloat16 has its kernels made anew for every shape


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
    ("key", "value"),
    [("lr", 3e-4), ("optimizer.lr", 3e-4), ("clip", 2.0), ("warmup", 0.25), ("keep", 0.9)],
)
def test_the_table_of_a_key_may_be_left_out(tmp_path: Path, key: str, value: float) -> None:
    plan = load("blip", size="small", changes=[f"stages.0.{key}={value}"])
    stage = plan.stages[0]
    assert value in (
        stage.optimizer.lr,
        stage.optimizer.clip,
        stage.schedule.warmup,
        stage.momentum.keep,
    )  # type: ignore[union-attr]

    path = tmp_path / "mine.toml"
    path.write_text(f'recipe = "blip"\nsize = "small"\n[[stages]]\n{key} = {value}\n')
    assert load(str(path)) == plan


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("stages.0.batchs=512", "stages.0.batchs is not known; did you mean batch?"),
        ("stages.0.lrr=1", "stages.0.lrr is not known; did you mean lr?"),
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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("seed=-1", r"seed is -1: it must be in 0..9,223,"),
        ("seed=99999999999999999999", r"seed is 99,999,999,999,999,999,999: it must be in"),
        ("threads=1000000", r"threads is 1,000,000: it must be in 0..1,024"),
        ("samples=-1", r"samples is -1: it must be in 0.."),
        ("checkpoint_steps=0", r"checkpoint_steps is 0: it must be in 1.."),
        (
            "stages.0.batch=1000000000000",
            r"stage pretrain: batch is 1,000,000,000,000: it must be in 2",
        ),
        ("stages.0.chunk=-1", r"stage pretrain: chunk is -1"),
        ("stages.0.ema=1", r"stage pretrain: ema is 1.0: 0, or a share below 1"),
        ("stages.0.objectives=[]", r"stage pretrain: it has no objectives"),
        ('stages.0.weights={"itc": -1}', r"stage pretrain: the weight of itc is -1.0"),
        (
            'stages.0.sources={"alt": 0}',
            r"stage pretrain: sources have shares from 0, and one above",
        ),
        ('stages.0.momentum={"queue": -5}', r"stages.0.momentum: queue is -5"),
        ('stages.0.momentum={"keep": 2}', r"stages.0.momentum: keep is 2.0: it must be in 0..1"),
        ('stages.0.buckets={"budget": 0}', r"stages.0.buckets: budget is 0"),
        ("stages.0.schedule.start=7", r"stages.0.schedule: start is 7.0: it must be in 0..1"),
        ("stages.0.optimizer.betas=[2, 3]", r"betas are \(2.0, 3.0\): each must be in 0..1"),
        ("stages.0.optimizer.eps=0", r"eps is 0.0: it must be above 0"),
        ("stages.0.optimizer.clip=-1", r"stages.0.optimizer: clip is -1.0"),
        ('stages.0.optimizer.groups={"x": -1}', r"the factor of group 'x' is -1.0"),
        ("model.stacks.text.width=0", r"model.stacks.text: width is 0"),
        ("model.stacks.text.heads=0", r"model.stacks.text: heads is 0"),
        ("model.stacks.text.layers=-1", r"model.stacks.text: layers is -1"),
        ("model.stacks.text.dropout=2", r"model.stacks.text: dropout is 2.0"),
        ("model.embeds.patches.patch=0", r"model.embeds.patches: patch is 0"),
        ("model.embeds.words.length=0", r"model.embeds.words: length is 0"),
        ("model.heads.image_project.dim=0", r"model.heads.image_project: dim is 0"),
        (
            "model.heads.image_project.dim=7",
            r"have other sizes: image_project 7 and text_project 128",
        ),
        ("model.heads.scale.highest=0.5", r"model.heads.scale: lowest 1.0 is above highest 0.5"),
        ("model.prepare.patches.std=[0, 1, 1]", r"std \(0.0, 1.0, 1.0\): .* must be above 0"),
        ("model.prepare.words.length=0", r"model.prepare.words: length is 0"),
    ],
)
def test_a_number_that_cannot_be_meant_is_refused_when_the_plan_is_read(
    change: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        load("clip", size="tiny", changes=[change])


def test_a_stage_that_begins_with_what_is_not_there(tmp_path: Path) -> None:
    shapes = release(tmp_path / "shapes", 8, shards=1)
    plan = load("clip", size="tiny", changes=[f"stages.0.init={tmp_path}"])
    with pytest.raises(
        ValueError, match=r"stage pretrain: init .* holds no model; give the folder"
    ):
        train(plan, releases={"train": shapes}, out=tmp_path / "run", workers=0)


def test_an_unknown_recipe_names_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"no training recipe 'blib'; there are: .* mean blip"):
        load("blib")


def test_a_file_begins_with_a_recipe_and_changes_it(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        'recipe = "blip"\nsize = "tiny"\nseed = 7\n[[stages]]\nbatch = 16\n[stages.optimizer]\nlr ='
        " 0.002\n"
    )
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


@pytest.mark.parametrize(
    ("control", "read"),
    [
        ("staged", [({"web": 1.0}, 71_429), ({"clean": 1.0}, 28_571)]),
        ("web", [({"web": 1.0}, 100_000)]),
        ("clean", [({"clean": 1.0}, 100_000)]),
        ("mixed", [({"web": 10.0, "clean": 4.0}, 100_000)]),
    ],
)
def test_imageberts_controls_see_as_many_samples(control: str, read: object) -> None:
    base = load("vilt", size="small")
    plan = load("imagebert", size="small", changes=[f"control={control}"])
    assert [(stage.data, stage.steps) for stage in plan.stages[:-1]] == read
    assert all(stage.objectives == base.stages[0].objectives for stage in plan.stages[:-1])


def test_imagebert_fine_tunes_the_matching_of_any_recipe() -> None:
    plan = load("imagebert", size="tiny", changes=["over=vilt"])
    last = plan.stages[-1]
    assert (last.name, last.data) == ("finetune", {"clean": 1.0})
    assert last.objectives == (Matching(false="both"),)
    assert last.optimizer.lr == plan.stages[0].optimizer.lr / 2
    assert last.weights == {}

    # what retrieval asks for a shortlist goes on
    over_albef = load("imagebert", size="tiny", changes=["over=albef"]).stages[-1]
    assert [type(one) for one in over_albef.objectives] == [Contrast, Matching]
    assert over_albef.momentum is not None


def test_cross_entropy_of_two_logits_is_binary_of_their_difference() -> None:
    logits = torch.randn(9, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    labels = torch.arange(9) % 2
    binary = F.binary_cross_entropy_with_logits(logits[:, 1] - logits[:, 0], labels.double())
    assert F.cross_entropy(logits, labels).item() == pytest.approx(binary.item(), rel=1e-12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            "control=stages",
            "control: 'stages' is not one of staged, web, clean, mixed; did you mean",
        ),
        ("over=albe", "no training recipe 'albe'; there are: .* mean albef"),
        ("over=clip", "over: clip judges no pairs; take one that does"),
        ("over=imagebert", "cannot be staged over itself"),
    ],
)
def test_a_wrong_argument_of_a_recipe_is_named(change: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load("imagebert", size="tiny", changes=[change])


def test_a_wrong_value_of_an_argument_is_named() -> None:
    with pytest.raises(ValueError, match=r"data.train: 'many' is not of type float"):
        load("vilt", size="tiny", changes=['data={"train": "many"}'])


def test_arguments_of_a_recipe_stand_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        'recipe = "imagebert"\nsize = "tiny"\nover = "albef"\ncontrol = "mixed"\nseed = 3\n'
    )
    plan = load(str(path))
    assert plan.name == "imagebert-mixed-albef-tiny"
    assert plan.releases == ["clean", "web"]
    assert plan.seed == 3

    path.write_text('recipe = "imagebert"\nsize = "tiny"\ncontrol = "mixd"\n')
    with pytest.raises(ValueError, match=r"mine.toml, line 3: control: 'mixd' is not one of"):
        load(str(path))


def test_soft_targets_need_a_twin() -> None:
    with pytest.raises(ValueError, match="stage pretrain: soft targets need a twin"):
        load("albef", size="tiny", changes=["stages.0.momentum=null"])


def test_what_is_given_stands_above_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('recipe = "clip"\nsize = "small"\nseed = 7\n[[stages]]\nsteps = 5\n')
    plan = load(str(path), size="tiny", seed=1)
    assert (plan.name, plan.seed, plan.stages[0].steps) == ("clip-tiny", 1, 5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('recipe = "clip"\nsize = "tinny"\n', r"line 2: size: 'tinny' is not one of .*mean tiny"),
        ('recipe = "clib"\n', r"line 1: no training recipe 'clib'; .*mean clip"),
        ('recipe = "other.toml"\n', "line 1: no training recipe 'other.toml'"),
        ('recipe = "clip"\ninit = "vit"\n', "line 2: init: a table is wanted, not 'vit'"),
        ("size = 1\n", "the first line says from which recipe"),
        ("a = " + "[" * 5000, "is nested too deeply"),
        ('recipe = "clip"\nsize = "tiny"\n[[stages]]\n[[stages]]\nname = "more"\n', "lacks data"),
    ],
)
def test_a_file_that_says_nothing_right(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        load(str(path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def plan(:\n", r"mine.py, line 1: SyntaxError"),
        ("\nimport no_such_module\n", r"mine.py, line 2: ModuleNotFoundError"),
        ("def plan(**_):\n    return 1 / 0\n", r"mine.py, line 2: ZeroDivisionError"),
        ("def plan(*, data):\n    return 1\n", r"mine.py has no setting seed: .* takes data"),
        ("def plan(**_):\n    return 1\n", r"must return a TrainingPlan, not int"),
    ],
)
def test_a_module_that_breaks_is_named_with_its_line(
    tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "mine.py"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        load(str(path), seed=1)


def test_a_recipe_that_is_none_is_refused_without_torch() -> None:
    code = (
        "import sys\n"
        "from training.recipes import check, names\n"
        "try: check('vlit')\n"
        "except ValueError as error: print(error)\n"
        "print('torch' in sys.modules)\n"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    known = ", ".join(names())
    said = f"no training recipe 'vlit'; there are: {known}; did you mean vilt?"
    assert found.stdout.splitlines() == [said, "False"]


def test_vilt_takes_a_vit_for_its_one_stack() -> None:
    assert load("vilt", size="tiny", init={"image": "vit"}).init == {"fusion": "vit"}


def test_images_of_vilt_are_those_of_the_paper() -> None:
    images = load("vilt").model.prepare["patches"]
    assert isinstance(images, ImageSpec)
    assert images.fitted(640, 480) == (512, 384)
    assert images.fitted(1200, 400) == (640, 192)  # 640 x 213, floored to patches
    assert images.augment is None
    patches = load("vilt").model.embeds["patches"]
    assert isinstance(patches, PatchesSpec)
    assert (patches.patch, patches.sample) == (32, 200)


def test_a_vilt_is_fine_tuned_with_its_own_words_and_all_patches(tmp_path: Path) -> None:
    first = release(tmp_path / "first", 16, shards=1)
    start = train(
        load("vilt", size="tiny", smoke=True, changes=[*PLAIN, "model.embeds.patches.sample=5"]),
        releases={"train": first},
        out=tmp_path / "run",
        workers=0,
    )
    changes = [*PLAIN, f"finetune={start.model}", "stages.0.steps=2", "stages.0.optimizer.lr=1e-9"]
    plan = load("vilt", changes=changes, smoke=True)
    patches, images = plan.model.embeds["patches"], plan.model.prepare["patches"]
    assert isinstance(patches, PatchesSpec)
    assert isinstance(images, ImageSpec)
    assert (patches.sample, images.augment) == (0, RandAugment(operations="vilt"))

    # other captions, the same vocabulary: weights of words go on
    other = release(tmp_path / "other", 16, seed=5, shards=1)
    tuned = train(plan, releases={"train": other}, out=tmp_path / "tuned", workers=0)
    before, after = load_model(start.model)[0], load_model(tuned.model)[0]
    words = "embeds.words.word.weight"
    assert torch.allclose(before.get_parameter(words), after.get_parameter(words), atol=1e-6)

    with pytest.raises(ValueError, match="holds no model; give the folder `model` of a run"):
        load("vilt", changes=[f"finetune={tmp_path}"])


def test_what_cannot_be_mixed_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"stage pretrain: mixgen is 1.5: it must be in 0..1"):
        load("vilt", size="tiny", changes=["stages.0.mixgen=1.5"])

    changes = ["stages.0.mixgen=0.25", "model.prepare.patches.how=shorter"]
    plan = load("vilt", size="tiny", smoke=True, changes=changes)
    shapes = release(tmp_path / "shapes", 8, shards=1)
    with pytest.raises(ValueError, match="mixgen needs images of one size: give patches square"):
        train(plan, releases={"train": shapes}, out=tmp_path / "run", workers=0)
