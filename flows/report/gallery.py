"""Samples to look at: pictures with their texts, by outcome."""

import base64
import io
from collections.abc import Mapping, Sequence

from filters.image.pixels import BROKEN, opened
from flows.report.data import KEPT, Sample
from flows.report.funnel import count
from flows.report.tree import Node, clean, extend, link, node, shorten
from pipelines.engine.children import Died, children

_SIDE = 176  # pixels: twice the width of a card on a telephone, a little less on a desk
_MOST_PIXELS = 50_000_000  # a picture larger than this is not decoded for a report
_LONGEST = 240  # characters of a text that are shown, ...
_HELD = 2000  # ... and that appear under the pointer; the JSON twin has all of it


def thumbnail(data: bytes | None) -> str | None:
    """A small JPEG of the picture as a data URI, drawn anew so that no byte of the original gets
    into the page; None if undecodable.
    """
    if not data:
        return None
    (drawn,) = children().call(_drawn, [data])
    return None if isinstance(drawn, Died) else drawn


def _drawn(data: bytes) -> str | None:
    try:
        with opened(data) as picture:
            if picture.width * picture.height > _MOST_PIXELS:
                return None
            small = picture.convert("RGB")
    except BROKEN:
        return None
    small.thumbnail((_SIDE, _SIDE))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=80, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def by_outcome(samples: Sequence[Sample], order: Sequence[str]) -> dict[str, list[int]]:
    """Places of the samples by outcome: what was kept first, then the reasons in the order of the
    funnel.
    """
    groups: dict[str, list[int]] = {}
    for place, sample in enumerate(samples):
        groups.setdefault(sample.outcome, []).append(place)
    ranks = {
        outcome: rank
        for rank, outcome in enumerate([KEPT, *(name for name in order if name != KEPT)])
    }
    return dict(sorted(groups.items(), key=lambda item: (ranks.get(item[0], len(ranks)), item[0])))


def gallery(
    samples: Sequence[Sample],
    pictures: Sequence[str | None],
    funnel: Mapping[str, int],
    reasons: Mapping[str, str],
) -> Node:
    """One block for each outcome with a card for each sample; `pictures` are data URIs in the order
    of the samples.
    """
    whole = node("div", class_="gallery")
    for outcome, places in by_outcome(samples, list(funnel)).items():
        heading = node("h3", node("code", outcome, class_="kept" if outcome == KEPT else "stopped"))
        if outcome in funnel:
            extend(heading, " ", node("span", count(funnel[outcome]), class_="number"))
        if outcome in reasons:
            extend(heading, " ", node("small", reasons[outcome]))
        cards = node(
            "div", *(card(samples[place], pictures[place]) for place in places), class_="cards"
        )
        whole.append(node("section", heading, cards))
    return whole


def card(sample: Sample, picture: str | None) -> Node:
    """A picture (a data URI) with its text, its note and a link to its page."""
    shown = (
        node("img", src=picture, alt="") if picture else node("div", "no picture", class_="absent")
    )
    text = (
        node("p", shorten(sample.text, _LONGEST), dir="auto", class_="text")
        if sample.text.strip()
        else node("p", "no text", class_="text absent")
    )
    if sample.text.strip():
        text.set("title", clean(shorten(sample.text, _HELD)))
    lines = node("figcaption", text)
    if sample.note:
        lines.append(node("p", sample.note, dir="auto", class_="note"))
    if sample.page_url:
        lines.append(node("p", link(sample.page_url), class_="page"))
    return node("figure", node("div", shown, class_="frame"), lines)
