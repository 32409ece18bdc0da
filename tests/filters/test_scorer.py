"""The weak scorer: its features on literal pairs, its training on pairs that are told apart by one
of them, its file and its filter.
"""

import json
import pickle
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from filters.base import Filter
from filters.fit.scorer import (
    examples,
    labelled,
    measurements_for,
    mismatched,
    quality,
    read_labels,
    train_scorer,
)
from filters.given_models import Given
from filters.logistic import auc, calibrate
from filters.pair.features import FEATURES, values
from filters.pair.scorer import ScorerFilter, read_scorer
from filters.registry import filters_for
from flows.report.reliability import reliability_plot
from tests.filters.tiny_models import save_clip

THINGS = (
    "dogs",
    "cats",
    "boats",
    "horses",
    "trains",
    "birds",
    "cows",
    "bridges",
    "towers",
    "lakes",
)
PLACES = ("grass", "snow", "sand", "water", "gravel", "ice", "mud", "moss")


def pairs(count: int = 160) -> pa.Table:
    """Pairs whose image's address has a word of their text; a pair of each image."""
    rng = np.random.default_rng(0)
    said = [(THINGS[row % 10], PLACES[row // 10 % 8], row) for row in range(count)]
    return pa.table(
        {
            "candidate_id": [f"c{row}" for *_, row in said],
            "image_id": [f"i{row}" for *_, row in said],
            "text": [f"Two {thing} on {place} number {row}" for thing, place, row in said],
            "text_source": ["alt"] * count,
            "context": pa.nulls(count, pa.string()),
            "image_url": [
                f"https://example.org/img/{thing}-{place}-{row}.jpg" for thing, place, row in said
            ],
            "page_url": ["https://example.org/a"] * count,
            "text.words": pa.array(rng.integers(4, 9, count), pa.int32()),
            "image.natural": pa.array(rng.random(count), pa.float32()),
        }
    )


def of(name: str, **columns: str | float | None) -> float:
    """One feature of one pair."""
    strings = {"text": "", "text_source": "alt", "context": "", "image_url": "", "page_url": ""}
    row = {**strings, **columns}
    kinds = {key: pa.string() if key in strings else pa.float32() for key in row}
    return float(
        values(
            [name], pa.table({key: pa.array([value], kinds[key]) for key, value in row.items()})
        )[0, 0]
    )


@pytest.mark.parametrize(
    ("feature", "columns", "expected"),
    [
        (
            "text in image_url",
            {"text": "Two dogs on snow", "image_url": "https://e.org/two/DogOnIce_12.jpg?snow=1"},
            1 / 2,
        ),
        (
            "image_url in text",
            {"text": "Two dogs on snow", "image_url": "https://e.org/two/DogOnIce_12.jpg"},
            1 / 2,
        ),
        (
            "text in page_url",
            {"text": "Walking a dog", "page_url": "https://dog.org/blog/dogs-that-walk/"},
            1.0,
        ),
        ("text in context", {"text": "Two dogs", "context": "A dog and a cat"}, 1.0),
        ("text in context", {"text": "Two dogs", "context": None}, 0.0),
        ("context given", {"text": "Two dogs", "context": None}, 0.0),
        ("text_source alt", {"text_source": "alt"}, 1.0),
        ("says grey", {"text": "A black and white photo"}, 1.0),
        ("says drawn, image.natural", {"text": "A bar chart", "image.natural": 0.25}, 0.25),
        ("says drawn, image.natural", {"text": "A dog", "image.natural": 0.25}, 0.0),
        ("text.words", {"text.words": 7.0}, float(np.log(8))),
        ("text.words", {"text.words": None}, 0.0),
        ("alignment.score squared", {"alignment.score": 0.5}, 0.25),
    ],
)
def test_a_feature_is(
    feature: str, columns: dict[str, str | float | None], expected: float
) -> None:
    assert of(feature, **columns) == pytest.approx(expected)


def test_an_image_that_was_not_measured_is_no_number() -> None:
    assert np.isnan(of("image.natural", **{"image.natural": None}))
    assert np.isnan(of("says drawn, image.natural", text="A bar chart", **{"image.natural": None}))


def test_there_are_hundreds_of_features_and_each_reads_what_exists() -> None:
    from filters.registry import MEASUREMENTS
    from pipelines.schema import CANDIDATES

    assert len(FEATURES) > 180
    assert {name for feature in FEATURES.values() for name in feature.reads} <= set(
        MEASUREMENTS
    ) | set(CANDIDATES.names)


def test_area_under_the_curve_counts_ties_half() -> None:
    yes = np.array([True, False, True, False])
    assert auc(np.array([0.9, 0.1, 0.5, 0.5]), yes) == pytest.approx(7 / 8)
    assert auc(np.zeros(4), yes) == 0.5


def test_calibration_finds_slope_and_intercept() -> None:
    rng = np.random.default_rng(1)
    odds = rng.normal(0, 3, 20_000)
    yes = rng.random(20_000) < 1 / (1 + np.exp(-(0.5 * odds - 1)))
    assert calibrate(odds, yes) == pytest.approx((0.5, -1), abs=0.05)
    slope, intercept = calibrate(odds, ~yes)  # what turns the order round tells nothing
    assert slope == 0
    assert 1 / (1 + np.exp(-intercept)) == pytest.approx((~yes).mean(), abs=0.001)


def test_quality_of_literal_predictions() -> None:
    said = quality(np.array([0.05, 0.08, 0.92, 1.0]), np.array([False, True, True, True]))
    assert said["auc"] == 1.0
    assert said["brier"] == pytest.approx((0.05**2 + 0.92**2 + 0.08**2) / 4, abs=1e-4)
    assert said["reliability"] == [
        {"predicted": 0.065, "positive": 0.5, "count": 2},
        {"predicted": 0.96, "positive": 1.0, "count": 2},
    ]


def test_non_pairs_are_texts_of_other_images_with_what_was_measured_on_them() -> None:
    table = pairs().append_column("alignment.score", pa.array(np.ones(160), pa.float32()))
    made = mismatched(table, 3)
    assert made.num_rows == 160
    assert made.equals(mismatched(table, 3))
    assert "alignment.score" not in made.column_names
    words = dict(zip(table["text"].to_pylist(), table["text.words"].to_pylist(), strict=True))
    natural = dict(
        zip(table["image_id"].to_pylist(), table["image.natural"].to_pylist(), strict=True)
    )
    own = dict(zip(table["image_id"].to_pylist(), table["text"].to_pylist(), strict=True))
    for row in made.to_pylist():
        assert row["text"] != own[row["image_id"]]
        assert row["text.words"] == words[row["text"]]
        assert row["image.natural"] == natural[row["image_id"]]


def test_a_scorer_learns_what_tells_pairs_from_non_pairs() -> None:
    table, labels, origin = examples(pairs(), np.ones(160, dtype=bool), 0)
    scorer = train_scorer(table, labels, 0, non_pairs=origin)
    said = scorer.training
    assert said["held_out"]["auc"] > 0.95
    assert said["held_out"]["brier"] < 0.1
    assert said["non_pairs"] == "made by giving images the texts of others"
    assert sum(part["pairs"] + part["non_pairs"] for part in said["pairs"].values()) == 320
    assert said["models"] == []
    assert "image_url in text" in scorer.features
    assert "page_url given" not in scorer.features  # the same in all pairs
    assert train_scorer(table, labels, 0, non_pairs=origin) == scorer
    assert train_scorer(table, labels, 1, non_pairs=origin).weights != scorer.weights


class Cosine(Filter):
    """Stands for an alignment model: the share of the text's words in the address."""

    name = "cosine"
    version = 1
    sentence = "Stands for alignment"
    level = "pair"
    reads = ("text", "image_url")
    writes = {"alignment.score": pa.float32()}  # noqa: RUF012

    def measure(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        return pa.record_batch(
            {"alignment.score": pa.array(values(["image_url in text"], batch)[:, 0], pa.float32())}
        )


def test_non_pairs_are_measured_by_the_filters_given() -> None:
    scored = pairs().append_column("alignment.score", pa.array(np.ones(160), pa.float32()))
    without = examples(scored, np.ones(160, dtype=bool), 0)[0]
    assert "alignment.score" not in without.column_names
    table, labels, _ = examples(scored, np.ones(160, dtype=bool), 0, [Cosine()])
    assert table["alignment.score"].to_numpy()[labels].min() == 1.0
    assert table["alignment.score"].to_numpy()[~labels].mean() < 0.5
    assert train_scorer(table, labels, 0).training["models"] == ["alignment.score"]


def test_too_few_labels_are_refused() -> None:
    table, labels, _ = examples(pairs(20), np.ones(20, dtype=bool), 0)
    with pytest.raises(ValueError, match="too few: give at least 5"):
        train_scorer(table, labels, 0)


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_labels_are_read_and_joined(form: str, tmp_path: Path) -> None:
    rows = [
        {"image_id": "i3", "text": "Two horses on grass number 3", "label": 1},
        {"image_id": "i3", "text": "no such", "label": 0},
    ]
    path = tmp_path / f"labels.{form}"
    if form == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        pa.parquet.write_table(pa.Table.from_pylist(rows), path)
    table, labels = labelled(pairs(), read_labels(path))
    assert table["candidate_id"].to_pylist() == ["c3"]
    assert labels.tolist() == [True]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"candidate_id": "c1"}, "each line needs `label`"),
        ({"text": "a", "label": 1}, "each line needs `label`"),
        ({"candidate_id": "c1", "label": 2}, "true or false"),
        ({"candidate_id": "c1", "label": "yes"}, "true or false"),
    ],
)
def test_labels_that_cannot_be_used(line: dict[str, object], message: str, tmp_path: Path) -> None:
    (tmp_path / "labels.jsonl").write_text(json.dumps(line) + "\n")
    with pytest.raises(ValueError, match=message):
        read_labels(tmp_path / "labels.jsonl")
    with pytest.raises(ValueError, match="no such file"):
        read_labels(tmp_path / "other.jsonl")


