"""How well texts go with images: cosines of the embeddings of an open_clip model.

The model's own tokenizer and preparation of pictures are used. Weights are safetensors, or are read
as weights only.
"""

import difflib
import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from filters.base import Each, Filter, Level, PixelFilter, here, measured
from filters.given_models import Given
from filters.models.loading import (
    FLOATS,
    Place,
    digest_of,
    digest_of_file,
    digest_of_folder,
    each_image,
)

HUB = "hf-hub:"
LOCAL = "local-dir:"
CONFIGURATION = "open_clip_config.json"


@dataclass(frozen=True, kw_only=True)
class Clip:
    """An open_clip model: `name` and `weights` as open_clip takes them, what identifies its bytes,
    the length of its embeddings.
    """

    name: str
    weights: str | None
    digest: str
    width: int

    @classmethod
    def of(cls, given: str) -> "Clip":
        """MODEL:WEIGHTS (a tag of open_clip or a file), hf-hub:NAME, or a folder; ValueError where
        there is no such model.
        """
        if given.startswith(HUB):
            return cls._of_hub(given)
        folder = Path(given.removeprefix(LOCAL))
        return (
            cls._of_folder(folder)
            if folder.is_dir() or given.startswith(LOCAL)
            else cls._of_name(given)
        )

    @classmethod
    def _of_folder(cls, folder: Path) -> "Clip":
        if not (folder / CONFIGURATION).is_file():
            raise ValueError(
                f"--alignment {folder}: no {CONFIGURATION} there; it holds model_cfg and"
                " preprocess_cfg as open_clip writes them"
            )
        digest = digest_of_folder(folder, "alignment")
        return cls(
            name=f"{LOCAL}{folder}",
            weights=None,
            digest=digest,
            width=_width(folder / CONFIGURATION),
        )

    @classmethod
    def _of_hub(cls, given: str) -> "Clip":
        from open_clip.pretrained import download_pretrained_from_hf

        name = given.removeprefix(HUB)
        try:
            files = [
                Path(download_pretrained_from_hf(name, filename=CONFIGURATION)),
                Path(download_pretrained_from_hf(name)),
            ]
        except FileNotFoundError as error:
            raise ValueError(f"--alignment {given}: the hub did not give it ({error})") from error
        digest = digest_of(name, *((path.name, path) for path in files))
        return cls(name=given, weights=None, digest=digest, width=_width(files[0]))

    @classmethod
    def _of_name(cls, given: str) -> "Clip":
        from open_clip import get_model_config, list_models
        from open_clip.pretrained import (
            download_pretrained,
            get_pretrained_cfg,
            list_pretrained_tags_by_model,
        )

        name, _, weights = given.partition(":")
        settings = get_model_config(name)
        if settings is None:
            near = difflib.get_close_matches(name, list_models(), 3) or ["ViT-B-32"]
            raise ValueError(
                f"--alignment {given}: no model {name} and no such folder; near are"
                f" {', '.join(near)}"
            )
        source = get_pretrained_cfg(name, weights) if weights else {}
        if not source and not Path(weights).is_file():
            tags = list_pretrained_tags_by_model(name)
            raise ValueError(
                f"--alignment {given}: {name} needs weights, {name}:TAG or {name}:FILE; tags are"
                f" {', '.join(tags)}"
            )
        file = Path(download_pretrained(source)) if source else Path(weights)
        # the tag says how pictures are prepared
        digest = digest_of(
            json.dumps([settings, source], sort_keys=True, default=str), ("weights", file)
        )
        return cls(name=name, weights=weights, digest=digest, width=int(settings["embed_dim"]))


def _width(configuration: Path) -> int:
    stored = json.loads(configuration.read_text(encoding="utf-8"))
    if "model_cfg" not in stored:
        raise ValueError(f"--alignment: {configuration} has no model_cfg")
    return int(stored["model_cfg"]["embed_dim"])


@functools.cache
def loaded(clip: Clip, device: str) -> tuple[Any, Any, Any]:
    """The model, the preparation of its pictures and its tokenizer, once in a process."""
    import open_clip

    assert clip.weights is not None or clip.name.startswith((LOCAL, HUB))
    model, prepare = open_clip.create_model_from_pretrained(
        clip.name, clip.weights, device=device, weights_only=True
    )
    return model.eval(), prepare, open_clip.get_tokenizer(clip.name)


@dataclass(frozen=True, kw_only=True)
class ClipFilter(Filter):
    """What the two have in common: the model, and where it runs."""

    costly: ClassVar[bool] = True
    needs: ClassVar[str | None] = "alignment"
    clip: Clip
    place: Place

    @classmethod
    def of(cls, given: Given) -> Self:
        assert given.alignment is not None
        return cls(clip=Clip.of(given.alignment), place=Place.of(given))

    @property
    def config(self) -> dict[str, Any]:
        return {"model": self.clip.digest, **self.place.config}


