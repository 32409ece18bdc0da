"""Whether an image is near those of a target set: DataComp's image-based filter, by clusters of
embeddings made once for many pools.

A file of targets holds `centroids` [clusters, width] (of the pool's embeddings) and `keep`
[clusters], true where an image of the target set is nearest to that centroid (arXiv 2304.14108,
section 3.2 and appendix).
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from filters.base import measured
from filters.models.alignment import OnEmbeddings, as_vectors
from filters.models.loading import FLOATS, spread


@dataclass(frozen=True, kw_only=True)
class TargetsFilter(OnEmbeddings):
    """Nearest by inner product, as unit vectors are compared."""

    name: ClassVar[str] = "targets"
    version: ClassVar[int] = 1
    sentence: ClassVar[str] = "Finds whether the image's cluster is one of those of the target set"
    needs: ClassVar[str | None] = "targets"
    writes: ClassVar[Mapping[str, pa.DataType]] = {"image.near_target": pa.bool_()}

    @property
    def config(self) -> dict[str, Any]:
        return {"targets": self.digest, "embeddings": self.embeddings}

    @property
    def width(self) -> int:
        return int(clusters(self.path, self.digest)[0].shape[1])

    def fits(self, width: int) -> None:
        """ValueError where the centroids have another length than embeddings."""
        if width != self.width:
            raise ValueError(
                f"--targets {self.path} has centroids of {self.width} numbers; embeddings of the"
                f" alignment model have {width}"
            )

    def measure(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        where, values = as_vectors(batch.column("alignment.embedding"))
        centroids, keep = clusters(self.path, self.digest)
        near = np.zeros(0, dtype=bool)
        if len(where):
            self.fits(values.shape[1])
            near = keep[np.argmax(values @ centroids.T, axis=1)]
        return measured(
            self.writes, {"image.near_target": spread(where, near, batch.num_rows, pa.bool_())}
        )


@functools.cache
def clusters(path: str, digest: str) -> tuple[FLOATS, NDArray[np.bool_]]:
    """Centroids [clusters, width] and which of them to keep [clusters]. ValueError where the file
    is not of that shape.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        stored = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"--targets {path} is no .safetensors file ({error})") from error
    centroids, keep = stored.get("centroids"), stored.get("keep")
    if (
        centroids is None
        or keep is None
        or centroids.ndim != 2
        or keep.shape != centroids.shape[:1]
        or keep.dtype != np.bool_
    ):
        held = ", ".join(
            f"{name} {list(value.shape)} {value.dtype}" for name, value in sorted(stored.items())
        )
        raise ValueError(
            f"--targets {path} must hold centroids [clusters, width] and bool keep [clusters]; it"
            f" holds {held or 'nothing'}"
        )
    return centroids.astype(np.float32), keep
