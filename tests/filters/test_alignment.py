"""Embeddings and scores, against open_clip called directly."""

import json
import pickle
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pyarrow as pa
import pytest
import torch
from PIL import Image

from filters.given_models import Given
from filters.models.alignment import AlignmentFilter, Clip, EmbeddingFilter
from filters.registry import filters_for
from tests.filters.tiny_models import CLIP, picture, save_clip

TEXTS = [
    "a dog",
    "two cats on a very long red sofa in the house of the mayor of a small town by the sea",
    "",
    "Ein Hund",
    "a dog",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_clip(tmp_path_factory.mktemp("clip") / "tiny")


def given(folder: Path, batch: int = 4) -> Given:
    return Given(alignment=str(folder), device="cpu", batch=batch)


def embedded(images: Sequence[bytes | None], given: Given) -> pa.Array:
    return (
        EmbeddingFilter.of(given)
        .measure(pa.record_batch({"image": pa.array(images, pa.binary())}))
        .column(0)
    )


def scored(texts: Sequence[str | None], embeddings: pa.Array, given: Given) -> list[Any]:
    batch = pa.record_batch(
        {"text": pa.array(texts, pa.string()), "alignment.embedding": embeddings}
    )
    found: list[Any] = AlignmentFilter.of(given).measure(batch).column(0).to_pylist()
    return found


def test_scores_are_those_of_open_clip(folder: Path) -> None:
    images = [picture(seed, (60, 20 + seed)) for seed in range(5)]
    name = f"local-dir:{folder}"
    model, prepare = open_clip.create_model_from_pretrained(name)
    with torch.inference_mode():
        pictures = torch.stack([prepare(Image.open(BytesIO(image))) for image in images])
        seen = model.eval().encode_image(pictures, normalize=True).numpy()
        said = model.encode_text(open_clip.get_tokenizer(name)(TEXTS), normalize=True).numpy()
    found = embedded(images, given(folder))
    assert found.type == pa.list_(pa.float16())
    assert np.array(found.to_pylist(), dtype=np.float32) == pytest.approx(seen, abs=5e-4)
    assert np.linalg.norm(np.array(found.to_pylist(), dtype=np.float32), axis=1) == pytest.approx(
        np.ones(5), abs=1e-3
    )
    assert scored(TEXTS, found, given(folder)) == pytest.approx(
        (seen * said).sum(1).tolist(), abs=5e-4
    )


def test_a_score_does_not_depend_on_its_neighbours(folder: Path) -> None:
    images, texts = (
        [picture(seed) for seed in range(11)],
        [f"text number {'x' * number}" for number in range(11)],
    )
    whole = embedded(images, given(folder))
    scores = scored(texts, whole, given(folder))
    order = np.random.default_rng(3).permutation(11)
    turned = embedded([images[place] for place in order], given(folder))
    assert turned.to_pylist() == [whole[place].as_py() for place in order]
    assert scored([texts[place] for place in order], turned, given(folder)) == [
        scores[place] for place in order
    ]
    for place in range(11):
        alone = embedded([images[place]], given(folder))
        assert alone.to_pylist() == [whole[place].as_py()]
        assert scored([texts[place]], alone, given(folder)) == [scores[place]]


def test_what_is_missing_or_broken_is_null(folder: Path) -> None:
    found = embedded([None, picture(1), b"no picture", picture(1)[:200], picture(2)], given(folder))
    assert found.is_valid().to_pylist() == [False, True, False, False, True]
    scores = scored(["a", None, "b", "c", "d"], found, given(folder))
    assert [score is None for score in scores] == [True, True, True, True, False]
    assert embedded([], given(folder)).to_pylist() == []
    assert embedded([None], given(folder)).to_pylist() == [None]
    assert scored(["a"], embedded([None], given(folder)), given(folder)) == [None]


def test_grey_palette_and_clear_pictures_are_embedded(folder: Path) -> None:
    images = []
    for mode in ("L", "P", "RGBA", "1", "LA"):
        buffer = BytesIO()
        Image.new(mode, (40, 30)).save(buffer, "PNG")
        images.append(buffer.getvalue())
    assert embedded(images, given(folder)).null_count == 0


def test_the_filter_of_a_model_is_its_bytes(folder: Path, tmp_path: Path) -> None:
    here = EmbeddingFilter.of(given(folder))
    copy = EmbeddingFilter.of(given(save_clip(tmp_path / "copy")))
    other = EmbeddingFilter.of(given(save_clip(tmp_path / "other", seed=1)))
    assert here.config == copy.config
    assert here.config["model"] != other.config["model"]
    assert {**here.config, "batch": 8} == EmbeddingFilter.of(given(folder, batch=8)).config
    assert str(folder) not in str(here.config)
    assert pickle.loads(pickle.dumps(here)) == here


def test_weights_may_stand_beside_a_name(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny-clip.json").write_text(json.dumps(CLIP))
    open_clip.add_model_config(tmp_path / "tiny-clip.json")
    weights = folder / "open_clip_model.safetensors"
    named = Given(alignment=f"tiny-clip:{weights}", device="cpu", batch=4)
    assert Clip.of(f"tiny-clip:{weights}").width == 24
    model, prepare = open_clip.create_model_from_pretrained("tiny-clip", str(weights))
    with torch.inference_mode():
        seen = (
            model.eval()
            .encode_image(prepare(Image.open(BytesIO(picture(1))))[None], normalize=True)[0]
            .tolist()
        )
    assert embedded([picture(1)], named).to_pylist()[0] == pytest.approx(seen, abs=5e-4)


def test_pickled_code_is_not_run(folder: Path, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return (eval, (f"open({str(tmp_path / 'ran')!r}, 'w')",))

    (tmp_path / "open_clip_config.json").write_text((folder / "open_clip_config.json").read_text())
    torch.save({"visual.class_embedding": Trap()}, tmp_path / "model.bin")
    with pytest.raises(pickle.UnpicklingError):
        embedded([picture(1)], given(tmp_path))
    assert not (tmp_path / "ran").exists()


def test_the_filters_of_a_score_come_in_order(folder: Path) -> None:
    assert [filter_.name for filter_ in filters_for(["alignment.score"], given(folder))] == [
        "embedding",
        "alignment",
    ]
    with pytest.raises(
        ValueError,
        match=r"alignment\.score needs a model or list that was not given: add --alignment",
    ):
        filters_for(["alignment.score"])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ViT-B-33:openai", r"no model ViT-B-33 and no such folder; near are .*ViT-B-32"),
        ("ViT-B-32", r"ViT-B-32 needs weights, ViT-B-32:TAG or ViT-B-32:FILE; tags are openai, "),
        ("ViT-B-32:opnai", r"ViT-B-32 needs weights"),
        ("local-dir:/nowhere", r"/nowhere: no open_clip_config.json there"),
    ],
)
def test_a_name_that_is_no_model_is_told(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Clip.of(name)


def test_a_folder_without_weights_is_no_model(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "open_clip_config.json").write_text((folder / "open_clip_config.json").read_text())
    with pytest.raises(ValueError, match="no weights there"):
        Clip.of(str(tmp_path))
