"""A recipe as a file: what the moved sliders came to, read back before it is handed out."""

import json
import math
from collections.abc import Mapping
from typing import Any

from filters.recipe.recipe import Recipe, Rule, parse


def recipe_file(recipe: Recipe, name: str, description: str = "") -> str:
    """The recipe as TOML under another name; parsed again, it decides the same.

    Raises ValueError for a name that is none, and for rules of an old decision that no recipe may
    have any more.
    """
    endless = [
        rule.reason
        for rule in recipe.rule
        if isinstance(value := getattr(rule, "value", None), float) and not math.isfinite(value)
    ]
    if endless:
        said = "the threshold is no finite number, which recipes may not have any more"
        raise ValueError(f"{', '.join(endless)}: {said}; move the slider, or switch the rule off")
    head: dict[str, Any] = {"name": name, "description": description or recipe.description}
    head |= {"text": recipe.text} if recipe.text != "text" else {}
    head |= {"left_out": list(recipe.left_out)} if recipe.left_out else {}
    written = (
        "\n".join([_lines(head), *(f"\n[[rule]]\n{_lines(_fields(rule))}" for rule in recipe.rule)])
        + "\n"
    )
    read = parse(written, f"{name}.toml")
    assert read.digest == recipe.digest, "what was written decides as what was shown"
    return written


def _fields(rule: Rule) -> dict[str, Any]:
    """The fields that were given, in their order."""
    return {
        name: getattr(rule, name)
        for name in type(rule).model_fields
        if name in rule.model_fields_set
    }


def _lines(fields: Mapping[str, Any]) -> str:
    return "\n".join(
        f"{name} = {_value(value)}" for name, value in fields.items() if value is not None
    )


def _value(value: Any) -> str:
    """A value as TOML spells it: as JSON does, but for DEL, which it forbids."""
    if isinstance(value, tuple | list):
        return "[" + ", ".join(_value(one) for one in value) + "]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
