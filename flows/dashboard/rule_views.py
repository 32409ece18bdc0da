"""Views of the page where rules are moved: sliders, their ranges, and what they would change."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from filters.recipe.catalogue import range_of
from filters.recipe.recipe import Recipe, RowRule, Rule
from filters.registry import MEASUREMENTS
from flows.dashboard.decision_store import (
    Decided,
    rows,
    statistics,
)
from flows.dashboard.redecide import (
    NOT_MEASURED,
    Changes,
    Redecided,
    again,
    moved,
    stored,
    threshold_of,
)
from flows.dashboard.views import SHOWN, View, about, asked, cards, finite, values_of
from pipelines.schema import KEPT

MOST_OF_A_SLIDER = 2.0**53 - 1  # whole numbers that a browser tells apart


def knobs(decided: Decided) -> list[View]:
    """Every rule with the range in which its threshold can be moved; `least` is None where it can
    only be left out.
    """
    found = []
    for place, rule in enumerate(decided.recipe.rule):
        field = threshold_of(rule)
        least, most, step, value = (
            (None, None, None, None)
            if field is None
            else _range(decided, rule, getattr(rule, field))
        )
        measure = rule.measure if isinstance(rule, RowRule) else None
        found.append(
            {
                "rule": place,
                "reason": rule.reason,
                "asked": asked(rule),
                "source": rule.source,
                "measure": measure,
                "value": value,
            }
            | {"least": least, "most": most, "step": step}
        )
    return found


def _range(decided: Decided, rule: Rule, value: float) -> tuple[float, float, float, float]:
    """From where to where a slider moves, in which steps, and where it stands: nearly all that was
    measured, and the threshold itself.

    A threshold that no slider can show stands at the end beyond which it lies.
    """
    bound = finite(value)
    if isinstance(rule, RowRule):
        least, most, step = _measured_range(decided, rule.measure, bound)
    elif threshold_of(rule) == "fraction":
        least, most, step = min(0.01, bound or 0.01), 1.0, 0.01
    else:
        least, most, step = 1.0, max(20.0, 4 * (bound or 1.0)), 1.0
    least, most = max(least, -MOST_OF_A_SLIDER), min(most, MOST_OF_A_SLIDER)
    if bound is None or not least <= bound <= most:
        end = most if value > most else least
        value = int(end) if isinstance(value, int) else end
    return least, most, step, value


def _measured_range(
    decided: Decided, measure: str, value: float | None
) -> tuple[float, float, float]:
    found, whole = (
        statistics(decided).statistics(measure),
        pa.types.is_integer(MEASUREMENTS[measure]),
    )
    low, high = found.quantile(0.005) or 0.0, found.quantile(0.995) or 0.0
    bounds = [] if value is None else [value]
    least, most = min([low, *bounds]), max([high, *bounds, *(1.5 * bound for bound in bounds)])
    most = min(most, max([range_of(measure)[1], *bounds]))
    step = 10.0 ** np.floor(round(np.log10(max(most - least, 1e-6) / 100), 6))
    step = float(max(1.0, step) if whole else step)
    least, most = float(np.floor(least / step) * step), float(np.ceil(most / step) * step)
    return least, most if most > least else least + step, step


def moved_view(decided: Decided, changes: Changes, focus: int | None = None) -> View:
    """What the recipe with moved thresholds keeps: counts before and after, who enters and who
    leaves, and who stands at the border.

    `focus` names the rule whose border is shown; else that of the first change. Counts of a sample
    stand for the whole.
    """
    recipe = moved(decided.recipe, changes)
    found, before = again(decided, recipe), stored(decided)
    was, now = (
        pc.equal(one.outcome, KEPT).to_numpy(zero_copy_only=False) for one in (before, found)
    )
    enters, leaves = np.flatnonzero(now & ~was), np.flatnonzero(was & ~now)
    place = focus if focus is not None else next(iter(changes), None)
    rule = decided.recipe.rule[place] if place is not None else None
    near = changes.get(place) if place is not None else None
    return {
        "view": "moved",
        **about(decided),
        "changes": {str(rule_): value for rule_, value in changes.items()},
        "rows": len(was),
        "looked_at": 1 / decided.modulus,
        "estimate": found.estimate,
        "before": dict(decided.outcomes),
        "after": _scaled(decided, before, found),
        "enters": len(enters) * decided.modulus,
        "leaves": len(leaves) * decided.modulus,
        "not_measured": (
            sum(count for name, count in _counted(found).items() if name.endswith(NOT_MEASURED))
            * decided.modulus
        ),
        **_sides(decided, enters, leaves, rule, near, recipe, found),
    }


def _sides(
    decided: Decided,
    enters: np.ndarray,
    leaves: np.ndarray,
    rule: Rule | None,
    near: float | None,
    recipe: Recipe,
    found: Redecided,
) -> View:
    """Some who enter, some who leave, and some at the border, all asked for at once."""
    border = _border(decided, rule, recipe, found) if rule is not None else {}
    changed = {
        "entering": _nearest(decided, enters, rule, near),
        "leaving": _nearest(decided, leaves, rule, near),
    }
    places = {**changed, **border.get("places", {})}
    every = np.unique(np.concatenate([*places.values(), np.zeros(0, dtype=np.int64)])).astype(
        np.int64
    )
    ids = rows(decided, ["candidate_id"])["candidate_id"].take(pa.array(every)).to_pylist()
    outcomes = found.outcome.take(pa.array(every)).to_pylist()
    drawn = cards(
        decided, ids, outcomes, rule.measure if isinstance(rule, RowRule) else None, every.tolist()
    )
    by_place = dict(zip(every.tolist(), drawn, strict=True))
    shown = {name: [by_place[int(place)] for place in chosen] for name, chosen in places.items()}
    edge = (
        {"rule": border["rule"], "inside": shown.pop("inside"), "outside": shown.pop("outside")}
        if border
        else {}
    )
    return {**shown, "border": edge}


def _counted(found: Redecided) -> Counter[str]:
    counted = pc.value_counts(found.outcome)
    return Counter(
        dict(
            zip(
                counted.field("values").to_pylist(),
                counted.field("counts").to_pylist(),
                strict=True,
            )
        )
    )


def _scaled(decided: Decided, before: Redecided, after: Redecided) -> dict[str, int]:
    """Outcomes of all candidates: the exact ones before, and what changed among the rows that are
    looked at, times what they stand for.
    """
    old, new = _counted(before), _counted(after)
    changed = {name: (new[name] - old[name]) * decided.modulus for name in {*old, *new}}
    names = {*decided.outcomes, *changed}
    counts = {name: max(0, decided.outcomes.get(name, 0) + changed.get(name, 0)) for name in names}
    return {
        name: count
        for name, count in after.recipe.ordered(counts).items()
        if count or name in decided.outcomes
    }


def _nearest(
    decided: Decided, places: np.ndarray, rule: Rule | None, near: float | None
) -> np.ndarray:
    """Some of these rows: those nearest to the threshold that was moved, else those that come
    first.
    """
    if not isinstance(rule, RowRule) or near is None:
        return places[:SHOWN]
    distance = np.nan_to_num(np.abs(values_of(decided, rule.measure)[places] - near), nan=np.inf)
    # only those that are no farther than the last that is shown are put in order
    if len(places) > SHOWN:
        chosen = distance <= np.partition(distance, SHOWN - 1)[SHOWN - 1]
        places, distance = places[chosen], distance[chosen]
    return places[np.argsort(distance, kind="stable")[:SHOWN]]


def _border(decided: Decided, rule: Rule, recipe: Recipe, found: Redecided) -> View:
    """Of those that reach the rule, the last that it lets pass and the first that it stops."""
    current = next(
        (one for one in recipe.rule if one.reason == rule.reason and one.reads == rule.reads), None
    )
    if (
        not isinstance(rule, RowRule)
        or not isinstance(current, RowRule)
        or threshold_of(rule) is None
    ):
        return {}
    assert isinstance(current.value, int | float)
    values, bound = values_of(decided, rule.measure), float(current.value)
    kept = pc.equal(found.outcome, KEPT).to_numpy(zero_copy_only=False)
    stopped = pc.equal(found.outcome, rule.reason).to_numpy(zero_copy_only=False)
    outside = stopped & ~np.isnan(values) & ~_meets(current, values)
    sides = (("inside", kept & ~np.isnan(values)), ("outside", outside))
    return {
        "rule": asked(current),
        "places": {
            side: _nearest(decided, np.flatnonzero(mask), rule, bound) for side, mask in sides
        },
    }


def _meets(rule: RowRule, values: np.ndarray) -> np.ndarray:
    compare = {">=": np.greater_equal, ">": np.greater, "<=": np.less_equal, "<": np.less}[rule.op]
    return np.asarray(compare(values, float(rule.value)))  # type: ignore[arg-type]
