"""Small pictures in SVG: distributions and loss curves. Lengths are in pixels of a picture 320
wide.
"""

from collections.abc import Sequence
from itertools import pairwise

from flows.report.data import Curve, Histogram
from flows.report.funnel import count
from flows.report.tree import Node, node, shorten

_WIDTH = 320.0
_SIGNS = {">=": "≥", "<=": "≤", "==": "=", "!=": "≠"}


def number(value: float) -> str:
    """A number as short as a label wants it: whole from a hundred up, else three digits, below a
    tenth two.
    """
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) >= 0.1 else f"{value:.2g}"


def histogram_plot(shown: Histogram) -> Node:
    """Kept above a common line, dropped below it, to the same scale; names get a row each."""
    return _names(shown) if shown.labels else _mirror(shown)


# --- numbers: bars up and down


# the common line, the longest bar, the baseline of the labels
_MIDDLE, _REACH, _FOOT = 68.0, 54.0, 147.0


def _mirror(shown: Histogram) -> Node:
    tallest = max(1, *shown.kept, *shown.dropped)
    step = _WIDTH / len(shown.kept)
    said = f"{shown.measure}: {count(sum(shown.kept))} kept, {count(sum(shown.dropped))} dropped"
    picture = node("svg", viewBox=f"0 0 {_WIDTH:g} 152", role="img", aria_label=said, class_="plot")
    for place, (kept, dropped) in enumerate(zip(shown.kept, shown.dropped, strict=True)):
        picture.append(_bin(shown, place, step, kept / tallest, dropped / tallest))
    picture.append(node("line", x1=0, x2=_WIDTH, y1=_MIDDLE, y2=_MIDDLE, class_="axis"))
    for sign, value in shown.thresholds:
        _add_threshold(picture, shown, sign, value)
    _add_peak(picture, shown, step, tallest)
    _add_ticks(picture, shown)
    return picture


def _bin(shown: Histogram, place: int, step: float, up: float, down: float) -> Node:
    said = (
        f"{_span(shown, place)}: {count(shown.kept[place])} kept, {count(shown.dropped[place])}"
        " dropped"
    )
    x, width = place * step, max(step - 1, 0.5)
    return node(
        "g",
        node("title", said),
        node("rect", x=x, y=_MIDDLE - _REACH, width=step, height=2 * _REACH, class_="hover"),
        node("rect", x=x, y=_MIDDLE - up * _REACH, width=width, height=up * _REACH, class_="kept"),
        node("rect", x=x, y=_MIDDLE, width=width, height=down * _REACH, class_="dropped"),
    )


def _span(shown: Histogram, place: int) -> str:
    low, high = shown.edges[place], shown.edges[place + 1] - shown.whole
    return number(low) if low == high else f"{number(low)} to {number(high)}"


def _position(edges: Sequence[float], value: float) -> float | None:
    """Where a value lies among bins drawn equally wide; None outside of them."""
    for place, (low, high) in enumerate(pairwise(edges)):
        if low <= value <= high:
            inside = (value - low) / (high - low) if high > low else 0.0
            return (place + inside) * _WIDTH / (len(edges) - 1)
    return None


def _add_threshold(picture: Node, shown: Histogram, sign: str, value: float) -> None:
    """A line between what the recipe keeps and what it drops: of whole numbers, `at most ten` ends
    after the bin of the tens.
    """
    x = _position(shown.edges, value + 1 if shown.whole and sign in ("<=", ">") else value)
    if x is None:
        return
    anchor, shift = ("start", 4.0) if x < _WIDTH * 0.7 else ("end", -4.0)
    picture.append(node("line", x1=x, x2=x, y1=2, y2=_MIDDLE + _REACH, class_="threshold"))
    text = f"{_SIGNS.get(sign, sign)} {number(value)}"
    picture.append(node("text", text, x=x + shift, y=11, text_anchor=anchor, class_="asked"))


def _add_peak(picture: Node, shown: Histogram, step: float, tallest: int) -> None:
    """The scale: the count of the longest bar, written at its end."""
    above = max(shown.kept, default=0) == tallest
    place = (
        (shown.kept if above else shown.dropped).index(tallest)
        if tallest in (*shown.kept, *shown.dropped)
        else None
    )
    if place is None:
        return
    x = min(max((place + 0.5) * step, 14), _WIDTH - 14)
    y = _MIDDLE - _REACH - 3 if above else _MIDDLE + _REACH + 10
    picture.append(
        node(
            "text",
            count(tallest),
            x=x,
            y=y,
            text_anchor="middle",
            class_="kept" if above else "dropped",
        )
    )


def _add_ticks(picture: Node, shown: Histogram) -> None:
    """Both ends and two edges between them; of single whole numbers the middle of their bins."""
    last = len(shown.kept)
    single = shown.whole and shown.edges[1] - shown.edges[0] == 1
    final = last - 1 if single else last
    for place in (
        sorted({0, round(final / 3), round(2 * final / 3), final})
        if final >= 6
        else sorted({0, final})
    ):
        x = (place + 0.5 * single) * _WIDTH / last
        anchor = "middle" if single or 0 < place < final else "start" if place == 0 else "end"
        picture.append(
            node(
                "text", number(shown.edges[place]), x=x, y=_FOOT, text_anchor=anchor, class_="tick"
            )
        )


# --- names: one row each


