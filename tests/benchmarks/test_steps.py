"""Training steps of base size on this processor, in float32, beside transformers' eager modules.

Reported: samples a second, the share of the measured rate of products, and the most memory that
tensors take at one time beside weights and moments, gradients among them.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import (
    BlipConfig,
    BlipForConditionalGeneration,
    BlipForImageTextRetrieval,
    BlipModel,
    ViltConfig,
    ViltForMaskedLM,
)

from tests.benchmarks.ratios import Timing, compare
from training.corrupt import Pieces
from training.inputs import ImageInput, TextInput
from training.meter import Operations
from training.model import Model, initialise
from training.momentum import Queue, update_ema
from training.negatives import Keys
from training.objectives.base import Objective
from training.objectives.itc import Contrast
from training.objectives.itm import Matching
from training.objectives.lm import Captions
from training.objectives.mlm import MaskedWords
from training.precision import matmul_rate
from training.recipes import load
from training.recipes.blip import SIZES
from training.step import accumulate_gradients
from training.threads import flushed
from training.views import Draws, Views

ROWS = 2
VOCAB = 30524  # BLIP's


class Memory(TorchDispatchMode):
    """The most bytes that tensors made inside take at one time."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._known: set[int] = set()
        self._now = 0
        self.most = 0

    def __torch_dispatch__(
        self,
        func: Any,
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        given = [one for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor)]
        old = {one.untyped_storage()._cdata for one in given}
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor) and tensor.untyped_storage()._cdata not in old:
                self._met(tensor.untyped_storage())
        return out

    def _met(self, storage: torch.UntypedStorage) -> None:
        place = storage._cdata
        if place in self._known:
            return
        self._known.add(place)
        self._now += storage.nbytes()
        self.most = max(self.most, self._now)
        weakref.finalize(storage, self._gone, place, storage.nbytes())

    def _gone(self, place: int, size: int) -> None:
        self._known.discard(place)
        self._now -= size


def _told(ways: dict[str, Callable[[], object]]) -> dict[str, Timing]:
    """Times of all ways, with the arithmetic and the memory of each beside them.

    Subnormal numbers count as 0 for all, as our training has it: of random weights transformers'
    BLIP makes so many that its way back would take ten times as long.
    """
    with flushed():
        return _compared(ways)


def _compared(ways: dict[str, Callable[[], object]]) -> dict[str, Timing]:
    operations, memory = {}, {}
    for name, run in ways.items():
        with Operations() as counter:  # moments are made here
            run()
        with Memory() as kept:
            run()
        operations[name], memory[name] = counter.total, kept.most
    found = compare(ways, rounds=3, warm=False)
    rate = matmul_rate(torch.device("cpu"), torch.float32)
    print(f"products of matrices: {rate / 1e9:.0f} GFLOP/s, {torch.get_num_threads()} threads")
    for name, one in found.items():
        print(
            f"{name}: {ROWS / one.wall:.2f} samples/s, {operations[name] / 1e9:.0f} GFLOP, "
            f"{operations[name] / one.wall / rate:.2f} of the rate, "
            f"{memory[name] / 2**20:.0f} MiB at most"
        )
    return found


def _texts(generator: torch.Generator, length: int) -> TextInput:
    ids = torch.randint(1000, VOCAB - 2, (ROWS, length), generator=generator)
    pieces = Pieces(
        continues=torch.zeros(VOCAB, dtype=torch.bool),
        special=torch.arange(VOCAB) < 1000,
        mask=103,
    )
    valid = torch.ones(ROWS, length, dtype=torch.bool)
    return TextInput(ids=ids, valid=valid, pieces=pieces, firsts={"[ENC]": 1, "[DEC]": 2})


def _keys() -> Keys:
    number = torch.arange(ROWS)
    return Keys(image=number, text=number, source=torch.zeros_like(number))


def _ours(recipe: str) -> Model:
    spec = load(recipe, size="base").model
    words = replace(spec.embeds["words"], vocab=VOCAB)  # type: ignore[call-arg]
    head = replace(spec.heads["vocabulary"], vocab=VOCAB)  # type: ignore[call-arg]
    spec = replace(
        spec,
        embeds={**spec.embeds, "words": words},
        heads={**spec.heads, "vocabulary": head},
    )
    model = Model(spec)
    initialise(model, torch.Generator().manual_seed(0))
    return model.train()


def _adam(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)


