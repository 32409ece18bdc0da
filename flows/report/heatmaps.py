"""What a model looks at: words carried to patches as heat over the image (ViLT's figure 4), and the
patterns of its attention (UNITER).
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from flows.report.plots import number
from flows.report.tree import Node, node, plain_table, shorten

WORDS = 12  # of a text that are drawn
PATTERNS = ("vertical", "diagonal", "block", "reversed_block")


def look_figures(found: Mapping[str, Any]) -> Iterator[Node]:
    """Of each pair the image and a heat map for each word; then the shares of the patterns, layer
    by layer.
    """
    pairs = [one for one in found.get("pairs", []) if isinstance(one, Mapping)]
    if not pairs:
        return
    yield node(
        "p",
        "Where the optimal transport between words and patches carries each word: the stronger the"
        " colour, the more of it. ",
        "Beside the text stand the probability that it belongs to the image, and what the transport"
        " costs.",
        class_="sentence",
    )
    for pair in pairs:
        told = f"{number(pair['probability'])}, cost {number(pair['distance'])}"
        words = list(zip(pair["words"], pair["alignment"], strict=True))[:WORDS]
        maps = [_map(str(word), heat, pair) for word, heat in words]
        yield node(
            "p",
            shorten(str(pair["text"]), 240),
            " ",
            node("span", f"({told})", class_="note"),
            dir="auto",
        )
        yield node("div", _plain(pair), *maps, class_="heats")
    yield patterns_table(pairs)


def _frame(pair: Mapping[str, Any]) -> Node:
    """The image in units of patches."""
    rows, columns = pair["grid"]
    picture = node("svg", viewBox=f"0 0 {columns} {rows}", role="img")
    source = str(pair["image"])
    if source.startswith("data:image/jpeg;base64,"):
        image = node("image", width=columns, height=rows, href=source)
        image.set("preserveAspectRatio", "none")
        picture.append(image)
    return picture


def _plain(pair: Mapping[str, Any]) -> Node:
    picture = _frame(pair)
    picture.set("aria-label", "the image as the model sees it")
    return node("figure", picture, node("figcaption", "image"))


def _map(word: str, heat: Sequence[Sequence[float]], pair: Mapping[str, Any]) -> Node:
    picture = _frame(pair)
    picture.set("aria-label", f"where the word {shorten(word, 40)} goes")
    most = max((value for line in heat for value in line), default=0.0) or 1.0
    for y, line in enumerate(heat):
        for x, value in enumerate(line):
            picture.append(
                node(
                    "rect",
                    x=x,
                    y=y,
                    width=1,
                    height=1,
                    fill_opacity=0.85 * value / most,
                    class_="heat",
                )
            )
    return node("figure", picture, node("figcaption", shorten(word, 24)))


def patterns_table(pairs: Sequence[Mapping[str, Any]]) -> Node:
    """Of each layer the mean shares of attention over heads and pairs, and how many heads show
    which pattern most.
    """
    words = ("layer", *(name.replace("_", " ") for name in PATTERNS), "heads by their pattern")
    rows = []
    for layer in range(min(len(pair["patterns"]) for pair in pairs)):
        heads = [one for pair in pairs for one in pair["patterns"][layer]]
        rows.append(
            _layer(str(layer + 1), heads, Counter(one["pattern"] for one in heads), len(pairs))
        )

    even = [one["even"] for pair in pairs for one in pair["patterns"][0]]
    rows.append(_layer("if even", even, Counter(), 1))
    return plain_table(words, rows, frozenset(range(1, len(PATTERNS) + 1)))


def _layer(
    name: str, heads: Sequence[Mapping[str, Any]], by: Counter[str], pairs: int
) -> list[str]:
    row = [name]
    for pattern in PATTERNS:
        mean = sum(one[pattern] for one in heads) / len(heads)
        row.append(f"{100 * mean:.0f} %")

    said = (
        f"{pattern.replace('_', ' ')} {count / pairs:.3g}" for pattern, count in by.most_common()
    )
    return [*row, ", ".join(said)]
