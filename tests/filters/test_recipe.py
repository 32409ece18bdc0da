"""Recipes: what is refused and how it is said, what is left out, and which rule decides."""

import re

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from filters.recipe.recipe import Recipe, available, decide_rows, load, parse
from filters.recipe.rules import GroupRule, RowRule
from filters.registry import FILTERS, MEASUREMENTS, filters_for

HEAD = 'name = "test"\ndescription = "A test."\n'
RULE = (
    HEAD
    + '\n[[rule]]\nmeasure = "text.words"\nop = ">="\nvalue = 3\nreason = "text.too_short"\nsource'
    ' = "test"\n'
)


@pytest.mark.parametrize("name", available())
def test_every_recipe_that_ships_is_valid_and_named_as_its_file(name: str) -> None:
    recipe = load(name)
    assert recipe.name == name
    assert recipe.reads <= set(MEASUREMENTS)
    assert set(recipe.candidate_rules) | set(recipe.other_rules) == set(recipe.rule)


def test_each_measurement_is_written_by_one_filter() -> None:
    written = [name for filter_ in FILTERS for name in filter_.writes]
    assert len(written) == len(set(written))
    assert [filter_.name for filter_ in filters_for(["text.words", "image.natural"])] == [
        "length",
        "natural",
    ]


def test_rules_on_candidates_come_first() -> None:
    recipe = load("winnow")
    assert {rule.measure.split(".")[0] for rule in recipe.candidate_rules} == {"text"}
    assert [rule.reason for rule in recipe.other_rules][-2:] == [
        "group.shared_text",
        "group.duplicate",
    ]


ERRORS = {
    RULE.replace(
        "text.words", "text.word"
    ): r"test, line 5: there is no measurement 'text.word'; did you mean 'text.words'\?",
    RULE.replace(
        "value", "valeu"
    ): r"test, line 7: there is no key 'valeu'; did you mean 'value'\?",
    RULE.replace(
        "description", "descripton"
    ): r"test, line 2: there is no key 'descripton'; did you mean 'description'\?",
    RULE.replace(
        "value = 3", 'value = "3"'
    ): "test, line 4: text.words is a number: '3' is not a number",
    RULE.replace('">="', '"=>"'): "test, line 6: op Input should be",
    RULE.replace('source = "test"\n', ""): "test, line 4: source is missing",
    RULE.replace(
        'reason = "text.too_short"', 'reason = "short"'
    ): "test, line 8: reason String should match pattern",
    RULE.replace('name = "test"', 'name = "test'): "test is not TOML",
    HEAD + '[[rule]]\ngroup = "one_per"\nkey = "image_id"\nreason = "group.a"\nsource = "x"\n': (
        "line 3: one_per keeps the best: say by what"
    ),
    HEAD + '[[rule]]\ngroup = "at_most"\nkey = "text"\nreason = "group.a"\nsource = "x"\n': (
        "line 3: at_most needs `count`"
    ),
}


