"""The views of the dashboard as plain data: what each page shows, and what its JSON twin prints."""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from filters.recipe.catalogue import catalogue, range_of
from filters.recipe.recipe import Recipe, RowRule, Rule
from filters.recipe.statistics import DROPPED, OTHER
from filters.registry import MEASUREMENTS
from flows.dashboard.decision_store import (
    Decided,
    ask,
    columns,
    decisions,
    files,
    rows,
    some,
    statistics,
    unfinished,
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
from flows.report.data import Histogram
from flows.report.gather import distribution
from pipelines.decide.statistics import UNKNOWN
from pipelines.schema import KEPT
from pipelines.store import Folder

SHOWN = 12  # candidates on each side of a border
MOST_OF_A_SLIDER = 2.0**53 - 1  # whole numbers that a browser tells apart
GROUPS = 30  # hosts, languages or sources in a table; the rest is "other"
SENTENCES = {name: f"{about.says} ({about.unit})" for name, about in catalogue().items()}
CARD = (
    "outcome",
    "text",
    "original_text",
    "image_url",
    "page_url",
    "collection",
    "image_collection",
    "image_part",
    "image_row",
)

View = dict[str, Any]


def shelf_view(root: Folder) -> View:
    """The decisions that there are."""
    found = [
        {
            "id": one.id,
            "label": one.label,
            "recipe": one.recipe.name,
            "collections": list(one.collections),
            "candidates": one.candidates,
            "kept": one.kept,
        }
        for one in decisions(root)
    ]
    stopped = [asdict(one) | {"collections": list(one.collections)} for one in unfinished(root)]
    return {"view": "decisions", "root": root.path(), "decisions": found, "unfinished": stopped}


def funnel_view(decided: Decided) -> View:
    """Each outcome with how many candidates it stopped and how many were left, and what its rule
    asks for. Exact.
    """
    steps, left = [], decided.candidates
    for outcome, count in decided.outcomes.items():
        left -= count if outcome != KEPT else 0
        rules = [rule for rule in decided.recipe.rule if rule.reason == outcome]
        said = {
            "asked": " and ".join(map(asked, rules)),
            "source": " · ".join(dict.fromkeys(rule.source for rule in rules)),
        }
        steps.append({"outcome": outcome, "count": count, "left": left, **said})
    return {"view": "funnel", **about(decided), "steps": steps}


def about(decided: Decided) -> View:
    """Which decision a view is of."""
    return {
        "decision": decided.id,
        "label": decided.label,
        "recipe": decided.recipe.name,
        "left_out": list(decided.recipe.left_out),
        "collections": list(decided.collections),
        "candidates": decided.candidates,
        "kept": decided.kept,
    }


def asked(rule: Rule) -> str:
    """What a rule asks for, as it stands in the recipe."""
    if isinstance(rule, RowRule):
        return " ".join(
            _plain(word) for word in (rule.measure, rule.op, rule.value) if word is not None
        )
    amount = f"{rule.fraction:g}" if rule.fraction is not None else str(rule.count)
    return f"{rule.group} {amount}" + (f" for each {rule.key}" if rule.key else "")


def _plain(word: object) -> str:
    return ", ".join(map(str, word)) if isinstance(word, tuple) else str(word)


def measurements_view(decided: Decided) -> View:
    """The distribution of every measurement that was stored, kept against dropped. Exact counts."""
    found = [asdict(shown) for shown in histograms(decided)]
    quantiles = {name: spread(decided, name) for name in statistics(decided).measurements}
    return {"view": "measurements", **about(decided), "measurements": found, "quantiles": quantiles}


def histograms(
    decided: Decided, recipe: Recipe | None = None, only: str | None = None
) -> list[Histogram]:
    """The distribution of each measurement, with the thresholds of the recipe (or of another)
    marked.
    """
    summary, marked = statistics(decided), thresholds(recipe or decided.recipe)
    found = []
    for name in summary.measurements if only is None else [only]:
        shape = distribution(
            name,
            summary.statistics(name, KEPT),
            summary.statistics(name, DROPPED),
            whole=pa.types.is_integer(MEASUREMENTS.get(name, pa.float32())),
            sentence=SENTENCES.get(name, ""),
            thresholds=marked.get(name, ()),
        )
        found += [shape] if shape is not None else []
    return found


def thresholds(recipe: Recipe) -> dict[str, list[tuple[str, float]]]:
    """What the rules of a recipe compare each measurement with."""
    found: dict[str, list[tuple[str, float]]] = {}
    for rule in recipe.rule:
        if (
            not isinstance(rule, RowRule)
            or isinstance(rule.value, bool)
            or not isinstance(rule.value, int | float)
        ):
            continue
        if (value := _finite(rule.value)) is not None:
            found.setdefault(rule.measure, []).append((rule.op, value))
    return found


def spread(decided: Decided, measure: str) -> View:
    """Mean and quantiles of what was kept and what was dropped; a quantile is wrong by a sixteenth
    of its value at most.
    """
    found = {}
    for side in (KEPT, DROPPED):
        one = statistics(decided).statistics(measure, side)
        levels = {f"{q:g}": one.quantile(q) for q in (0, 0.05, 0.25, 0.5, 0.75, 0.95, 1)}
        found[side] = {
            "rows": one.rows,
            "nulls": one.nulls,
            "mean": one.mean,
            "deviation": one.deviation,
            "quantiles": levels,
        }
    return found


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


def _finite(value: float) -> float | None:
    """A threshold as a float; None for one that is no bound: infinite, not a number, or beyond all
    floats.
    """
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def _range(decided: Decided, rule: Rule, value: float) -> tuple[float, float, float, float]:
    """From where to where a slider moves, in which steps, and where it stands: nearly all that was
    measured, and the threshold itself.

    A threshold that no slider can show stands at the end beyond which it lies.
    """
    bound = _finite(value)
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
    distance = np.nan_to_num(np.abs(_values(decided, rule.measure)[places] - near), nan=np.inf)
    # only those that are no farther than the last that is shown are put in order
    if len(places) > SHOWN:
        chosen = distance <= np.partition(distance, SHOWN - 1)[SHOWN - 1]
        places, distance = places[chosen], distance[chosen]
    return places[np.argsort(distance, kind="stable")[:SHOWN]]


def cards(
    decided: Decided,
    ids: Sequence[str],
    outcomes: Sequence[str] | None = None,
    measure: str | None = None,
    places: Sequence[int] | None = None,
) -> list[View]:
    """What a card shows of each candidate; `now` is its outcome with the moved thresholds."""
    wanted = [*CARD, *([measure] if measure else [])]
    found = some(decided, ids, wanted, places)
    now = dict(zip(ids, outcomes, strict=True)) if outcomes is not None else {}
    return [
        {
            **row,
            "now": now.get(row["candidate_id"], row["outcome"]),
            "measure": measure,
            "value": row.get(measure) if measure else None,
        }
        for row in found
    ]


def _values(decided: Decided, measure: str) -> np.ndarray:
    """[rows] a measurement as a number; NaN where there is none."""
    column = rows(decided, [measure])[measure].combine_chunks()
    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return np.asarray(
        pc.fill_null(column.cast(pa.float64(), safe=False), float("nan")).to_numpy(
            zero_copy_only=False
        )
    )


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
    values, bound = _values(decided, rule.measure), float(current.value)
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


def groups_view(decided: Decided, by: str, of: str | None = None) -> View:
    """Candidates by host, language or source with what became of them; or one group: its funnel,
    its means, some of it. Exact.
    """
    counts = statistics(decided).counts(by, of)
    found = []
    for name, outcomes in list(counts.items())[:GROUPS]:
        found.append(
            {
                "of": name,
                "candidates": sum(outcomes.values()),
                "kept": outcomes.get(KEPT, 0),
                "outcomes": outcomes,
            }
        )
    rest = [outcomes for name, outcomes in list(counts.items())[GROUPS:]]
    if rest:
        summed: Counter[str] = sum((Counter(outcomes) for outcomes in rest), Counter())
        found.append(
            {
                "of": OTHER,
                "candidates": summed.total(),
                "kept": summed[KEPT],
                "outcomes": dict(summed),
                "groups": len(rest),
            }
        )
    means = (
        {}
        if of is None
        else {name: _mean(decided, name, by, of) for name in statistics(decided).measurements}
    )
    shown = [] if of is None or of in (OTHER, UNKNOWN) else _members(decided, by, of)
    return {
        "view": "groups",
        **about(decided),
        "by": by,
        "of": of,
        "groups": found,
        "means": means,
        "shown": shown,
    }


def _mean(decided: Decided, name: str, by: str, of: str) -> View:
    found = statistics(decided)
    return {
        "here": found.statistics(name, by=by, of=of).mean,
        "everywhere": found.statistics(name).mean,
    }


def _members(decided: Decided, by: str, of: str) -> list[View]:
    """Some candidates of a group, as their pages and texts say; none of `other` and `unknown`."""
    there = columns(decided)
    tests = {
        "host": (
            "regexp_matches(coalesce(page_url, image_url), ?)",
            rf"^[^:/?#]+://([^/?#@]*[.@])?{re.escape(of)}([:/?#]|$)",
        ),
        "source": ("text_source = ?", of),
        "language": (
            f"regexp_matches(lower(coalesce({_languages(there)})), ?)",
            rf"^\s*{re.escape(of)}([-_]|$)",
        ),
    }
    test, value = tests[by]
    found = ask(
        *files(decided),
        f"select candidate_id from parts where {test} order by candidate_id limit {2 * SHOWN}",
        [value],
    )
    return cards(decided, [row["candidate_id"] for row in found])


def _languages(there: Sequence[str]) -> str:
    return (
        ", ".join(f'"{name}"' for name in ("text.language", "page_language") if name in there)
        or "null::varchar"
    )


def compare_view(one: Decided, other: Decided) -> View:
    """Two decisions side by side: both funnels, and where the collections are the same, what became
    of each candidate in both.
    """
    view: View = {
        "view": "compare",
        "one": funnel_view(one),
        "other": funnel_view(other),
        "same": one.collections == other.collections,
    }
    if not view["same"]:
        return view
    tables = [rows(decided, ["candidate_id", "outcome"]) for decided in (one, other)]
    place = pc.index_in(tables[0]["candidate_id"], value_set=tables[1]["candidate_id"])
    theirs = tables[1]["outcome"].take(place)
    pairs = (
        pa.table({"one": tables[0]["outcome"], "other": theirs})
        .group_by(["one", "other"])
        .aggregate([([], "count_all")])
    )
    view["pairs"] = sorted(
        (
            {"one": row["one"], "other": row["other"], "candidates": row["count_all"] * one.modulus}
            for row in pairs.to_pylist()
        ),
        key=lambda row: -row["candidates"],
    )
    mine, also = (
        np.asarray(pc.equal(outcome, KEPT).to_numpy()) for outcome in (tables[0]["outcome"], theirs)
    )
    ids = tables[0]["candidate_id"]
    for name, mask in (("only_one", mine & ~also), ("only_other", also & ~mine)):
        chosen = sorted(ids.take(pa.array(np.flatnonzero(mask))).to_pylist())
        view[name] = {
            "candidates": len(chosen) * one.modulus,
            "shown": cards(other if name == "only_one" else one, chosen[:SHOWN]),
        }
    return view


def time_view(root: Folder, recipe: str) -> View:
    """What a recipe kept and dropped of each collection, in the order of their names, which are
    times where a schedule made them.
    """
    found: dict[str, View] = {}
    for decided in decisions(root):
        if decided.recipe.name != recipe:
            continue
        for name in decided.collections:
            if name not in found or len(decided.collections) == 1:
                counts = statistics(decided).counts(collection=name).get("", {})
                found[name] = {
                    "collection": name,
                    "decision": decided.id,
                    "candidates": sum(counts.values()),
                }
                found[name] |= {
                    "kept": counts.get(KEPT, 0),
                    "outcomes": decided.recipe.ordered(counts),
                }
    return {
        "view": "time",
        "recipe": recipe,
        "collections": [found[name] for name in sorted(found)],
    }


def outcome_view(decided: Decided, outcome: str) -> View:
    """Candidates that ended in one outcome: how many, on which hosts and in which languages, and
    some of them.
    """
    summary = statistics(decided)
    found = {}
    for by in ("host", "language", "source"):
        counts = {
            name: outcomes[outcome]
            for name, outcomes in summary.counts(by).items()
            if outcomes.get(outcome)
        }
        found[by] = dict(sorted(counts.items(), key=lambda item: -item[1])[:GROUPS])
    table = rows(decided, ["candidate_id", "outcome"])
    places = np.flatnonzero(pc.equal(table["outcome"], outcome).to_numpy())[: 2 * SHOWN]
    ids = table["candidate_id"].take(pa.array(places)).to_pylist()
    return {
        "view": "outcome",
        **about(decided),
        "outcome": outcome,
        "count": decided.outcomes.get(outcome, 0),
        **found,
    } | {"shown": cards(decided, ids, places=places.tolist())}


def changes_of(texts: Mapping[str, str]) -> dict[int, float | None]:
    """Changes as the command line and addresses spell them: the place of a rule, and its threshold
    or `off`.
    """
    try:
        return {
            int(place): None if value == "off" else float(value) for place, value in texts.items()
        }
    except ValueError as error:
        raise ValueError(
            f"{error}: write the place of a rule (the first is 0) and its threshold or off, as in"
            " --of 4=3 2=off"
        ) from error
