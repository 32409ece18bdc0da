"""BLIP on frozen towers: four stages, each with its own task, and one model that does all three."""

from pathlib import Path

import pytest
import torch

from tests.training.releases import picture, release
from training.data.features import FeatureSpec
from training.data.tokenizer import TextSpec
from training.data.towers import TowerSpec
from training.evaluate.captioning import Captioner
from training.evaluate.lines import CaptionsFile, Line
from training.evaluate.scorer import Scorer
from training.export import load_scorer
from training.model import Model
from training.objectives.lm import Captions
from training.recipes import load
from training.train import load_initial_weights, make_run, train

STEPS = [f"stages.{stage}.{one}" for stage in range(4) for one in ("steps=2", "batch=4")]
SMALL = [*STEPS, "precision=float32", "threads=1"]


@pytest.mark.parametrize("given", [("image", "text"), ("image",)])
def test_a_tiny_one_compares_matches_and_writes(
    given: tuple[str, ...], image_folder: TowerSpec, text_folder: TowerSpec, tmp_path: Path
) -> None:
    towers = {"image": image_folder.folder, "text": text_folder.folder}
    init = {part: towers[part] for part in given}
    plan = load("blip", size="tiny", init=init, changes=SMALL)
    frozen = {name for name, one in plan.model.prepare.items() if isinstance(one, FeatureSpec)}
    assert frozen == {{"image": "grid", "text": "states"}[part] for part in given}
    assert [stage.name for stage in plan.stages] == ["itc", "itm-random", "itm", "lm"]

    home = release(tmp_path, "release", 6).home
    assert home is not None
    said: list[str] = []
    result = train(plan, releases={"train": home}, out=tmp_path / "run", workers=0, say=said.append)
    assert result.steps == 8

    scorer = load_scorer(result.model)
    (tmp_path / "0.png").write_bytes(picture(0))
    line = Line(image=tmp_path / "0.png", captions=("number 0",), where="")
    scorer.images([picture(0), picture(1)])
    scorer.texts(["number 0", "number 1 2"])
    assert scorer.similarity().shape == (2, 2)
    assert scorer.similarity().isfinite().all()
    odds = scorer.match(torch.tensor([0, 1]), torch.tensor([1, 0]))
    assert odds.isfinite().all()

    both = {"grid": [_pixels(scorer, 0), _pixels(scorer, 0).flip(1)]}
    scorer.pixels(both, plain=True)
    plain = scorer.match(torch.tensor([0, 1]), torch.tensor([1, 1]))
    scorer.pixels(both)
    seen = scorer.match(torch.tensor([0, 1]), torch.tensor([1, 1]))
    torch.testing.assert_close(seen, plain.mean().expand(2), rtol=0, atol=1e-5)
    torch.testing.assert_close(seen[0], odds[0], rtol=0, atol=1e-5)
    (written,) = Captioner(scorer=scorer).write(CaptionsFile([line]))
    assert not written.bad


def _pixels(scorer: Scorer, number: int) -> torch.Tensor:
    return torch.from_numpy(scorer.image_specs["grid"].pixels(picture(number)).copy())


def _model(image: TowerSpec, text: TowerSpec) -> Model:
    plan = load("blip", size="tiny", init={"image": image.folder, "text": text.folder})
    prepared = {"spoken": _tokenizer()}
    run = make_run(plan, prepared)
    load_initial_weights(run, lambda line: None)
    return run.model


def _tokenizer() -> object:
    from training.data.tokenizer import make_tokenizer

    return make_tokenizer(TextSpec(size=60, length=24), captions=["number 0 1 2 3"] * 2)


def test_cross_attention_begins_as_self_attention_and_shut(
    image_folder: TowerSpec, text_folder: TowerSpec
) -> None:
    model = _model(image_folder, text_folder)
    (block,) = model.stacks["text"].blocks
    query, key, value = block.attentions["self"].inner.qkv.weight.chunk(3)
    assert torch.equal(block.cross.inner.query.weight, query)
    assert torch.equal(block.cross.inner.key_value.weight, torch.cat([key, value]))
    assert block.cross.gate.item() == 0.0


def test_captions_are_learned_last_and_leave_the_towers_alone(
    image_folder: TowerSpec, text_folder: TowerSpec
) -> None:
    init = {"image": image_folder.folder, "text": text_folder.folder}
    stage = load("blip", size="tiny", init=init).stages[-1]
    assert stage.objectives == (Captions(text="spoken", image="grid", smoothing=0.1),)

    from training.optimizer import freeze

    model = _model(image_folder, text_folder)
    freeze(model, stage)
    trained = {name for name, one in model.named_parameters() if one.requires_grad}
    tops = {".".join(name.split(".")[:2]) for name in trained}
    assert tops == {"embeds.spoken", "stacks.decoder", "heads.vocabulary"}
