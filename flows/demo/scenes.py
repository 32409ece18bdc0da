"""Drawn pictures with sentences that are true of them: what the pages of the demonstration show.

A scene holds two objects on a textured ground and is described by one of many sentence forms; a
chart is flat and says little.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Point = tuple[float, float]

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (214, 32, 36),
    "orange": (244, 136, 22),
    "yellow": (246, 222, 44),
    "green": (24, 132, 52),
    "blue": (32, 70, 206),
    "purple": (130, 44, 160),
    "pink": (246, 134, 186),
    "black": (26, 24, 28),
    "white": (246, 246, 242),
}
# name of a ground -> its mean colour, how rough its grain is, and along which axis the grain is
# drawn out (0 none, 1 down, 2 across)
GROUNDS: dict[str, tuple[tuple[int, int, int], int, int]] = {
    "sandy": ((222, 196, 142), 26, 0),
    "grassy": ((112, 158, 74), 40, 1),
    "snowy": ((214, 224, 236), 16, 0),
    "stony": ((136, 134, 130), 26, 0),
    "wooden": ((150, 100, 60), 30, 2),
    "watery": ((96, 172, 196), 30, 2),
}
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
FILLS = ("plain", "striped", "dotted")
SIZES: dict[str, float] = {"large": 0.42, "small": 0.24}
OPPOSITE = {"above": "below", "below": "above", "left of": "right of", "right of": "left of"}
FORMS = (
    "{First} {relation} {second} on {ground}",
    "{First} and {second} on {ground}",
    "{First} placed {relation} {second} on {ground}",
    "Picture of {first} {relation} {second} on {ground}",
    "On {ground} there is {first} {relation} {second}",
    "{Second} is {opposite} {first} on {ground}",
    "We see {first} {relation} {second} on {ground}",
    "{First} with {second} {opposite} it on {ground}",
    "Two shapes on {ground}: {first} {relation} {second}",
    "{First} lies {relation} {second} on {ground}",
    "{First} {relation} {second}",
    "Here {first} is {relation} {second} on {ground}",
)
# pixels: the side of the textures that scenes cut their grounds from; large enough that cuts differ
_TILE = 512


@dataclass(frozen=True, kw_only=True)
class Thing:
    """One object of a scene."""

    shape: str
    colour: str
    fill: str
    size: str

    def phrase(self, rng: np.random.Generator) -> str:
        """Name the thing by colour and shape, and often by one of size and fill."""
        draw = rng.random()
        words = (
            [self.size]
            if draw < 0.35
            else [self.fill]
            if draw < 0.8 and self.fill != "plain"
            else []
        )
        return " ".join(["a", *words, self.colour, self.shape]).replace("a orange", "an orange")


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What a scene shows: the first thing stands in `relation` to the second."""

    first: Thing
    second: Thing
    relation: str
    ground: str

    def caption(self, rng: np.random.Generator) -> str:
        """One English sentence that is true of the scene, in one of the sentence forms."""
        first, second = self.first.phrase(rng), self.second.phrase(rng)
        kind = ("background", "surface", "floor")[int(rng.integers(3))]
        return str(_pick(rng, FORMS)).format(
            first=first,
            second=second,
            First=first.capitalize(),
            Second=second.capitalize(),
            relation=self.relation,
            opposite=OPPOSITE[self.relation],
            ground=f"a {self.ground} {kind}",
        )


def layout(rng: np.random.Generator) -> Layout:
    """Draw what a scene shows; its two things differ in colour."""
    colours = [list(COLOURS)[int(i)] for i in rng.permutation(len(COLOURS))[:2]]
    things = [
        Thing(
            shape=_pick(rng, SHAPES),
            colour=colour,
            fill=_pick(rng, FILLS),
            size=_pick(rng, list(SIZES)),
        )
        for colour in colours
    ]
    return Layout(
        first=things[0],
        second=things[1],
        relation=_pick(rng, list(OPPOSITE)),
        ground=_pick(rng, list(GROUNDS)),
    )


def scene(rng: np.random.Generator, size: int = 224) -> tuple[Image.Image, str]:
    """A scene of `size` by `size` pixels and a caption of 7 to 16 words, both settled by the
    generator's state.
    """
    shown = layout(rng)
    return render(shown, rng, size), shown.caption(rng)