def _names(shown: Histogram) -> Node:
    most = max(
        1, *(kept + dropped for kept, dropped in zip(shown.kept, shown.dropped, strict=True))
    )
    height = 18.0 * len(shown.labels) + 6
    picture = node(
        "svg",
        viewBox=f"0 0 {_WIDTH:g} {height:g}",
        role="img",
        aria_label=f"{shown.measure} by value",
        class_="plot",
    )
    for place, (label, kept, dropped) in enumerate(
        zip(shown.labels, shown.kept, shown.dropped, strict=True)
    ):
        y, scale = 18.0 * place + 4, 150 / most
        said = f"{label}: {count(kept)} kept, {count(dropped)} dropped"
        picture.append(
            node(
                "g",
                node("title", said),
                node("rect", x=0, y=y, width=_WIDTH, height=14, class_="hover"),
                node("text", shorten(label, 12), x=72, y=y + 11, text_anchor="end", class_="name"),
                node("rect", x=78, y=y + 1, width=kept * scale, height=12, class_="kept"),
                node(
                    "rect",
                    x=78 + kept * scale,
                    y=y + 1,
                    width=dropped * scale,
                    height=12,
                    class_="dropped",
                ),
                node(
                    "text",
                    f"{count(kept)} · {count(dropped)}",
                    x=82 + (kept + dropped) * scale,
                    y=y + 11,
                    class_="tick",
                ),
            )
        )
    return picture


# --- losses of a stage

_TOP, _BOTTOM, _LEFT, _RIGHT = 12.0, 138.0, 38.0, 212.0
_POINTS = 160  # drawn for each line at most; more would lie closer than a pixel


def curve_plot(shown: Curve) -> Node:
    """Each loss as a line that carries its name and last value at its end; the axes reach as far as
    the data do.
    """
    lines = {name: _points(shown.steps, values) for name, values in shown.losses.items()}
    lines = {name: points for name, points in lines.items() if points}
    picture = node(
        "svg",
        viewBox=f"0 0 {_WIDTH:g} 164",
        role="img",
        aria_label=f"losses of stage {shown.stage}",
        class_="plot",
    )
    if not lines:
        return picture
    values = [value for points in lines.values() for _, value in points]
    low, high = min(values), max(values)
    ends = _spread({name: _height(points[-1][1], low, high) for name, points in lines.items()})
    places = {name: place for place, name in enumerate(shown.losses)}
    for name, points in lines.items():
        style = "whole" if name == "loss" else f"part{places[name] % 5}"
        picture.append(_line(name, points, style, (low, high), (shown.steps[0], shown.steps[-1])))
        said = f"{shorten(name, 12)} {number(points[-1][1])}"
        picture.append(node("text", said, x=_RIGHT + 5, y=ends[name] + 4, class_=f"end {style}"))
    _add_axes(picture, shown, low, high)
    return picture


def _points(steps: Sequence[int], values: Sequence[float | None]) -> list[tuple[float, float]]:
    """What was computed, averaged over neighbours where there is more than can be drawn."""
    there = [
        (float(step), value)
        for step, value in zip(steps, values, strict=True)
        if value is not None and value == value
    ]
    size = -(-len(there) // _POINTS) or 1
    groups = [there[start : start + size] for start in range(0, len(there), size)]
    return [
        (sum(step for step, _ in group) / len(group), sum(value for _, value in group) / len(group))
        for group in groups
    ]


def _height(value: float, low: float, high: float) -> float:
    return _BOTTOM - (value - low) / ((high - low) or 1) * (_BOTTOM - _TOP)


def _spread(ends: dict[str, float]) -> dict[str, float]:
    """Move labels apart that would lie on one another: from the top down, then back up from the
    bottom.
    """
    order = sorted(ends, key=lambda name: ends[name])
    placed, floor = {}, -12.0
    for name in order:
        placed[name] = floor = max(ends[name], floor + 13)
    ceiling = _BOTTOM + 13
    for name in reversed(order):
        placed[name] = ceiling = min(placed[name], ceiling - 13)
    return placed


def _line(
    name: str,
    points: Sequence[tuple[float, float]],
    style: str,
    span: tuple[float, float],
    steps: tuple[int, int],
) -> Node:
    wide = (steps[1] - steps[0]) or 1
    places = [
        (_LEFT + (step - steps[0]) / wide * (_RIGHT - _LEFT), _height(value, *span))
        for step, value in points
    ]
    said = f"{name}: {number(points[0][1])} at first, {number(points[-1][1])} at last"
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    if len(places) == 1:  # a line through one point is not seen
        path = f"M{places[0][0] - 3:.1f} {places[0][1]:.1f}h6"
    return node("path", node("title", said), d=path, class_=f"line {style}")


def _add_axes(picture: Node, shown: Curve, low: float, high: float) -> None:
    """A frame that spans the range of the data and is labelled at its ends."""
    picture.append(node("line", x1=_LEFT - 5, x2=_LEFT - 5, y1=_TOP, y2=_BOTTOM, class_="axis"))
    picture.append(node("line", x1=_LEFT, x2=_RIGHT, y1=_BOTTOM + 6, y2=_BOTTOM + 6, class_="axis"))
    for value, y in ((high, _TOP + 4), (low, _BOTTOM + 2)):
        picture.append(
            node("text", number(value), x=_LEFT - 9, y=y, text_anchor="end", class_="tick")
        )
    picture.append(node("text", f"step {shown.steps[0]:,}", x=_LEFT, y=_BOTTOM + 20, class_="tick"))
    picture.append(
        node(
            "text",
            f"{shown.steps[-1]:,}",
            x=_RIGHT,
            y=_BOTTOM + 20,
            text_anchor="end",
            class_="tick",
        )
    )