def test_labels_of_other_collections_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "labels.jsonl").write_text('{"candidate_id": "x", "label": true}\n')
    with pytest.raises(ValueError, match="none of the 1 labels"):
        labelled(pairs(), read_labels(tmp_path / "labels.jsonl"))


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scorer") / "scorer.json"
    table, labels, origin = examples(pairs(), np.ones(160, dtype=bool), 0)
    train_scorer(table, labels, 0, non_pairs=origin).write(path)
    return path


def test_the_filter_gives_what_the_file_says(file: Path) -> None:
    made = pickle.loads(pickle.dumps(ScorerFilter.of(Given(scorer=str(file)))))
    assert "text.words" in made.reads
    assert "image.flat" not in made.reads  # not among what it was trained on
    batch = pairs().combine_chunks().to_batches()[0]
    score = made.measure(batch).column("pair.score")
    expected = read_scorer(file)(values(read_scorer(file).features, batch))
    assert score.to_pylist() == pytest.approx(expected.tolist(), abs=1e-6)
    assert made.measure(batch.slice(7, 1)).column("pair.score")[0] == score[7]


def test_a_pair_whose_image_was_not_measured_has_no_score(file: Path) -> None:
    table = pairs(1).set_column(8, "image.natural", pa.nulls(1, pa.float32()))
    assert ScorerFilter.of(Given(scorer=str(file))).measure(table.to_batches()[0]).column(
        0
    ).to_pylist() == [None]


