"""Deciding again: a recipe with moved thresholds over rows that were decided before, without
measuring anything.
"""

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from filters.recipe.group_rules import decide_group, group_key
from filters.recipe.recipe import GroupRule, Recipe, RowRule, decide_row
from filters.registry import MEASUREMENTS, writer
from flows.dashboard.decision_store import Decided, rows
from pipelines.schema import FETCHED, KEPT

# ends the outcome of a candidate that a costly measurement was spared, as an earlier rule had
# stopped it
NOT_MEASURED = ".not_measured"
# of an older decision, which does not say what became of images that a text rule had stopped
UNKNOWN_FETCH = "fetch.unknown"
_TEXTS = ("text", "image_id")  # compared as numbers that sort alike
_FIELDS = {
    "at_most": "count",
    "best_of": "count",
    "balance": "count",
    "top_fraction": "fraction",
    "sample": "fraction",
}
_ANY = {"group": "at_most", "count": 1, "reason": "group.key", "source": "a rule that has a key"}
_COMPARED = ("at_most", "one_per", "best_of")

# by the place of a rule in the recipe: another threshold or count, None where it is left out
Changes = Mapping[int, float | None]


@dataclass(frozen=True, kw_only=True)
class Redecided:
    """Rows decided again: the outcome of each, and whether rules among candidates were estimated
    from a sample.
    """

    recipe: Recipe
    outcome: pa.Array
    estimate: bool


def moved(recipe: Recipe, changes: Changes) -> Recipe:
    """The recipe with other thresholds; the source of each rule that was changed says so.

    Raises ValueError for a rule that has no threshold and for a value that does not fit it.
    """
    if beyond := [place for place in changes if not 0 <= place < len(recipe.rule)]:
        raise ValueError(
            f"recipe {recipe.name} has no rule {beyond[0]}: its {len(recipe.rule)} rules are"
            " counted from 0"
        )
    rules = []
    for place, rule in enumerate(recipe.rule):
        if place not in changes:
            rules.append(rule)
        elif (value := changes[place]) is not None:
            rules.append(_changed(rule, value))
    return recipe.model_copy(update={"rule": tuple(rules)})


def _changed(rule: RowRule | GroupRule, value: float) -> RowRule | GroupRule:
    field = threshold_of(rule)
    if field is None:
        raise ValueError(f"{rule.reason} has no threshold to move: leave it out or as it is")
    before = getattr(rule, field)
    value = (
        int(value)
        if math.isfinite(value)
        and float(value).is_integer()
        and (isinstance(before, int) or field == "count")
        else value
    )
    if value == before:
        return rule
    fields = {name: getattr(rule, name) for name in rule.model_fields_set}
    return type(rule)(
        **{
            **fields,
            field: value,
            "source": f"{rule.source}; changed by hand in the dashboard, was {before}",
        }
    )


def threshold_of(rule: RowRule | GroupRule) -> str | None:
    """The field that a slider moves; None where there is nothing between yes and no."""
    if isinstance(rule, GroupRule):
        return _FIELDS.get(rule.group)
    number = isinstance(rule.value, int | float) and not isinstance(rule.value, bool)
    return "value" if number and rule.op not in ("==", "!=") else None


def again(decided: Decided, recipe: Recipe) -> Redecided:
    """The rows of a decision under another recipe that reads the same measurements, in the order of
    outcomes; nothing is measured.

    Rules among candidates see the rows that are looked at. Where these are a sample, a rule that
    needs all rows of a key keeps its verdict on those that it judged before, and lets pass whom a
    moved threshold brings in: an estimate.
    """
    laid = _Laid(outcome=np.zeros(len(stored(decided).outcome), dtype=np.int16), names=[KEPT])
    laid.lay(*_whole(decided, "permission"))
    for early in recipe.candidate_rules:
        laid.lay(*_row(decided, early))
    laid.lay(*_whole(decided, "fetch"))
    for rule in recipe.other_rules:
        laid.lay(
            *(
                _row(decided, rule)
                if isinstance(rule, RowRule)
                else _among(decided, rule, np.flatnonzero(laid.outcome == 0))
            )
        )
    estimate = decided.modulus > 1 and any(isinstance(rule, GroupRule) for rule in recipe.rule)
    return Redecided(
        recipe=recipe, outcome=pa.array(laid.names).take(pa.array(laid.outcome)), estimate=estimate
    )


# [rows] 0 for who passes, else one more than the place of the outcome in the list
Codes = tuple[np.ndarray, list[str]]


@dataclass(kw_only=True)
class _Laid:
    """Outcomes as numbers, 0 while nothing has stopped a row, and what they are called."""

    outcome: np.ndarray
    names: list[str]

    def lay(self, codes: np.ndarray, names: list[str]) -> None:
        """What stops those that nothing has stopped before."""
        stopped = (self.outcome == 0) & (codes > 0)
        self.outcome[stopped] = codes[stopped] + len(self.names) - 1
        self.names += names


def _coded(outcome: pa.Array | pa.ChunkedArray) -> Codes:
    """Outcomes (null for who passes) as numbers."""
    encoded = _flat(_flat(outcome).dictionary_encode())
    return (
        pc.fill_null(pc.add(encoded.indices.cast(pa.int16()), 1), 0).to_numpy(zero_copy_only=False),
        encoded.dictionary.to_pylist(),
    )


