"""Files that are whole or absent, and models as folders."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from training.first.fusion import FusionModel
from training.first.plan import ModelSpec
from training.first.tokenizer import Tokenizer
from training.folder import write_json, write_whole


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Tensors and plain values, whole or not at all."""
    write_whole(path, lambda temporary: torch.save(state, temporary))


def load_state(path: Path) -> dict[str, Any]:
    """What `save_state` wrote; weights and plain values only, so that a file can bring no code."""
    return dict(torch.load(path, map_location="cpu", weights_only=True))


def export_model(folder: Path, model: FusionModel, tokenizer: Tokenizer) -> None:
    """config.json, model.safetensors and vocab.txt; the configuration comes last and makes the folder complete."""
    weights = {name: value.detach().to("cpu").contiguous() for name, value in model.state_dict().items()}
    write_whole(folder / "model.safetensors", lambda temporary: save_file(weights, temporary))
    write_whole(folder / "vocab.txt", lambda temporary: temporary.write_text("\n".join(tokenizer.vocabulary) + "\n", encoding="utf-8"))
    write_json(folder / "config.json", {"model_type": "winnow-fusion", "vocab_size": model.vocab, **asdict(model.spec)})


def load_model(folder: str | Path) -> tuple[FusionModel, Tokenizer]:
    """The model (in evaluation mode) and the tokenizer that `export_model` wrote."""
    folder = Path(folder)
    missing = [name for name in ("config.json", "model.safetensors", "vocab.txt") if not (folder / name).is_file()]
    if missing:
        raise ValueError(f"{folder} is not a trained model: it lacks {', '.join(missing)}; give the folder `model` of a finished run")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if config.pop("model_type", None) != "winnow-fusion":
        raise ValueError(f"{folder} holds another kind of model: its config.json does not say winnow-fusion")
    model = FusionModel(spec=ModelSpec(**{key: value for key, value in config.items() if key != "vocab_size"}), vocab=config["vocab_size"])
    model.load_state_dict(load_file(folder / "model.safetensors"))
    return model.eval(), Tokenizer.read(folder / "vocab.txt", config["text_length"])
