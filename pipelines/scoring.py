"""A weak image-text scorer from labelled pairs of collections: measured as candidates are, trained
on what is measured.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from filters.fit.scorer import examples, labelled, measurements_for, read_labels, train_scorer
from filters.given_models import Given
from filters.logistic import Logistic
from filters.pair.features import FEATURES, read_by
from filters.registry import MEASUREMENTS, filters_for
from pipelines.decide.decision import Decision, decide
from pipelines.engine.stage import Engine, Progress, silent
from pipelines.store import Folder
from pipelines.tables import read_table


def score(
    root: Folder,
    collections: Sequence[str],
    labels: Path,
    *,
    given: Given,
    seed: int = 0,
    engine: Engine | None = None,
    progress: Callable[[Progress], None] = silent,
) -> Logistic:
    """Train a scorer on the labelled pairs of some collections, whose every image and text is
    measured; `labels` as `read_labels` says.

    Raises ValueError for labels that cannot be read, belong to no pair, or are too few.
    """
    known = read_labels(labels)
    measured = measurements_for(given)
    also = (*measured, *(name for name in read_by(FEATURES) if name not in MEASUREMENTS))
    decision = decide(
        root, "everything", collections, given=given, also=also, engine=engine, progress=progress
    )
    table, yes = labelled(_pairs(decision), known)
    on_pairs = [filter_ for filter_ in filters_for(measured, given) if filter_.level == "pair"]
    table, yes, origin = examples(table, np.asarray(yes), seed, on_pairs)
    return train_scorer(table, yes, seed, non_pairs=origin)


def _pairs(decision: Decision) -> pa.Table:
    return pa.concat_tables(
        [read_table(decision.folder, name) for name in decision.names], promote_options="permissive"
    )
