"""Rules: what a measurement must be, and who stays of those that share a key."""

from collections.abc import Container
from typing import Annotated, Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    field_validator,
    model_validator,
)

from filters.recipe.misfits import (
    LARGEST,
    SMALLEST_FRACTION,
    misfit_of_order,
    misfit_of_value,
    plain,
)
from filters.registry import MEASUREMENTS

Comparison = Literal[">=", ">", "<=", "<", "==", "!=", "in", "not_in", "is_true", "is_false"]
REASON = r"^(page|text|image|pair|group)\.[a-z0-9_]+$"
NOT_REASONS = ("unmeasured", "not_measured")  # they end the outcomes of what was not measured


def _own(reason: str) -> str:
    if reason.partition(".")[2] in NOT_REASONS:
        raise ValueError(
            f"{reason!r} looks like the outcome of what was not measured: call it otherwise"
        )
    return reason


Reason = Annotated[str, StringConstraints(pattern=REASON), AfterValidator(_own)]
Sentence = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
# what clusters are made of
CLUSTERED = {"image.cluster": "image.dhash", "image.embedding_cluster": "alignment.embedding"}
Value = bool | int | float | str | tuple[str, ...]

KERNELS = {
    ">=": pc.greater_equal,
    ">": pc.greater,
    "<=": pc.less_equal,
    "<": pc.less,
    "==": pc.equal,
    "!=": pc.not_equal,
}


class RowRule(BaseModel):
    """What a measurement must be for its candidate to stay; a candidate that fails ends in
    `reason`.
    """

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

    @field_validator("value", mode="before")
    @classmethod
    def _value_is_one(cls, value: Any) -> Any:
        texts = isinstance(value, tuple) and all(isinstance(one, str) for one in value)
        if value is None or texts or isinstance(value, bool | int | float | str):
            return value
        said = (
            "a list of other things than texts"
            if isinstance(value, tuple | list)
            else f"a {type(value).__name__}"
        )
        raise ValueError(f"is {said}: write a number, a text or a list of texts")

    @model_validator(mode="after")
    def _value_fits(self) -> "RowRule":
        kind = MEASUREMENTS.get(self.measure)
        if kind is None:
            return self  # named with its line and the nearest measurement by `load` of a recipe
        if (problem := misfit_of_value(self.measure, self.op, self.value)) is not None:
            raise ValueError(f"{self.measure} is {plain(kind)}: {problem}")
        return self


