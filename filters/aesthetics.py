"""How much people like pictures of this kind: LAION's heads on the embeddings of the alignment model.

Version 1 (github.com/LAION-AI/aesthetic-predictor) is one linear layer, version 2 (improved-aesthetic-predictor) five with nothing
between them once it is trained; scores are about 1 to 10. Each belongs to the model that it was trained with, mostly OpenAI's ViT-L/14.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pyarrow as pa

from filters.alignment import EmbeddingFilter, as_vectors
from filters.base import Filter, Level, measured
from filters.given import Given
from filters.models import FLOATS, digest_of_file, spread

ONE_LAYER = ("weight", "bias")
FIVE_LAYERS = tuple(f"layers.{number}.{part}" for number in (0, 2, 4, 6, 7) for part in ONE_LAYER)  # between them dropout only


@dataclass(frozen=True, kw_only=True)
class AestheticsFilter(Filter):
    """A head on stored embeddings; it costs next to nothing once those are there."""

    name: ClassVar[str] = "aesthetics"
    version: ClassVar[int] = 1
    sentence: ClassVar[str] = "Says how much people would like the picture, by a head on its embedding"
    level: ClassVar[Level] = "pair"
    needs: ClassVar[str | None] = "aesthetics"
    reads: ClassVar[tuple[str, ...]] = ("alignment.embedding",)
    writes: ClassVar[Mapping[str, pa.DataType]] = {"image.aesthetics": pa.float32()}
    path: str
    digest: str
    embeddings: Mapping[str, Any] = field(default_factory=dict)  # what those that it reads depend on

    @classmethod
    def of(cls, given: Given) -> Self:
        assert given.aesthetics is not None
        path = Path(given.aesthetics)
        if not path.is_file():
            raise ValueError(f"--aesthetics {path}: there is no such file")
        embedding = EmbeddingFilter.of(given) if given.alignment else None
        found = cls(path=str(path), digest=digest_of_file(path), embeddings=embedding.config if embedding else {})
        layers(found.path, found.digest)
        if embedding:
            found.fits(embedding.clip.width)
        return found

    @property
    def config(self) -> dict[str, Any]:
        return {"head": self.digest, "embeddings": self.embeddings}

    def fits(self, width: int) -> None:
        """ValueError where the head is for embeddings of another length."""
        expected = layers(self.path, self.digest)[0][0].shape[1]
        if width != expected:
            raise ValueError(f"--aesthetics {self.path} is for embeddings of {expected} numbers; those of the alignment model have {width}")

    def measure(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        where, values = as_vectors(batch.column("alignment.embedding"))
        if len(where):
            self.fits(values.shape[1])
            values = values / np.linalg.norm(values, axis=1, keepdims=True)
            for weight, bias in layers(self.path, self.digest):
                values = np.einsum("ij,kj->ik", values, weight) + bias
        return measured(self.writes, {"image.aesthetics": spread(where, values.ravel(), batch.num_rows, pa.float32())})


@functools.cache
def layers(path: str, digest: str) -> tuple[tuple[FLOATS, FLOATS], ...]:
    """Weights [out, in] and biases [out] of the head of that digest, in order. ValueError where the file holds no head that is known."""
    state = _state(path)
    for names in (ONE_LAYER, FIVE_LAYERS):
        if set(state) == set(names):
            return tuple((state[names[place]], state[names[place + 1]]) for place in range(0, len(names), 2))
    raise ValueError(f"--aesthetics {path} holds {', '.join(sorted(state)[:6])}; known are LAION's heads of one layer and of five")


def _state(path: str) -> dict[str, FLOATS]:
    if path.endswith(".safetensors"):
        from safetensors.numpy import load_file

        return {name: np.asarray(value, dtype=np.float32) for name, value in load_file(path).items()}
    import torch

    return {name: value.float().numpy() for name, value in torch.load(path, map_location="cpu", weights_only=True).items()}