def test_a_step_of_vilt_beside_transformers() -> None:
    """40 words and 200 patches: masked words, and matching with half of the images wrong."""
    generator = torch.Generator().manual_seed(0)
    texts = _texts(generator, 40)
    images = ImageInput(pixels=torch.randn(ROWS, 3, 320, 640, generator=generator))

    model = _ours("vilt")
    ours_adam = _adam(model)
    objectives: list[Objective] = [MaskedWords(), Matching(false="half")]

    def ours() -> None:
        ours_adam.zero_grad(set_to_none=True)
        inputs = {"words": texts, "patches": images}
        views = Views(model, inputs, _keys(), Draws(seed=0, step=0))
        accumulate_gradients(objectives, {}, views)
        ours_adam.step()

    config = ViltConfig(
        vocab_size=VOCAB,
        image_size=384,
        max_image_length=200,
        hidden_dropout_prob=0.1,
        attn_implementation="eager",
    )
    masked = ViltForMaskedLM(config).train()
    head = nn.Linear(768, 2)
    theirs = nn.ModuleList([masked, head])
    theirs_adam = _adam(theirs)
    labels = torch.where(torch.rand(ROWS, 40, generator=generator) < 0.15, texts.ids, -100)
    seen = {
        "input_ids": texts.ids,
        "attention_mask": texts.valid.long(),
        "pixel_mask": torch.ones(ROWS, 320, 640, dtype=torch.long),
    }
    right = torch.tensor([1, 0] * (ROWS // 2))

    def peer() -> None:
        theirs_adam.zero_grad(set_to_none=True)
        masked(**seen, pixel_values=images.pixels, labels=labels).loss.backward()
        shown = images.pixels.roll(1, 0)
        pooled = masked.vilt(**seen, pixel_values=shown).pooler_output
        F.cross_entropy(head(pooled), right).backward()
        theirs_adam.step()

    found = _told({"ours": ours, "transformers": peer})
    ratio = found["transformers"].wall / found["ours"].wall
    print(f"vilt base: {ratio:.2f} times transformers' speed")
    assert ratio > 1.1


def test_a_step_of_blip_beside_transformers() -> None:
    """Contrast, matching and captions at 224 pixels: our whole step, with the twin and three times
    the pairs, beside their forward and backward passes alone.
    """
    generator = torch.Generator().manual_seed(0)
    texts = _texts(generator, 32)
    images = ImageInput(pixels=torch.randn(ROWS, 3, 224, 224, generator=generator))

    model = _ours("blip")
    adam = _adam(model)
    twin = _ours("blip").requires_grad_(False)
    queue = Queue(4096, SIZES["base"][4])
    contrast = Contrast()
    objectives: list[Objective] = [contrast, Matching(contrast=contrast), Captions(smoothing=0.1)]

    def ours() -> None:
        adam.zero_grad(set_to_none=True)
        update_ema(twin, model, 0.995)
        inputs = {"words": texts, "patches": images}
        draws = Draws(seed=0, step=0)
        with torch.no_grad():
            momentum = Views(twin, inputs, _keys(), draws, queue=queue)
        views = Views(model, inputs, _keys(), draws, twin=momentum, alpha=0.4)
        accumulate_gradients(objectives, {}, views)
        adam.step()
        queue.push(_keys(), *contrast.vectors(momentum))

    config = BlipConfig(
        text_config={"vocab_size": VOCAB, "encoder_hidden_size": 768},
        vision_config={"image_size": 224},
        image_text_hidden_size=256,
    )
    config._attn_implementation = "eager"
    contrasted = BlipModel(config).train()
    matching = BlipForImageTextRetrieval(config).train()
    captioner = BlipForConditionalGeneration(config).train()
    for one in (matching, captioner):  # one tower in memory; each runs it
        one.vision_model = contrasted.vision_model
    theirs = nn.ModuleList([contrasted, matching, captioner])
    seen = {"input_ids": texts.ids, "attention_mask": texts.valid.long()}
    right = torch.tensor([1, 0] * (ROWS // 2))

    def peer() -> None:
        theirs.zero_grad(set_to_none=True)
        given = {**seen, "pixel_values": images.pixels}
        contrasted(**given, return_loss=True).loss.backward()
        logits = matching(**given, use_itm_head=True).itm_score
        F.cross_entropy(logits, right).backward()
        captioner(**given, labels=texts.ids).loss.backward()

    found = _told({"ours": ours, "transformers": peer})
    ratio = found["transformers"].wall / found["ours"].wall
    print(f"blip base: {ratio:.2f} times the speed of transformers' three modules")
    assert ratio > 1.0
