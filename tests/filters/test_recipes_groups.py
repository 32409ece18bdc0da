"""The group rules of the recipes that ship, on their boundaries: exactly so many images, texts,
pairs, and one more.
"""

from typing import Any

import pyarrow as pa
import pytest

from filters.recipe.group_rules import decide_group, group_key
from filters.recipe.recipe import GroupRule, available, load

SHARED = ("at_most", "text", "group.shared_text")
ONCE = ("best_of", "image_id", "group.duplicate")
GROUPS: dict[str, list[tuple[tuple[str, str | None, str], dict[str, Any]]]] = {
    "everything": [],
    "winnow": [
        (SHARED, {"count": 3}),
        (
            ("one_per", "image_id", "group.duplicate"),
            {"order": ("text.preference", "text.information")},
        ),
    ],
    "demo": [
        (SHARED, {"count": 10}),
        (
            ("one_per", "image_id", "group.duplicate"),
            {"order": ("text.preference", "text.information")},
        ),
    ],
    "lait": [
        (SHARED, {"count": 10}),
        (
            ("best_of", "image.cluster", "group.duplicate"),
            {"count": 1, "order": ("pair.score", "text.preference")},
        ),
    ],
    "cc3m": [],
    "cc12m": [],
    "align": [
        (("at_most", "image_id", "group.many_texts"), {"count": 1000}),
        (SHARED, {"count": 10}),
    ],
    "laion-400m": [(ONCE, {"count": 10**9, "order": ("text.characters",)})],
    "laion-2b-en": [(ONCE, {"count": 10**9, "order": ("text.characters",)})],
    "coyo": [
        (SHARED, {"count": 10}),
        (ONCE, {"count": 10**9, "order": ("text.collapsed_length",)}),
    ],
    "datacomp-basic": [],
    "datacomp-clip": [
        (
            ("top_fraction", None, "group.lower_alignment"),
            {"fraction": 0.3, "order": ("alignment.score",)},
        )
    ],
    "datacomp-image": [
        (
            ("top_fraction", None, "group.lower_alignment"),
            {"fraction": 0.3, "order": ("alignment.score",)},
        )
    ],
    "metaclip": [(("balance", "text.entries", "group.balanced"), {"count": 20_000})],
}


def groups(name: str) -> list[GroupRule]:
    return [rule for rule in load(name).rule if isinstance(rule, GroupRule)]


def the(name: str, kind: str, key: str | None) -> GroupRule:
    (rule,) = [rule for rule in groups(name) if (rule.group, rule.key) == (kind, key)]
    return rule


def stopped(
    rule: GroupRule, rows: list[dict[str, Any]], types: dict[str, pa.DataType] | None = None
) -> list[bool]:
    """Who of all the rows is stopped."""
    names = {"image_id": pa.string(), "text": pa.string()} | (types or {})
    table = pa.table(
        {name: pa.array([row.get(name) for row in rows], kind) for name, kind in names.items()}
    )
    found: list[bool] = decide_group(
        rule, table.append_column("key", group_key(rule, table))
    ).to_pylist()
    return found


@pytest.mark.parametrize("name", available())
def test_group_rules_are_these(name: str) -> None:
    named = ("group", "key", "reason", "source")
    found = [
        (
            (rule.group, rule.key, rule.reason),
            {key: getattr(rule, key) for key in rule.model_fields_set - set(named)},
        )
        for rule in groups(name)
    ]
    assert found == GROUPS[name]


CAPS = [("winnow", 3), ("demo", 10), ("lait", 10), ("align", 10), ("coyo", 10)]


@pytest.mark.parametrize(("name", "most"), CAPS)
def test_a_text_of_so_many_images_stays_and_of_one_more_goes(name: str, most: int) -> None:
    rule = the(name, "at_most", "text")
    enough = [{"image_id": f"i{number}", "text": "a dog"} for number in range(most)]
    again = {"image_id": "i0", "text": " A  dog"}  # the same text of an image that is there already
    assert stopped(rule, [*enough, again]) == [False] * (most + 1)
    assert stopped(
        rule,
        [*enough, again, {"image_id": "i", "text": "a dog"}, {"image_id": "i", "text": "a cat"}],
    ) == [True] * (most + 2) + [False]


