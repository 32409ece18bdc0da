"""Recipes: ordered rules that turn measurements into decisions, read from TOML."""

import difflib
import hashlib
import json
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from filters.recipe.catalogue import RECIPES
from filters.recipe.contradictions import contradictions
from filters.recipe.funnel import KEPT
from filters.recipe.group_rules import decide_group, group_key
from filters.recipe.rules import CLUSTERED, GroupRule, RowRule, Rule, Sentence, decide_row
from filters.registry import FILTERS, MEASUREMENTS

__all__ = [
    "REWRITTEN",
    "GroupRule",
    "Recipe",
    "RowRule",
    "Rule",
    "available",
    "decide_group",
    "decide_row",
    "decide_rows",
    "group_key",
    "load",
    "parse",
]

Phase = Literal["candidate", "other"]
REWRITTEN = ("text.clean", "text.anonymous")  # texts that a filter makes of those that were found
ON_CANDIDATES = frozenset(
    name for filter_ in FILTERS if filter_.level == "candidate" for name in filter_.writes
)
LARGEST_FILE = 1_000_000  # bytes; the longest recipe that ships has 7,000
MOST_RULES = 1_000  # each group rule takes a stage or two
# What to write where pydantic says only what is wrong.
REMEDIES = {
    "op": "write one of >=, >, <=, <, ==, !=, in, not_in, is_true, is_false",
    "reason": (
        'write page, text, image, pair or group, a dot and small letters, e.g. "text.too_short"'
    ),
    "source": "say where the rule comes from",
    "fraction": "write a number more than 0 and at most 1",
    "count": "write a whole number from 1 to 9223372036854775807",
    "seed": "write a whole number of 64 bits",
    "order": 'write a list of measurements, e.g. ["text.information"]',
    "name": "write small letters, digits, dots, dashes and underscores",
}


class Recipe(BaseModel):
    """An ordered list of rules, and the column whose text becomes the caption."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]*$")]
    description: Sentence
    # as found, or one of `REWRITTEN`
    text: Literal["text", "text.clean", "text.anonymous"] = "text"
    rule: tuple[Rule, ...] = ()
    # measurements that `without` took out, with the rules that read them
    left_out: tuple[str, ...] = ()

    @property
    def candidate_rules(self) -> tuple[RowRule, ...]:
        """Rules on candidates alone: they come before any fetch."""
        return tuple(
            rule for rule in self.rule if isinstance(rule, RowRule) and _on_candidates(rule)
        )

    @property
    def other_rules(self) -> tuple[Rule, ...]:
        """Rules that need the image or the other candidates of a group, in the recipe's order."""
        return tuple(rule for rule in self.rule if not _on_candidates(rule))

    @property
    def reads(self) -> frozenset[str]:
        """The measurements that the rules read."""
        return frozenset(name for rule in self.rule for name in rule.reads)

    @property
    def needs(self) -> frozenset[str]:
        """All measurements that it takes: those of its rules, of its text, and what clusters are
        made of.
        """
        keys = {
            str(rule.key)
            for rule in self.rule
            if isinstance(rule, GroupRule) and rule.key in CLUSTERED
        }
        return self.reads | ({self.text} - {"text"}) | keys | {CLUSTERED[key] for key in keys}

    def without(self, measurements: Iterable[str]) -> "Recipe":
        """The recipe without the rules that read these measurements; a group rule orders by what is
        left.

        Without the measurement that is its text, the texts are those that were found. Raises
        ValueError for a measurement that it does not read.
        """
        names = tuple(dict.fromkeys(measurements))
        if unknown := set(names) - self.needs:
            raise ValueError(
                f"recipe {self.name} does not read"
                f" {min(unknown)!r}{_nearest(min(unknown), self.needs)}"
            )
        rules = tuple(left for rule in self.rule if (left := rule.without(names)) is not None)
        text = "text" if self.text in names else self.text
        return self.model_copy(
            update={"text": text, "rule": rules, "left_out": (*self.left_out, *names)}
        )

    @property
    def digest(self) -> str:
        """Of what decides: the text column and the rules without their sources."""
        rules = [rule.model_dump(mode="json", exclude={"source"}) for rule in self.rule]
        return hashlib.sha256(
            json.dumps({"text": self.text, "rules": rules}, sort_keys=True).encode()
        ).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """All of it as plain JSON values, which `Recipe.stored` reads again."""
        return self.model_dump(mode="json", exclude_defaults=True)

    @classmethod
    def stored(cls, value: Mapping[str, Any]) -> "Recipe":
        """The recipe that a decision or release was made with, from what `to_json` gave.

        It is not judged again: what was decided stands, even where a recipe of today would be
        refused.
        """
        rules = tuple(_stored(rule) for rule in value.get("rule", ()))
        left_out = tuple(value.get("left_out", ()))
        return cls.model_construct(**{**value, "rule": rules, "left_out": left_out})

    def outcomes(self) -> tuple[str, ...]:
        """Every outcome that the rules can give, in the order in which they are tried."""
        return tuple(
            dict.fromkeys(
                name
                for rule in (*self.candidate_rules, *self.other_rules)
                for name in _outcomes((rule,))
            )
        )

    def ordered(self, counts: Mapping[str, int]) -> dict[str, int]:
        """Counts by outcome in the order in which outcomes apply; `kept` comes last."""
        before, after = _outcomes(self.candidate_rules), _outcomes(self.other_rules)
        steps = ["permission.", *before, "address.", "fetch.", "decode.", *after]

        def place(name: str) -> tuple[int, int, str]:
            fits = (
                step
                for step, start in enumerate(steps)
                if name == start or (start.endswith(".") and name.startswith(start))
            )
            found = next(fits, None)
            return (
                (2, 0, name)
                if name == KEPT
                else (1, 0, name)
                if found is None
                else (0, found, name)
            )

        return {name: counts[name] for name in sorted(counts, key=place)}


