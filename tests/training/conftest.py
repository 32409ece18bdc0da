"""What several files of tests ask: a model that is trained once, towers as folders.

pytest reads this file in the process that only hands out tests, too: it imports torch where it is
used, in those that run them.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from training.data.towers import TowerSpec
    from training.evaluate.scorer import Scorer


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model folder of a run that learned to tell shapes; its run and releases stand beside
    it.
    """
    from tests.training.worlds import release, shapes_plan
    from training.train import train

    folder = tmp_path_factory.mktemp("trained")
    plan = shapes_plan(steps=150, checkpoint_steps=1000)
    stage = plan.stages[0]
    stage = replace(stage, objectives=stage.objectives[:2], weights={}, batch=16)
    plan = replace(plan, stages=(stage,))
    releases = {"web": release(folder / "web", 200)}
    return train(plan, releases=releases, out=folder / "run", workers=0).model


@pytest.fixture
def scorer(trained: Path) -> Scorer:
    """The same model, holding nothing yet."""
    from training.export import load_scorer

    return load_scorer(trained)


@pytest.fixture
def shapes(tmp_path: Path) -> Path:
    """A file of captions: every colour and shape once."""
    from tests.training.worlds import COLOURS, SHAPES, picture

    lines = []
    for colour in COLOURS:
        for shape in SHAPES:
            (tmp_path / f"{colour}-{shape}.png").write_bytes(picture(colour, shape, seed=99))
            line = {"image": f"{colour}-{shape}.png", "captions": [f"a {colour} {shape} on white"]}
            lines.append(json.dumps(line))
    path = tmp_path / "captions.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory: pytest.TempPathFactory) -> TowerSpec:
    timm = pytest.importorskip("timm")
    import torch
    from safetensors.torch import save_file

    from training.data.towers import TowerSpec

    folder = tmp_path_factory.mktemp("timm")
    torch.manual_seed(0)
    model = timm.create_model("test_efficientnet")
    save_file(model.state_dict(), folder / "model.safetensors")
    config = {"architecture": "test_efficientnet", "num_classes": 1000}
    (folder / "config.json").write_text(json.dumps({**config, "pretrained_cfg": {}}))
    return TowerSpec(folder=str(folder), library="timm")


@pytest.fixture(scope="session")
def text_folder(tmp_path_factory: pytest.TempPathFactory) -> TowerSpec:
    import torch
    from transformers import BertConfig, BertModel

    from training.data.towers import TowerSpec

    folder = tmp_path_factory.mktemp("bert")
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 16}
    BertModel(BertConfig(vocab_size=40, num_hidden_layers=3, **shape)).save_pretrained(folder)
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "number", *"0123456789"]
    (folder / "vocab.txt").write_text("\n".join([*pieces, *(f"##{one}" for one in "0123456789")]))
    return TowerSpec(folder=str(folder), library="transformers", layers=-1)
