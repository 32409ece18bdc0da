"""Group rules: decisions among the candidates that share a key."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from filters.rules import GroupRule


def group_key(rule: GroupRule, table: pa.Table) -> pa.ChunkedArray:
    """What brings rows together: the image_id, or the text without regard to case and white space."""
    if rule.key == "image_id":
        return table["image_id"]
    return normalised(table["text"])


def normalised(text: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """Lower-case text with single spaces between words and none around: what counts as the same text."""
    return pc.utf8_trim_whitespace(pc.replace_substring_regex(pc.utf8_lower(text), r"[\s\pZ]+", " "))


def decide_group(rule: GroupRule, rows: pa.Table) -> pa.Array:
    """Who is stopped, as one boolean for each row; all rows of a key must be present, no matter in which order.

    `rows` has the columns key, image_id and text (strings), and the rule's `order_columns`. A row without a key is not stopped.
    """
    stopped = _crowded(rule, rows) if rule.group == "at_most" else _beaten(rule, rows)
    return pa.array(stopped & ~pc.is_null(rows["key"]).to_numpy())


def _crowded(rule: GroupRule, rows: pa.Table) -> np.ndarray:
    """True for each row whose key has more than `count` distinct images (texts, where the key is the image)."""
    pairs = rows.select(["key", _member(rule)]).group_by(["key", _member(rule)]).aggregate([])
    sizes = pairs.group_by("key").aggregate([([], "count_all")])
    place = pc.index_in(rows["key"], value_set=sizes["key"])
    return np.asarray(sizes["count_all"].take(place).to_numpy() > rule.count)


def _beaten(rule: GroupRule, rows: pa.Table) -> np.ndarray:
    """True for each row that is not among the best `count` of its key; of rows with the same text and image one stays."""
    settle = [(name, "descending") for name in rule.order_columns] + [("text", "ascending"), ("image_id", "ascending")]
    order = pc.sort_indices(rows, sort_keys=[("key", "ascending"), *settle]).to_numpy()
    key = _codes(rows["key"])[order]
    member = _codes(rows[_member(rule)])[order]
    _, first = np.unique(np.stack([key, member]), axis=1, return_index=True)
    new = np.zeros(len(order), dtype=bool)
    new[first] = True
    seen = np.cumsum(new)
    starts = np.r_[True, key[1:] != key[:-1]] if len(key) else np.zeros(0, dtype=bool)
    before = np.maximum.accumulate(np.where(starts, seen - 1, 0))
    stopped = np.empty(len(order), dtype=bool)
    stopped[order] = ~new | (seen - before > rule.count)
    return stopped


def _member(rule: GroupRule) -> str:
    return "text" if rule.key == "image_id" else "image_id"


def _codes(column: pa.ChunkedArray) -> np.ndarray:
    """An integer for each distinct value; -1 for null."""
    encoded = column.combine_chunks().dictionary_encode()
    encoded = encoded.combine_chunks() if isinstance(encoded, pa.ChunkedArray) else encoded
    return np.asarray(pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False), dtype=np.int64)
