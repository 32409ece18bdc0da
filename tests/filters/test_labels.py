"""Labels of pictures, and texts that share them."""

import io
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForImageClassification

from filters.given_models import Given
from filters.models.labels import FLOOR, MOST, LabelOverlapFilter, LabelsFilter, heads
from tests.filters.tiny_models import picture, save_image_classifier


def overlap(text: str | None, labels: list[str] | None) -> int | None:
    batch = pa.record_batch(
        {
            "text": pa.array([text], pa.string()),
            "image.labels": pa.array([labels], pa.list_(pa.string())),
        }
    )
    found: int | None = LabelOverlapFilter().measure(batch).column(0)[0].as_py()
    return found


@pytest.mark.parametrize(
    ("text", "labels", "shared"),
    [
        ("Two Retrievers at the beach", ["golden retriever", "seashore, coast, sandbar"], 1),
        ("two retrievers on a sandbar", ["golden retriever", "seashore, coast, sandbar"], 2),
        ("a golden ring", ["golden retriever"], 0),
        ("cranes over the harbour", ["crane (bird)", "crane (machine)", "harbor"], 2),
        ("she swims", ["swimming", "swim"], 2),
        ("", ["dog"], 0),
        ("a dog", [], 0),
        ("a dog and a dog", ["dog"], 1),
        (None, ["dog"], None),
        ("a dog", None, None),
    ],
)
def test_shared_labels_are_counted(
    text: str | None, labels: list[str] | None, shared: int | None
) -> None:
    assert overlap(text, labels) == shared


def test_rows_are_counted_apart() -> None:
    texts, labels = (
        ["a dog", None, "a cat", "dogs and cats"],
        [
            ["cat"],
            ["dog"],
            ["cat", "dog"],
            ["cat", "dog"],
        ],
    )
    batch = pa.record_batch({"text": pa.array(texts), "image.labels": pa.array(labels)})
    assert LabelOverlapFilter().measure(batch).column(0).to_pylist() == [0, None, 1, 2]
    assert LabelOverlapFilter().measure(batch.slice(2)).column(0).to_pylist() == [1, 2]
    assert LabelOverlapFilter().measure(batch.slice(0, 0)).num_rows == 0


def test_the_head_of_a_name_is_its_last_word() -> None:
    assert heads("tench, Tinca tinca") == {"tench", "tinca"}
    assert heads("potter's wheel") == {"wheel"}
    assert heads("crane (bird)") == {"crane"}
    assert heads("") == frozenset()


@pytest.mark.parametrize("settings", [{}, {"problem_type": "multi_label_classification"}])
def test_labels_are_the_most_probable_above_the_floor(
    tmp_path: Path, settings: dict[str, str]
) -> None:
    names = tuple(f"thing {number}" for number in range(40))
    folder = save_image_classifier(tmp_path / "labels", names, **settings)
    images = [picture(1), None, picture(2), b"no picture"]
    given = Given(labels=str(folder), device="cpu", batch=2)
    found = (
        LabelsFilter.of(given)
        .measure(pa.record_batch({"image": pa.array(images, pa.binary())}))
        .column(0)
        .to_pylist()
    )
    model, processor = (
        AutoModelForImageClassification.from_pretrained(folder).eval(),
        AutoImageProcessor.from_pretrained(folder),
    )
    for row in (0, 2):
        with torch.inference_mode():
            logits = model(
                **processor(images=Image.open(io.BytesIO(images[row] or b"")), return_tensors="pt")
            ).logits[0]
        values, order = (logits.sigmoid() if settings else logits.softmax(-1)).sort(descending=True)
        expected = [
            names[number]
            for number, value in zip(order.tolist(), values.tolist(), strict=True)
            if value >= FLOOR
        ]
        assert found[row] == expected[:MOST]
        assert len(found[row]) <= 20
    assert (found[1], found[3]) == (None, None)
