"""Probabilities of what is unsafe, against transformers called directly."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from transformers import (
    AutoImageProcessor,
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)

from filters.given_models import Given
from filters.models.classifiers import Classifier
from filters.models.safety import ImageSafetyFilter, TextSafetyFilter, unsafe_labels
from tests.filters.tiny_models import picture, save_image_classifier, save_text_classifier

GANTMAN = ("drawings", "hentai", "neutral", "porn", "sexy")
JIGSAW = ("toxic", "severe_toxic", "obscene", "threat", "insult", "identity_hate")
TEXTS = ["the dog", "the bad cat", "", "a1 b2 c3 " * 40, "abcdefghijklmnopqrst", "the dog"]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_image_classifier(tmp_path_factory.mktemp("safety") / "images", GANTMAN)


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_text_classifier(
        tmp_path_factory.mktemp("safety") / "texts",
        JIGSAW,
        problem_type="multi_label_classification",
    )


def of_images(folder: Path, given: Sequence[bytes | None]) -> list[Any]:
    filter_ = ImageSafetyFilter.of(Given(image_safety=str(folder), device="cpu", batch=4))
    found: list[Any] = (
        filter_.measure(pa.record_batch({"image": pa.array(given, pa.binary())}))
        .column(0)
        .to_pylist()
    )
    return found


def of_texts(folder: Path, given: Sequence[str | None]) -> list[Any]:
    filter_ = TextSafetyFilter.of(Given(text_safety=str(folder), device="cpu", batch=4))
    found: list[Any] = (
        filter_.measure(pa.record_batch({"text": pa.array(given, pa.string())}))
        .column(0)
        .to_pylist()
    )
    return found


def test_an_image_is_as_unsafe_as_its_unsafe_labels_together(images: Path) -> None:
    given = [picture(seed) for seed in range(6)]
    model, processor = (
        AutoModelForImageClassification.from_pretrained(images).eval(),
        AutoImageProcessor.from_pretrained(images),
    )
    with torch.inference_mode():
        inputs = processor(
            images=[Image.open(io.BytesIO(image)) for image in given], return_tensors="pt"
        )
        shares = model(**inputs).logits.softmax(-1).numpy()
    assert of_images(images, given) == pytest.approx(shares[:, [1, 3, 4]].sum(1).tolist(), abs=1e-5)


def test_a_text_is_as_unsafe_as_its_worst_label(texts: Path) -> None:
    model, tokenizer = (
        AutoModelForSequenceClassification.from_pretrained(texts).eval(),
        AutoTokenizer.from_pretrained(texts),
    )
    with torch.inference_mode():
        # a text by itself, without any padding
        coded = [
            tokenizer(text, truncation=True, max_length=64, return_tensors="pt") for text in TEXTS
        ]
        worst = [float(model(**one).logits.sigmoid().max()) for one in coded]
    assert of_texts(texts, [*TEXTS, None]) == [
        *(pytest.approx(value, abs=1e-5) for value in worst),
        None,
    ]


def test_what_cannot_be_measured_is_null(images: Path, texts: Path) -> None:
    assert of_images(images, [None, b"no picture", b""]) == [None] * 3
    assert of_texts(texts, [None]) == [None]
    assert of_texts(texts, []) == []
    assert of_images(images, []) == []


def test_a_probability_does_not_depend_on_its_neighbours(images: Path, texts: Path) -> None:
    given = [picture(seed) for seed in range(9)]
    order = np.random.default_rng(1).permutation(9).tolist()
    found = of_images(images, given)
    assert of_images(images, [given[place] for place in order]) == [found[place] for place in order]
    assert [of_images(images, [image])[0] for image in given] == found
    said = [f"{'the dog ' * (place % 4)}{'z' * place}" for place in range(9)]
    found = of_texts(texts, said)
    assert of_texts(texts, [said[place] for place in order]) == [found[place] for place in order]
    assert [of_texts(texts, [text])[0] for text in said] == found


@pytest.mark.parametrize(
    ("labels", "unsafe"),
    [
        (("normal", "nsfw"), (1,)),
        (("SFW", "NSFW"), (1,)),
        (("safe", "not_safe_for_work"), (1,)),
        (GANTMAN, (1, 3, 4)),
        (JIGSAW, (0, 1, 2, 3, 4, 5)),
        (("toxicity", "severe_toxicity", "sexual_explicit", "male", "christian"), (0, 1, 2)),
        (("non-toxic", "toxic"), (1,)),
        (("nothate", "hate"), (1,)),
    ],
)
def test_labels_are_unsafe_by_their_names(labels: tuple[str, ...], unsafe: tuple[int, ...]) -> None:
    assert (
        unsafe_labels(
            Classifier(folder="f", digest="0", labels=labels, several=True), "text-safety"
        )
        == unsafe
    )


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            ("LABEL_0", "LABEL_1"),
            (
                r"--text-safety f: no label is known as unsafe \(LABEL_0, LABEL_1\); rename them in"
                r" its config\.json"
            ),
        ),
        (("porn", "hentai"), "--text-safety f: one label is always true, and all are unsafe"),
    ],
)
def test_labels_that_say_nothing_are_an_error(labels: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        unsafe_labels(
            Classifier(folder="f", digest="0", labels=labels, several=False), "text-safety"
        )


def test_the_filter_says_what_it_counts_as_unsafe(images: Path) -> None:
    config = ImageSafetyFilter.of(Given(image_safety=str(images), device="cpu", batch=4)).config
    assert config["unsafe"] == ["hentai", "porn", "sexy"]
    assert (config["arithmetic"], config["batch"], len(config["model"])) == ("float32", 4, 32)


def test_a_model_that_is_nowhere_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"--image-safety /nowhere/model: there is no such folder"):
        ImageSafetyFilter.of(Given(image_safety="/nowhere/model"))
    with pytest.raises(ValueError, match="no weights there"):
        ImageSafetyFilter.of(Given(image_safety=str(tmp_path)))


def test_cuda_is_an_error_where_there_is_none(images: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    with pytest.raises(ValueError, match="--device cuda: this machine shows no CUDA device"):
        ImageSafetyFilter.of(Given(image_safety=str(images), device="cuda"))
