"""Captions and matching with the same weights as BLIP of transformers, in one run on one machine.

Random weights at a quarter of the width and half of the depth of the base model: what is said is
nonsense, but the same nonsense, and the time of a step does not depend on it.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from transformers import BlipConfig, BlipForConditionalGeneration, BlipForImageTextRetrieval

from tests.benchmarks.ratios import compare
from tests.training import parity
from training.generate import Decoding, TextGenerator
from training.model import Model
from training.tokens import Tokens

PIXELS, IMAGES, TEXTS, PIECES = 224, 8, 8, 20
START, END = 30522, 102  # [DEC] and [SEP] of BLIP's vocabulary


def _config() -> BlipConfig:
    shape = {
        "hidden_size": 192,
        "intermediate_size": 768,
        "num_hidden_layers": 6,
        "num_attention_heads": 4,
    }
    return BlipConfig(
        text_config={**shape, "encoder_hidden_size": 192, "vocab_size": 30524},
        vision_config={**shape, "image_size": PIXELS, "patch_size": 16},
        projection_dim=64,
        image_text_hidden_size=64,
    )


def _image(model: Model, pixels: Tensor) -> Tokens:
    return model.run("image", [model.embed("patches", pixels)])


@torch.inference_mode()
def test_greedy_captions_beside_transformers() -> None:
    torch.manual_seed(0)
    theirs = BlipForConditionalGeneration(_config()).eval()
    model, _ = parity.ours_of(theirs, "blip", dtype=torch.float32)
    pixels = torch.randn(IMAGES, 3, PIXELS, PIXELS)
    writer = TextGenerator(model, decoder="caption", head="vocabulary", end=END)
    prompt = torch.full((IMAGES, 1), START)

    def ours() -> Tensor:
        return writer.generate(prompt, Decoding(longest=PIECES), reads=_image(model, pixels))

    def peer() -> Tensor:
        return theirs.generate(
            pixel_values=pixels,
            input_ids=torch.full((IMAGES, 2), START),  # generate leaves the last one out
            max_new_tokens=PIECES,
            do_sample=False,
            num_beams=1,
        )

    said, wanted = ours(), peer()[:, 1:]
    assert torch.equal(said[:, : wanted.shape[1]], wanted)

    times = compare({"ours": ours, "transformers": peer}, warm=False)
    ratio = times["transformers"].cpu / times["ours"].cpu
    print(f"captions of {IMAGES} images: {ratio:.2f} times transformers")
    assert ratio >= 1.0


@torch.inference_mode()
def test_one_image_against_eight_texts_beside_eight_calls() -> None:
    torch.manual_seed(0)
    theirs = BlipForImageTextRetrieval(_config()).eval()
    model, _ = parity.ours_of(theirs, "blip", dtype=torch.float32)
    pixels = torch.randn(1, 3, PIXELS, PIXELS)
    ids = torch.randint(1000, 30000, (TEXTS, 12))

    def ours() -> Tensor:
        rows = torch.zeros(TEXTS, dtype=torch.int64)
        fused = model.run("match", [model.embed("words", ids)], _image(model, pixels)[rows])
        return model.head("match", fused)

    def peer() -> Tensor:
        asked = [theirs(input_ids=ids[row : row + 1], pixel_values=pixels) for row in range(TEXTS)]
        return torch.cat([one.itm_score for one in asked])

    assert ours() == pytest.approx(peer(), abs=1e-4)
    times = compare({"ours": ours, "transformers": peer}, warm=False)
    ratio = times["transformers"].cpu / times["ours"].cpu
    print(f"one image against {TEXTS} texts: {ratio:.2f} times eight calls")
    assert ratio >= 3.0
