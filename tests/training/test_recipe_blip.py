"""BLIP on frozen towers: three stages, and one model that compares, matches and writes."""

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
from training.objectives.itm import Matching
from training.objectives.lm import Captions
from training.optimizer import freeze
from training.recipes import load
from training.train import load_initial_weights, make_run, train

STEPS = [f"stages.{stage}.{one}" for stage in range(3) for one in ("steps=2", "batch=4")]
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
    assert [stage.name for stage in plan.stages] == ["itc", "lm", "itm"]

    home = release(tmp_path, "release", 6).home
    assert home is not None
    said: list[str] = []
    result = train(plan, releases={"train": home}, out=tmp_path / "run", workers=0, say=said.append)
    assert result.steps == 6

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


def test_matching_and_captions_share_all_but_attention_and_leave_the_towers_alone(
    image_folder: TowerSpec, text_folder: TowerSpec
) -> None:
    init = {"image": image_folder.folder, "text": text_folder.folder}
    plan = load("blip", size="tiny", init=init)
    captions = Captions(text="spoken", image="grid", smoothing=0.1)
    assert plan.stages[1].objectives == (captions,)
    matching, also = plan.stages[2].objectives
    assert isinstance(matching, Matching)
    assert (matching.text, matching.hard, also) == ("spoken", 0.3, captions)

    model = _model(image_folder, text_folder)
    for stage, heads in zip(
        plan.stages[1:], ({"vocabulary"}, {"vocabulary", "match"}), strict=True
    ):
        freeze(model, stage)
        trained = {name for name, one in model.named_parameters() if one.requires_grad}
        parts = {".".join(name.split(".")[:2]) for name in trained if not name.startswith("heads")}
        assert parts == {"embeds.spoken", "stacks.decoder"}
        assert heads <= {name.split(".")[1] for name in trained if name.startswith("heads")}
    first, _ = model.stacks["decoder"].blocks
    assert set(first.attentions) == {"causal", "both"}