def render(shown: Layout, rng: np.random.Generator, size: int = 224) -> Image.Image:
    """Paint a layout: a cut of the ground's texture in uneven light, two things in their places,
    grain over all.
    """
    picture = _ground(shown.ground, rng, size)
    for thing, centre in zip(
        (shown.first, shown.second), _centres(shown.relation, rng), strict=True
    ):
        _paint(picture, thing, (centre[0] * size, centre[1] * size), size, rng)
    pixels = np.asarray(picture, dtype=np.int16) + _cut(_grain(), rng, size)[:, :, None]
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def chart(rng: np.random.Generator, size: int = 224) -> tuple[Image.Image, str]:
    """A flat chart (bars, a line or a pie) with labels, and the kind of text that stands beside
    one.
    """
    picture = Image.new("RGB", (size, size), (255, 255, 255))
    brush = ImageDraw.Draw(picture)
    kind = _pick(rng, ("Bar", "Line", "Pie"))
    values = [float(value) for value in rng.uniform(0.2, 1.0, size=5)]
    {"Bar": _bars, "Line": _line, "Pie": _pie}[kind](brush, values, size)
    subject = _pick(rng, ("Sales", "Visitors", "Rainfall", "Exports", "Prices", "Output"))
    year = int(rng.integers(1990, 2026))
    brush.text((size * 0.3, size * 0.02), f"{subject} {year}", fill=(0, 0, 0))
    return picture, f"{kind} chart of {subject.lower()} by region in {year}"


def _pick(rng: np.random.Generator, options: Sequence[str]) -> str:
    return options[int(rng.integers(len(options)))]


def _centres(relation: str, rng: np.random.Generator) -> tuple[Point, Point]:
    """Where the two things stand, in fractions of the side; the first is in `relation` to the
    second.
    """
    near, far = 0.26 + rng.uniform(-0.04, 0.04), 0.74 + rng.uniform(-0.04, 0.04)
    across = 0.5 + rng.uniform(-0.2, 0.2, size=2)
    low, high = (near, float(across[0])), (far, float(across[1]))
    if relation in ("above", "below"):
        low, high = (low[1], low[0]), (high[1], high[0])
    return (low, high) if relation in ("above", "left of") else (high, low)


def _paint(
    picture: Image.Image, thing: Thing, centre: Point, size: int, rng: np.random.Generator
) -> None:
    side = SIZES[thing.size] * size * float(rng.uniform(0.9, 1.1))
    mask = _outline(thing.shape, int(side))
    shade = np.array(COLOURS[thing.colour]) + rng.integers(-14, 15, size=3)
    surface = Image.new("RGB", mask.size, _colour(shade))
    if thing.fill != "plain":
        _decorate(surface, thing.fill, _colour(shade * 0.45 + (60 if shade.mean() < 60 else 0)))
    picture.paste(surface, (int(centre[0] - side / 2), int(centre[1] - side / 2)), mask)


