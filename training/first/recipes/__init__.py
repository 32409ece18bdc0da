"""Plans of the literature and of the demonstration: one module for each, with a function `plan`."""

import difflib
import importlib
import pkgutil
from typing import Any

from training.first.plan import Plan


def names() -> list[str]:
    """The recipes that are there, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def load(name: str, **settings: Any) -> Plan:
    """The plan of `training.first.recipes.<name>`; ValueError lists the recipes when there is none of that name."""
    if name not in names():
        hint = "".join(f"; did you mean {near}?" for near in difflib.get_close_matches(name, names(), n=1))
        raise ValueError(f"no training recipe {name!r}; there are: {', '.join(names())}{hint}")
    found: Plan = importlib.import_module(f"training.first.recipes.{name}").plan(**settings)
    return found