@dataclass(frozen=True, kw_only=True)
class EmbeddingFilter(ClipFilter, PixelFilter):
    """Embeddings of images, of unit length, kept for all that is computed from them."""

    name: ClassVar[str] = "embedding"
    version: ClassVar[int] = 1
    sentence: ClassVar[str] = "Embeds the image with the alignment model"
    level: ClassVar[Level] = "image"
    reads: ClassVar[tuple[str, ...]] = ("image",)
    writes: ClassVar[Mapping[str, pa.DataType]] = {"alignment.embedding": pa.list_(pa.float16())}

    def measure(self, batch: pa.RecordBatch, each: Each = here) -> pa.RecordBatch:
        model, prepare, _ = loaded(self.clip, self.place.device)
        encode = partial(model.encode_image, normalize=True)
        where, values = each_image(batch.column("image"), prepare, encode, self.place, each)
        return measured(
            self.writes, {"alignment.embedding": as_lists(where, values, batch.num_rows)}
        )


@dataclass(frozen=True, kw_only=True)
class AlignmentFilter(ClipFilter):
    """The cosine of a text's embedding with that of its image, -1 to 1."""

    name: ClassVar[str] = "alignment"
    version: ClassVar[int] = 1
    sentence: ClassVar[str] = "Compares text and image by the cosine of their embeddings"
    level: ClassVar[Level] = "pair"
    reads: ClassVar[tuple[str, ...]] = ("text", "alignment.embedding")
    writes: ClassVar[Mapping[str, pa.DataType]] = {"alignment.score": pa.float32()}

    def measure(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        where, images = as_vectors(batch.column("alignment.embedding"))
        said = batch.column("text").take(pa.array(where)).dictionary_encode()
        told = np.asarray(said.is_valid())
        where, images, codes = where[told], images[told], np.asarray(said.indices.drop_null())
        texts = self._embedded(said.dictionary.to_pylist()) if len(where) else images
        # einsum sums each row by itself; the stored embedding is of unit length to three digits
        # only
        cosines = (
            np.einsum("ij,ij->i", texts[codes], images) / np.linalg.norm(images, axis=1)
            if len(where)
            else np.zeros(0, np.float32)
        )
        scores = np.full(batch.num_rows, np.nan, np.float32)
        scores[where] = cosines
        return measured(self.writes, {"alignment.score": pa.array(scores, from_pandas=True)})

    def _embedded(self, texts: list[str]) -> FLOATS:
        model, _, tokenizer = loaded(self.clip, self.place.device)
        size = self.place.batch
        encode = partial(model.encode_text, normalize=True)
        return np.concatenate(
            [
                self.place.run(encode, tokenizer(texts[start : start + size]))
                for start in range(0, len(texts), size)
            ]
        )


@dataclass(frozen=True, kw_only=True)
class OnEmbeddings(Filter):
    """What is computed from stored embeddings alone, with numbers from a file for embeddings of one
    length.
    """

    level: ClassVar[Level] = "pair"
    reads: ClassVar[tuple[str, ...]] = ("alignment.embedding",)
    path: str
    digest: str
    # what those that it reads depend on
    embeddings: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, given: Given) -> Self:
        assert cls.needs is not None
        path = Path(getattr(given, cls.needs))
        if not path.is_file():
            raise ValueError(f"--{cls.needs} {path}: there is no such file")
        embedding = EmbeddingFilter.of(given) if given.alignment else None
        found = cls(
            path=str(path),
            digest=digest_of_file(path),
            embeddings=embedding.config if embedding else {},
        )
        found.fits(embedding.clip.width if embedding else found.width)
        return found

    @property
    def width(self) -> int:
        """The length of the embeddings that the file is for. ValueError where the file cannot be
        used.
        """
        raise NotImplementedError

    def fits(self, width: int) -> None:
        """ValueError where the file is for embeddings of another length."""
        raise NotImplementedError


def as_lists(where: NDArray[np.int64], values: FLOATS, rows: int) -> pa.Array:
    """Embeddings [n, width] of some rows as a column of lists of float16, null elsewhere."""
    missing = np.ones(rows, dtype=bool)
    missing[where] = False
    width = values.shape[1]
    offsets = np.concatenate([[0], np.cumsum(~missing) * width]).astype(np.int32)
    return pa.ListArray.from_arrays(
        pa.array(offsets), pa.array(values.astype(np.float16).ravel()), mask=pa.array(missing)
    )


def as_vectors(column: pa.Array) -> tuple[NDArray[np.int64], FLOATS]:
    """The rows that have an embedding [n], and the embeddings [n, width]; they are all of one
    length.
    """
    where = np.flatnonzero(column.is_valid())
    if not len(where):
        return where, np.zeros((0, 0), np.float32)
    flat = column.drop_null().flatten()
    return where, np.asarray(flat.to_numpy(zero_copy_only=False), dtype=np.float32).reshape(
        len(where), -1
    )
