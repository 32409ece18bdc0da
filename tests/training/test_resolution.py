"""A stage that sees images in another size: places between the learned ones, and a model that
knows.
"""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from tests.training.worlds import Killed, release, shapes_plan, trained
from training.data.images import ImageSpec
from training.embed import Patches
from training.export import load_model, load_scorer
from training.plan import Momentum, TrainingPlan
from training.recipes import load


def _plan() -> TrainingPlan:
    """32 pixels in patches of 8, then 48; a twin and an average are of the larger size too."""
    plan = shapes_plan(steps=3, checkpoint_steps=2, validate_steps=2)
    first, second = plan.stages
    larger = replace(second, resolution=48, momentum=Momentum(keep=0.9), ema=0.5)
    return replace(plan, stages=(first, larger))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    release(tmp_path / "web", 40)
    release(tmp_path / "clean", 30, seed=1, heldout=8)
    return tmp_path


def test_a_killed_run_goes_on_at_the_resolution_of_its_stage(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, ...]] = []
    forward = Patches.forward

    def shown(self: Patches, pixels: torch.Tensor, *rest: object) -> object:
        seen.append(tuple(pixels.shape[2:]))
        return forward(self, pixels, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Patches, "forward", shown)
    trained(_plan(), folder, "whole")
    change = seen.index((48, 48))
    assert set(seen[:change]) == {(32, 32)}
    assert set(seen[change:]) == {(48, 48)}

    for step in (2, 5):
        with pytest.raises(Killed):
            trained(_plan(), folder, "cut", kill=step)
    seen.clear()
    trained(_plan(), folder, "cut")
    assert set(seen) == {(48, 48)}
    assert _losses(folder / "cut") == _losses(folder / "whole")
    for kind in ("model", "best"):
        one, other = (
            load_file(folder / name / kind / "model.safetensors") for name in ("cut", "whole")
        )
        assert all(torch.equal(one[name], other[name]) for name in one)


def _losses(out: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (out / "metrics.jsonl").open()]


def test_the_model_is_used_at_the_last_resolution(folder: Path) -> None:
    trained(_plan(), folder, "run")
    for kind in ("model", "best"):
        model, _ = load_model(folder / "run" / kind)
        images = model.spec.prepare["patches"]
        assert isinstance(images, ImageSpec)
        assert images.size == 48
        assert model.get_parameter("embeds.patches.place").shape == (4, 4, 32)
    assert load_scorer(folder / "run" / "model").model.spec == model.spec


def test_places_are_interpolated(folder: Path) -> None:
    trained(_plan(), folder, "run")
    model, _ = load_model(folder / "run" / "model")
    patches = model.get_submodule("embeds.patches")
    assert isinstance(patches, Patches)
    nothing = torch.zeros(1, 3, 48, 48)
    with torch.no_grad():
        tokens = model.embed("patches", nothing).x[0, 1:] - patches.linear.bias
    learned = patches.place.permute(2, 0, 1)[None]
    wanted = F.interpolate(learned, size=(6, 6), mode="bicubic", align_corners=False)
    torch.testing.assert_close(tokens, wanted[0].flatten(1).T)


def test_longer_sides_grow_with_the_shorter_one() -> None:
    plan = load("vilt", size="small", changes=["stages.0.resolution=480"])
    images = plan.model.at_resolution(480).prepare["patches"]
    assert isinstance(images, ImageSpec)
    assert (images.size, images.longest) == (480, 800)
    assert plan.model.prepare["patches"] == replace(images, size=384, longest=640)


@pytest.mark.parametrize(
    ("recipe", "size", "message"),
    [
        ("blip", 100, "stage pretrain: resolution 100 is no multiple of patch 16"),
        ("blip", -16, "stage pretrain: resolution -16 is no multiple of patch 16"),
    ],
)
def test_sizes_that_cannot_be_cut_are_refused(recipe: str, size: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load(recipe, size="base", changes=[f"stages.0.resolution={size}"])


def test_kept_features_have_one_resolution() -> None:
    plan = shapes_plan()
    model = replace(plan.model, prepare={"words": plan.model.prepare["words"]})
    stage = replace(plan.stages[0], resolution=64)
    with pytest.raises(ValueError, match="stage web: resolution 64 asks for patches of images"):
        replace(plan, model=model, stages=(stage,))
