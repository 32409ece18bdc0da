"""Pictures of groups, of shares over time and of means."""

from collections.abc import Sequence

from flows.dashboard.charts import GROUP_NAMES, GROUP_WORDS, go, strip, style_of
from flows.dashboard.views import View
from flows.report.data import KEPT
from flows.report.funnel import NOTHING, count, share
from flows.report.plots import number
from flows.report.tree import Node, node, shorten

LATEST = 12  # collections that stand beside each other


def time_picture(view: View) -> Node:
    """A bar for each collection: what was kept, and what stopped the others, by kind."""
    legend = node("p", node("span", node("i", class_="kind kept"), "kept"), class_="legend")
    for place, word in enumerate(GROUP_WORDS):
        legend.append(node("span", node("i", class_=f"kind kind{place}"), word))
    head = node(
        "tr",
        node("th", "collection"),
        *(node("th", word, class_="number") for word in ("candidates", "kept", "")),
        node("th", ""),
    )
    body = node("tbody", *(_collection(one) for one in view["collections"]))
    return node("div", legend, node("table", node("thead", head), body, class_="plain time"))


def _collection(one: View) -> Node:
    kinds = [0] * len(GROUP_WORDS)
    for outcome, candidates in one["outcomes"].items():
        if outcome != KEPT:
            kinds[GROUP_NAMES.get(outcome.partition(".")[0], 3)] += candidates
    picture = node(
        "svg",
        viewBox="0 0 100 10",
        preserveAspectRatio="none",
        role="img",
        aria_label=f"outcomes of {one['collection']}",
    )
    start = 0.0
    slices = [
        ("kept", "kept", one["kept"]),
        *((GROUP_WORDS[place], f"kind{place}", part) for place, part in enumerate(kinds)),
    ]
    for name, style, part in slices:
        width = 100 * part / max(1, one["candidates"])
        title = node("title", f"{name}: {count(part)}, {share(part, one['candidates'])}")
        picture.append(
            node("rect", title, x=start, y=0, width=max(0.0, width - 0.15), height=10, class_=style)
        )
        start += width
    cells = (count(one["candidates"]), count(one["kept"]), share(one["kept"], one["candidates"]))
    named = node("th", go("funnel", one["collection"], decision=one["decision"]), scope="row")
    return node(
        "tr",
        named,
        *(node("td", cell, class_="number") for cell in cells),
        node("td", picture, class_="strip wide"),
    )


def shares_picture(view: View) -> Node:
    """Outcome by outcome, its share of the candidates of each of the latest collections."""
    latest = view["collections"][-LATEST:]
    order = dict.fromkeys(name for one in latest for name in one["outcomes"] if name != KEPT)
    head = node(
        "tr",
        node("th", "outcome"),
        *(node("th", one["collection"], class_="number") for one in latest),
        node("th", ""),
    )
    body = node("tbody")
    for outcome in [*order, KEPT]:
        parts = [one["outcomes"].get(outcome, 0) / max(1, one["candidates"]) for one in latest]
        cells = (
            node("td", f"{100 * part:.1f} %" if part else NOTHING, class_="number")
            for part in parts
        )
        name = node("th", node("code", outcome, class_=style_of(outcome)), scope="row")
        body.append(
            node(
                "tr", name, *cells, node("td", _columns(parts, style_of(outcome)), class_="columns")
            )
        )
    return node("table", node("thead", head), body, class_="plain")


def _columns(parts: Sequence[float], style: str) -> Node:
    """A small column for each share, the greatest as high as the picture."""
    most, width = max(parts, default=0) or 1, 100 / max(LATEST, len(parts))
    picture = node(
        "svg", viewBox="0 0 100 20", preserveAspectRatio="none", role="img", aria_label="over time"
    )
    for place, part in enumerate(parts):
        height = 20 * part / most
        bar = node(
            "rect",
            x=place * width,
            y=20 - height,
            width=width * 0.8,
            height=height,
            class_=style if style == KEPT else "dropped",
        )
        picture.append(bar)
    return picture


def groups_picture(view: View) -> Node:
    """Hosts, languages or sources: how many candidates each has, which share of them is kept, and
    what stops most of the others.
    """
    head = node(
        "tr",
        node("th", view["by"]),
        *(node("th", word, class_="number") for word in ("candidates", "kept", "")),
        node("th", ""),
        node("th", "mostly stopped by"),
    )
    body = node("tbody")
    for one in view["groups"]:
        stopped = sorted(
            ((count_, name) for name, count_ in one["outcomes"].items() if name != KEPT),
            reverse=True,
        )[:3]
        reasons = [
            node("span", node("code", name), f" {count(amount)}", class_="reason")
            for amount, name in stopped
        ]
        named = go(
            "groups", shorten(one["of"], 60), decision=view["decision"], by=view["by"], of=one["of"]
        )
        label = node("span", f"{count(one['groups'])} others") if "groups" in one else named
        cells = (
            count(one["candidates"]),
            count(one["kept"]),
            share(one["kept"], one["candidates"]),
        )
        body.append(
            node(
                "tr",
                node("th", label, scope="row"),
                *(node("td", cell, class_="number") for cell in cells),
                node("td", strip(one["kept"], one["candidates"], KEPT), class_="strip"),
                node("td", *reasons, class_="reasons"),
            )
        )
    return node("table", node("thead", head), body, class_="plain")


def means_picture(view: View) -> Node:
    """The means of a group's measurements beside those of all."""
    head = node(
        "tr",
        node("th", "mean of"),
        *(node("th", word, class_="number") for word in ("here", "everywhere")),
    )
    rows = [(name, mean) for name, mean in view["means"].items() if mean["here"] is not None]
    body = node(
        "tbody",
        *(
            node(
                "tr",
                node("th", node("code", name), scope="row"),
                *(
                    node("td", number(mean[side]), class_="number")
                    for side in ("here", "everywhere")
                ),
            )
            for name, mean in rows
        ),
    )
    return node("table", node("thead", head), body, class_="plain")