def test_align_drops_an_image_of_more_than_1000_texts() -> None:
    rule = the("align", "at_most", "image_id")
    texts = [{"image_id": "i", "text": f"text {number}"} for number in range(1000)]
    assert not any(stopped(rule, [*texts, texts[0]]))
    assert stopped(
        rule, [*texts, {"image_id": "i", "text": "one more"}, {"image_id": "j", "text": "one more"}]
    ) == [True] * 1001 + [False]


@pytest.mark.parametrize("name", ["laion-400m", "laion-2b-en", "coyo"])
def test_a_text_stands_with_an_image_once_and_many_texts_stay(name: str) -> None:
    rule = the(name, "best_of", "image_id")
    pairs = [
        {"image_id": "i", "text": text, rule.order[0]: 1} for text in ("a", "b", "A", "a", "b")
    ]
    assert sorted(
        zip(
            (row["text"] for row in pairs),
            stopped(rule, pairs, {rule.order[0]: pa.float32()}),
            strict=True,
        )
    ) == [
        ("A", False),
        ("a", False),
        ("a", True),
        ("b", False),
        ("b", True),
    ]


def test_lait_keeps_the_best_scored_of_a_cluster() -> None:
    rule = the("lait", "best_of", "image.cluster")
    rows = [
        ("i", "a", 0.6, 9.0, "i"),
        ("j", "b", 0.7, 1.0, "i"),
        ("j", "c", 0.7, 2.0, "i"),
        ("k", "a", 0.5, 0.0, None),
        ("k", "b", 0.4, 9.0, None),
    ]
    names = ("image_id", "text", "pair.score", "text.preference", "image.cluster")
    types = {
        "pair.score": pa.float32(),
        "text.preference": pa.float32(),
        "image.cluster": pa.string(),
    }
    assert stopped(rule, [dict(zip(names, row, strict=True)) for row in rows], types) == [
        True,
        True,
        False,
        False,
        True,
    ]


@pytest.mark.parametrize("name", ["datacomp-clip", "datacomp-image"])
def test_datacomp_keeps_the_score_at_place_n_and_what_equals_it(name: str) -> None:
    """get_threshold takes the value at int(0.3 n), counted from zero, and >= keeps it: 4 of 10, and
    more where it stands twice.
    """
    rule = the(name, "top_fraction", None)
    types = {"alignment.score": pa.float32()}

    def kept(scores: list[float | None]) -> list[float | None]:
        rows = [
            {"image_id": f"i{number}", "text": "t", "alignment.score": score}
            for number, score in enumerate(scores)
        ]
        return [
            score
            for score, gone in zip(scores, stopped(rule, rows, types), strict=True)
            if not gone
        ]

    assert kept([9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0, 0.0]) == [9.0, 8.0, 7.0, 6.0]
    assert kept([1.0, 2.0, 9.0, 8.0, 7.0, 6.0, 6.0, 6.0, 3.0, 0.0]) == [
        9.0,
        8.0,
        7.0,
        6.0,
        6.0,
        6.0,
    ]
    assert kept([3.0, 2.0, 1.0]) == [3.0]
    assert kept([2.0, None, 1.0, None]) == [2.0, 1.0]


def test_metaclip_keeps_all_that_20000_texts_hold_and_draws_beyond() -> None:
    rule = the("metaclip", "balance", "text.entries")
    types = {"text.entries": pa.list_(pa.int32())}

    def left(count: int) -> int:
        rows = [
            {"image_id": f"i{number}", "text": "t", "text.entries": [3, 7] if number else [3]}
            for number in range(count)
        ]
        return count - sum(stopped(rule, rows, types))

    assert left(20_000) == 20_000
    assert left(20_001) >= 20_000  # 7 stands in 20,000 and keeps them; only the first may go
    rows = [
        {"image_id": f"i{number}", "text": "t", "text.entries": [5]} for number in range(40_000)
    ]
    # six standard deviations of a fair coin
    assert abs(sum(stopped(rule, rows, types)) - 20_000) < 600
