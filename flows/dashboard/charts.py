"""The views as pictures: trees of elements in which every text is text, drawn as the report draws
them.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any
from urllib.parse import urlencode

from flows.dashboard.views import View
from flows.report.data import KEPT, Histogram, Sample
from flows.report.funnel import NOTHING, count, funnel_table, share
from flows.report.gallery import card, thumbnail
from flows.report.page import histogram_figure
from flows.report.plots import number
from flows.report.tree import Node, clean, node, shorten
from pipelines.store import Folder
from pipelines.tables import read_table

GROUP_NAMES = {
    "permission": 0,
    "text": 1,
    "page": 1,
    "address": 2,
    "fetch": 2,
    "decode": 2,
    "image": 3,
    "pair": 3,
    "group": 4,
}
GROUP_WORDS = ("permission", "text", "fetch", "image", "among candidates")


def spec(tree: Node) -> list[Any]:
    """A tree as lists of tag, attributes and children, texts as strings: the browser makes elements
    of it and parses nothing.
    """
    children: list[Any] = [tree.text] if tree.text else []
    for child in tree:
        children.append(spec(child))
        if child.tail:
            children.append(child.tail)
    return [tree.tag, dict(tree.attrib), children]


def go(page: str, label: str | Node, **query: str) -> Node:
    """A link to another page of the dashboard."""
    return node("a", label, href=f"{page}?{urlencode(query)}", class_="go")


def shelf_picture(view: View) -> Node:
    """The decisions that there are, each leading to its funnel."""
    words = ("recipe", "collections", "candidates", "kept", "", "")
    head = node(
        "tr",
        *(
            node("th", word, class_="number" if place in (2, 3, 4) else None)
            for place, word in enumerate(words)
        ),
    )
    body = node("tbody")
    for one in view["decisions"]:
        name = node("th", go("funnel", one["recipe"], decision=one["id"]), scope="row")
        cells = (
            count(one["candidates"]),
            count(one["kept"]),
            share(one["kept"], one["candidates"]),
        )
        numbers = [node("td", cell, class_="number") for cell in cells]
        bar = node("td", strip(one["kept"], one["candidates"], KEPT), class_="strip")
        body.append(node("tr", name, node("td", one["label"].partition(" · ")[2]), *numbers, bar))
    table = node("table", node("thead", head), body, class_="plain")
    return node("div", table, *_unfinished(view["unfinished"])) if view["unfinished"] else table


def _unfinished(found: Sequence[View]) -> list[Node]:
    """Decisions of which there is nothing to show, each with its cause."""
    body = node("tbody")
    for one in found:
        name = node("th", one["recipe"] or node("code", one["id"]), scope="row")
        body.append(
            node(
                "tr",
                name,
                node("td", ", ".join(one["collections"])),
                node("td", shorten(one["cause"], 400), class_="cause"),
            )
        )
    head = node("tr", *(node("th", word) for word in ("recipe", "collections", "why")))
    return [
        node("h2", "Unfinished"),
        node("table", node("thead", head), body, class_="plain unfinished"),
    ]


def funnel_picture(view: View) -> Node:
    """The funnel as the report draws it; an outcome leads to those who ended in it."""
    funnel = [(step["outcome"], step["count"]) for step in view["steps"]]
    table = funnel_table(funnel, {step["outcome"]: step["asked"] for step in view["steps"]})
    sources = {step["outcome"]: step["source"] for step in view["steps"]}
    for name in table.iter("th"):
        outcome = name[0].text if len(name) and name[0].tag == "code" else None
        if outcome is not None and outcome in sources:
            code = name[0]
            name.remove(code)
            name.append(go("outcomes", code, decision=view["decision"], outcome=outcome))
            name.set("title", clean(sources[outcome]))
    return table


def lead(view: View) -> Node:
    """What a decision came to, in a sentence."""
    names = view["label"].partition(" · ")[2]
    said = (
        f"Recipe {view['recipe']} keeps {count(view['kept'])} of the {count(view['candidates'])}"
        f" candidates of {names}"
    )
    left_out = f" It runs without {', '.join(view['left_out'])}." if view["left_out"] else ""
    return node(
        "p", f"{said} ({share(view['kept'], view['candidates'])}).{left_out}", class_="lead"
    )


def histograms_picture(shown: Sequence[Histogram]) -> Node:
    return node("div", *(histogram_figure(one) for one in shown), class_="multiples")


def cards_picture(root: Folder, cards: Sequence[View], decision: str) -> Node:
    """Candidates with their pictures and texts, what changed of each and the value that decides; of
    a `decision`, with their stories.
    """
    if not cards:
        return node("p", "None.", class_="absent")
    return node("div", *(_card(root, one, decision) for one in cards), class_="cards")


def _card(root: Folder, one: View, decision: str) -> Node:
    note = "" if one.get("value") is None else f"{one['measure']} {value_text(one['value'])}"
    sample = Sample(
        outcome=one["outcome"],
        text=one["text"] or "",
        page_url=one["page_url"] or one["image_url"],
        note=note,
    )
    figure = card(sample, picture_of(root, one))
    now = str(one.get("now", one["outcome"]))
    was = node("code", one["outcome"], class_=style_of(one["outcome"]))
    told = node("p", was, class_="told")
    if now != one["outcome"]:
        was.tail = " → "
        told.append(node("code", now, class_=style_of(now)))
    figure[1].insert(1, told)
    if decision:
        figure[1].append(node("p", go("story", "its story", q=one["candidate_id"]), class_="page"))
    return figure


def style_of(outcome: str) -> str:
    return KEPT if outcome == KEPT else "stopped"


def value_text(value: Any) -> str:
    return (
        number(value)
        if isinstance(value, int | float) and not isinstance(value, bool)
        else shorten(str(value), 200)
    )


def picture_of(root: Folder, row: Mapping[str, Any]) -> str | None:
    """The image of a row from the store, drawn anew and small, as a data URI; None where it was not
    fetched.
    """
    if row.get("image_part") is None:
        return None
    return _thumbnail(
        root.url,
        str(row["image_collection"] or row["collection"]),
        str(row["image_part"]),
        int(row["image_row"]),
    )


@lru_cache(maxsize=4096)
def _thumbnail(root: str, collection: str, part: str, row: int) -> str | None:
    folder = Folder(root) / "collections" / collection / "images"
    if not folder.exists(part):
        return None
    return thumbnail(read_table(folder, part, ["image"])["image"][row].as_py())


def moved_head(view: View) -> Node:
    """Kept before and after, and how many go in and out."""
    after, before = view["after"].get(KEPT, 0), view["kept"]
    about = "about " if view["looked_at"] < 1 else ""
    cells = (
        ("kept", f"{about}{count(after)}", share(after, view["candidates"])),
        ("before", count(before), share(before, view["candidates"])),
        ("enter", f"+{count(view['enters'])}", ""),
        ("leave", f"\u2212{count(view['leaves'])}", ""),
    )
    shown = (
        node(
            "div",
            node("b", value),
            node("span", name),
            node("small", said) if said else None,
            class_=f"figure {name}",
        )
        for name, value, said in cells
    )
    return node(
        "div",
        node("div", *shown, class_="figures"),
        *(node("p", said, class_="note") for said in _caveats(view)),
    )


def _caveats(view: View) -> list[str]:
    said = []
    if view["looked_at"] < 1:
        said.append(
            f"Estimated from {count(view['rows'])} rows, one of {round(1 / view['looked_at'])},"
            " drawn by image."
        )
    if view["estimate"]:
        said.append(
            "Rules among candidates see the sample only: who newly reaches them is an estimate."
        )
    if view["not_measured"]:
        said.append(
            f"{count(view['not_measured'])} that enter lack a costly measurement, since an earlier"
            " rule had stopped them: save the recipe and run `winnow funnel` with it, which"
            " measures just these."
        )
    return said


def moved_table(view: View) -> Node:
    """Each outcome before and after."""
    head = node(
        "tr",
        node("th", "outcome"),
        *(node("th", word, class_="number") for word in ("before", "after", "change")),
    )
    body = node("tbody")
    for outcome in dict.fromkeys([*(name for name in view["after"] if name != KEPT), KEPT]):
        was, now = view["before"].get(outcome, 0), view["after"].get(outcome, 0)
        change = "" if now == was else f"{now - was:+,}".replace("-", "\u2212")
        cells = (
            node("td", count(was), class_="number soft"),
            node("td", count(now), class_="number"),
            node("td", change, class_="number"),
        )
        body.append(
            node(
                "tr",
                node("th", node("code", outcome, class_=style_of(outcome)), scope="row"),
                *cells,
                class_=_changed(change),
            )
        )
    return node("table", node("thead", head), body, class_="plain")


def _changed(change: str) -> str | None:
    return "changed" if change else None


def compare_picture(view: View) -> Node:
    """Both funnels, outcome by outcome, as shares of their candidates."""
    one, other = view["one"], view["other"]
    sides = [{step["outcome"]: step["count"] for step in side["steps"]} for side in (one, other)]
    order = [name for name in dict.fromkeys([*sides[0], *sides[1]]) if name != KEPT]
    names = [side["label"] for side in (one, other)]
    head = node(
        "tr", node("th", "outcome"), *(node("th", name, class_="side", colspan=3) for name in names)
    )
    body = node("tbody")
    for outcome in [*order, KEPT]:
        cells = []
        for side, found in zip((one, other), sides, strict=True):
            part = found.get(outcome, 0)
            said = share(part, side["candidates"]) if part else NOTHING
            cells += [
                node("td", count(part) if part else "", class_="number"),
                node("td", said, class_="number soft"),
            ]
            cells += [
                node("td", strip(part, side["candidates"], style_of(outcome)), class_="strip")
            ]
        body.append(
            node(
                "tr",
                node("th", node("code", outcome, class_=style_of(outcome)), scope="row"),
                *cells,
            )
        )
    return node("table", node("thead", head), body, class_="plain compare")


def strip(part: int, whole: int, style: str) -> Node:
    """A bar as long as a share of 100 units."""
    width = 100 * part / whole if whole else 0
    bar = node(
        "rect",
        x=0,
        y=0,
        width=max(width, 0.4) if part else 0,
        height=10,
        class_=style if style == KEPT else "dropped",
    )
    return node(
        "svg",
        node("rect", x=0, y=0, width=100, height=10, class_="track"),
        bar,
        viewBox="0 0 100 10",
        preserveAspectRatio="none",
    )


def pairs_picture(view: View) -> Node:
    """What became of the same candidates under both."""
    head = node(
        "tr",
        *(node("th", side["recipe"]) for side in (view["one"], view["other"])),
        node("th", "candidates", class_="number"),
    )
    rows = [pair for pair in view["pairs"] if pair["one"] != pair["other"]][:12]
    body = node("tbody", *(_pair(pair) for pair in rows))
    return (
        node("table", node("thead", head), body, class_="plain")
        if rows
        else node("p", "Every candidate ends alike.", class_="absent")
    )


def _pair(pair: View) -> Node:
    cells = (
        node("td", node("code", str(pair[side]), class_=style_of(str(pair[side]))))
        for side in ("one", "other")
    )
    return node("tr", *cells, node("td", count(pair["candidates"]), class_="number"))


def tally_picture(names: Mapping[str, int], by: str, decision: str) -> Node:
    """Counts by host, language or source."""
    most = max(names.values(), default=1)
    rows = (
        node(
            "tr",
            node(
                "th",
                go("groups", shorten(name, 40), decision=decision, by=by, of=name),
                scope="row",
            ),
            node("td", count(amount), class_="number"),
            node("td", strip(amount, most, "dropped"), class_="strip"),
        )
        for name, amount in list(names.items())[:12]
    )
    return node("table", node("tbody", *rows), class_="plain")
