"""Deciding again: a recipe with moved thresholds over rows that were decided before, without measuring anything."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from filters import MEASUREMENTS, writer
from filters.groups import decide_group, group_key
from filters.recipe import GroupRule, Recipe, RowRule, decide_row
from flows.dashboard.shelf import Decided, rows
from pipelines.schema import FETCHED, KEPT

NOT_MEASURED = ".not_measured"  # ends the outcome of a candidate that a costly measurement was spared, as an earlier rule had stopped it
UNKNOWN_FETCH = "fetch.unknown"  # of an older decision, which does not say what became of images that a text rule had stopped
_TEXTS = ("text", "image_id")  # compared as numbers that sort alike
_FIELDS = {"at_most": "count", "best_of": "count", "balance": "count", "top_fraction": "fraction", "sample": "fraction"}
_ANY = {"group": "at_most", "count": 1, "reason": "group.key", "source": "a rule that has a key"}
_COMPARED = ("at_most", "one_per", "best_of")

Changes = Mapping[int, float | None]  # by the place of a rule in the recipe: another threshold or count, None where it is left out


@dataclass(frozen=True, kw_only=True)
class Again:
    """Rows decided again: the outcome of each, and whether rules among candidates were estimated from a sample."""

    recipe: Recipe
    outcome: pa.Array
    estimate: bool


def moved(recipe: Recipe, changes: Changes) -> Recipe:
    """The recipe with other thresholds; the source of each rule that was changed says so.

    Raises ValueError for a rule that has no threshold and for a value that does not fit it.
    """
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
    value = int(value) if float(value).is_integer() and (isinstance(before, int) or field == "count") else value
    if value == before:
        return rule
    fields = {name: getattr(rule, name) for name in rule.model_fields_set}
    return type(rule)(**{**fields, field: value, "source": f"{rule.source}; changed by hand in the dashboard, was {before}"})


def threshold_of(rule: RowRule | GroupRule) -> str | None:
    """The field that a slider moves; None where there is nothing between yes and no."""
    if isinstance(rule, GroupRule):
        return _FIELDS.get(rule.group)
    number = isinstance(rule.value, int | float) and not isinstance(rule.value, bool)
    return "value" if number and rule.op not in ("==", "!=") else None


def again(decided: Decided, recipe: Recipe) -> Again:
    """The rows of a decision under another recipe that reads the same measurements, in the order of outcomes; nothing is measured.

    Rules among candidates see the rows that are looked at. Where these are a sample, a rule that needs all rows of a key keeps its
    verdict on those that it judged before, and lets pass whom a moved threshold brings in: an estimate.
    """
    table = rows(decided, ["outcome", "permission", "fetch_outcome", "image_id", *sorted(recipe.reads)])
    outcome = pc.coalesce(_permission(table), _first(recipe.candidate_rules, table), _fetch(table))
    outcome = outcome.combine_chunks() if isinstance(outcome, pa.ChunkedArray) else outcome
    estimate = False
    for rule in recipe.other_rules:
        if isinstance(rule, RowRule):
            outcome = pc.coalesce(outcome, _row(rule, table))
        else:
            estimate = estimate or decided.modulus > 1
            outcome = _among(rule, decided, table, outcome)
    return Again(recipe=recipe, outcome=_flat(pc.fill_null(outcome, KEPT)), estimate=estimate)


def stored(decided: Decided) -> Again:
    """The rows as they were decided."""
    return Again(recipe=decided.recipe, outcome=_flat(rows(decided, ["outcome"])["outcome"].combine_chunks()), estimate=False)


def _flat(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _nothing(table: pa.Table) -> pa.Array:
    return pa.nulls(table.num_rows, pa.string())


def _where(mask: pa.Array, outcome: pa.Array) -> pa.Array:
    return pc.if_else(mask, outcome, pa.scalar(None, pa.string()))


def _first(rules: tuple[RowRule, ...], table: pa.Table) -> pa.Array:
    """The first rule that stops each row."""
    return pc.coalesce(_nothing(table), *(_row(rule, table) for rule in rules))


def _permission(table: pa.Table) -> pa.Array:
    """What the page forbids, or what was taken down: no recipe changes that."""
    before = _where(pc.starts_with(table["outcome"], "permission."), table["outcome"])
    return pc.coalesce(before, table["permission"]) if "permission" in table.column_names else before


def _fetch(table: pa.Table) -> pa.Array:
    """What stopped an image on its way; null where it is there."""
    there = pc.is_valid(table["image_id"])
    if "fetch_outcome" in table.column_names:
        found = _where(pc.not_equal(table["fetch_outcome"], FETCHED), table["fetch_outcome"])
        return pc.coalesce(found, _where(pc.invert(there), pa.scalar("fetch.not_asked")))
    stopped = pc.match_substring_regex(table["outcome"], r"^(address|fetch|decode)\.")
    return _where(pc.or_(stopped, pc.invert(there)), pc.if_else(stopped, table["outcome"], UNKNOWN_FETCH))


def _row(rule: RowRule, table: pa.Table) -> pa.Array:
    """As `decide_row`; a costly measurement that nobody asked for, since an earlier rule had stopped the candidate, is not a null."""
    found = decide_row(rule, table)
    if not costly(rule.measure):
        return found
    spared = pc.and_(pc.equal(found, rule.unmeasured), pc.not_equal(table["outcome"], rule.unmeasured))
    return pc.if_else(pc.fill_null(spared, False), rule.measure + NOT_MEASURED, found)


@functools.cache
def costly(measure: str) -> bool:
    """Whether a measurement is asked only for what no earlier rule has stopped, or made of one that is."""
    filter_ = writer(measure)
    return filter_.costly or any(costly(name) for name in filter_.reads if name in MEASUREMENTS and writer(name) is not filter_)


def _among(rule: GroupRule, decided: Decided, table: pa.Table, outcome: pa.Array) -> pa.Array:
    """The outcomes with those whom a rule among candidates stops."""
    inside = np.flatnonzero(pc.is_null(outcome).to_numpy(zero_copy_only=False))
    if decided.modulus > 1 and rule.group in _COMPARED and rule.key != "image_id":
        stopped = pc.equal(table["outcome"], rule.reason).combine_chunks().to_numpy(zero_copy_only=False)[inside]
    elif len(inside):
        stopped = decide_group(_scaled(rule, decided.modulus), _group_rows(rule, decided, table, inside)).to_numpy(zero_copy_only=False)
    else:
        return outcome
    mask = np.zeros(table.num_rows, dtype=bool)
    mask[inside[stopped]] = True
    return pc.coalesce(outcome, _where(pa.array(mask), pa.scalar(rule.reason)))


def _scaled(rule: GroupRule, modulus: int) -> GroupRule:
    """A rule about how many hold an entry sees only those of the sample."""
    if rule.group != "balance" or modulus == 1:
        return rule
    return rule.model_copy(update={"count": max(1, round(rule.count / modulus))})


def _group_rows(rule: GroupRule, decided: Decided, table: pa.Table, inside: np.ndarray) -> pa.Table:
    """What the rule needs of the rows that are still in: texts as their ranks, which compare as the texts do."""
    chosen = pa.array(inside)
    ranks = rule.group in _COMPARED
    found = {name: (ranked(decided, name) if ranks else rows(decided, [name])[name]).take(chosen) for name in _TEXTS}
    found["key"] = (ranked(decided, f"key {rule.key}") if ranks else rows(decided, ["image_id"])["image_id"]).take(chosen)
    for name in rule.order_columns:
        found[name] = table[name].take(chosen)
    return pa.table(found)


@functools.lru_cache(maxsize=32)
def ranked(decided: Decided, name: str) -> pa.Array:
    """The place of each text in the order of all, null where there is none; `key text` stands for a group rule's key of that name."""
    if name.startswith("key "):
        rule = GroupRule.model_validate({**_ANY, "key": name.removeprefix("key ")})
        column = group_key(rule, rows(decided, rule.key_columns))
    else:
        column = rows(decided, [name])[name]
    encoded = _flat(column).dictionary_encode()
    encoded = _flat(encoded)
    rank = pc.rank(encoded.dictionary, sort_keys="ascending", tiebreaker="dense").cast(pa.int64())
    return rank.take(encoded.indices)
