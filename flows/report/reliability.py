"""The reliability diagram of a scorer: of the pairs that it calls probable with 0.8, how many
belong together? Lengths are in pixels.
"""

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from flows.report.funnel import count
from flows.report.plots import number
from flows.report.tree import Node, document, node

_SIDE, _LEFT, _TOP, _HEIGHT = 200.0, 38.0, 10.0, 248.0
_LARGEST = 7.0  # radius of the fullest bin


def reliability_plot(held_out: Mapping[str, Any]) -> Node:
    """A dot for each bin of predictions, as large as the bin is full, beside the line on which all
    would lie.

    `held_out` is what `filters.fit.scorer.quality` gives: auc, brier, and reliability with
    predicted, positive and count.
    """
    bins = held_out["reliability"]
    said = (
        f"reliability: area under the ROC curve {number(held_out['auc'])}, Brier score"
        f" {number(held_out['brier'])}"
    )
    picture = node(
        "svg",
        viewBox=f"0 0 {_SIDE + _LEFT + 20:g} {_HEIGHT:g}",
        role="img",
        aria_label=said,
        class_="plot",
    )
    picture.append(node("line", x1=_across(0), x2=_across(1), y1=_up(0), y2=_up(1), class_="axis"))
    for value in (0.0, 0.5, 1.0):
        picture.append(
            node(
                "text",
                number(value),
                x=_across(value),
                y=_up(0) + 16,
                text_anchor="middle",
                class_="tick",
            )
        )
        picture.append(
            node(
                "text",
                number(value),
                x=_LEFT - 9,
                y=_up(value) + 4,
                text_anchor="end",
                class_="tick",
            )
        )
    picture.append(
        node(
            "text", "predicted", x=_across(0.5), y=_up(0) + 31, text_anchor="middle", class_="tick"
        )
    )
    picture.append(
        node("text", "true", x=_LEFT - 9, y=_up(0.75) + 4, text_anchor="end", class_="tick")
    )
    fullest = max(bin_["count"] for bin_ in bins)
    for bin_ in bins:
        picture.append(_dot(bin_, fullest))
    return picture


def _dot(bin_: Mapping[str, Any], fullest: int) -> Node:
    said = (
        f"{count(bin_['count'])} pairs predicted {number(bin_['predicted'])}:"
        f" {number(bin_['positive'])} belong together"
    )
    radius = max(1.5, _LARGEST * (bin_["count"] / fullest) ** 0.5)
    return node(
        "circle",
        node("title", said),
        cx=_across(bin_["predicted"]),
        cy=_up(bin_["positive"]),
        r=radius,
        class_="kept",
    )


def _across(value: float) -> float:
    return _LEFT + value * _SIDE


def _up(value: float) -> float:
    return _TOP + (1 - value) * _SIDE


def reliability_page(path: Path, held_out: Mapping[str, Any]) -> Path:
    """Write the diagram as one HTML file; its path."""
    title = "Reliability of a scorer"
    style = files(__package__).joinpath("report.css").read_text(encoding="utf-8")
    head = node("head", node("meta", charset="utf-8"), node("title", title), node("style", style))
    body = node("body", node("main", node("h1", title), reliability_plot(held_out)))
    path.write_bytes(document(node("html", head, body, lang="en")))
    return path