def available() -> tuple[str, ...]:
    """The names of the recipes that ship with Winnow."""
    return tuple(sorted(path.stem for path in RECIPES.glob("*.toml")))


def load(name_or_path: str | Path) -> Recipe:
    """A recipe by its name, or from a TOML file.

    Raises ValueError when there is no such recipe, or with the line and a remedy when the file is
    not a valid one.
    """
    path = Path(name_or_path)
    if path.suffix != ".toml":
        if str(name_or_path) not in available():
            near = "".join(
                f"; did you mean {name}?"
                for name in difflib.get_close_matches(str(name_or_path), available(), n=1)
            )
            raise ValueError(
                f"there is no recipe {str(name_or_path)!r}; there are {', '.join(available())}, or"
                f" give a .toml file{near}"
            )
        path = RECIPES / f"{name_or_path}.toml"
    if not path.is_file():
        raise ValueError(
            f"{path} is not a file; give the path of a recipe, or one of {', '.join(available())}"
        )
    return parse(_text(path), str(path))


def _text(path: Path) -> str:
    """What a file says, without a byte order mark; ValueError where it is too large or not in
    UTF-8.
    """
    with path.open("rb") as file:
        data = file.read(LARGEST_FILE + 1)
    if len(data) > LARGEST_FILE:
        raise ValueError(f"{path} is larger than {LARGEST_FILE:,} bytes: no recipe is")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{path}, line {line}: this is not UTF-8 ({error.reason}): save the file in UTF-8"
        ) from error


def parse(source: str, origin: str = "recipe") -> Recipe:
    """A recipe from TOML text; `origin` names it in errors.

    Raises ValueError, with the line and a remedy, for whatever could not be applied to candidates.
    """
    table = _table(source, origin)
    lines = _rule_lines(source)
    rules = table.get("rule", [])
    if not isinstance(rules, list) or not all(isinstance(rule, dict) for rule in rules):
        raise ValueError(
            f"{_where(source, origin, 1, 'rule')}: `rule` is a list of tables; begin each with"
            " [[rule]]"
        )
    if len(rules) > MOST_RULES:
        raise ValueError(
            f"{origin}, line {lines[MOST_RULES]}: more than {MOST_RULES:,} rules: list texts with"
            " `in` and `not_in`"
        )
    for number, rule in enumerate(rules):
        _check_names(rule, partial(_where, source, origin, lines[number]))
    _check_keys(table, set(Recipe.model_fields), partial(_where, source, origin, 1))
    return _validated(table, [_typed(rule) for rule in rules], source, origin, lines)


def _table(source: str, origin: str) -> dict[str, Any]:
    try:
        return tomllib.loads(source)
    except RecursionError as error:
        raise ValueError(f"{origin} is nested too deeply to be a recipe") from error
    except ValueError as error:  # also of a number with thousands of digits
        raise ValueError(f"{origin} is not TOML: {error}") from error


def _validated(
    table: dict[str, Any],
    rules: list[tuple[type[Rule], dict[str, Any]]],
    source: str,
    origin: str,
    lines: list[int],
) -> Recipe:
    made: list[Rule] = []
    for number, (kind, rule) in enumerate(rules):
        try:
            made.append(kind.model_validate(rule))
        except ValidationError as error:
            raise ValueError(_explain(error, source, origin, lines[number])) from error
    for number, problem in contradictions(made):
        raise ValueError(f"{origin}, line {lines[number]}: {problem}")
    fields = {
        key: tuple(value) if isinstance(value, list) else value for key, value in table.items()
    }
    try:
        return Recipe.model_validate({**fields, "rule": tuple(made)})
    except ValidationError as error:
        raise ValueError(_explain(error, source, origin, 1)) from error


