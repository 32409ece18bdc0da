"""A training plan: everything that settles a run, frozen, with a digest."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from training.first.objectives.base import Objective


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """Shape of a fusion model: a stack for each modality (may be empty), then one stack over both.

    With `text_layers` and `image_layers` 0 the two meet in the first block (ViLT); with more, they are encoded apart first
    and can be compared without fusion (ALBEF). `shared` widths throughout: `width` is the size of a token's vector.
    """

    width: int
    heads: int
    text_layers: int = 0
    image_layers: int = 0
    fusion_layers: int
    mlp_ratio: float = 4.0
    dropout: float = 0.0
    text_length: int = 40  # tokens, [CLS] and [SEP] counted
    image_size: int  # pixels a side
    patch: int  # pixels a side
    project: int = 0  # width of the shared space of the contrastive objective; 0: the model has none

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}: change one of them")
        if self.image_size % self.patch:
            raise ValueError(f"image_size {self.image_size} is not a multiple of patch {self.patch}: change one of them")
        if self.fusion_layers < 1:
            raise ValueError("fusion_layers is 0: a fusion model needs at least one block over both modalities")


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One phase of pretraining: which releases in which shares, how long, how fast."""

    name: str
    data: Mapping[str, float]  # name of a release -> its share of the samples
    steps: int
    batch: int
    lr: float
    warmup: float = 0.1  # share of the steps; then linear to zero
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.98)  # ViLT, UNITER
    clip: float = 0.0  # largest gradient norm; 0: none
    freeze: str = ""  # regular expression: parameters whose names match are not trained
    init: str = ""  # folder of an exported model that the stage starts from; "": where the previous stage ended

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch < 2:
            raise ValueError(f"stage {self.name}: steps must be at least 1 and batch at least 2 (negatives come from the batch)")
        if not self.data or min(self.data.values()) <= 0:
            raise ValueError(f"stage {self.name}: data must name at least one release, each with a share above 0")
        re.compile(self.freeze)


@dataclass(frozen=True, kw_only=True)
class Weighted:
    """An objective and its weight in the sum."""

    objective: Objective
    weight: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A whole run. Equal plans on equal releases give equal models (bit for bit on one CPU with one number of threads)."""

    name: str
    model: ModelSpec
    objectives: tuple[Weighted, ...]
    stages: tuple[Stage, ...]
    seed: int = 0
    vocab_size: int = 30522  # bert-base-uncased; the largest size when the vocabulary is built from the releases
    vocab: str = ""  # path of a vocab.txt; "": built from the captions of all releases of the plan
    precision: str = "float32"  # or "bfloat16": autocast of the forward pass
    checkpoint_every: int = 500  # steps; bounds what a kill costs
    threads: int = field(default=2)  # of torch on a CPU; part of the plan because sums depend on it

    def __post_init__(self) -> None:
        if self.precision not in ("float32", "bfloat16"):
            raise ValueError(f"precision {self.precision!r} is not known: use float32 or bfloat16")
        names = [stage.name for stage in self.stages]
        if not names or len(set(names)) != len(names):
            raise ValueError(f"stages must be there and have different names, not {names}")

    @property
    def releases(self) -> list[str]:
        """Names of the releases that the stages read, sorted."""
        return sorted({name for stage in self.stages for name in stage.data})

    @property
    def steps(self) -> int:
        """Optimiser steps of all stages together."""
        return sum(stage.steps for stage in self.stages)

    def to_json(self) -> dict[str, Any]:
        """The plan as plain values; an objective is its class and its fields."""
        plain: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("model", "objectives", "stages")}
        plain["model"] = asdict(self.model)
        plain["stages"] = [{**asdict(stage), "data": dict(stage.data)} for stage in self.stages]
        plain["objectives"] = [
            {"objective": type(item.objective).__name__, "weight": item.weight, **asdict(item.objective)} for item in self.objectives
        ]
        return plain

    @property
    def digest(self) -> str:
        """128 bits over the plan's values, as hex; a vocabulary file counts by its content."""
        plain = self.to_json()
        if self.vocab:
            plain["vocab"] = hashlib.blake2b(Path(self.vocab).read_bytes(), digest_size=16).hexdigest()
        return hashlib.blake2b(json.dumps(plain, sort_keys=True).encode(), digest_size=16).hexdigest()
