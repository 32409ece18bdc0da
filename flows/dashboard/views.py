"""The views of the dashboard as plain data: what each page shows, and what its JSON twin prints."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from filters.recipe.catalogue import catalogue
from filters.recipe.recipe import Recipe, RowRule, Rule
from filters.recipe.statistics import DROPPED
from filters.registry import MEASUREMENTS
from flows.dashboard.decision_store import (
    Decided,
    decisions,
    rows,
    some,
    statistics,
    unfinished,
)
from flows.report.data import Histogram
from flows.report.gather import distribution
from pipelines.schema import KEPT
from pipelines.store import Folder

SHOWN = 12  # candidates on each side of a border
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
        if (value := finite(rule.value)) is not None:
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


def finite(value: float) -> float | None:
    """A threshold as a float; None for one that is no bound: infinite, not a number, or beyond all
    floats.
    """
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


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


def values_of(decided: Decided, measure: str) -> np.ndarray:
    """[rows] a measurement as a number; NaN where there is none."""
    column = rows(decided, [measure])[measure].combine_chunks()
    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return np.asarray(
        pc.fill_null(column.cast(pa.float64(), safe=False), float("nan")).to_numpy(
            zero_copy_only=False
        )
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
