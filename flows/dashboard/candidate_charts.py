"""Pictures of one candidate: what was found, measured and decided of it."""

from collections.abc import Mapping, Sequence
from typing import Any

from flows.dashboard.charts import go, style_of, value_text
from flows.dashboard.views import View
from flows.report.tree import Node, link, node, shorten


def facts_picture(facts: Mapping[str, Any]) -> Node:
    """Names and values; an address of the web is a link."""
    rows = []
    for name, value in facts.items():
        shown: str | Node = (
            link(str(value)) if name.endswith("url") and value else value_text(value)
        )
        rows += [node("dt", name), node("dd", shown)]
    return node("dl", *rows)


def verdicts_picture(decided: View) -> Node:
    """Step by step: what a rule asked, what it saw, what it said."""
    head = node("tr", *(node("th", word) for word in ("step", "asks for", "saw", "")))
    body = node("tbody")
    for step in decided["rules"]:
        said = step["verdict"]
        if said == "not reached" and step["would"] is not None:
            said = f"not reached; would {'pass' if step['would'] else 'stop it'}"
        saw = "" if step["value"] is None else value_text(step["value"])
        cells = (
            node("td", step["asked"], title=step["source"] or None),
            node("td", saw, class_="saw"),
            node("td", said, class_="verdict"),
        )
        body.append(
            node(
                "tr",
                node("th", node("code", step["step"]), scope="row"),
                *cells,
                class_=step["verdict"].replace(" ", "-"),
            )
        )
    title = node(
        "h3",
        f"Recipe {decided['recipe']}: ",
        node("code", decided["outcome"], class_=style_of(decided["outcome"])),
    )
    return node("section", title, node("table", node("thead", head), body, class_="plain verdicts"))


def found_picture(candidates: Sequence[View]) -> Node:
    """The candidates that an address brings up, each leading to its story."""
    rows = (
        node(
            "tr",
            node("td", go("story", node("code", one["candidate_id"][:12]), q=one["candidate_id"])),
            node("td", one["collection"]),
            node("td", one["text_source"]),
            node("td", shorten(one["text"] or "", 160), dir="auto"),
        )
        for one in candidates
    )
    head = node("tr", *(node("th", word) for word in ("candidate", "collection", "source", "text")))
    return node("table", node("thead", head), node("tbody", *rows), class_="plain")
