"""The report: one static HTML file with everything in it, and the same as JSON beside it."""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any

from flows.report.data import KEPT, Curve, Histogram, ReportData
from flows.report.funnel import count, funnel_steps, funnel_table, share
from flows.report.gallery import gallery, thumbnail
from flows.report.groups import group_tables
from flows.report.plots import curve_plot, histogram_plot
from flows.report.retrieval import retrieval_table
from flows.report.runs import run_sections
from flows.report.tree import Node, document, node

# Nothing may be loaded or run: even a mistake in this code could not make the page reach out
_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action"
    " 'none'"
)

Pictures = Sequence[str | None]


def write_report(path: Path, data: ReportData) -> Path:
    """Write the report to `path` and its JSON twin beside it (suffix .json); returns `path`."""
    pictures = [thumbnail(sample.image) for sample in data.samples]
    path.parent.mkdir(parents=True, exist_ok=True)
    _replace(path.with_suffix(".json"), _twin(data, pictures))
    _replace(path, document(_page(data, pictures)))
    return path


def _replace(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_bytes(content)
    os.replace(temporary, path)


def _page(data: ReportData, pictures: Pictures) -> Node:
    head = node(
        "head",
        node("meta", charset="utf-8"),
        node("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        node("meta", name="viewport", content="width=device-width, initial-scale=1"),
        node("meta", name="color-scheme", content="light dark"),
        node("title", data.title),
        node("style", files(__package__).joinpath("report.css").read_text(encoding="utf-8")),
    )
    sections = [(name, heading, make(data, pictures)) for name, heading, make in _SECTIONS]
    shown = [(name, heading, body) for name, heading, body in sections if body]
    contents = (
        node("nav", *(node("a", heading, href=f"#{name}") for name, heading, _ in shown))
        if len(shown) > 2
        else None
    )
    opening = node(
        "header",
        node("h1", data.title),
        node("p", " ".join(data.happened), class_="lead") if data.happened else None,
        contents,
    )
    body = (node("section", node("h2", heading), *parts, id=name) for name, heading, parts in shown)
    return node("html", head, node("body", node("main", opening, *body)), lang="en")


def _funnel(data: ReportData, pictures: Pictures) -> list[Node]:
    if not data.funnel:
        return []
    whole, kept = sum(stopped for _, stopped in data.funnel), dict(data.funnel).get(KEPT, 0)
    text = (
        f"Of {count(whole)} candidates {count(kept)} were kept ({share(kept, whole)}). Each of the"
        " others is counted once, under the first reason that stopped it; the reasons stand in the"
        " order in which they apply."
    )
    return [node("p", text), funnel_table(data.funnel, data.reasons)]


def _histograms(data: ReportData, pictures: Pictures) -> list[Node]:
    if not data.histograms:
        return []
    key = node(
        "p",
        "Counts of candidates: ",
        node("b", "kept", class_="kept"),
        " above each line, ",
        node("b", "dropped", class_="dropped"),
    )
    key[-1].tail = (
        " below it, to the same scale. A dotted line is what the recipe asks for. Bins are drawn"
        " equally wide."
    )
    return [
        key,
        node("div", *(histogram_figure(shown) for shown in data.histograms), class_="multiples"),
    ]


def histogram_figure(shown: Histogram) -> Node:
    """A distribution with its name, what it measures, and how many were kept, dropped and
    unmeasured.
    """
    heading = node("h3", node("code", shown.measure))
    totals = node(
        "p",
        node("b", f"{count(sum(shown.kept))} kept", class_="kept"),
        " ",
        node("b", f"{count(sum(shown.dropped))} dropped", class_="dropped"),
        node("span", f" {count(shown.unmeasured)} unmeasured") if shown.unmeasured else None,
        class_="totals",
    )
    sentence = node("p", shown.sentence, class_="sentence") if shown.sentence else None
    return node("div", heading, sentence, totals, histogram_plot(shown), class_="multiple")


def _groups(data: ReportData, pictures: Pictures) -> list[Node]:
    return list(group_tables(data.groups))


def _samples(data: ReportData, pictures: Pictures) -> list[Node]:
    if not data.samples:
        return []
    text = (
        "A few of each outcome: what was kept first, then the reasons in their order. The number is"
        " how many candidates ended so."
    )
    return [node("p", text), gallery(data.samples, pictures, dict(data.funnel), data.reasons)]


def _curves(data: ReportData, pictures: Pictures) -> list[Node]:
    multiples = [
        node("div", node("h3", curve.stage), curve_plot(curve), class_="multiple")
        for curve in data.curves
        if curve.steps
    ]
    return [node("div", *multiples, class_="multiples")] if multiples else []


def _runs(data: ReportData, pictures: Pictures) -> list[Node]:
    return [
        part
        for title, parts in run_sections(data.runs)
        for part in (node("h3", title, class_="part"), *parts)
    ]


def _retrieval(data: ReportData, pictures: Pictures) -> list[Node]:
    if not data.retrieval:
        return []
    text = (
        "How often the right caption (or picture) is among the first 1, 5 or 10 found, on pairs"
        " that no training saw."
    )
    return [node("p", text), retrieval_table(data.retrieval)]


def _facts(data: ReportData, pictures: Pictures) -> list[Node]:
    rows = [
        part for name, value in data.facts.items() for part in (node("dt", name), node("dd", value))
    ]
    return [node("dl", *rows)] if rows else []


_SECTIONS: tuple[tuple[str, str, Callable[[ReportData, Pictures], list[Node]]], ...] = (
    ("funnel", "What was kept and why", _funnel),
    ("measurements", "Measurements", _histograms),
    ("groups", "Hosts, languages and sources", _groups),
    ("samples", "Samples", _samples),
    ("training", "Training", _curves),
    ("retrieval", "Retrieval", _retrieval),
    ("runs", "Training runs", _runs),
    ("facts", "Where everything lies", _facts),
)


def _twin(data: ReportData, pictures: Pictures) -> bytes:
    """Everything that the page shows, as JSON; pictures are the data URIs of the page."""
    steps = [
        {"outcome": outcome, "count": stopped, "left": left}
        for outcome, stopped, left in funnel_steps(data.funnel)
    ]
    samples = [
        {
            "outcome": sample.outcome,
            "text": sample.text,
            "image": picture,
            "page_url": sample.page_url,
            "note": sample.note,
        }
        for sample, picture in zip(data.samples, pictures, strict=True)
    ]
    whole: dict[str, Any] = {
        "title": data.title,
        "happened": data.happened,
        "candidates": sum(stopped for _, stopped in data.funnel),
        "kept": dict(data.funnel).get(KEPT, 0),
        "funnel": steps,
        "reasons": dict(data.reasons),
        "histograms": [asdict(shown) for shown in data.histograms],
        "groups": {by: [asdict(one) for one in groups] for by, groups in data.groups.items()},
        "samples": samples,
        "curves": [_curve(curve) for curve in data.curves],
        "retrieval": {run: dict(values) for run, values in data.retrieval.items()},
        "facts": dict(data.facts),
        "runs": [asdict(run) for run in data.runs],
    }
    return json.dumps(whole, indent=1, allow_nan=False).encode() + b"\n"


def _curve(curve: Curve) -> dict[str, Any]:
    losses = {
        name: [value if value == value else None for value in values]
        for name, values in curve.losses.items()
    }
    return {"stage": curve.stage, "steps": curve.steps, "losses": losses}
