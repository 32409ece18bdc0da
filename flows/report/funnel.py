"""The funnel as one table that is also the picture: a bar of what was left, with the slice that
each reason took off its end.
"""

from collections.abc import Mapping, Sequence

from flows.report.data import KEPT
from flows.report.tree import Node, node

NOTHING = "\u2013"  # a dash, where there is no number
# percent of the width: a slice of one candidate in many thousands can still be seen
_THINNEST = 0.15


def count(value: int) -> str:
    """A count with its thousands set apart."""
    return f"{value:,}"


def share(part: int, whole: int) -> str:
    """A part of a whole in percent with one decimal."""
    return f"{100 * part / whole:.1f} %" if whole else NOTHING


def funnel_steps(funnel: Sequence[tuple[str, int]]) -> list[tuple[str, int, int]]:
    """The reasons in order as (outcome, stopped, left), the kept ones last; an outcome that stopped
    nothing is left out.
    """
    left = sum(stopped for _, stopped in funnel)
    steps = []
    for outcome, stopped in funnel:
        if outcome != KEPT and stopped:
            left -= stopped
            steps.append((outcome, stopped, left))
    return steps


def funnel_table(funnel: Sequence[tuple[str, int]], reasons: Mapping[str, str]) -> Node:
    """From all candidates to what was kept, one row for each reason."""
    whole = sum(stopped for _, stopped in funnel)
    kept = dict(funnel).get(KEPT, 0)
    head = node("tr", *(node("th", text, class_=kind, scope="col") for kind, text in _COLUMNS))
    body = node("tbody", _row("candidates", "all", whole, whole, whole, "", "total"))
    group = ""
    for outcome, stopped, left in funnel_steps(funnel):
        kind = "first" if outcome.partition(".")[0] != group else ""
        group = outcome.partition(".")[0]
        body.append(_row(outcome, "stopped", stopped, left, whole, reasons.get(outcome, ""), kind))
    body.append(_row(KEPT, "kept", kept, kept, whole, reasons.get(KEPT, ""), "total"))
    return node("table", node("thead", head), body, class_="funnel")


_COLUMNS = (
    ("name", "outcome"),
    ("reason", ""),
    ("number", "count"),
    ("number share", "of all"),
    ("number left", "left"),
    ("bar", ""),
)


def _row(
    outcome: str, kind: str, stopped: int, left: int, whole: int, reason: str, style: str
) -> Node:
    name = node("th", node("code", outcome), class_="name", scope="row")
    cells = (
        node("td", reason, class_="reason"),
        node("td", count(stopped), class_=f"number {kind}"),
        node("td", share(stopped, whole), class_="number share"),
        node("td", count(left) if kind == "stopped" else "", class_="number left"),
        node("td", _bar(outcome, kind, stopped, left, whole), class_="bar"),
    )
    return node("tr", name, *cells, class_=style or None)


def _bar(outcome: str, kind: str, stopped: int, left: int, whole: int) -> Node:
    """The bar of one row, 100 units wide and as wide as its cell."""
    scale = 100 / max(whole, 1)
    said = f"{outcome}: {count(stopped)} of {count(whole)}"
    picture = node(
        "svg", viewBox="0 0 100 10", preserveAspectRatio="none", role="img", aria_label=said
    )
    picture.append(node("rect", x=0, y=0, width=100, height=10, class_="ground"))
    if kind != "stopped":
        picture.append(
            node(
                "rect", node("title", said), x=0, y=0, width=stopped * scale, height=10, class_=kind
            )
        )
        return picture
    picture.append(
        node(
            "rect",
            node("title", f"{count(left)} left after {outcome}"),
            x=0,
            y=0,
            width=left * scale,
            height=10,
            class_="left",
        )
    )
    width = max(stopped * scale, _THINNEST)
    picture.append(
        node(
            "rect",
            node("title", said),
            x=min(left * scale, 100 - width),
            y=0,
            width=width,
            height=10,
            class_="stopped",
        )
    )
    return picture
