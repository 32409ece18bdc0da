"""What a report of a decision shows, out of a root."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from flows.dashboard.decision_store import Decided, rows, statistics
from flows.dashboard.views import asked, histograms
from flows.report import Curve, Group, ReportData, Sample
from pipelines.decide.decision import Decision
from pipelines.engine.shuffle import stable_hash
from pipelines.schema import KEPT
from pipelines.store import Folder
from pipelines.tables import read_table

GROUPS = 12  # hosts that a report names
SAMPLES = 6  # pictures shown of each outcome
_SHOWN = (
    "outcome",
    "text",
    "page_url",
    "image_url",
    "candidate_id",
    "collection",
    "image_collection",
    "image_part",
    "image_row",
)


def decided(decision: Decision) -> pa.Table:
    """The outcome of every candidate, with what the recipe read."""
    tables = [read_table(decision.folder, name) for name in decision.names]
    return pa.concat_tables(tables, promote_options="permissive")


def report_data(
    root: Folder,
    decision: Decision,
    *,
    title: str = "",
    happened: Sequence[str] = (),
    curves: Sequence[Curve] = (),
    retrieval: Mapping[str, Mapping[str, float]] | None = None,
    facts: Mapping[str, str] | None = None,
) -> ReportData:
    """A decision as a report shows it: funnel, distributions, samples; training is added where
    there was any.
    """
    seen = _seen(decision)
    names = ", ".join(collection.id for collection in decision.collections)
    kept = decision.funnel.outcomes.get(KEPT, 0)
    said = (
        f"Recipe {decision.recipe.name} keeps {kept:,} of the {decision.funnel.candidates:,}"
        f" candidates of {names}."
    )
    return ReportData(
        title=title or f"Recipe {decision.recipe.name} over {names}",
        happened=tuple(happened) or (said,),
        funnel=tuple(decision.funnel.outcomes.items()),
        reasons={rule.reason: f"{asked(rule)} ({rule.source})" for rule in decision.recipe.rule},
        histograms=tuple(histograms(seen)),
        groups={by: tuple(_groups(seen, by)) for by in ("host", "language", "source")},
        samples=tuple(_samples(root, rows(seen, _SHOWN))),
        curves=tuple(curves),
        retrieval=retrieval or {},
        facts={"root": root.path(), "outcomes": decision.folder.path(), **(facts or {})},
    )


def _seen(decision: Decision) -> Decided:
    """The decision as the dashboard looks at it."""
    names = tuple(collection.id for collection in decision.collections)
    return Decided(
        folder=decision.folder,
        digest=decision.digest,
        recipe=decision.recipe,
        collections=names,
        outcomes=decision.funnel.outcomes,
    )


def _groups(seen: Decided, by: str) -> Iterator[Group]:
    """The largest groups with what stopped most of their candidates, the others together."""
    found = list(statistics(seen).counts(by).items())
    yield from (_group(name, Counter(outcomes)) for name, outcomes in found[:GROUPS])
    if rest := found[GROUPS:]:
        yield _group(
            f"{len(rest)} others", sum((Counter(outcomes) for _, outcomes in rest), Counter())
        )


def _group(name: str, outcomes: Counter[str]) -> Group:
    stopped = Counter({outcome: count for outcome, count in outcomes.items() if outcome != KEPT})
    return Group(
        name=name,
        candidates=outcomes.total(),
        kept=outcomes[KEPT],
        stopped=tuple(stopped.most_common(3)),
    )


def _samples(root: Folder, shown: pa.Table) -> Iterator[Sample]:
    """The same few candidates of each outcome whenever the report is drawn, chosen by their texts
    and addresses.
    """
    for outcome in sorted(set(shown["outcome"].to_pylist()), key=lambda name: (name != KEPT, name)):
        found = shown.filter(pc.equal(shown["outcome"], outcome)).slice(0, 10_000).to_pylist()
        found.sort(key=lambda row: stable_hash(f"{row['image_url']} {row['text']}"))
        for row in found[: SAMPLES * (2 if outcome == KEPT else 1)]:
            yield Sample(
                outcome=outcome,
                text=row["text"] or "",
                image=_image(root, row),
                page_url=row["page_url"],
                note=row["image_url"],
            )


def _image(root: Folder, row: Mapping[str, Any]) -> bytes | None:
    if row["image_part"] is None:
        return None
    table = read_table(
        root / "collections" / row["image_collection"] / "images", row["image_part"], ["image"]
    )
    return bytes(table["image"][row["image_row"]].as_py())
