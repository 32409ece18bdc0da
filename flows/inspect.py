"""What lies in a root: its state, and what a report of a decision shows."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from filters import filters_for
from filters.recipe import Recipe, RowRule, Rule
from flows.report import Curve, ReportData, Sample, histograms
from pipelines.collection import Collection
from pipelines.decision import Decision
from pipelines.exchange import stable_hash
from pipelines.publish import SUPERSEDED
from pipelines.stage import MANIFEST
from pipelines.store import Folder, read_table
from pipelines.takedown.forgotten import Forgotten

SAMPLES = 6  # pictures shown of each outcome
_NOT_MEASURED = ("collection", "candidate_id", "image_id", "page_url", "image_url", "image_part", "image_row", "text")
_SHOWN = ("outcome", "text", "page_url", "image_url", "candidate_id", "collection", "image_part", "image_row")


def status(root: Folder) -> dict[str, Any]:
    """Collections, releases and models with their counts; `unfinished` names what a rerun would go on with."""
    listed = len(Forgotten.read(root))
    found: dict[str, Any] = {"root": root.path(), "collections": {}, "releases": {}, "models": [], "unfinished": [], "forgotten": listed}
    for kind in ("collections", "releases"):
        for name in (root / kind).names():
            folder = root / kind / name
            if not folder.exists(MANIFEST):
                found["unfinished"].append(f"{kind}/{name}")
                continue
            manifest = folder.read_json(MANIFEST)
            keys = ("counts", "failed", "digest") if kind == "collections" else ("recipe", "samples", "shards", "digest")
            found[kind][name] = {key: manifest[key] for key in keys}
            if folder.exists(SUPERSEDED):
                found[kind][name]["superseded_by"] = folder.read_json(SUPERSEDED)["by"]
    for name in (root / "models").names():
        finished = (root / "models" / name).exists("result.json")
        found["models" if finished else "unfinished"].append(name if finished else f"models/{name}")
    return found


def status_table(found: Mapping[str, Any]) -> str:
    """The status in lines."""
    lines = [found["root"]]
    for name, row in found["collections"].items():
        lines.append(f"  collection {name}: " + ", ".join(f"{count:,} {what}" for what, count in row["counts"].items()))
        if row["failed"]:
            lines.append(f"    {row['failed']:,} parts of it were set aside: its `winnow collect --id {name}` tries them again")
    for name, row in found["releases"].items():
        if "superseded_by" in row:
            lines.append(f"  release {name}: superseded by {row['superseded_by'] or 'nothing yet'}, as it held what was taken down since")
            continue
        lines.append(f"  release {name}: {row['samples']:,} images by {row['recipe']}, {row['shards']} shards, digest {row['digest'][:12]}")
    lines += [f"  model {name}" for name in found["models"]]
    lines += [f"  taken down: {found['forgotten']:,} addresses, domains and images"] if found["forgotten"] else []
    lines += [f"  unfinished {name}: the same command goes on with it" for name in found["unfinished"]]
    return "\n".join(lines if len(lines) > 1 else [*lines, "  nothing yet: `winnow collect --help`"])


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
    """A decision as a report shows it: funnel, distributions, samples; training is added where there was any."""
    table = decided(decision)
    names = ", ".join(collection.id for collection in decision.collections)
    kept = decision.funnel.outcomes.get("kept", 0)
    said = f"Recipe {decision.recipe.name} keeps {kept:,} of the {decision.funnel.candidates:,} candidates of {names}."
    columns = [name for name in table.column_names if name not in _NOT_MEASURED]
    sentences = {column: filter_.sentence for filter_ in filters_for(decision.recipe.reads) for column in filter_.writes}
    return ReportData(
        title=title or f"Recipe {decision.recipe.name} over {names}",
        happened=tuple(happened) or (said,),
        funnel=tuple(decision.funnel.outcomes.items()),
        reasons=_reasons(decision.recipe),
        histograms=histograms(table.select(columns), sentences=sentences, thresholds=_thresholds(decision.recipe)),
        samples=tuple(_samples(root, table, decision.collections)),
        curves=tuple(curves),
        retrieval=retrieval or {},
        facts={"root": root.path(), "outcomes": decision.folder.path(), **(facts or {})},
    )


def _row_rules(recipe: Recipe) -> list[RowRule]:
    return [rule for rule in (*recipe.candidate_rules, *recipe.other_rules) if isinstance(rule, RowRule)]


def _reasons(recipe: Recipe) -> dict[str, str]:
    return {rule.reason: f"{_asked(rule)} ({rule.source})" for rule in (*recipe.candidate_rules, *recipe.other_rules)}


def _asked(rule: Rule) -> str:
    """What a rule asks for, as it stands in the recipe."""
    if isinstance(rule, RowRule):
        return " ".join(str(word) for word in (rule.measure, rule.op, rule.value) if word is not None)
    return f"{rule.group} {rule.count} for each {rule.key}"


def _thresholds(recipe: Recipe) -> dict[str, list[tuple[str, float]]]:
    found: dict[str, list[tuple[str, float]]] = defaultdict(list)
    for rule in _row_rules(recipe):
        if isinstance(rule.value, int | float) and not isinstance(rule.value, bool):
            found[rule.measure].append((rule.op, float(rule.value)))
    return found


def _samples(root: Folder, table: pa.Table, collections: Sequence[Collection]) -> Iterator[Sample]:
    """The same few candidates of each outcome whenever the report is drawn, chosen by their texts and addresses."""
    shown = table.select([name for name in _SHOWN if name in table.column_names])
    for outcome in sorted(set(shown["outcome"].to_pylist()), key=lambda name: (name != "kept", name)):
        rows = shown.filter(pc.equal(shown["outcome"], outcome)).slice(0, 10_000).to_pylist()
        rows.sort(key=lambda row: stable_hash(f"{row['image_url']} {row['text']}"))
        for row in rows[: SAMPLES * (2 if outcome == "kept" else 1)]:
            yield Sample(outcome=outcome, text=row["text"], image=_image(root, row), page_url=row["page_url"], note=row["image_url"])


def _image(root: Folder, row: Mapping[str, Any]) -> bytes | None:
    if row["image_part"] is None:
        return None
    table = read_table(root / "collections" / row["collection"] / "images", row["image_part"], ["image"])
    return bytes(table["image"][row["image_row"]].as_py())
