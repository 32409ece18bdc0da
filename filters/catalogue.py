"""What each measurement says, in words: for the command line, the dashboard and the report."""

import functools
import tomllib
from dataclasses import dataclass
from pathlib import Path

FILE = Path(__file__).parent / "measurements.toml"


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
    return {f"{group}.{name}": About(**entry) for group, entries in tables.items() for name, entry in entries.items()}
