"""What each measurement says, in words: for the command line, the dashboard and the report."""

import functools
import math
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILE = Path(__file__).parents[1] / "measurements.toml"
RECIPES = Path(__file__).parents[1] / "recipes"


@dataclass(frozen=True, kw_only=True)
class About:
    """One sentence, the unit, where the definition comes from, and the options by which models and
    lists are given for it.
    """

    says: str
    unit: str
    source: str
    needs: tuple[str, ...] = ()


@functools.cache
def catalogue() -> dict[str, About]:
    """Every measurement by its name."""
    tables = tomllib.loads(FILE.read_text(encoding="utf-8"))
    return {
        f"{group}.{name}": About(**{**entry, "needs": tuple(entry.get("needs", ()))})
        for group, entries in tables.items()
        for name, entry in entries.items()
    }


def range_of(measurement: str) -> tuple[float, float]:
    """The least and the greatest number that a measurement can be, as its unit says; all but what
    is signed starts at 0.
    """
    unit = catalogue()[measurement].unit
    if unit == "-1 to 1":
        return -1.0, 1.0
    if unit == "1 to 10":
        return -math.inf, math.inf  # what people would say; the head that guesses it has no bounds
    if unit.startswith(("share", "probability")):
        return 0.0, 1.0
    return 0.0, 64.0 if unit == "bits of 64" else math.inf


def curation_recipes() -> dict[str, dict[str, Any]]:
    """The sentence of each recipe that is shipped, and the options by which models and lists must
    be given for it. Read from their files, without what measures.
    """
    return {path.stem: _recipe(path) for path in sorted(RECIPES.glob("*.toml"))}


def _recipe(path: Path) -> dict[str, Any]:
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    needs: set[str] = set()
    for name in texts_in(table):
        if name in catalogue():
            needs.update(catalogue()[name].needs)
    return {"says": table["description"], "needs": sorted(needs)}


def texts_in(value: Any) -> Iterator[str]:
    """Every text that stands in a table, however deep."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from texts_in(inner)