def _decorate(surface: Image.Image, fill: str, colour: tuple[int, int, int]) -> None:
    brush, side = ImageDraw.Draw(surface), surface.width
    step = max(6, side // 5)
    for offset in range(0, side, step):
        if fill == "striped":
            brush.rectangle((0, offset, side, offset + step // 3), fill=colour)
            continue
        for across in range(0, side, step):
            brush.ellipse((across, offset, across + step // 2, offset + step // 2), fill=colour)


@lru_cache(maxsize=512)
def _outline(shape: str, side: int) -> Image.Image:
    """The mask of a shape, drawn four times larger and shrunk so that its edge is smooth."""
    big = side * 4
    mask = Image.new("L", (big, big), 0)
    brush = ImageDraw.Draw(mask)
    if shape in ("circle", "ring"):
        brush.ellipse((0, 0, big - 1, big - 1), fill=255)
    if shape == "ring":
        brush.ellipse((big * 0.28, big * 0.28, big * 0.72, big * 0.72), fill=0)
    if shape == "square":
        brush.rectangle((big * 0.06, big * 0.06, big * 0.94, big * 0.94), fill=255)
    if shape == "cross":
        brush.rectangle((big * 0.34, 0, big * 0.66, big), fill=255)
        brush.rectangle((0, big * 0.34, big, big * 0.66), fill=255)
    if shape == "triangle":
        brush.polygon([(big / 2, 0), (big, big * 0.95), (0, big * 0.95)], fill=255)
    if shape == "star":
        brush.polygon(_star(big / 2), fill=255)
    return mask.resize((side, side), Image.Resampling.BILINEAR)


def _star(radius: float) -> list[Point]:
    angles = np.arange(10) * np.pi / 5 - np.pi / 2
    lengths = np.where(np.arange(10) % 2 == 0, radius, radius * 0.45)
    return [
        (float(radius + r * np.cos(a)), float(radius + r * np.sin(a)))
        for a, r in zip(angles, lengths, strict=True)
    ]


def _ground(name: str, rng: np.random.Generator, size: int) -> Image.Image:
    """A cut of the texture, lit from one corner: the slope of the light sets two pictures of the
    same layout apart.
    """
    pixels = _cut(_texture(name), rng, size).astype(np.float32)
    down, across = rng.uniform(-0.22, 0.22, size=2).astype(np.float32)
    ramp = np.linspace(-1, 1, size, dtype=np.float32)
    light = 1 + down * ramp[:, None] + across * ramp[None, :]
    return Image.fromarray(np.clip(pixels * light[:, :, None], 0, 255).astype(np.uint8))


def _cut(texture: NDArray[np.int16], rng: np.random.Generator, size: int) -> NDArray[np.int16]:
    if size > _TILE:
        raise ValueError(
            f"a scene is at most {_TILE} pixels wide, not {size}: ask for a smaller size"
        )
    top, left = (int(value) for value in rng.integers(0, _TILE - size + 1, size=2))
    return texture[top : top + size, left : left + size]


@lru_cache(maxsize=len(GROUNDS))
def _texture(name: str) -> NDArray[np.int16]:
    mean, rough, axis = GROUNDS[name]
    rng = np.random.default_rng(sorted(GROUNDS).index(name))
    grain = rng.normal(0, rough, size=(_TILE, _TILE))
    blotches = np.kron(
        rng.normal(0, rough * 0.6, size=(_TILE // 32, _TILE // 32)), np.ones((32, 32))
    )
    if axis:  # a running mean along one axis draws the grain out into blades, boards or ripples
        grain = np.apply_along_axis(
            lambda line: np.convolve(line, np.full(12, 12**-0.5), mode="same"), axis - 1, grain
        )
    texture: NDArray[np.int16] = np.clip(
        np.array(mean) + (grain + blotches)[:, :, None], 0, 255
    ).astype(np.int16)
    return texture


@lru_cache(maxsize=1)
def _grain() -> NDArray[np.int16]:
    return np.random.default_rng(99).normal(0, 9, size=(_TILE, _TILE)).astype(np.int16)


def _colour(value: NDArray[Any]) -> tuple[int, int, int]:
    red, green, blue = (int(channel) for channel in np.clip(value, 0, 255))
    return red, green, blue


def _bars(brush: ImageDraw.ImageDraw, values: Sequence[float], size: int) -> None:
    _axes(brush, size)
    width = size * 0.7 / len(values)
    for place, value in enumerate(values):
        left = size * 0.17 + place * width
        brush.rectangle(
            (left, size * (0.85 - 0.65 * value), left + width * 0.7, size * 0.85),
            fill=(70, 110, 190),
        )


def _line(brush: ImageDraw.ImageDraw, values: Sequence[float], size: int) -> None:
    _axes(brush, size)
    points = [
        (size * (0.17 + 0.17 * place), size * (0.85 - 0.65 * value))
        for place, value in enumerate(values)
    ]
    brush.line(points, fill=(200, 60, 40), width=3)


def _pie(brush: ImageDraw.ImageDraw, values: Sequence[float], size: int) -> None:
    box, start = (size * 0.2, size * 0.15, size * 0.8, size * 0.75), 0.0
    for place, value in enumerate(values):
        end = start + 360 * value / sum(values)
        brush.pieslice(box, start, end, fill=list(COLOURS.values())[place])
        start = end
    _labels(brush, size)


def _axes(brush: ImageDraw.ImageDraw, size: int) -> None:
    brush.line(
        [(size * 0.14, size * 0.15), (size * 0.14, size * 0.85), (size * 0.92, size * 0.85)],
        fill=(0, 0, 0),
        width=2,
    )
    _labels(brush, size)


def _labels(brush: ImageDraw.ImageDraw, size: int) -> None:
    for place, name in enumerate(("North", "East", "South", "West")):
        brush.text((size * (0.16 + 0.2 * place), size * 0.9), name, fill=(0, 0, 0))
