"""What the tests of the filters share: measuring literal texts, and wordings by the fault that they
have.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pytest

from filters.recipe.recipe import decide_rows, load
from filters.registry import FILTERS
from pipelines.schema import CANDIDATES

WORDING = Path(__file__).parent / "wording"


def measure(
    texts: Sequence[str | None], sources: Sequence[str] | None = None, language: str | None = None
) -> pa.Table:
    """All measurements of candidates with these texts, on pages that say to be in a language."""
    given = {
        "text": pa.array(texts, pa.string()),
        "text_source": pa.array(sources or ["alt"] * len(texts), pa.string()),
    }
    given["page_language"] = pa.array([language] * len(texts), pa.string())
    batch = pa.record_batch(
        {
            field.name: given.get(field.name, pa.nulls(len(texts), field.type))
            for field in CANDIDATES
        }
    )
    measured = [
        filter_().measure(batch)
        for filter_ in FILTERS
        if filter_.needs is None and filter_.level == "candidate"
    ]
    return pa.table({name: part.column(name) for part in measured for name in part.schema.names})


@pytest.fixture(scope="session")
def outcomes() -> Callable[[Sequence[str | None]], list[str | None]]:
    """What stops each text before any fetch under the recipe `winnow`; None where nothing does."""
    return lambda texts: decide_rows(load("winnow"), measure(texts), "candidate").to_pylist()


@pytest.fixture(scope="session")
def outcomes_on_english_pages() -> Callable[[Sequence[str | None]], list[str | None]]:
    """The same where the page says that it is in English."""
    return lambda texts: decide_rows(
        load("winnow"), measure(texts, language="en"), "candidate"
    ).to_pylist()


def wording(name: str) -> list[str]:
    """The lines of a file of texts of our own wording."""
    return [
        line for line in (WORDING / f"{name}.txt").read_text(encoding="utf-8").splitlines() if line
    ]
