"""Candidates by host, language and source: how many each brought, and which share of them was
kept.
"""

from collections.abc import Mapping, Sequence

from flows.report.data import Group
from flows.report.funnel import count, share
from flows.report.tree import Node, node, shorten


def group_tables(groups: Mapping[str, Sequence[Group]]) -> list[Node]:
    """A heading and a table for each way to group."""
    return [
        part
        for by, found in groups.items()
        if found
        for part in (node("h3", f"By {by}"), _table(by, found))
    ]


def _table(by: str, groups: Sequence[Group]) -> Node:
    words = (by, "candidates", "kept", "of its own", "", "mostly stopped by")
    head = node(
        "tr",
        *(
            node("th", word, class_="number" if 0 < place < 4 else None, scope="col")
            for place, word in enumerate(words)
        ),
    )
    return node(
        "table", node("thead", head), node("tbody", *(_row(one) for one in groups)), class_="groups"
    )


def _row(one: Group) -> Node:
    numbers = (count(one.candidates), count(one.kept), share(one.kept, one.candidates))
    width = 100 * one.kept / max(1, one.candidates)
    picture = node(
        "svg",
        viewBox="0 0 100 10",
        preserveAspectRatio="none",
        role="img",
        aria_label=f"{numbers[2]} kept",
    )
    picture.append(node("rect", x=0, y=0, width=100, height=10, class_="track"))
    picture.append(node("rect", x=0, y=0, width=width, height=10, class_="kept"))
    reasons = ", ".join(f"{reason} {count(stopped)}" for reason, stopped in one.stopped)
    cells = (
        *(node("td", number, class_="number") for number in numbers),
        node("td", picture, class_="bar"),
    )
    return node(
        "tr",
        node("th", shorten(one.name, 60), scope="row"),
        *cells,
        node("td", reasons, class_="reason"),
    )
