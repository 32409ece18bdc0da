"""Distances to evaluation images: from folders, files of captions and Parquet, by hash and by
embedding.
"""

import json
import pickle
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from filters.given_models import Given
from filters.image.hashes import dhash
from filters.image.is_photo import NaturalFilter
from filters.models.alignment import EmbeddingFilter
from filters.models.evaluation import EvaluationFilter, EvaluationSimilarityFilter, nearest
from filters.registry import filters_for
from tests.filters.tiny_models import save_clip


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_clip(tmp_path_factory.mktemp("clip") / "tiny"))


def picture(seed: int) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((320, 240), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, kind: str = "PNG", **settings: int) -> bytes:
    sink = BytesIO()
    image.save(sink, kind, **settings)
    return sink.getvalue()


def written(folder: Path, *seeds: int) -> Path:
    folder.mkdir(exist_ok=True)
    for seed in seeds:
        (folder / f"{seed}.png").write_bytes(encoded(picture(seed)))
    return folder


def distances(given: Given, hashes: list[str | None]) -> list[int | None]:
    found = pickle.loads(pickle.dumps(EvaluationFilter.of(given)))
    batch = pa.record_batch({"image.dhash": pa.array(hashes, pa.string())})
    return list(found.measure(batch).column("image.evaluation_distance").to_pylist())


def turned(value: str, *bits: int) -> str:
    return f"{int(value, 16) ^ sum(1 << bit for bit in bits):016x}"


def as_captions(folder: Path) -> str:
    lines = [{"image": path.name, "captions": ["a", "b"]} for path in sorted(folder.glob("*.png"))]
    (folder / "captions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(folder / "captions.jsonl")


def as_parquet(folder: Path) -> str:
    pq.write_table(
        pa.table({"dhash": [dhash(picture(1)), None, dhash(picture(2))]}), folder / "set.parquet"
    )
    return str(folder / "set.parquet")


@pytest.mark.parametrize("form", [str, as_captions, as_parquet])
def test_the_distance_is_the_least_to_any(tmp_path: Path, form: Callable[[Path], str]) -> None:
    given = Given(evaluation=(form(written(tmp_path / "set", 1, 2)),))
    one, two = dhash(picture(1)), dhash(picture(2))
    assert distances(
        given, [one, turned(two, 3), None, turned(one, 0, 20, 40, 60), turned(two, 1, 2, 5), one]
    ) == [0, 1, None, 4, 3, 0]
    assert distances(given, []) == []
    assert distances(given, [None]) == [None]


def test_an_edited_evaluation_image_is_near(tmp_path: Path) -> None:
    (tmp_path / "1.jpg").write_bytes(encoded(picture(1), "JPEG", quality=90))
    images = [
        encoded(picture(1).resize((200, 150))),
        encoded(picture(1), "JPEG", quality=40),
        encoded(picture(3)),
    ]
    measured = NaturalFilter().measure(pa.record_batch({"image": pa.array(images, pa.binary())}))
    near = distances(Given(evaluation=(str(tmp_path),)), measured.column("image.dhash").to_pylist())
    assert [distance is not None and distance <= 3 for distance in near] == [True, True, False]


def test_several_sets_count_as_one_and_bytes_alone_matter(tmp_path: Path) -> None:
    apart = Given(evaluation=(str(written(tmp_path / "a", 1)), str(written(tmp_path / "b", 2))))
    together = Given(evaluation=(str(written(tmp_path / "c", 1, 2)),))
    assert EvaluationFilter.of(apart).config == EvaluationFilter.of(together).config
    assert (
        EvaluationFilter.of(apart).config
        != EvaluationFilter.of(Given(evaluation=apart.evaluation[:1])).config
    )
    written(tmp_path / "a", 3)
    assert EvaluationFilter.of(apart).config != EvaluationFilter.of(together).config


def test_a_blank_evaluation_image_is_near_to_none(tmp_path: Path) -> None:
    Image.new("RGB", (64, 64), "white").save(written(tmp_path / "set", 1) / "white.png")
    assert min(filter(None, distances(Given(evaluation=(str(tmp_path / "set"),)), ["0" * 16]))) > 3
    (tmp_path / "set" / "1.png").unlink()
    with pytest.raises(ValueError, match="no image there can be decoded and told from a blank one"):
        EvaluationFilter.of(Given(evaluation=(str(tmp_path / "set"),)))


def test_nearest_in_pieces_is_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("filters.models.evaluation.COMPARED", 64)
    random = np.random.default_rng(1)
    hashes, known = (random.integers(0, 2**64, count, dtype=np.uint64) for count in (50, 20))
    expected = [
        min((one ^ other).bit_count() for other in known.tolist()) for one in hashes.tolist()
    ]
    assert nearest(hashes, known).tolist() == expected


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            None,
            "there is no such set; give a captions.jsonl, a folder of images or a .parquet file",
        ),
        ('{"image": "gone.jpg", "captions": []}\n', "its image gone.jpg does not lie beside it"),
        ("[1]\n", "a line is not of the form"),
        ('{"images": 1}\n', "a line is not of the form"),
    ],
)
def test_what_is_wrong_with_a_set_is_said(tmp_path: Path, lines: str | None, message: str) -> None:
    path = tmp_path / "captions.jsonl"
    if lines is not None:
        path.write_text(lines)
    with pytest.raises(ValueError, match=message):
        EvaluationFilter.of(Given(evaluation=(str(path),)))


