"""How near images come to those of evaluation sets, so that none of these is trained on.

A set is a file of captions (`captions.jsonl`: lines of {"image", "captions"}, images beside it), a
folder of images, or a Parquet file with a column `dhash` and, for similarities, `embedding` of the
same alignment model. A hash that is flat names no picture and is left out.
"""

import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from filters.base import Filter, Level, measured
from filters.given_models import Given
from filters.image.hashes import dhash, flat, numbers
from filters.image.is_photo import decode
from filters.models.alignment import Clip, EmbeddingFilter, as_vectors
from filters.models.loading import FLOATS, digest_of_file, spread

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif"})
COMPARED = 1 << 22  # pairs at a time
EMBEDDED = 256  # images at a time


@dataclass(frozen=True, kw_only=True)
class EvaluationFilter(Filter):
    """The bits by which an image's hash differs from that of the nearest evaluation image: 0 to
    64.
    """

    name: ClassVar[str] = "evaluation"
    version: ClassVar[int] = 1
    sentence: ClassVar[str] = (
        "Counts the bits by which the image's hash differs from that of the nearest evaluation "
        "image"
    )
    level: ClassVar[Level] = "pair"
    needs: ClassVar[str | None] = "evaluation"
    reads: ClassVar[tuple[str, ...]] = ("image.dhash",)
    writes: ClassVar[Mapping[str, pa.DataType]] = {"image.evaluation_distance": pa.int32()}
    hashes: bytes  # of the evaluation images, ascending, 8 bytes each

    @classmethod
    def of(cls, given: Given) -> Self:
        return cls(hashes=hashes_of(given.evaluation).tobytes())

    @property
    def config(self) -> dict[str, Any]:
        return {"evaluation": sha256(self.hashes).hexdigest()}

    def measure(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        column = batch.column("image.dhash")
        where = np.flatnonzero(column.is_valid())
        distinct, places = np.unique(numbers(column.drop_null()), return_inverse=True)
        least = nearest(distinct, np.frombuffer(self.hashes, dtype=np.uint64))
        return measured(
            self.writes,
            {"image.evaluation_distance": spread(where, least[places], batch.num_rows, pa.int32())},
        )


@dataclass(frozen=True, kw_only=True)
class EvaluationSimilarityFilter(Filter):
    """The highest cosine of an image's embedding with those of the evaluation images, which each
    process embeds once.
    """

    name: ClassVar[str] = "evaluation_similarity"
    version: ClassVar[int] = 1
    sentence: ClassVar[str] = (
        "Compares the image with the evaluation images by the highest cosine of their embeddings"
    )
    level: ClassVar[Level] = "pair"
    needs: ClassVar[str | None] = "evaluation"
    reads: ClassVar[tuple[str, ...]] = ("alignment.embedding",)
    writes: ClassVar[Mapping[str, pa.DataType]] = {"image.evaluation_similarity": pa.float32()}
    sets: tuple[str, ...]
    digest: str
    embedding: EmbeddingFilter

    @classmethod
    def of(cls, given: Given) -> Self:
        embedding = EmbeddingFilter.of(given)
        fits(given.evaluation, embedding.clip)
        return cls(sets=given.evaluation, digest=digest_of(given.evaluation), embedding=embedding)

    @property
    def config(self) -> dict[str, Any]:
        return {"evaluation": self.digest, **self.embedding.config}

    def measure(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        where, vectors = as_vectors(batch.column("alignment.embedding"))
        known = embeddings_of(self.sets, self.embedding)
        size = max(1, COMPARED // len(known))
        best = [
            (vectors[start : start + size] @ known.T).max(axis=1)
            for start in range(0, len(where), size)
        ]
        # embeddings are of unit length to three digits only
        highest = np.clip(np.concatenate([np.zeros(0, np.float32), *best]), -1, 1)
        return measured(
            self.writes,
            {"image.evaluation_similarity": spread(where, highest, batch.num_rows, pa.float32())},
        )


def nearest(hashes: NDArray[np.uint64], known: NDArray[np.uint64]) -> NDArray[np.int32]:
    """[n] the least distance in bits of each hash to the known ones, of which there is one at
    least.
    """
    least = np.full(len(hashes), 64, dtype=np.int32)
    size = max(1, COMPARED // len(known))
    for start in range(0, len(hashes), size):
        differing = np.bitwise_count(hashes[start : start + size, None] ^ known[None])
        least[start : start + size] = differing.min(axis=1)
    return least


def hashes_of(sets: Sequence[str]) -> NDArray[np.uint64]:
    """The hashes of all evaluation images, ascending, each once.

    Raises ValueError where there is no such set, or none of its images can be compared.
    """
    found = np.unique(np.concatenate([_hashes(name, digest_of((name,))) for name in sets]))
    if not len(found := found[~flat(found)]):
        raise ValueError(
            f"--evaluation {' '.join(sets)}: no image there can be decoded and told from a"
            " blank one"
        )
    return found


@functools.cache
def _hashes(name: str, digest: str) -> NDArray[np.uint64]:
    """The hashes of one set, computed once for its bytes."""
    if name.endswith(".parquet"):
        return numbers(_column(name, "dhash").drop_null().combine_chunks())
    pictures = (decode(path.read_bytes()) for path in images_of(name))
    return numbers(
        pa.array([dhash(picture) for picture in pictures if picture is not None], pa.string())
    )


@functools.cache
def embeddings_of(sets: tuple[str, ...], embedding: EmbeddingFilter) -> FLOATS:
    """[n, width] the embeddings of all evaluation images, of unit length. ValueError where none can
    be embedded.
    """
    found = [vectors for name in sets for vectors in _embeddings(name, embedding) if len(vectors)]
    if not found:
        raise ValueError(f"--evaluation {' '.join(sets)}: no image there can be embedded")
    known = np.concatenate(found)
    return np.asarray(known / np.linalg.norm(known, axis=1, keepdims=True))


def _embeddings(name: str, embedding: EmbeddingFilter) -> Iterator[FLOATS]:
    if name.endswith(".parquet"):
        yield as_vectors(_column(name, "embedding").combine_chunks())[1]
        return
    paths = images_of(name)
    for start in range(0, len(paths), EMBEDDED):
        images = pa.array(
            [path.read_bytes() for path in paths[start : start + EMBEDDED]], pa.binary()
        )
        yield as_vectors(
            embedding.measure(pa.record_batch({"image": images})).column("alignment.embedding")
        )[1]


def fits(sets: Sequence[str], clip: Clip) -> None:
    """ValueError where embeddings that a set holds have another length than those of the alignment
    model.
    """
    for name in sets:
        if name.endswith(".parquet"):
            width = as_vectors(_column(name, "embedding").slice(0, 1).combine_chunks())[1].shape[1]
            if width not in (0, clip.width):
                raise ValueError(
                    f"--evaluation {name} has embeddings of {width} numbers; those of the alignment"
                    f" model have {clip.width}"
                )


def digest_of(sets: Sequence[str]) -> str:
    """Of the bytes of all images, or of the Parquet files that stand for them, in whatever order
    they lie.
    """
    files = [
        Path(name) if name.endswith(".parquet") and Path(name).is_file() else None for name in sets
    ]
    paths = [
        path
        for name, file in zip(sets, files, strict=True)
        for path in ([file] if file is not None else images_of(name))
    ]
    return sha256("".join(sorted(digest_of_file(path) for path in paths)).encode()).hexdigest()


def images_of(name: str) -> list[Path]:
    """The images of a folder, or those that a file of captions names. ValueError where there is no
    such set, or an image is missing.
    """
    path = Path(name)
    if path.is_dir():
        return sorted(found for found in path.rglob("*") if found.suffix.lower() in SUFFIXES)
    if path.suffix != ".jsonl" or not path.is_file():
        raise ValueError(
            f"--evaluation {name}: there is no such set; give a captions.jsonl, a folder of images"
            " or a .parquet file"
        )
    named = list(
        dict.fromkeys(
            _image(line, name)
            for line in path.read_text(encoding="utf-8").splitlines()
            if line.strip()
        )
    )
    if missing := next((image for image in named if not (path.parent / image).is_file()), None):
        raise ValueError(f"--evaluation {name}: its image {missing} does not lie beside it")
    return [path.parent / image for image in named]


def _image(line: str, name: str) -> str:
    try:
        return str(json.loads(line)["image"])
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f'--evaluation {name}: a line is not of the form {{"image", "captions"}}: {line[:80]}'
        ) from error


def _column(name: str, column: str) -> pa.ChunkedArray:
    try:
        return pq.read_table(name, columns=[column])[column]
    except (OSError, KeyError, pa.ArrowException) as error:
        raise ValueError(
            f"--evaluation {name}: it is no Parquet file with a column {column}"
        ) from error