@functools.lru_cache(maxsize=16)
def _whole(decided: Decided, step: str) -> Codes:
    """What page and fetch say, whatever the recipe."""
    table = rows(decided, ["outcome", "permission", "fetch_outcome", "image_id"])
    return _coded(_permission(table) if step == "permission" else _fetch(table))


@functools.lru_cache(maxsize=256)
def _row(decided: Decided, rule: RowRule) -> Codes:
    """As `decide_row`; a costly measurement that nobody asked for, since an earlier rule had
    stopped the candidate, is not a null.
    """
    table = rows(decided, ["outcome", rule.measure])
    found = decide_row(rule, table)
    if costly(rule.measure):
        spared = pc.and_(
            pc.equal(found, rule.unmeasured), pc.not_equal(table["outcome"], rule.unmeasured)
        )
        found = pc.if_else(pc.fill_null(spared, False), rule.measure + NOT_MEASURED, found)
    return _coded(found)


def stored(decided: Decided) -> Redecided:
    """The rows as they were decided."""
    return Redecided(
        recipe=decided.recipe,
        outcome=_flat(rows(decided, ["outcome"])["outcome"].combine_chunks()),
        estimate=False,
    )


def _flat(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _where(mask: pa.Array, outcome: pa.Array) -> pa.Array:
    return pc.if_else(mask, outcome, pa.scalar(None, pa.string()))


def _permission(table: pa.Table) -> pa.Array:
    """What the page forbids, or what was taken down: no recipe changes that."""
    before = _where(pc.starts_with(table["outcome"], "permission."), table["outcome"])
    return (
        pc.coalesce(before, table["permission"]) if "permission" in table.column_names else before
    )


def _fetch(table: pa.Table) -> pa.Array:
    """What stopped an image on its way; null where it is there."""
    there = pc.is_valid(table["image_id"])
    if "fetch_outcome" in table.column_names:
        found = _where(pc.not_equal(table["fetch_outcome"], FETCHED), table["fetch_outcome"])
        return pc.coalesce(found, _where(pc.invert(there), pa.scalar("fetch.not_asked")))
    stopped = pc.match_substring_regex(table["outcome"], r"^(address|fetch|decode)\.")
    return _where(
        pc.or_(stopped, pc.invert(there)), pc.if_else(stopped, table["outcome"], UNKNOWN_FETCH)
    )


@functools.cache
def costly(measure: str) -> bool:
    """Whether a measurement is asked only for what no earlier rule has stopped, or made of one that
    is.
    """
    filter_ = writer(measure)
    return filter_.costly or any(
        costly(name)
        for name in filter_.reads
        if name in MEASUREMENTS and writer(name) is not filter_
    )


def _among(decided: Decided, rule: GroupRule, inside: np.ndarray) -> Codes:
    """Whom a rule among candidates stops of those that are still in."""
    size = len(stored(decided).outcome)
    if decided.modulus > 1 and rule.group in _COMPARED and rule.key != "image_id":
        stopped = pc.equal(stored(decided).outcome, rule.reason).to_numpy(zero_copy_only=False)[
            inside
        ]
    elif len(inside):
        stopped = decide_group(
            _scaled(rule, decided.modulus), _group_rows(rule, decided, inside)
        ).to_numpy(zero_copy_only=False)
    else:
        stopped = np.zeros(0, dtype=bool)
    codes = np.zeros(size, dtype=np.int16)
    codes[inside[stopped]] = 1
    return codes, [rule.reason]


def _scaled(rule: GroupRule, modulus: int) -> GroupRule:
    """A rule about how many hold an entry sees only those of the sample."""
    if rule.group != "balance" or modulus == 1:
        return rule
    return rule.model_copy(update={"count": max(1, round(rule.count / modulus))})


def _group_rows(rule: GroupRule, decided: Decided, inside: np.ndarray) -> pa.Table:
    """What the rule needs of the rows that are still in: texts as their ranks, which compare as the
    texts do.
    """
    chosen = pa.array(inside)
    ranks = rule.group in _COMPARED
    found = {
        name: (ranked(decided, name) if ranks else rows(decided, [name])[name]).take(chosen)
        for name in _TEXTS
    }
    found["key"] = (
        ranked(decided, f"key {rule.key}") if ranks else rows(decided, ["image_id"])["image_id"]
    ).take(chosen)
    for name in rule.order_columns:
        found[name] = rows(decided, [name])[name].take(chosen)
    return pa.table(found)


@functools.lru_cache(maxsize=32)
def ranked(decided: Decided, name: str) -> pa.Array:
    """The place of each text in the order of all, null where there is none; `key text` stands for a
    group rule's key of that name.
    """
    if name.startswith("key "):
        rule = GroupRule.model_validate({**_ANY, "key": name.removeprefix("key ")})
        column = group_key(rule, rows(decided, rule.key_columns))
    else:
        column = rows(decided, [name])[name]
    encoded = _flat(column).dictionary_encode()
    encoded = _flat(encoded)
    rank = pc.rank(encoded.dictionary, sort_keys="ascending", tiebreaker="dense").cast(pa.int64())
    return rank.take(encoded.indices)
