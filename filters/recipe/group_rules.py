"""Group rules: decisions among the candidates that share a key."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from filters.recipe.rules import CLUSTERED, GroupRule
from filters.recipe.sampling import draws, threshold


@dataclass(frozen=True, kw_only=True)
class Weights:
    """What a rule among all candidates must know of all before it can judge any."""

    threshold: float = -math.inf  # of top_fraction
    # of balance: rows that hold each entry
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))


def weigh(rule: GroupRule, passes: Callable[[], Iterable[pa.Table]]) -> Weights:
    """The weights of all candidates, which each call of `passes` gives in some tables, with the
    rule's `order_columns`.
    """
    if rule.group == "top_fraction":
        assert rule.fraction is not None
        return Weights(
            threshold=threshold(rule.fraction, lambda: (_scores(rule, table) for table in passes()))
        )
    counts = np.zeros(0, dtype=np.int64)
    for table in passes() if rule.group == "balance" else ():
        found = np.bincount(_entries(table)[1])
        counts = np.pad(counts, (0, max(0, len(found) - len(counts))))
        counts[: len(found)] += found
    return Weights(counts=counts)


def group_key(rule: GroupRule, table: pa.Table) -> pa.ChunkedArray:
    """What brings rows together: the image_id, the text without regard to case and white space, or
    the cluster of the image.

    An image that is in no cluster is one of its own. Rules among all candidates have no key: there
    the image_id spreads the rows.
    """
    if rule.key in CLUSTERED:
        return pc.coalesce(table[rule.key], table["image_id"])
    return normalised(table["text"]) if rule.key == "text" else table["image_id"]


def normalised(text: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """Lower-case text with single spaces between words and none around: what counts as the same
    text.
    """
    return pc.utf8_trim_whitespace(
        pc.replace_substring_regex(pc.utf8_lower(text), r"[\s\pZ]+", " ")
    )


def decide_group(rule: GroupRule, rows: pa.Table, weights: Weights | None = None) -> pa.Array:
    """Who is stopped, as one boolean for each row; all rows of a key must be present, no matter in
    which order.

    `rows` has the columns key, image_id and text (strings), and the rule's `order_columns`. A row
    without a key is not stopped. A rule among all candidates takes some of them if it is given the
    `weights` of all; else these must be all.
    """
    if rule.group in ("top_fraction", "sample", "balance"):
        return pa.array(~_stays(rule, rows, weights or weigh(rule, lambda: [rows])))
    stopped = _crowded(rule, rows) if rule.group == "at_most" else _beaten(rule, rows)
    return pa.array(stopped & ~pc.is_null(rows["key"]).to_numpy())


def _stays(rule: GroupRule, rows: pa.Table, weights: Weights) -> NDArray[np.bool_]:
    if rule.group == "top_fraction":
        return _scores(rule, rows) >= weights.threshold
    if rule.group == "sample":
        assert rule.fraction is not None
        return draws(rule.seed, rows["image_id"], rows["text"]) < rule.fraction
    row, entry = _entries(rows)
    chance = rule.count / np.maximum(weights.counts[entry], 1)
    stays = np.zeros(rows.num_rows, dtype=bool)
    stays[row[draws(rule.seed, rows["image_id"], rows["text"], row, entry) < chance]] = True
    return stays


def _scores(rule: GroupRule, rows: pa.Table) -> NDArray[np.float64]:
    """[rows] the measurement of a top_fraction; NaN where there is none."""
    return np.asarray(
        pc.fill_null(rows[rule.order[0]].cast(pa.float64(), safe=False), math.nan).to_numpy()
    )


def _entries(rows: pa.Table) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The row and the entry of each entry of each text, an entry once for a row."""
    lists = rows["text.entries"].combine_chunks()
    row, entry = pc.list_parent_indices(lists), pc.list_flatten(lists)
    pairs = (
        pa.table({"row": row, "entry": entry})
        .group_by(["row", "entry"], use_threads=False)
        .aggregate([])
    )
    return pairs["row"].to_numpy().astype(np.int64), pairs["entry"].to_numpy().astype(np.int64)


def _crowded(rule: GroupRule, rows: pa.Table) -> np.ndarray:
    """True for each row whose key has more than `count` distinct images (texts, where the key is
    the image).
    """
    pairs = rows.select(["key", _member(rule)]).group_by(["key", _member(rule)]).aggregate([])
    sizes = pairs.group_by("key").aggregate([([], "count_all")])
    place = pc.index_in(rows["key"], value_set=sizes["key"])
    return np.asarray(sizes["count_all"].take(place).to_numpy() > rule.count)


def _beaten(rule: GroupRule, rows: pa.Table) -> np.ndarray:
    """True for each row that is not among the best `count` of its key; of rows with the same text
    and image one stays.
    """
    settle = [(name, "descending") for name in rule.order_columns] + [
        ("text", "ascending"),
        ("image_id", "ascending"),
    ]
    order = pc.sort_indices(rows, sort_keys=[("key", "ascending"), *settle]).to_numpy()
    key = _codes(rows["key"])[order]
    member = _codes(rows[_member(rule)])[order]
    # one number for each pair
    _, first = np.unique((key + 1) * (member.max(initial=0) + 2) + member + 1, return_index=True)
    new = np.zeros(len(order), dtype=bool)
    new[first] = True
    seen = np.cumsum(new)
    starts = np.r_[True, key[1:] != key[:-1]] if len(key) else np.zeros(0, dtype=bool)
    before = np.maximum.accumulate(np.where(starts, seen - 1, 0))
    stopped = np.empty(len(order), dtype=bool)
    stopped[order] = ~new | (seen - before > rule.count)
    return stopped


def _member(rule: GroupRule) -> str:
    return "image_id" if rule.key == "text" else "text"


def _codes(column: pa.ChunkedArray) -> np.ndarray:
    """An integer for each distinct value; -1 for null."""
    encoded = column.combine_chunks().dictionary_encode()
    encoded = encoded.combine_chunks() if isinstance(encoded, pa.ChunkedArray) else encoded
    return np.asarray(
        pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False), dtype=np.int64
    )
