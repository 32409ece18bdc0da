"""How much people like pictures of this kind: LAION's heads on the embeddings of the alignment
model.

Version 1 (github.com/LAION-AI/aesthetic-predictor) is one linear layer, version 2
(improved-aesthetic-predictor) five with nothing between them once it is trained; scores are about 1
to 10. Each belongs to the model that it was trained with, mostly OpenAI's ViT-L/14.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from filters.base import measured
from filters.models.alignment import OnEmbeddings, as_vectors
from filters.models.loading import FLOATS, spread

ONE_LAYER = ("weight", "bias")
# between them dropout only
FIVE_LAYERS = tuple(f"layers.{number}.{part}" for number in (0, 2, 4, 6, 7) for part in ONE_LAYER)


@dataclass(frozen=True, kw_only=True)
class AestheticsFilter(OnEmbeddings):
    """A head on stored embeddings; it costs next to nothing once those are there."""

    name: ClassVar[str] = "aesthetics"
    version: ClassVar[int] = 1
    sentence: ClassVar[str] = (
        "Says how much people would like the picture, by a head on its embedding"
    )
    needs: ClassVar[str | None] = "aesthetics"
    writes: ClassVar[Mapping[str, pa.DataType]] = {"image.aesthetics": pa.float32()}

    @property
    def config(self) -> dict[str, Any]:
        return {"head": self.digest, "embeddings": self.embeddings}

    @property
    def width(self) -> int:
        return int(layers(self.path, self.digest)[0][0].shape[1])

    def fits(self, width: int) -> None:
        """ValueError where the head is for embeddings of another length."""
        if width != self.width:
            said = (
                f"is for embeddings of {self.width} numbers; those of the alignment model have"
                f" {width}"
            )
            raise ValueError(f"--aesthetics {self.path} {said}")

    def measure(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        where, values = as_vectors(batch.column("alignment.embedding"))
        if len(where):
            self.fits(values.shape[1])
            values = values / np.linalg.norm(values, axis=1, keepdims=True)
            for weight, bias in layers(self.path, self.digest):
                values = np.einsum("ij,kj->ik", values, weight) + bias
        return measured(
            self.writes,
            {"image.aesthetics": spread(where, values.ravel(), batch.num_rows, pa.float32())},
        )


@functools.cache
def layers(path: str, digest: str) -> tuple[tuple[FLOATS, FLOATS], ...]:
    """Weights [out, in] and biases [out] of the head of that digest, in order. ValueError where the
    file holds no head that is known.
    """
    state = _state(path)
    for names in (ONE_LAYER, FIVE_LAYERS):
        if set(state) == set(names):
            return tuple(
                (state[names[place]], state[names[place + 1]]) for place in range(0, len(names), 2)
            )
    raise ValueError(
        f"--aesthetics {path} holds {', '.join(sorted(state)[:6])}; known are LAION's heads of one"
        " layer and of five"
    )


def _state(path: str) -> dict[str, FLOATS]:
    if path.endswith(".safetensors"):
        from safetensors.numpy import load_file

        return {
            name: np.asarray(value, dtype=np.float32) for name, value in load_file(path).items()
        }
    import torch

    return {
        name: value.float().numpy()
        for name, value in torch.load(path, map_location="cpu", weights_only=True).items()
    }
