"""Tiny models with random weights, saved as users find them: folders of open_clip and of
transformers; and pictures for them.
"""

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

MEAN, STD = (0.48, 0.46, 0.41), (0.27, 0.26, 0.28)
CLIP = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 20, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}


def save_clip(folder: Path, seed: int = 0, **settings: Any) -> Path:
    """A folder with open_clip_config.json and weights as safetensors."""
    import open_clip
    from safetensors.torch import save_file

    folder.mkdir(parents=True)
    torch.manual_seed(seed)
    configuration = {**CLIP, **settings}
    prepared = {"mean": MEAN, "std": STD, "interpolation": "bicubic", "resize_mode": "shortest"}
    save_file(open_clip.CLIP(**configuration).state_dict(), folder / "open_clip_model.safetensors")
    (folder / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": configuration, "preprocess_cfg": prepared})
    )
    return folder


def save_image_classifier(folder: Path, labels: tuple[str, ...], **settings: Any) -> Path:
    """A vision transformer for pictures of 32 by 32 pixels."""
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

    torch.manual_seed(1)
    sizes: dict[str, Any] = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "image_size": 32,
        "patch_size": 8,
    }
    model = ViTForImageClassification(
        ViTConfig(**sizes, id2label=dict(enumerate(labels)), label2id=_numbers(labels), **settings)
    )
    torch.nn.init.normal_(model.get_parameter("classifier.weight"), std=0.5)
    model.save_pretrained(folder)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def save_text_classifier(folder: Path, labels: tuple[str, ...], **settings: Any) -> Path:
    """A BERT whose vocabulary is letters and a few words."""
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizer

    folder.mkdir(parents=True)
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    words = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *letters,
        *(f"##{letter}" for letter in letters),
        "dog",
        "cat",
        "the",
        "bad",
    ]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    torch.manual_seed(2)
    sizes: dict[str, Any] = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": 66,
    }
    config = BertConfig(
        vocab_size=len(words),
        **sizes,
        id2label=dict(enumerate(labels)),
        label2id=_numbers(labels),
        **settings,
    )
    model = BertForSequenceClassification(config)
    torch.nn.init.normal_(model.get_parameter("classifier.weight"), std=0.5)
    model.save_pretrained(folder)
    BertTokenizer(vocab=str(folder / "vocab.txt")).save_pretrained(folder)
    return folder


def _numbers(labels: tuple[str, ...]) -> dict[str, int]:
    return {label: number for number, label in enumerate(labels)}


def picture(seed: int, size: tuple[int, int] = (50, 40)) -> bytes:
    """A PNG of coloured noise."""
    rng = np.random.default_rng(seed)
    buffer = BytesIO()
    Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()
