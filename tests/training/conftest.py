"""Towers as folders: a small network of timm, a small BERT with a vocabulary of digits."""

import json

import pytest
import torch

from training.data.towers import TowerSpec


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory: pytest.TempPathFactory) -> TowerSpec:
    timm = pytest.importorskip("timm")
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("timm")
    torch.manual_seed(0)
    model = timm.create_model("test_efficientnet")
    save_file(model.state_dict(), folder / "model.safetensors")
    config = {"architecture": "test_efficientnet", "num_classes": 1000}
    (folder / "config.json").write_text(json.dumps({**config, "pretrained_cfg": {}}))
    return TowerSpec(folder=str(folder), library="timm")


@pytest.fixture(scope="session")
def text_folder(tmp_path_factory: pytest.TempPathFactory) -> TowerSpec:
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("bert")
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 16}
    BertModel(BertConfig(vocab_size=40, num_hidden_layers=3, **shape)).save_pretrained(folder)
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "number", *"0123456789"]
    (folder / "vocab.txt").write_text("\n".join([*pieces, *(f"##{one}" for one in "0123456789")]))
    return TowerSpec(folder=str(folder), library="transformers", layers=-1)
