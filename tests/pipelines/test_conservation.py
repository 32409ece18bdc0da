"""Whatever the recipe and the collections: each candidate has one outcome, that of the first rule
that applies, and they add up.
"""

import hashlib
import io
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from filters.recipe.recipe import GroupRule, Recipe, RowRule
from pipelines.decide.decision import decide
from pipelines.store import Folder
from pipelines.tables import read_table
from tests.pipelines.made import Row, make, png

TEXTS = (
    "",
    " ",
    "dog",
    "a dog",
    "A  Dog",
    "two cats",
    "Two cats ",
    "three green birds",
    "a red boat at sea",
    "IMG 0001",
)
SIDES = ((10, 10), (30, 10), (31, 10), (40, 40), (40, 80), (64, 48))
PICTURES = {
    f"http://h{number}.example/{number}.png": png(*sides) for number, sides in enumerate(SIDES)
}
PICTURES["http://h9.example/copy.png"] = PICTURES["http://h3.example/3.png"]
URLS = (*PICTURES, "http://h9.example/gone.png", "data:image/gif;base64,R0")
NAMES = ("a", "b", "c", "d")
# candidates in each part
SHARES: dict[str, tuple[int, ...]] = {"a": (12, 7), "b": (1,), "c": (20, 3, 5), "d": (9,)}


def rows_of(name: str) -> list[list[Row]]:
    draw = np.random.default_rng(NAMES.index(name))
    return [
        [
            (
                TEXTS[draw.integers(len(TEXTS))],
                URLS[draw.integers(len(URLS))],
                "permission.noai" if draw.random() < 0.15 else None,
            )
            for _ in range(count)
        ]
        for count in SHARES[name]
    ]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    root = Folder(str(tmp_path_factory.mktemp("conserved")))
    for name in NAMES:
        make(root, name, rows_of(name), PICTURES)
    return root


@dataclass
class Candidate:
    """What the oracle knows of a candidate, and what stopped it."""

    collection: str
    text: str
    url: str
    outcome: str | None

    @property
    def data(self) -> bytes | None:
        return PICTURES.get(self.url)

    @property
    def image(self) -> bytes:
        assert self.data is not None
        return self.data


def sides(candidate: Candidate) -> tuple[int, int]:
    with Image.open(io.BytesIO(candidate.image)) as picture:
        return picture.size


MEASURED: dict[str, Callable[[Candidate], float]] = {
    "text.characters": lambda one: len(one.text.strip()),
    "text.words": lambda one: len(one.text.split()),
    "text.bytes": lambda one: len(one.text.encode()),
    "image.short_side": lambda one: min(sides(one)),
    "image.area": lambda one: math.prod(sides(one)),
    "image.aspect": lambda one: float(np.float32(max(sides(one))) / np.float32(min(sides(one)))),
    "image.bytes": lambda one: len(one.image),
}
COMPARED: dict[str, Callable[[float, float], bool]] = {
    ">=": lambda one, other: one >= other,
    ">": lambda one, other: one > other,
    "<=": lambda one, other: one <= other,
    "<": lambda one, other: one < other,
    "==": lambda one, other: one == other,
    "!=": lambda one, other: one != other,
}


def oracle(recipe: Recipe, collections: Sequence[str]) -> list[Candidate]:
    """Every candidate with its outcome: step after step over all of them, in the order that the
    design gives.
    """
    every = [
        Candidate(name, text, url, refused)
        for name in collections
        for part in rows_of(name)
        for text, url, refused in part
    ]
    rules = [rule for rule in recipe.rule if isinstance(rule, RowRule)]
    for rule in rules:
        if rule.measure.startswith("text."):
            apply_row(rule, every)
    for one in every:
        if one.outcome is None and one.data is None:
            one.outcome = "address.placeholder" if one.url.startswith("data:") else "fetch.http_404"
    for step in recipe.rule:
        if isinstance(step, GroupRule):
            apply_group(step, [one for one in every if one.outcome is None])
        elif not step.measure.startswith("text."):
            apply_row(step, every)
    for one in every:
        one.outcome = one.outcome or "kept"
    return every


def apply_row(rule: RowRule, every: list[Candidate]) -> None:
    for one in every:
        assert isinstance(rule.value, int)
        if one.outcome is None and not COMPARED[rule.op](MEASURED[rule.measure](one), rule.value):
            one.outcome = rule.reason


def apply_group(rule: GroupRule, left: list[Candidate]) -> None:
    if rule.group == "top_fraction":
        return apply_top(rule, left)
    # no two of the pictures are near duplicates: a cluster is one picture
    by_text = rule.key == "text"
    groups: dict[Any, list[Candidate]] = defaultdict(list)
    for one in left:
        groups[" ".join(one.text.lower().split()) if by_text else one.image].append(one)
    for members in groups.values():
        stopped = crowded(rule, members) if rule.group == "at_most" else beaten(rule, members)
        for one in stopped:
            one.outcome = rule.reason
    return None


def other(rule: GroupRule, one: Candidate) -> Any:
    """What is counted among those that share the key."""
    return one.image if rule.key == "text" else one.text