class GroupRule(BaseModel):
    """A rule among the candidates that no earlier rule stopped, most of them among those with the
    same key.

    `at_most`: all are stopped where more than `count` distinct images share a text (or distinct
    texts an image). `best_of`: the best `count` stay; `one_per`: the best one. Best is what is
    highest in the measurements of `order`, each compared only where those before it are equal; then
    the text and the image_id settle it, so that no tie depends on when or where a candidate was
    found. `top_fraction`: of all candidates those stay whose measurement reaches the value at place
    int(`fraction` of their number), counted from zero in descending order: one more than the
    fraction, and all that equal the last (DataComp, apply_filter.py, get_threshold). What is
    unmeasured comes last and never stays. `sample`: each stays with probability `fraction`, drawn
    from `seed`, image_id and text. `balance`: each entry that `count` candidates or fewer hold
    keeps them all, any other keeps each with probability `count` over their number, drawn from
    `seed`, image_id, text and entry; a candidate stays if one of its entries keeps it (MetaCLIP).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    group: Literal["at_most", "one_per", "best_of", "top_fraction", "sample", "balance"]
    key: (
        Literal["text", "image_id", "image.cluster", "image.embedding_cluster", "text.entries"]
        | None
    ) = None
    count: int = Field(default=1, ge=1, le=LARGEST, strict=True)
    fraction: float | None = Field(default=None, ge=SMALLEST_FRACTION, le=1, strict=True)
    seed: int = Field(default=0, ge=-LARGEST, le=LARGEST, strict=True)
    order: tuple[str, ...] = ()
    reason: Reason
    source: Sentence

    @property
    def reads(self) -> tuple[str, ...]:
        return (*self.order, "text.entries") if self.group == "balance" else self.order

    def without(self, measurements: Container[str]) -> "GroupRule | None":
        """The rule ordering by what is left; None where what its key is made of, or all that it
        orders by, is one of these measurements.
        """
        order = tuple(name for name in self.order if name not in measurements)
        keyless = self.key in measurements or CLUSTERED.get(self.key or "") in measurements
        return (
            None
            if keyless or (self.order and not order)
            else self.model_copy(update={"order": order})
        )

    @property
    def keeps(self) -> bool:
        """Whether its verdicts name the candidates that stay; else those that are stopped."""
        return self.group == "balance"

    @property
    def key_columns(self) -> tuple[str, ...]:
        """The columns that `group_key` reads."""
        if self.key in CLUSTERED:
            return (str(self.key), "image_id")
        return ("text",) if self.key == "text" else ("image_id",)

    @property
    def order_columns(self) -> tuple[str, ...]:
        """The measurements that `decide_group` needs beside key, image_id and text."""
        return self.reads

    @model_validator(mode="after")
    def _fields_fit(self) -> "GroupRule":
        if (problem := _unfit(self)) is not None:
            raise ValueError(problem)
        return self


def _unfit(rule: GroupRule) -> str | None:
    """Why the fields of a group rule do not go together; null when they do."""
    given, kind = rule.model_fields_set, rule.group
    if (problem := _unfit_key(rule)) is not None:
        return problem
    if kind == "at_most" and rule.order:
        return "at_most stops all or none, so it takes no order: remove `order`"
    if kind in ("sample", "balance") and rule.order:
        return f"{kind} draws by lot, so it takes no order: remove `order`"
    if kind in ("one_per", "best_of", "top_fraction") and not rule.order:
        return f'{kind} keeps the best: say by what, e.g. order = ["text.information"]'
    if kind == "top_fraction" and len(rule.order) > 1:
        return "top_fraction compares one measurement: leave one in `order`"
    if (problem := misfit_of_order(kind, rule.order)) is not None:
        return problem
    if kind == "one_per" and "count" in given:
        return "one_per keeps one: remove `count`, or write best_of"
    return _unfit_amount(rule)


def _unfit_key(rule: GroupRule) -> str | None:
    if rule.group in ("top_fraction", "sample"):
        return None if rule.key is None else f"{rule.group} is among all candidates: remove `key`"
    if rule.group == "balance":
        return (
            None
            if rule.key == "text.entries"
            else 'balance is among the entries of the texts: write key = "text.entries"'
        )
    if rule.key == "text.entries":
        return (
            f"{rule.group} takes no entries for a key: write text, image_id, image.cluster or"
            " image.embedding_cluster"
        )
    return (
        f"{rule.group} needs `key`: text, image_id, image.cluster or image.embedding_cluster"
        if rule.key is None
        else None
    )


def _unfit_amount(rule: GroupRule) -> str | None:
    given, kind = rule.model_fields_set, rule.group
    if kind in ("top_fraction", "sample"):
        if "count" in given:
            return f"{kind} takes a part of all: remove `count`, and write `fraction`"
        return (
            None
            if rule.fraction is not None
            else f"{kind} needs `fraction`, more than 0 and at most 1"
        )
    if rule.fraction is not None:
        return f"{kind} takes no fraction: remove `fraction`"
    if kind != "one_per" and "count" not in given:
        return f"{kind} needs `count`"
    return (
        None
        if kind == "balance" or "seed" not in given
        else f"{kind} draws nothing by lot: remove `seed`"
    )


Rule = RowRule | GroupRule


def decide_row(rule: RowRule, table: pa.Table | pa.RecordBatch) -> pa.Array | pa.ChunkedArray:
    """The outcome of one rule for each row: its reason, `<measurement>.unmeasured` for a null, null
    where the rule is met.
    """
    column = table[rule.measure] if isinstance(table, pa.Table) else table.column(rule.measure)
    met = _met(rule, column)
    stopped = pc.if_else(met, pa.scalar(None, pa.string()), rule.reason)
    return pc.if_else(pc.is_null(column, nan_is_null=True), rule.unmeasured, stopped)


def _met(rule: RowRule, column: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    if rule.op in KERNELS:
        if pa.types.is_integer(column.type) and isinstance(rule.value, float):
            # Arrow compares no whole number beyond 2**53 with a fraction
            column = column.cast(pa.float64(), safe=False)
        return KERNELS[rule.op](column, _bound(rule.value, column.type))
    if rule.op in ("is_true", "is_false"):
        return column if rule.op == "is_true" else pc.invert(column)
    found = pc.is_in(column, value_set=pa.array(rule.value, pa.string()))
    return found if rule.op == "in" else pc.invert(found)


def _bound(value: Value | None, kind: pa.DataType) -> Value | pa.Scalar | None:
    """The threshold as the measurement would be stored: a float32 of 0.2 is more than the 0.2 of a
    recipe, but no more than its float32.
    """
    assert value is not None, "a comparison has a threshold"
    return (
        pa.scalar(float(value), kind)
        if pa.types.is_floating(kind) and not isinstance(value, tuple)
        else value
    )
