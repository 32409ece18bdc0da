"""Recipes that could not be applied, or would drop all or none without a word, are refused when
they are read.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from filters.recipe.catalogue import range_of
from filters.recipe.group_rules import decide_group, group_key
from filters.recipe.recipe import Recipe, RowRule, decide_row, load, parse
from filters.registry import MEASUREMENTS

HEAD = 'name = "drawn"\ndescription = "A test."\n'
SOURCE = 'source = "test"\n'


def rule(*lines: str, reason: str = "text.a") -> str:
    return "[[rule]]\n" + "\n".join(lines) + f'\nreason = "{reason}"\n{SOURCE}'


def row(measure: str, op: str, value: str = "", reason: str = "text.a") -> str:
    return rule(
        f'measure = "{measure}"',
        f'op = "{op}"',
        *([f"value = {value}"] if value else []),
        reason=reason,
    )


def group(kind: str, *lines: str, reason: str = "group.a") -> str:
    return rule(f'group = "{kind}"', *lines, reason=reason)


NO_BOUND = (
    r"line 3: text\.information is a number: {} is no bound; write a number, or leave the rule out"
    r" where there is none$"
)
REFUSED = {
    row("text.information", ">=", "nan"): NO_BOUND.format("nan"),
    row("text.information", "<", "inf"): NO_BOUND.format("inf"),
    row("text.information", "!=", "-inf"): NO_BOUND.format("-inf"),
    row(
        "image.short_side", "<=", "2147483648"
    ): "the value lies outside of what is measured, which is from 0 to 2,147,483,647$",
    row("image.area", ">", "9223372036854775808"): "which is from 0 to 9,223,372,036,854,775,807$",
    row("text.information", ">", "1" + "0" * 400): "the value lies outside of what is measured",
    row("text.information", ">", "1e39"): "the value lies outside of what is measured",
    row("image.unsafe", "<=", "50"): (
        r"image\.unsafe is a number: the value lies outside of what is measured, which is from 0 to"
        r" 1\.0$"
    ),
    row("text.polarity", ">", "-1.5"): r"which is from -1 to 1\.0$",
    row("text.urls", ">=", "-1"): "which is from 0 to",
    row(
        "image.labels", "==", '"cat"'
    ): r"image\.labels is a list: no comparison is made of lists; read another measurement$",
    row("alignment.embedding", ">", "0.5"): "no comparison is made of lists",
    row("page.language", "in", "[]"): (
        r"page\.language is text: nothing is in an empty list, so all would be dropped; name what"
        r" stays$"
    ),
    row("page.language", "not_in", "[]"): "an empty list stops nothing; leave the rule out$",
    row("page.language", "in", "[1, 2]"): (
        "line 6: value is a list of other things than texts: write a number, a text or a list of"
        " texts$"
    ),
    row("page.language", "in", '[["en"]]'): "value is a list of other things than texts",
    row("page.language", ">", '"en"'): r"`> 'en'` compares no texts; write ==, !=, in or not_in$",
    row("text.urls", ">=", "true"): "True is not a number$",
    row(
        "text.urls", ">=", "2026-11-30T00:00:00Z"
    ): "line 6: value is a datetime: write a number, a text or a list of texts$",
    row("text.urls", ">=", "2026-11-30"): "value is a date:",
    row("text.urls", ">=", "{ least = 1 }"): "value is a dict:",
    row("text.urls", ">="): "a comparison needs a `value`$",
    row(
        "page.content", "==", "true"
    ): r"page\.content is yes or no: ask for it with is_true or is_false$",
    row("page.content", "is_true", "true"): "`is_true` asks for a yes or no and takes no value$",
    row("text.urls", "<", "0"): (
        r"line 3: no text\.urls can pass this: all would be dropped; move the threshold or leave a"
        r" rule out$"
    ),
    row("text.letters", ">", "1"): r"no text\.letters can pass this:",
    row("text.urls", ">", "3")
    + row("text.urls", "<", "4"): r"line 9: no text\.urls can pass this and the rules before it",
    row("text.letters", ">=", "0.5")
    + row("text.letters", "<", "0.5"): "can pass this and the rules before it",
    row("text.urls", "==", "3")
    + row("text.urls", "!=", "3"): "can pass this and the rules before it",
    row("text.urls", "==", "2.5"): r"no text\.urls can pass this",
    row("page.region", "in", '["main", "nav"]')
    + row("page.region", "not_in", '["nav", "main"]'): "can pass this and the rules before it",
    row("page.content", "is_true")
    + row("page.content", "is_false"): "can pass this and the rules before it",
    row("text.urls", "<", "4")
    + row(
        "text.urls", "<", "4", "text.b"
    ): r"line 9: this rule stands already, with the reason text\.a",
    group("sample", "fraction = 0.5")
    + group(
        "at_most", 'key = "text"', "count = 2"
    ): r"line 8: group\.a is the reason of another rule",
    group(
        "sample", "fraction = 0.5", "seed = 9223372036854775808"
    ): "line 6: seed .*: write a whole number of 64 bits$",
    group("sample", "fraction = 0.5", "seed = 1.0"): "seed .*: write a whole number of 64 bits$",
    group("sample", "fraction = 0.5", 'seed = "1"'): "seed .*: write a whole number of 64 bits$",
    group(
        "sample", "fraction = 1.0000001"
    ): "line 5: fraction .*: write a number more than 0 and at most 1$",
    group("sample", "fraction = 0"): "fraction .*: write a number more than 0 and at most 1$",
    group("sample", "fraction = nan"): "fraction .*: write a number more than 0 and at most 1$",
    group("sample", "fraction = 5e-324"): "fraction .*: write a number more than 0 and at most 1$",
    group(
        "at_most", 'key = "text"', "count = 9223372036854775808"
    ): "count .*: write a whole number from 1 to 9223372036854775807$",
    group("at_most", 'key = "text"', "count = 0"): "count .*: write a whole number from 1",
    group("at_most", 'key = "text"', "count = true"): "count .*: write a whole number from 1",
    group("best_of", 'key = "text"', "count = 1", 'order = ["page.language"]'): (
        r"line 3: best_of cannot order by page\.language, which is text: name a measurement that is"
        r" a number$"
    ),
    group(
        "one_per", 'key = "text"', 'order = ["text.words", "image.labels"]'
    ): r"one_per cannot order by image\.labels, which is a list",
    group(
        "top_fraction", "fraction = 0.5", 'order = ["page.content"]'
    ): r"top_fraction cannot order by page\.content, which is yes or no",
    group(
        "one_per", 'key = "text"', 'order = "text.words"'
    ): "order .*: write a list of measurements",
    row(
        "text.urls", ">", "1", "text.unmeasured"
    ): "line 7: reason 'text.unmeasured' looks like the outcome of what was not measured",
    row(
        "text.urls", ">", "1", "kept"
    ): "reason .*: write page, text, image, pair or group, a dot and small letters",
    row("text.urls", ">", "1", "permission.robots"): "reason .*: write page, text",
    row("text.urls", ">", "1", "fetch.timeout"): "reason .*: write page, text",
    row("text.urls", ">", "1", "text.urls.unmeasured"): "reason .*: write page, text",
    rule(
        'measure = "text.urls"', 'op = ">"', "value = 1", "most = 2"
    ): "line 7: there is no key 'most'",
    "rule = 3\n": r"line 3: `rule` is a list of tables; begin each with \[\[rule\]\]$",
    "rule = [1, 2]\n": "line 3: `rule` is a list of tables",
    "[rule]\nmeasure = 1\n": "`rule` is a list of tables",
    "x = " + "[" * 5000 + "]" * 5000: "is nested too deeply to be a recipe$|is not TOML",
    row("text.urls", ">", "1" * 5000): "is not TOML: ",
    "".join(
        row("text.urls", "!=", str(value)) for value in range(1001)
    ): r"line 6003: more than 1,000 rules: list texts with `in` and",
}


@pytest.mark.parametrize(("rules", "message"), REFUSED.items(), ids=range(len(REFUSED)))
def test_what_cannot_be_applied_is_refused_with_its_line(rules: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        parse(HEAD + rules, "drawn.toml")
    assert str(raised.value).startswith("drawn.toml")


ACCEPTED = (
    row("text.urls", ">=", "0") + row("text.urls", "<=", "2147483647", "text.b"),
    row("text.letters", ">=", "0.5") + row("text.letters", "<=", "0.5", "text.b"),
    row("text.urls", ">", "2.5") + row("text.urls", "<", "3.5"),
    row("text.information", "<=", "16777217"),  # no float32
    row("page.region", "in", '["main"]') + row("page.region", "!=", '"nav"', "text.b"),
    group("one_per", 'key = "text"', 'order = ["page.content", "text.words"]'),
    group("sample", "fraction = 1", "seed = -9223372036854775807"),
    group("top_fraction", "fraction = 1e-9", 'order = ["text.words"]'),
    "",
)


@pytest.mark.parametrize("rules", ACCEPTED, ids=range(len(ACCEPTED)))
def test_what_can_be_applied_is_accepted(rules: str) -> None:
    assert parse(HEAD + rules).name == "drawn"


def test_files_are_read_as_utf_8_with_or_without_a_mark(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    text = HEAD.replace("A test.", "Zürich") + row("text.urls", "<", "1")
    file.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    assert load(file).description == "Zürich"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(
        ValueError,
        match=(
            rf"^{re.escape(str(file))}, line 2: this is not UTF-8 \(.*\): save the file in UTF-8$"
        ),
    ):
        load(file)
    file.write_bytes(text.encode("utf-16"))
    with pytest.raises(ValueError, match="line 1: this is not UTF-8"):
        load(file)
    file.write_bytes(text.encode() + b"#" * 1_000_000)
    with pytest.raises(
        ValueError, match=r"mine\.toml is larger than 1,000,000 bytes: no recipe is$"
    ):
        load(file)


def test_a_line_is_not_that_of_a_comment() -> None:
    with pytest.raises(ValueError, match="line 8: seed"):
        parse(
            HEAD
            + group(
                "sample", "# seed = 3 was tried", "# fraction = 2", "fraction = 0.5", "seed = 0.5"
            )
        )


# Whatever is accepted runs: every measurement with every comparison and representative values


VALUES: dict[str, Any] = {
    "numbers": [-(2**70), -1, 0, 1, 2**31, 2**53 + 1, 10**400, 0.5, 2.5, 1e39, 5e-324],
    "none": [
        "nan",
        "inf",
        "-inf",
        "true",
        "2026-11-30",
        "[]",
        "[1]",
        '["a", "b"]',
        '""',
        '"a\\u0000b"',
        '"en"',
    ],
}
WRITTEN = [*map(str, VALUES["numbers"]), *VALUES["none"], ""]
OPS = (">=", ">", "<=", "<", "==", "!=", "in", "not_in", "is_true", "is_false")


def column(kind: pa.DataType) -> pa.Array:
    """Values of a type as a hostile filter might give them."""
    if pa.types.is_list(kind):
        return pa.array(
            [None, [], [1]] if not pa.types.is_string(kind.value_type) else [None, [], ["a"]], kind
        )
    if pa.types.is_boolean(kind):
        return pa.array([None, True, False], kind)
    if pa.types.is_string(kind):
        return pa.array([None, "", "en"], kind)
    if pa.types.is_integer(kind):
        return pa.array([None, 0, int(np.iinfo(kind.to_pandas_dtype()).max)], kind)
    return pa.array([None, float("nan"), 0.5], kind)


def table() -> pa.Table:
    columns = {name: column(kind) for name, kind in MEASUREMENTS.items()}
    texts = {
        "text": ["a", "b", None],
        "image_id": ["1", "1", "2"],
        "image.cluster": ["1", None, "2"],
    }
    texts["image.embedding_cluster"] = [None] * 3
    return pa.table(
        columns | {name: pa.array(values, pa.string()) for name, values in texts.items()}
    )


def read(rules: str) -> Recipe | None:
    """A recipe of these rules; None if it is refused, as it should be: with its name and line."""
    try:
        return parse(HEAD + rules, "drawn")
    except ValueError as error:
        said = str(error)
    assert re.match(r"drawn, line \d+: |drawn is not TOML: ", said), rules
    return None


def applied(recipe: Recipe) -> int:
    """How many outcomes the rules of a recipe give, each over a small table."""
    rows, found = table(), 0
    for one in recipe.rule:
        if isinstance(one, RowRule):
            outcomes = decide_row(one, rows)
            assert set(outcomes.to_pylist()) <= {one.reason, one.unmeasured, None}
        else:
            outcomes = decide_group(one, rows.append_column("key", group_key(one, rows)))
            assert outcomes.null_count == 0
        assert len(outcomes) == rows.num_rows
        found += len(outcomes)
    return found


@pytest.mark.parametrize("measure", sorted(MEASUREMENTS))
def test_every_comparison_with_a_measurement_is_refused_or_runs(measure: str) -> None:
    accepted = 0
    for op in OPS:
        for value in ("", "true", "0") if op.startswith("is_") else WRITTEN:
            recipe = read(row(measure, op, value))
            if recipe is not None:
                assert applied(recipe) == 3
                accepted += 1
    assert (accepted == 0) == pa.types.is_nested(MEASUREMENTS[measure])


names = st.sampled_from(sorted(MEASUREMENTS))
written_rows = st.builds(
    row,
    names,
    st.sampled_from(OPS),
    st.sampled_from(WRITTEN),
    st.sampled_from(["text.a", "image.b", "group.c"]),
)
written_groups = st.builds(
    lambda kind, lines, reason: group(kind, *lines, reason=reason),
    st.sampled_from(["at_most", "one_per", "best_of", "top_fraction", "sample", "balance"]),
    st.tuples(
        st.sampled_from(
            ["text", "image_id", "image.cluster", "image.embedding_cluster", "text.entries"]
        ).map(lambda key: f'key = "{key}"'),
        st.sampled_from(["1", "3", "9223372036854775807", "1" + "0" * 30, "0", "2.0", "true"]).map(
            lambda count: f"count = {count}"
        ),
        st.sampled_from(["0.5", "1", "1e-9", "1e-300", "2", "nan"]).map(
            lambda fraction: f"fraction = {fraction}"
        ),
        st.sampled_from(["0", "-1", "9223372036854775807", "1" + "0" * 40]).map(
            lambda seed: f"seed = {seed}"
        ),
        st.lists(names, max_size=2).map(lambda order: f"order = {order}"),
    ).flatmap(lambda lines: st.lists(st.sampled_from(lines), unique=True)),
    st.sampled_from(["group.a", "group.b", "group.c"]),
)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.one_of(written_rows, written_groups), min_size=1, max_size=4))
def test_any_recipe_is_refused_with_a_line_or_runs(rules: list[str]) -> None:
    recipe = read("".join(rules))
    assert recipe is None or applied(recipe) == 3 * len(rules)


def test_what_was_stored_is_read_again_as_it_was_even_if_it_would_be_refused_now() -> None:
    for name in ("winnow", "metaclip", "datacomp-clip", "cc12m"):
        recipe = load(name)
        again = Recipe.stored(recipe.to_json())
        assert again == recipe
        assert again.digest == recipe.digest
        assert [one.model_fields_set for one in again.rule] == [
            one.model_fields_set for one in recipe.rule
        ]
    old = {
        "measure": "text.words",
        "op": "<=",
        "value": float("inf"),
        "reason": "text.long",
        "source": "none",
    }
    (kept,) = Recipe.stored({"name": "old", "description": "d", "rule": [old]}).rule
    assert isinstance(kept, RowRule)
    assert kept.value == float("inf")


def test_ranges_hold_every_threshold_that_ships() -> None:
    assert range_of("image.unsafe") == (0, 1)
    assert range_of("alignment.score") == (-1, 1)
    assert range_of("image.evaluation_distance") == (0, 64)
    assert range_of("image.aesthetics") == (float("-inf"), float("inf"))
    assert range_of("text.words") == (0, float("inf"))
