"""Plain data for a report, out of tables and log files."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from filters.recipe.statistics import OTHER, Statistics, lower_bound, upper_bound
from flows.report.data import Histogram

_BINS = 28  # as many as can be told apart in a picture 320 pixels wide
_NAMES = 8  # values of a measurement of names that get a row of their own
_FEW = 50  # values: up to so many, every column of names is shown
_COVERED = 0.2  # share of the values that the most frequent ones have to cover
_SKEWED = 60.0  # from this ratio of the 99th to the 1st percentile up, bins grow in equal ratios


def distribution(
    measure: str,
    kept: Statistics,
    dropped: Statistics,
    *,
    whole: bool = False,
    sentence: str = "",
    thresholds: Sequence[tuple[str, float]] = (),
) -> Histogram | None:
    """A histogram from statistics, every count exact since its edges are bounds of their bins; None
    where nothing was measured.
    """
    both = kept + dropped
    unmeasured = both.nulls
    if both.values:
        named = _names(Counter(kept.values), Counter(dropped.values), unmeasured)
        return None if named is None else Histogram(measure=measure, sentence=sentence, **named)
    if not both.bins or both.least is None or both.most is None:
        return None
    share = not whole and both.least >= 0 and both.most <= 1
    edges = _growing(both) if _skewed(both) and not share else _even(both, whole)
    return Histogram(
        measure=measure,
        kept=tuple(kept.histogram(edges)),
        dropped=tuple(dropped.histogram(edges)),
        edges=tuple(edges),
        sentence=sentence,
        thresholds=tuple(thresholds),
        unmeasured=unmeasured,
        whole=whole and all(edge == round(edge) for edge in edges),
    )


def _skewed(both: Statistics) -> bool:
    few, many = both.quantile(0.01), both.quantile(0.99)
    return few is not None and many is not None and few > 0 and many / few > _SKEWED


def _even(both: Statistics, whole: bool) -> list[float]:
    """Edges a power of two apart, up to where nearly all values lie; what is beyond is in the last
    bin.
    """
    assert both.least is not None
    assert both.most is not None
    most = both.quantile(0.99) or both.most
    high = both.most if both.most - both.least <= 2 * (most - both.least) else most
    width = max(
        upper_bound(bound) - bound
        for bound in (abs(float(low)) for low in lower_bound(np.array([both.least, high])))
    )
    wide = float(2.0 ** np.ceil(np.log2((high - both.least) / _BINS))) if high > both.least else 0.0
    step = max(wide, width, 1.0 if whole else 0.0) or 1.0
    start = float(both.least // step) * step
    edges = [start + place * step for place in range(int((high - start) // step) + 2)]
    if not whole and len(edges) > 2 and edges[-2] == both.most:
        return edges[:-1]  # the last bin takes its end in
    return edges if edges[-1] >= both.most else [*edges, both.most]


def _growing(both: Statistics) -> list[float]:
    """Edges in equal parts of each doubling."""
    few, most = both.quantile(0.01), both.most
    assert few is not None
    assert most is not None
    first, last = (int(np.floor(np.log2(value))) for value in (few, most))
    parts = int(2 ** np.floor(np.log2(max(1.0, min(16.0, _BINS / (last - first + 1))))))
    skip = -(-(last - first + 1) // _BINS)
    edges = [
        2.0**octave * (1 + part / parts)
        for octave in range(first, last + 1, skip)
        for part in range(parts)
    ]
    inside = [edge for edge in edges if few / (1 + 1 / parts) < edge <= most]
    return [*inside, upper_bound(float(lower_bound(np.array([most]))[0]))]


def _names(kept: Counter[str], dropped: Counter[str], missing: int) -> dict[str, Any] | None:
    """The most frequent values, and the rest together; None for texts and digests, of which nearly
    each is another.
    """
    both = kept + dropped
    named = Counter({name: count for name, count in both.items() if name != OTHER})
    most = [name for name, _ in sorted(named.items(), key=lambda one: (-one[1], one[0]))[:_NAMES]]
    if both.total() > _FEW and sum(named[name] for name in most) < _COVERED * both.total():
        return None
    counts = [[values[name] for name in most] for values in (kept, dropped)]
    rest = [
        values.total() - sum(shown) for values, shown in zip((kept, dropped), counts, strict=True)
    ]
    labels = list(most)
    if any(rest):
        labels.append("others")
        counts = [[*shown, other] for shown, other in zip(counts, rest, strict=True)]
    return {
        "kept": tuple(counts[0]),
        "dropped": tuple(counts[1]),
        "labels": tuple(labels),
        "unmeasured": missing,
    }
