"""What each measurement says, in words: for the command line, the dashboard and the report."""

import functools
import math
import tomllib
from dataclasses import dataclass
from pathlib import Path

FILE = Path(__file__).parents[1] / "measurements.toml"


@dataclass(frozen=True, kw_only=True)
class About:
    """One sentence, the unit, and where the definition comes from."""

    says: str
    unit: str
    source: str


@functools.cache
def catalogue() -> dict[str, About]:
    """Every measurement by its name."""
    tables = tomllib.loads(FILE.read_text(encoding="utf-8"))
    return {
        f"{group}.{name}": About(**entry)
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