@pytest.mark.parametrize(("source", "message"), ERRORS.items())
def test_what_is_wrong_is_said_with_its_line(source: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(source, "test")


def test_an_unknown_recipe_names_those_that_there_are() -> None:
    with pytest.raises(
        ValueError, match=r"there is no recipe 'winow'; there are .*everything.*winnow"
    ):
        load("winow")
    with pytest.raises(ValueError, match=r"nothing\.toml is not a file"):
        load("nothing.toml")


def test_the_digest_is_of_what_decides() -> None:
    assert (
        parse(RULE).digest
        == parse(RULE.replace("A test.", "Another.").replace('"test"\n', '"other"\n')).digest
    )
    assert parse(RULE).digest != parse(RULE.replace("3", "4")).digest


def test_counts_are_ordered_as_outcomes_apply() -> None:
    counts = {
        "kept": 1,
        "group.duplicate": 1,
        "fetch.timeout": 1,
        "text.language": 1,
        "permission.robots": 1,
        "address.scheme": 1,
    }
    ordered = [
        "permission.robots",
        "text.language",
        "address.scheme",
        "fetch.timeout",
        "group.duplicate",
        "kept",
    ]
    assert list(load("winnow").ordered(counts)) == ordered


# what each recipe needs that Winnow does not bring, as the options that give it
NEEDS = {
    "lait": {"profanity", "image_safety", "scorer"},
    "cc3m": {"profanity", "image_safety", "labels"},
    "cc12m": {"profanity", "image_safety", "labels", "persons"},
    "align": {"ngrams", "image_safety", "evaluation"},
    "laion-400m": {"alignment"},
    "laion-2b-en": {"alignment"},
    "coyo": {"profanity", "image_safety", "evaluation"},
    "datacomp-basic": set(),
    "datacomp-clip": {"alignment"},
    "datacomp-image": {"alignment", "targets"},
    "metaclip": {"entries"},
    "winnow": set(),
    "demo": set(),
    "everything": set(),
}


def asked(recipe: Recipe) -> set[str]:
    """The measurements that a recipe asks for, that of its text too."""
    return set(recipe.reads) | ({recipe.text} - {"text"})


@pytest.mark.parametrize("name", available())
def test_what_a_recipe_needs(name: str) -> None:
    written = [
        next(filter_ for filter_ in FILTERS if measure in filter_.writes)
        for measure in asked(load(name))
    ]
    assert {filter_.needs for filter_ in written} - {None} == NEEDS[name]


@pytest.mark.parametrize("name", [name for name in available() if NEEDS.get(name)])
def test_what_is_not_given_is_named_at_once_and_the_advice_can_be_followed(name: str) -> None:
    recipe = load(name)
    with pytest.raises(ValueError, match=r"needs .* not given|were not given") as raised:
        filters_for(asked(recipe))
    said, _, without = str(raised.value).rpartition(", or --without ")
    assert set(re.findall(r"--([a-z-]+)", said)) == {need.replace("_", "-") for need in NEEDS[name]}
    left = recipe.without(without.split())
    assert left.left_out == tuple(without.split())
    assert {filter_.needs for filter_ in filters_for(asked(left))} <= {None}


def test_one_that_is_not_given_is_named_with_its_option() -> None:
    said = (
        "text.anonymous needs a model or list that was not given: add --persons, or --without"
        " text.anonymous"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
        filters_for(["text.anonymous", "text.words"])


def test_without_its_rewriter_a_recipe_takes_the_texts_as_they_were_found() -> None:
    whole = load("cc12m")
    left = whole.without(["text.anonymous"])
    assert (whole.text, left.text, left.left_out, left.rule) == (
        "text.anonymous",
        "text",
        ("text.anonymous",),
        whole.rule,
    )
    assert left.digest != whole.digest
    clean = parse(RULE.replace(HEAD, HEAD + 'text = "text.clean"\n')).without(["text.clean"])
    assert (clean.text, clean.rule) == ("text", parse(RULE).rule)


def test_without_a_measurement_its_rules_are_gone_and_named() -> None:
    whole = load("lait")
    left = whole.without(["image.unsafe", "pair.score", "text.profanities"])
    assert left.left_out == ("image.unsafe", "pair.score", "text.profanities")
    gone = [
        rule.reason
        for rule in whole.rule
        if rule.reason not in {other.reason for other in left.rule}
    ]
    assert gone == ["text.profanity", "image.unsafe", "pair.mismatched"]
    best = left.rule[-1]
    assert isinstance(best, GroupRule)
    assert best.order == ("text.preference",)
    assert "scorer" not in {filter_.needs for filter_ in filters_for(left.reads)}
    assert left.digest != whole.digest
    assert [rule.reason for rule in load("laion-400m").without(["alignment.score"]).rule][
        -1
    ] == "group.duplicate"
    assert load("datacomp-clip").without(["alignment.score"]).rule == ()
    with pytest.raises(
        ValueError, match=r"recipe lait does not read 'pair.scor'; did you mean 'pair.score'\?"
    ):
        whole.without(["pair.scor"])


values = st.one_of(st.none(), st.integers(0, 10))
rules = st.lists(
    st.tuples(
        st.sampled_from(["text.words", "text.characters"]),
        st.sampled_from([">=", ">", "<=", "<", "==", "!="]),
        st.integers(0, 10),
    ),
    max_size=5,
)


@given(rules, st.lists(st.tuples(values, values), max_size=8))
def test_the_first_rule_that_fails_decides(
    asked: list[tuple[str, str, int]], found: list[tuple[int | None, int | None]]
) -> None:
    made = tuple(
        RowRule(measure=measure, op=op, value=value, reason=f"text.rule{number}", source="test")
        for number, (measure, op, value) in enumerate(asked)
    )
    recipe = Recipe(name="test", description="A test.", rule=made)
    table = pa.table(
        [pa.array([row[column] for row in found], pa.int32()) for column in (0, 1)],
        names=["text.words", "text.characters"],
    )
    expected = [
        next((outcome for rule in made if (outcome := _slow(rule, row)) is not None), None)
        for row in table.to_pylist()
    ]
    assert decide_rows(recipe, table, "candidate").to_pylist() == expected
    assert set(expected) - {None} <= set(recipe.outcomes())


def _slow(rule: RowRule, row: dict[str, int | None]) -> str | None:
    value, bound = row[rule.measure], rule.value
    if value is None:
        return f"{rule.measure}.unmeasured"
    assert isinstance(bound, int)
    met = {
        ">=": value >= bound,
        ">": value > bound,
        "<=": value <= bound,
        "<": value < bound,
        "==": value == bound,
        "!=": value != bound,
    }
    return None if met[rule.op] else rule.reason
