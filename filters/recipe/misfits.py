"""What of a rule does not fit what is measured: said when a recipe is read, before anything is
collected.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from filters.recipe.catalogue import range_of
from filters.registry import MEASUREMENTS

LARGEST = 2**63 - 1  # of whole numbers, as TOML and Arrow have them
# One of a trillion candidates, more than any decision has: what is less was meant otherwise.
SMALLEST_FRACTION = 1e-12


def misfit_of_value(measure: str, op: str, value: Any) -> str | None:
    """Why a measurement cannot be compared so; None when it can."""
    kind = MEASUREMENTS[measure]
    if pa.types.is_nested(kind):
        return "no comparison is made of lists; read another measurement"
    if op in ("is_true", "is_false"):
        fits = pa.types.is_boolean(kind) and value is None
        return None if fits else f"`{op}` asks for a yes or no and takes no value"
    if op in ("in", "not_in"):
        return _misfit_of_texts(op, value, kind)
    if pa.types.is_boolean(kind):
        return "ask for it with is_true or is_false"
    if pa.types.is_string(kind):
        fits = isinstance(value, str) and op in ("==", "!=")
        return None if fits else f"`{op} {value!r}` compares no texts; write ==, !=, in or not_in"
    return _misfit_of_number(measure, value)


def _misfit_of_texts(op: str, value: Any, kind: pa.DataType) -> str | None:
    if not pa.types.is_string(kind) or not isinstance(value, tuple):
        return f"`{op}` asks for text and a list of texts"
    if value:
        return None
    if op == "in":
        return "nothing is in an empty list, so all would be dropped; name what stays"
    return "an empty list stops nothing; leave the rule out"


def _misfit_of_number(measure: str, value: Any) -> str | None:
    if value is None:
        return "a comparison needs a `value`"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"{value!r} is not a number"
    if isinstance(value, float) and not math.isfinite(value):
        return f"{value} is no bound; write a number, or leave the rule out where there is none"
    least, most = limits(measure)
    if least <= value <= most:
        return None
    return f"the value lies outside of what is measured, which is from {least:,g} to {most:,}"


def limits(measure: str) -> tuple[float, float]:
    """Between which numbers a measurement can be, by what it says and by its type."""
    kind = MEASUREMENTS[measure]
    least, most = range_of(measure)
    if pa.types.is_integer(kind):
        whole = np.iinfo(kind.to_pandas_dtype())
        return max(least, int(whole.min)), min(most, int(whole.max))
    held = np.finfo(kind.to_pandas_dtype())
    return max(least, float(held.min)), min(most, float(held.max))


def misfit_of_order(group: str, order: Sequence[str]) -> str | None:
    """Why measurements cannot say which of some candidates is the best; None when they can."""
    for name in order:
        # an unknown one is named elsewhere, with the nearest that there is
        kind = MEASUREMENTS.get(name, pa.float32())
        number = pa.types.is_integer(kind) or pa.types.is_floating(kind)
        if not number and (group == "top_fraction" or not pa.types.is_boolean(kind)):
            return (
                f"{group} cannot order by {name}, which is {plain(kind)}: name a measurement that"
                " is a number"
            )
    return None


def plain(kind: pa.DataType) -> str:
    """A type in words."""
    if pa.types.is_nested(kind):
        return "a list"
    return (
        "text"
        if pa.types.is_string(kind)
        else "yes or no"
        if pa.types.is_boolean(kind)
        else "a number"
    )