def test_the_digest_is_of_what_decides(file: Path, tmp_path: Path) -> None:
    stored = json.loads(file.read_text())
    for key, value, same in (
        ("training", {}, True),
        ("bias", 0.123, False),
        ("calibration", [2.0, 0.0], False),
    ):
        other = tmp_path / f"{key}.json"
        other.write_text(json.dumps({**stored, key: value}))
        assert (
            ScorerFilter.of(Given(scorer=str(other))).config
            == ScorerFilter.of(Given(scorer=str(file))).config
        ) is same


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"features": ["no such"], "mean": [0], "scale": [1], "weights": [1], "bias": 0}',
    ],
)
def test_a_file_that_is_no_scorer(content: str, tmp_path: Path) -> None:
    (tmp_path / "scorer.json").write_text(content)
    with pytest.raises(ValueError, match=r"cannot be read as a scorer|no feature 'no such'"):
        ScorerFilter.of(Given(scorer=str(tmp_path / "scorer.json")))
    with pytest.raises(ValueError, match="cannot be read as a scorer"):
        read_scorer(tmp_path / "other.json")


def test_the_filters_that_a_file_asks_for_come_with_it(file: Path) -> None:
    names = [
        type(filter_).__name__ for filter_ in filters_for(["pair.score"], Given(scorer=str(file)))
    ]
    assert names == ["LengthFilter", "NaturalFilter", "ScorerFilter"]


def test_a_file_with_features_of_a_model_needs_the_model(file: Path, tmp_path: Path) -> None:
    asks = {
        "features": ["alignment.score"],
        "mean": [0.0],
        "scale": [1.0],
        "weights": [1.0],
        "bias": 0.0,
    }
    (tmp_path / "scorer.json").write_text(json.dumps({**json.loads(file.read_text()), **asks}))
    with pytest.raises(
        ValueError, match=r"pair\.score needs .* add --alignment, or --without pair\.score$"
    ):
        filters_for(["pair.score"], Given(scorer=str(tmp_path / "scorer.json")))
    given = Given(
        scorer=str(tmp_path / "scorer.json"),
        alignment=str(save_clip(tmp_path / "clip")),
        device="cpu",
    )
    assert [filter_.name for filter_ in filters_for(["pair.score"], given)] == [
        "embedding",
        "alignment",
        "scorer",
    ]


def test_of_models_only_those_that_were_given_are_measured_for_training() -> None:
    models = {
        "alignment.score",
        "image.aesthetics",
        "image.unsafe",
        "text.unsafe",
        "pair.label_overlap",
    }
    assert not models & set(measurements_for(Given()))
    assert models & set(measurements_for(Given(alignment="ViT-B-32:openai"))) == {"alignment.score"}


def test_the_diagram_shows_each_bin() -> None:
    said = quality(np.array([0.05, 0.08, 0.92, 1.0]), np.array([False, True, True, True]))
    picture = ElementTree.tostring(reliability_plot(said), encoding="unicode")
    assert picture.count("<circle") == 2
    assert "2 pairs predicted 0.96: 1 belong together" in picture
    assert "area under the ROC curve 1, Brier score" in picture
