"""Views of groups: hosts, languages and sources, with what was kept of each."""

import re
from collections import Counter
from collections.abc import Sequence

from filters.recipe.statistics import OTHER
from flows.dashboard.decision_store import (
    Decided,
    ask,
    columns,
    files,
    statistics,
)
from flows.dashboard.views import GROUPS, SHOWN, View, about, cards
from pipelines.decide.statistics import UNKNOWN
from pipelines.schema import KEPT


def groups_view(decided: Decided, by: str, of: str | None = None) -> View:
    """Candidates by host, language or source with what became of them; or one group: its funnel,
    its means, some of it. Exact.
    """
    counts = statistics(decided).counts(by, of)
    found = []
    for name, outcomes in list(counts.items())[:GROUPS]:
        found.append(
            {
                "of": name,
                "candidates": sum(outcomes.values()),
                "kept": outcomes.get(KEPT, 0),
                "outcomes": outcomes,
            }
        )
    rest = [outcomes for name, outcomes in list(counts.items())[GROUPS:]]
    if rest:
        summed: Counter[str] = sum((Counter(outcomes) for outcomes in rest), Counter())
        found.append(
            {
                "of": OTHER,
                "candidates": summed.total(),
                "kept": summed[KEPT],
                "outcomes": dict(summed),
                "groups": len(rest),
            }
        )
    means = (
        {}
        if of is None
        else {name: _mean(decided, name, by, of) for name in statistics(decided).measurements}
    )
    shown = [] if of is None or of in (OTHER, UNKNOWN) else _members(decided, by, of)
    return {
        "view": "groups",
        **about(decided),
        "by": by,
        "of": of,
        "groups": found,
        "means": means,
        "shown": shown,
    }


def _mean(decided: Decided, name: str, by: str, of: str) -> View:
    found = statistics(decided)
    return {
        "here": found.statistics(name, by=by, of=of).mean,
        "everywhere": found.statistics(name).mean,
    }


def _members(decided: Decided, by: str, of: str) -> list[View]:
    """Some candidates of a group, as their pages and texts say; none of `other` and `unknown`."""
    there = columns(decided)
    tests = {
        "host": (
            "regexp_matches(coalesce(page_url, image_url), ?)",
            rf"^[^:/?#]+://([^/?#@]*[.@])?{re.escape(of)}([:/?#]|$)",
        ),
        "source": ("text_source = ?", of),
        "language": (
            f"regexp_matches(lower(coalesce({_languages(there)})), ?)",
            rf"^\s*{re.escape(of)}([-_]|$)",
        ),
    }
    test, value = tests[by]
    found = ask(
        *files(decided),
        f"select candidate_id from parts where {test} order by candidate_id limit {2 * SHOWN}",
        [value],
    )
    return cards(decided, [row["candidate_id"] for row in found])


def _languages(there: Sequence[str]) -> str:
    return (
        ", ".join(f'"{name}"' for name in ("text.language", "page_language") if name in there)
        or "null::varchar"
    )
