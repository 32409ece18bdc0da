"""Rules: what a measurement must be, and who stays of those that share a key."""

from collections.abc import Container
from typing import Annotated, Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from filters import MEASUREMENTS

Comparison = Literal[">=", ">", "<=", "<", "==", "!=", "in", "not_in", "is_true", "is_false"]
Reason = Annotated[str, StringConstraints(pattern=r"^(page|text|image|pair|group)\.[a-z0-9_]+$")]
Sentence = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Value = bool | int | float | str | tuple[str, ...]

KERNELS = {">=": pc.greater_equal, ">": pc.greater, "<=": pc.less_equal, "<": pc.less, "==": pc.equal, "!=": pc.not_equal}


class RowRule(BaseModel):
    """What a measurement must be for its candidate to stay; a candidate that fails ends in `reason`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    measure: str
    op: Comparison
    value: Value | None = None
    reason: Reason
    source: Sentence

    @property
    def reads(self) -> tuple[str, ...]:
        return (self.measure,)

    def without(self, measurements: Container[str]) -> "RowRule | None":
        """The rule, or None where it reads one of these measurements."""
        return None if self.measure in measurements else self

    @property
    def unmeasured(self) -> str:
        return f"{self.measure}.unmeasured"

    @model_validator(mode="after")
    def _value_fits(self) -> "RowRule":
        kind = MEASUREMENTS.get(self.measure)
        if kind is None:
            return self  # named with its line and the nearest measurement by filters.recipe.load
        if (problem := _misfit(self.op, self.value, kind)) is not None:
            raise ValueError(f"{self.measure} is {_plain(kind)}: {problem}")
        return self


class GroupRule(BaseModel):
    """A rule among the candidates with the same key that no earlier rule stopped.

    `at_most`: all are stopped where more than `count` distinct images share a text (or distinct texts an image).
    `best_of`: the best `count` stay; `one_per`: the best one. Best is what is highest in the measurements of `order`, each compared
    only where those before it are equal; then the text and the image_id settle it, so that no tie depends on when or where a
    candidate was found.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    group: Literal["at_most", "one_per", "best_of"]
    key: Literal["text", "image_id"]
    count: int = Field(default=1, ge=1)
    order: tuple[str, ...] = ()
    reason: Reason
    source: Sentence

    @property
    def reads(self) -> tuple[str, ...]:
        return self.order

    def without(self, measurements: Container[str]) -> "GroupRule | None":
        """The rule ordering by what is left; None where its key, or all that it orders by, is one of these measurements."""
        order = tuple(name for name in self.order if name not in measurements)
        return None if self.key in measurements or (self.order and not order) else self.model_copy(update={"order": order})

    @property
    def key_columns(self) -> tuple[str, ...]:
        """The columns that `group_key` reads."""
        return (self.key,)

    @property
    def order_columns(self) -> tuple[str, ...]:
        """The measurements that `decide_group` needs beside key, image_id and text."""
        return self.order

    @model_validator(mode="after")
    def _fields_fit(self) -> "GroupRule":
        given = self.model_fields_set
        if self.group == "at_most" and self.order:
            raise ValueError("at_most stops all or none, so it takes no order: remove `order`")
        if self.group != "at_most" and not self.order:
            raise ValueError(f'{self.group} keeps the best: say by what, e.g. order = ["text.information"]')
        if self.group == "one_per" and "count" in given:
            raise ValueError("one_per keeps one: remove `count`, or write best_of")
        if self.group != "one_per" and "count" not in given:
            raise ValueError(f"{self.group} needs `count`")
        return self


Rule = RowRule | GroupRule


def decide_row(rule: RowRule, table: pa.Table | pa.RecordBatch) -> pa.Array | pa.ChunkedArray:
    """The outcome of one rule for each row: its reason, `<measurement>.unmeasured` for a null, null where the rule is met."""
    column = table[rule.measure] if isinstance(table, pa.Table) else table.column(rule.measure)
    met = _met(rule, column)
    stopped = pc.if_else(met, pa.scalar(None, pa.string()), rule.reason)
    return pc.if_else(pc.is_null(column, nan_is_null=True), rule.unmeasured, stopped)


def _met(rule: RowRule, column: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    if rule.op in KERNELS:
        return KERNELS[rule.op](column, _bound(rule.value, column.type))
    if rule.op in ("is_true", "is_false"):
        return column if rule.op == "is_true" else pc.invert(column)
    found = pc.is_in(column, value_set=pa.array(rule.value, pa.string()))
    return found if rule.op == "in" else pc.invert(found)


def _bound(value: Value | None, kind: pa.DataType) -> Value | pa.Scalar | None:
    """The threshold as the measurement would be stored: a float32 of 0.2 is more than the 0.2 of a recipe, but no more than its float32."""
    return pa.scalar(value, kind) if pa.types.is_floating(kind) else value


def _misfit(op: str, value: Any, kind: pa.DataType) -> str | None:
    """Why an operator with this value cannot be applied to this type; null when it can."""
    if op in ("is_true", "is_false"):
        return None if pa.types.is_boolean(kind) and value is None else f"`{op}` asks for a yes or no and takes no value"
    if op in ("in", "not_in"):
        return None if pa.types.is_string(kind) and isinstance(value, tuple) else f"`{op}` asks for text and a list of texts"
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if pa.types.is_string(kind):
        return None if isinstance(value, str) and op in ("==", "!=") else f"`{op} {value!r}` compares no texts; write ==, !=, in or not_in"
    if pa.types.is_boolean(kind):
        return "ask for it with is_true or is_false"
    return None if number else f"{value!r} is not a number"


def _plain(kind: pa.DataType) -> str:
    return "text" if pa.types.is_string(kind) else "yes or no" if pa.types.is_boolean(kind) else "a number"
