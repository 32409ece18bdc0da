"""Train the weak image-text scorer on a small labelled set; its quality on pairs that were kept
apart is stored beside its weights.

Where all labels are positive, non-pairs are made by giving each image the text of another one.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json
import pyarrow.parquet
from numpy.typing import NDArray

from filters.base import Filter
from filters.given_models import Given
from filters.logistic import FLOATS, Logistic, auc, calibrate, fit
from filters.pair.features import FEATURES, OF_MODELS, read_by, values
from filters.registry import FILTERS, MEASUREMENTS, writer

BOOLS = NDArray[np.bool_]
PARTS = {"fitted": 0.6, "calibrated": 0.2, "held_out": 0.2}  # of the images; our choice
# the more features for the labels that there are, the larger a penalty serves best
RIDGES = (1.0, 10.0, 100.0, 1000.0)
FEWEST = 5  # pairs and non-pairs in each part; our choice: fewer say nothing
BINS = 10
KEYS = (("candidate_id",), ("image_id", "text"))
PAIR_LEVEL = frozenset(
    name for filter_ in FILTERS if filter_.level == "pair" for name in filter_.writes
)


def measurements_for(given: Given) -> tuple[str, ...]:
    """What is measured for training: all that features read, of models those that were given."""
    names = [name for name in read_by(FEATURES) if name in MEASUREMENTS]
    return tuple(
        name for name in names if (needs := writer(name).needs) is None or getattr(given, needs)
    )


def train_scorer(
    table: pa.Table, labels: BOOLS, seed: int, *, non_pairs: str = "given"
) -> Logistic:
    """A calibrated scorer from measured pairs and whether each belongs together [rows].

    `table` has image_id, columns of candidates and measurements; every feature is taken that these
    allow and that is not the same in all pairs. All pairs of an image are in one part. Rows that
    lack what a feature needs are left out and counted. Raises ValueError where a part has too few
    of either kind.
    """
    there = [
        name for name, feature in FEATURES.items() if set(feature.reads) <= set(table.column_names)
    ]
    told = values(there, table)
    # an alignment that was never measured is no feature; an image that could not be read is no
    # example
    asked = [place for place, name in enumerate(there) if not np.isnan(told[:, place]).all()]
    whole = ~np.isnan(told[:, asked]).any(axis=1)
    asked = [place for place in asked if whole.any() and np.ptp(told[whole, place]) > 0]
    told, yes, image = (
        told[whole][:, asked],
        np.asarray(labels, dtype=bool)[whole],
        table["image_id"].filter(pa.array(whole)).to_pylist(),
    )
    part = _parts(image, seed)
    _enough(part, yes)
    names = tuple(there[place] for place in asked)
    ridge, fitted = _fitted(names, told, yes, part)
    held = part == "held_out"
    training = {
        "seed": seed,
        "non_pairs": non_pairs,
        "pairs": {
            name: {
                "pairs": int((yes & (part == name)).sum()),
                "non_pairs": int((~yes & (part == name)).sum()),
            }
            for name in PARTS
        },
        "left_out": int((~whole).sum()),
        "ridge": ridge,
        "models": sorted(
            {name for feature in names for name in FEATURES[feature].reads} & set(OF_MODELS)
        ),
        "digest": _digest(told, yes, image),
        "held_out": quality(fitted(told[held]), yes[held]),
    }
    return replace(fitted, training=training)


def _fitted(
    names: tuple[str, ...], told: FLOATS, yes: BOOLS, part: NDArray[np.str_]
) -> tuple[float, Logistic]:
    """The penalty whose scorer is the likeliest on the part for calibration, and that scorer,
    calibrated there.
    """
    taught, other = part == "fitted", part == "calibrated"
    found: list[tuple[float, float, Logistic]] = []
    for ridge in RIDGES:
        fitted = fit(names, told[taught & yes], told[taught & ~yes], ridge=ridge)
        slope, intercept = calibrate(fitted.log_odds(told[other]), yes[other])
        fitted = replace(fitted, calibration=(round(slope, 6), round(intercept, 6)))
        said = np.clip(fitted(told[other]), 1e-9, 1 - 1e-9)
        found.append((-float(np.log(np.where(yes[other], said, 1 - said)).mean()), ridge, fitted))
    _, ridge, best = min(found, key=lambda one: one[0])
    return ridge, best


def quality(probability: FLOATS, yes: BOOLS) -> dict[str, Any]:
    """Area under the ROC curve, Brier score, and the reliability: for each bin of predictions mean,
    share that is true, count.
    """
    number = np.minimum((probability * BINS).astype(np.int64), BINS - 1)
    bins = [(number == place) for place in range(BINS)]
    reliability = [
        {
            "predicted": round(float(probability[bin_].mean()), 4),
            "positive": round(float(yes[bin_].mean()), 4),
            "count": int(bin_.sum()),
        }
        for bin_ in bins
        if bin_.any()
    ]
    brier = float(np.square(probability - yes).mean())
    return {
        "auc": round(auc(probability, yes), 4),
        "brier": round(brier, 4),
        "reliability": reliability,
    }


def _parts(images: Sequence[str], seed: int) -> NDArray[np.str_]:
    """The part of each image, by a hash of its id and the seed."""
    hashed = [
        int.from_bytes(hashlib.blake2b(f"{seed} {image}".encode(), digest_size=8).digest()) / 2**64
        for image in images
    ]
    return np.asarray(
        np.array(list(PARTS))[
            np.searchsorted(np.cumsum(list(PARTS.values()))[:-1], hashed, side="right")
        ]
    )


def _enough(part: NDArray[np.str_], yes: BOOLS) -> None:
    for name in PARTS:
        for kind, mask in (("pairs", yes), ("non-pairs", ~yes)):
            if (count := int((mask & (part == name)).sum())) < FEWEST:
                raise ValueError(
                    f"{count} {kind} to be {name} are too few: give at least {FEWEST}, some"
                    f" {10 * FEWEST} labels of each kind"
                )


def _digest(told: FLOATS, yes: BOOLS, images: Sequence[str]) -> str:
    """Of the images, features and labels, whatever their order."""
    rows = sorted(
        f"{image} {label} {row.tolist()}"
        for image, label, row in zip(images, yes.tolist(), told.round(6), strict=True)
    )
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()


# --- labelled pairs


def read_labels(path: Path) -> pa.Table:
    """Labels from JSONL or Parquet: `label` (true or 1: a pair) beside candidate_id, or beside
    image_id and text.

    Raises ValueError where the file or a column is missing, or a label is neither.
    """
    if not path.is_file():
        raise ValueError(f"--labels {path}: there is no such file")
    try:
        table = (
            pa.parquet.read_table(path) if path.suffix == ".parquet" else pa.json.read_json(path)
        )
    except pa.ArrowInvalid as error:
        raise ValueError(f"--labels {path}: neither JSONL nor Parquet ({error})") from error
    key = next((key for key in KEYS if set(key) <= set(table.column_names)), None)
    if key is None or "label" not in table.column_names:
        raise ValueError(
            f"--labels {path}: each line needs `label` and `candidate_id`, or `label`, `image_id`"
            " and `text`"
        )
    label = table["label"]
    numeric = (
        label.cast(pa.float64())
        if pa.types.is_boolean(label.type) or pa.types.is_integer(label.type)
        else None
    )
    if (
        numeric is None
        or label.null_count
        or not pc.all(pc.is_in(numeric, pa.array([0.0, 1.0]))).as_py()
    ):
        raise ValueError(f"--labels {path}: a label is true or false, or 1 or 0")
    return table.select(list(key)).append_column("label", pc.equal(numeric, 1.0))


def labelled(table: pa.Table, labels: pa.Table) -> tuple[pa.Table, BOOLS]:
    """The measured pairs that have an image and a label, in the order of the table, and the labels.
    The first label of a pair counts.
    """
    table = table.filter(pc.is_valid(table["image_id"]))
    keys = [name for name in labels.column_names if name != "label"]
    known: dict[tuple[str, ...], bool] = {}
    for *key, label in zip(*(labels[name].to_pylist() for name in (*keys, "label")), strict=True):
        known.setdefault(tuple(key), label)
    found = [
        known.get(key) for key in zip(*(table[name].to_pylist() for name in keys), strict=True)
    ]
    rows = [row for row, label in enumerate(found) if label is not None]
    if not rows:
        raise ValueError(
            f"none of the {labels.num_rows} labels is of a pair that was measured; do they belong"
            " to these collections?"
        )
    return table.take(pa.array(rows)), np.array([found[row] for row in rows], dtype=bool)


def examples(
    table: pa.Table, labels: BOOLS, seed: int, pair_filters: Sequence[Filter] = ()
) -> tuple[pa.Table, BOOLS, str]:
    """What a scorer is trained on: the pairs as given, or, where all are positive, with as many
    non-pairs made of them.

    `pair_filters` measure the non-pairs, as alignment must be; the third value says where non-pairs
    come from.
    """
    if not labels.all():
        return table, labels, "given"
    made = mismatched(table, seed)
    for filter_ in pair_filters:
        batches = [
            filter_.measure(batch) for batch in made.combine_chunks().to_batches(max_chunksize=4096)
        ]
        measured = pa.Table.from_batches(batches, pa.schema(list(filter_.writes.items())))
        for name in measured.column_names:
            made = made.append_column(name, measured[name])
    common = [name for name in table.column_names if name in made.column_names]
    joined = pa.concat_tables([table.select(common), made.select(common)])
    return (
        joined,
        np.r_[labels, np.zeros(made.num_rows, dtype=bool)],
        "made by giving images the texts of others",
    )


def mismatched(table: pa.Table, seed: int) -> pa.Table:
    """Each image with a text of another one, and what was measured on that text; what pairs were
    measured for is left out.

    Where the text drawn is the image's own or equal to it, another is drawn; rows for which none is
    found are left out.
    """
    rng = np.random.default_rng(seed)
    rows = table.num_rows
    image, text = (
        table[name].combine_chunks().dictionary_encode().indices.to_numpy()
        for name in ("image_id", "text")
    )
    other = rng.permutation(rows)
    for _ in range(20):
        same = np.flatnonzero((image[other] == image) | (text[other] == text))
        if not len(same):
            break
        other[same] = rng.integers(0, rows, len(same))
    good = np.flatnonzero((image[other] != image) & (text[other] != text))
    moved = [
        name
        for name in table.column_names
        if name in ("text", "text_source") or name.startswith("text.")
    ]
    columns = {
        name: table[name].take(pa.array(other[good] if name in moved else good))
        for name in table.column_names
        if name not in PAIR_LEVEL
    }
    return pa.table(columns)
