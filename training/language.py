"""A causal language model of transformers as a part of the core: frozen, with matrices beside it.

It is not among the parameters: it stands in its own folder, as a frozen tower does, and neither
checkpoints nor exported models hold it a second time. Trained are small matrices beside its maps
(LoRA), and whatever stands before it: tokens of an image in front of a text (LLaVA, BLIP-2).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, DynamicCache
from transformers.pytorch_utils import Conv1D

from training.attention import Cache
from training.tokens import Segment, Tokens

HALF = (torch.float16, torch.bfloat16)
BEYOND = ("final_logit_softcapping", "logit_scale", "logits_scaling")  # of Gemma, Cohere, Granite


@dataclass(frozen=True, kw_only=True)
class LanguageSpec:
    """A language model by its folder or name.

    `rank` of the matrices beside its maps, 0: none; they weigh `alpha` / rank (0: twice the rank is
    taken for alpha, as LLaVA does), with `dropout` of what they see. `half` keeps the model in
    the 16 bits of its file; else it is computed in 32.
    """

    folder: str
    rank: int = 0
    alpha: float = 0.0
    dropout: float = 0.0
    half: bool = False


class Lora(nn.Module):
    """output + scale x up(down(x)) beside a map that stays as it is (Hu et al. 2022)."""

    def __init__(self, beside: nn.Module, spec: LanguageSpec) -> None:
        super().__init__()
        outputs, inputs = _shape(beside)
        self.down = nn.Parameter(torch.zeros(spec.rank, inputs))
        self.up = nn.Parameter(torch.zeros(outputs, spec.rank))  # stays 0 at first: nothing changes
        self.scale = (spec.alpha or 2.0 * spec.rank) / spec.rank
        self.dropout = spec.dropout
        beside.register_forward_hook(self)

    def forward(self, beside: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> Tensor:
        """What the map's forward hook makes of its input and its output."""
        seen = F.dropout(given[0], self.dropout, self.training).to(self.down.dtype)
        added = F.linear(F.linear(seen, self.down), self.up)
        return output + (self.scale * added).to(output.dtype)


def _shape(beside: nn.Module) -> tuple[int, int]:
    """Outputs and inputs of a map; GPT-2 keeps its matrices the other way round."""
    weight = beside.weight
    assert isinstance(weight, Tensor), "a map has a weight"
    rows, columns = weight.shape
    return (columns, rows) if isinstance(beside, Conv1D) else (rows, columns)


class Language(nn.Module):
    """The model's blocks, run as a stack is: tokens in, tokens out, causal."""

    def __init__(self, spec: LanguageSpec) -> None:
        super().__init__()
        self.spec = spec
        model = _read(spec)
        self._held = [model]  # in a list, so that it is none of our parameters
        self.lora = nn.ModuleDict()
        if spec.rank:
            last = model.get_output_embeddings()
            for name, part in model.named_modules():
                if isinstance(part, nn.Linear | Conv1D) and part is not last:
                    self.lora[name.replace(".", "-")] = Lora(part, spec)

    @property
    def model(self) -> Any:
        """transformers' model."""
        return self._held[0]

    @property
    def width(self) -> int:
        """Of its tokens."""
        width: int = self.model.get_input_embeddings().weight.shape[1]
        return width

    def _apply(self, change: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """To another device or type: what is held goes too."""
        self.model._apply(change)
        super()._apply(change, recurse)  # type: ignore[no-untyped-call]
        return self

    def forward(
        self,
        tokens: Tokens,
        *,
        rules: tuple[str, ...] = ("causal",),
        cache: Cache | None = None,
    ) -> Tokens:
        """Tokens [n, t, width] through all blocks and the last norm; padding stands behind.

        With a cache, tokens are new ones behind those that it holds.
        """
        assert set(rules) == {"causal"}, "a causal language model has one rule"
        assert cache is None or tokens.valid is None, "a cache holds rows of one length"
        model = self.model
        past = None if cache is None else _past(cache)
        said = model.base_model(
            inputs_embeds=tokens.x.to(model.dtype),
            attention_mask=None if tokens.valid is None else tokens.valid.long(),
            past_key_values=past,
            use_cache=past is not None,
        )
        if cache is not None and past is not None:
            layers: list[Any] = past.layers
            cache.self_attention = {at: (one.keys, one.values) for at, one in enumerate(layers)}
            cache.length += tokens.x.shape[1]
        return tokens.with_x(said.last_hidden_state.to(tokens.x.dtype))


def _past(cache: Cache) -> DynamicCache:
    """Our cache as theirs: keys and values, layer by layer."""
    past = DynamicCache()
    for layer, (key, value) in sorted(cache.self_attention.items()):
        past.update(key, value, layer)
    return past


def _read(spec: LanguageSpec) -> Any:
    try:
        model = AutoModelForCausalLM.from_pretrained(spec.folder, dtype="auto")
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{spec.folder}: no causal language model of transformers: {error}"
        ) from error
    if odd := [name for name in BEYOND if getattr(model.config, name, None)]:
        raise ValueError(f"{spec.folder} has {odd[0]} behind its head, which is not supported here")
    if model.dtype in HALF and not spec.half:
        model = model.float()
    return model.eval().requires_grad_(False)


@dataclass(frozen=True, kw_only=True)
class LanguageWordsSpec:
    """The words of a language model, by its name among `languages`."""

    language: str


class LanguageWords(nn.Module):
    """Ids to its tokens; places are the model's own business."""

    def __init__(self, language: Language) -> None:
        super().__init__()
        self._language = [language]

    def forward(self, ids: Tensor, valid: Tensor | None = None, start: int = 0) -> Tokens:
        """ids [n, t], valid [n, t] -> [n, t, width]."""
        x: Tensor = self._language[0].model.get_input_embeddings()(ids)
        return Tokens.of(Segment.TEXT, x, valid)


@dataclass(frozen=True, kw_only=True)
class LanguageHeadSpec:
    """What a language model says of its last tokens, by its name among `languages`."""

    language: str


class LanguageHead(nn.Module):
    """Vectors to logits over its words."""

    def __init__(self, language: Language) -> None:
        super().__init__()
        self._language = [language]

    def forward(self, vectors: Tensor) -> Tensor:
        """[m, width] -> [m, vocab]."""
        head = self._language[0].model.get_output_embeddings()
        logits: Tensor = head(vectors.to(head.weight.dtype))
        return logits