def crowded(rule: GroupRule, members: list[Candidate]) -> list[Candidate]:
    return members if len({other(rule, one) for one in members}) > rule.count else []


def identity(one: Candidate) -> str:
    return hashlib.sha256(one.image).hexdigest()


def beaten(rule: GroupRule, members: list[Candidate]) -> list[Candidate]:
    members = sorted(
        members,
        key=lambda one: (*(-MEASURED[name](one) for name in rule.order), one.text, identity(one)),
    )
    stay: dict[Any, Candidate] = {}
    for one in members:
        if len(stay) < rule.count:
            stay.setdefault(other(rule, one), one)
    return [one for one in members if not any(one is kept for kept in stay.values())]


def apply_top(rule: GroupRule, left: list[Candidate]) -> None:
    assert rule.fraction is not None
    values = sorted((MEASURED[rule.order[0]](one) for one in left), reverse=True)
    place = int(len(values) * rule.fraction)
    for one in left:
        if place < len(values) and MEASURED[rule.order[0]](one) < values[place]:
            one.outcome = rule.reason


def table_of(folder: Folder, names: Sequence[str], columns: Sequence[str]) -> list[dict[str, Any]]:
    return [row for name in names for row in read_table(folder, name, list(columns)).to_pylist()]


def blind(outcomes: list[tuple[str, str, str | None]]) -> Counter[Any]:
    """How often each text and picture came to each outcome: of candidates alike in both, nothing
    says which one stays.
    """
    return Counter((text, PICTURES.get(url, url), outcome) for text, url, outcome in outcomes)


def row_rule(asked: tuple[Any, ...], number: int) -> RowRule:
    measure, op, value = asked
    level = measure.split(".")[0]
    return RowRule(
        measure=measure, op=op, value=value, reason=f"{level}.rule{number}", source="test"
    )


def group_rule(asked: tuple[Any, ...], number: int) -> GroupRule:
    kind, key, count, order, fraction = asked
    fields: dict[str, Any] = {"group": kind, "reason": f"group.rule{number}", "source": "test"}
    if kind == "top_fraction":
        return GroupRule(**fields, fraction=fraction, order=order[:1])
    fields |= (
        {"key": key}
        | ({} if kind == "one_per" else {"count": count})
        | ({} if kind == "at_most" else {"order": order})
    )
    return GroupRule(**fields)


BOUNDS = {
    "text.characters": 6,
    "text.words": 2,
    "text.bytes": 9,
    "image.short_side": 30,
    "image.area": 900,
    "image.aspect": 3,
    "image.bytes": 4000,
}
asked_of_rows = st.tuples(
    st.sampled_from(sorted(BOUNDS)),
    st.sampled_from(sorted(COMPARED)),
    st.sampled_from([-1, 0, 0, 1]),
).map(lambda asked: ("row", (asked[0], asked[1], BOUNDS[asked[0]] + asked[2])))
asked_of_groups = st.tuples(
    st.sampled_from(["at_most", "one_per", "best_of", "top_fraction"]),
    st.sampled_from(["text", "image_id", "image.cluster"]),
    st.integers(1, 4),
    st.lists(st.sampled_from(sorted(MEASURED)), min_size=1, max_size=2, unique=True).map(tuple),
    st.sampled_from([0.1, 0.3, 0.5, 0.99]),
).map(lambda asked: ("group", asked))
recipes = st.lists(st.one_of(asked_of_rows, asked_of_groups), max_size=6).map(
    lambda asked: Recipe(
        name="random",
        description="Drawn.",
        rule=tuple(
            row_rule(what, n) if kind == "row" else group_rule(what, n)
            for n, (kind, what) in enumerate(asked)
        ),
    )
)
some = st.lists(st.sampled_from(NAMES), min_size=1, max_size=4, unique=True)


@settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(recipe=recipes, collections=some)
def test_outcomes_are_those_of_the_oracle_and_add_up(
    root: Folder, recipe: Recipe, collections: list[str]
) -> None:
    decision = decide(root, recipe, collections)
    expected = oracle(recipe, collections)
    assert (
        sum(decision.funnel.outcomes.values())
        == len(expected)
        == sum(sum(SHARES[name]) for name in collections)
    )
    assert {name: count for name, count in decision.funnel.outcomes.items() if count} == Counter(
        one.outcome for one in expected
    )
    rows = table_of(
        decision.folder, decision.names, ["candidate_id", "text", "image_url", "outcome"]
    )
    assert blind([(row["text"], row["image_url"], row["outcome"]) for row in rows]) == blind(
        [(one.text, one.url, one.outcome) for one in expected]
    )
    parts = {
        name: [f"part-{number:05d}.parquet" for number in range(len(SHARES[name]))]
        for name in collections
    }
    there = [
        row
        for name in collections
        for row in table_of(
            root / "collections" / name / "candidates", parts[name], ["candidate_id"]
        )
    ]
    assert sorted(row["candidate_id"] for row in rows) == sorted(
        row["candidate_id"] for row in there
    )