def test_a_parquet_file_needs_the_column(tmp_path: Path, clip: str) -> None:
    pq.write_table(
        pa.table({"embedding": pa.array([[1.0, 0.0]], pa.list_(pa.float16()))}),
        tmp_path / "a.parquet",
    )
    given = Given(evaluation=(str(tmp_path / "a.parquet"),), alignment=clip, device="cpu")
    with pytest.raises(ValueError, match="no Parquet file with a column dhash"):
        EvaluationFilter.of(given)
    with pytest.raises(
        ValueError, match="embeddings of 2 numbers; those of the alignment model have 24"
    ):
        EvaluationSimilarityFilter.of(given)


def embedded(images: list[bytes], given: Given) -> pa.Array:
    return (
        EmbeddingFilter.of(given)
        .measure(pa.record_batch({"image": pa.array(images, pa.binary())}))
        .column("alignment.embedding")
    )


def test_the_similarity_is_the_highest_to_any(tmp_path: Path, clip: str) -> None:
    folder = written(tmp_path / "set", 1, 2)
    given = Given(evaluation=(as_captions(folder),), alignment=clip, device="cpu", batch=4)
    vectors = embedded([encoded(picture(2)), encoded(picture(5)), encoded(picture(1))], given)
    column = pa.concat_arrays([vectors, pa.nulls(1, vectors.type)])
    found = EvaluationSimilarityFilter.of(given)
    same, other, first, missing = (
        found.measure(pa.record_batch({"alignment.embedding": column})).column(0).to_pylist()
    )
    assert same == pytest.approx(1, abs=2e-3)
    assert first == pytest.approx(1, abs=2e-3)
    assert missing is None
    plain = np.array(vectors.to_pylist(), dtype=np.float32)
    assert other == pytest.approx(max(plain[1] @ plain[0], plain[1] @ plain[2]), abs=2e-3)
    pq.write_table(pa.table({"embedding": vectors.take([0, 2])}), tmp_path / "set.parquet")
    stored = EvaluationSimilarityFilter.of(
        given.model_copy(update={"evaluation": (str(tmp_path / "set.parquet"),)})
    )
    assert stored.measure(pa.record_batch({"alignment.embedding": column})).column(
        0
    ).to_pylist() == [same, other, first, None]


def test_the_filters_come_with_what_they_read(tmp_path: Path, clip: str) -> None:
    given = Given(evaluation=(str(written(tmp_path / "set", 1)),), alignment=clip, device="cpu")
    assert [filter_.name for filter_ in filters_for(["image.evaluation_distance"], given)] == [
        "natural",
        "evaluation",
    ]
    assert [filter_.name for filter_ in filters_for(["image.evaluation_similarity"], given)] == [
        "embedding",
        "evaluation_similarity",
    ]
    with pytest.raises(ValueError, match="add --evaluation"):
        filters_for(["image.evaluation_distance"])
