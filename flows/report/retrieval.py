"""Retrieval numbers of several runs side by side, each metric also as dots on one scale from 0 to
100 %.
"""

from collections.abc import Mapping

from flows.report.funnel import NOTHING
from flows.report.tree import Node, node

Runs = Mapping[str, Mapping[str, float]]


def percent(value: float) -> str:
    """A fraction as a percentage with one decimal, without its sign."""
    return f"{100 * value:.1f}"


def metrics_of(runs: Runs) -> list[str]:
    """The names of all metrics in the order in which they first appear."""
    return list({metric: None for values in runs.values() for metric in values})


def retrieval_table(runs: Runs) -> Node:
    """One row for each metric, one column for each run, in percent; the best number of a row is set
    in bold.
    """
    head = node("tr", node("th", "percent", class_="name", scope="col"))
    for place, run in enumerate(runs):
        head.append(
            node(
                "th", node("span", class_=f"dot run{place % 4}"), run, class_="number", scope="col"
            )
        )
    head.append(node("th", "0 to 100", class_="strip", scope="col"))
    body = node("tbody", *(_row(metric, runs) for metric in metrics_of(runs)))
    return node("table", node("thead", head), body, class_="retrieval")


def _row(metric: str, runs: Runs) -> Node:
    values = {run: found[metric] for run, found in runs.items() if metric in found}
    best = max(values.values())
    row = node("tr", node("th", metric, class_="name", scope="row"))
    for run in runs:
        style = "number best" if values.get(run) == best and len(values) > 1 else "number"
        row.append(node("td", percent(values[run]) if run in values else NOTHING, class_=style))
    row.append(node("td", _strip(metric, runs), class_="strip"))
    return row


def _strip(metric: str, runs: Runs) -> Node:
    """The values as dots; the first run is drawn last, on top."""
    picture = node(
        "svg", viewBox="0 0 220 16", role="img", aria_label=f"{metric} of each run", class_="strip"
    )
    picture.append(node("line", x1=6, x2=214, y1=8, y2=8, class_="axis"))
    for place, (run, values) in reversed(list(enumerate(runs.items()))):
        if metric in values:
            x = 6 + 208 * min(max(values[metric], 0.0), 1.0)
            said = node("title", f"{run}: {percent(values[metric])} %")
            picture.append(node("circle", said, cx=x, cy=8, r=4.5, class_=f"run{place % 4}"))
    return picture