def _stored(fields: Mapping[str, Any]) -> Rule:
    """A rule from the fields that differ from what is assumed (or from all of them), as it was
    given.
    """
    kind: type[RowRule] | type[GroupRule] = GroupRule if "group" in fields else RowRule
    # they were given it
    kept: dict[str, Any] = (
        {"count": 1} if fields.get("group") in ("at_most", "best_of", "balance") else {}
    )
    for name, value in fields.items():
        given = tuple(value) if isinstance(value, list) else value
        if given != kind.model_fields[name].default:
            kept[name] = given
    return kind.model_construct(None, **kept)


def _typed(rule: dict[str, Any]) -> tuple[type[Rule], dict[str, Any]]:
    """The kind of a rule and its fields, with lists as tuples."""
    fields = {
        key: tuple(value) if isinstance(value, list) else value for key, value in rule.items()
    }
    return (GroupRule, fields) if "group" in rule else (RowRule, fields)


def _check_names(rule: dict[str, Any], where: Callable[[str], str]) -> None:
    """Keys and measurements that do not exist are named with the nearest that do."""
    _check_keys(rule, set((GroupRule if "group" in rule else RowRule).model_fields), where)
    order = rule.get("order", [])
    asked = [
        ("measure", rule.get("measure")),
        *(("order", name) for name in order if isinstance(order, list)),
    ]
    for key, name in asked:
        if isinstance(name, str) and name not in MEASUREMENTS:
            raise ValueError(
                f"{where(key)}: there is no measurement {name!r}{_nearest(name, MEASUREMENTS)}"
            )


def _check_keys(table: dict[str, Any], valid: set[str], where: Callable[[str], str]) -> None:
    for key in table:
        if key not in valid:
            raise ValueError(f"{where(key)}: there is no key {key!r}{_nearest(key, valid)}")


def _nearest(name: str, valid: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, sorted(valid), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else f"; there are {', '.join(sorted(valid))}"


def _explain(error: ValidationError, source: str, origin: str, start: int) -> str:
    """The first complaint of pydantic as one sentence with its line."""
    first = error.errors()[0]
    key = str(first["loc"][0]) if first["loc"] else ""
    said = (
        "is missing" if first["type"] == "missing" else first["msg"].removeprefix("Value error, ")
    )
    remedy = f": {REMEDIES[key]}" if key in REMEDIES else ""
    return f"{origin}, line {_line(source, key, start)}: {key + ' ' if key else ''}{said}{remedy}"


def _where(source: str, origin: str, start: int, key: str) -> str:
    return f"{origin}, line {_line(source, key, start)}"


def _rule_lines(source: str) -> list[int]:
    """The line on which each rule begins, from 1; the last one stands for rules in a form that is
    not recognised.
    """
    lines = source.split("\n")
    starts = [
        number
        for number, line in enumerate(lines, 1)
        if re.match(r"\s*(\[\[\s*rule\s*\]\]|\{)", line)
    ]
    first = starts[-1] if starts else _line(source, "rule", 1)
    return [*starts, *[first] * source.count("{")] or [1]


def _line(source: str, key: str, start: int) -> int:
    """The first line from `start` on, and before the next rule, that sets a key; else `start`."""
    for number, line in enumerate(source.split("\n")[start - 1 :], start):
        if number > start and re.match(r"\s*(\[\[|\{)", line):
            break
        if (
            key
            and re.search(rf"""(^|[\s{{,])["']?{re.escape(key)}["']?\s*=""", line)
            and not line.lstrip().startswith("#")
        ):
            return number
    return start


def decide_rows(
    recipe: Recipe, table: pa.Table | pa.RecordBatch, phase: Phase
) -> pa.Array | pa.ChunkedArray:
    """The first row rule of a phase that stops each row; null where none does. Group rules are left
    to `decide_group`.
    """
    rules: Iterable[Rule] = recipe.candidate_rules if phase == "candidate" else recipe.other_rules
    outcomes = [decide_row(rule, table) for rule in rules if isinstance(rule, RowRule)]
    return pc.coalesce(pa.nulls(table.num_rows, pa.string()), *outcomes)


def _on_candidates(rule: Rule) -> bool:
    return isinstance(rule, RowRule) and rule.measure in ON_CANDIDATES


def _outcomes(rules: Iterable[Rule]) -> list[str]:
    return [
        name
        for rule in rules
        for name in (
            (rule.unmeasured, rule.reason) if isinstance(rule, RowRule) else (rule.reason,)
        )
    ]
