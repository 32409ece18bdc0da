"""Graphics of many kinds, drawn at random: what the classifier of natural images learns to reject,
beside real ones.
"""

import io
from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

Colour = tuple[int, int, int]
WORDS = (
    *(
        "growth",
        "budget",
        "revenue",
        "plan",
        "team",
        "north",
        "region",
        "quarter",
        "total",
        "average",
        "annual",
        "forecast",
    ),
    *(
        "profit",
        "index",
        "rate",
        "share",
        "market",
        "visitors",
        "units",
        "volume",
        "results",
        "overview",
        "summary",
        "left",
    ),
    *("right", "before", "after", "first", "second", "model", "energy", "water", "paper", "stone"),
)
RESAMPLING = (Image.Resampling.BICUBIC, Image.Resampling.BILINEAR, Image.Resampling.LANCZOS)


def graphic(rng: Random) -> bytes:
    """One encoded graphic: two in five plotted by matplotlib, the others drawn; a third resized,
    most saved as JPEG.
    """
    picture = _plotted(rng) if rng.random() < 0.4 else _drawn(rng)
    if rng.random() < 0.35:
        scale = rng.uniform(0.4, 1.5)
        picture = picture.resize(
            (max(64, int(picture.width * scale)), max(64, int(picture.height * scale))),
            rng.choice(RESAMPLING),
        )
    buffer = io.BytesIO()
    if rng.random() < 0.7:
        picture.convert("RGB").save(
            buffer, "JPEG", quality=rng.choice((30, 50, 60, 75, 85, 90, 95))
        )
    else:
        picture.convert("RGB").save(buffer, "PNG")
    return buffer.getvalue()


def _words(rng: Random, count: int) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(count))


def _colour(rng: Random) -> Colour:
    return rng.randrange(256), rng.randrange(256), rng.randrange(256)


def _ground(rng: Random) -> Colour:
    pale = rng.randint(225, 255), rng.randint(225, 255), rng.randint(225, 255)
    return rng.choice(
        ((255, 255, 255), (255, 255, 255), (255, 255, 255), pale, (20, 20, 30), _colour(rng))
    )


def _font(size: int) -> ImageFont.FreeTypeFont:
    import matplotlib

    return ImageFont.truetype(
        str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size
    )


def _plotted(rng: Random) -> Image.Image:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    numbers = np.random.default_rng(rng.getrandbits(32))
    with pyplot.style.context(rng.choice([*pyplot.style.available, *["default"] * 4])):
        figure, axes = pyplot.subplots(
            figsize=(rng.uniform(3, 8), rng.uniform(2.2, 6)), dpi=rng.choice((60, 80, 100, 120))
        )
        rng.choice(_PLOTS)(axes, rng, numbers)
        if rng.random() < 0.7:
            axes.set_title(_words(rng, 3))
        if rng.random() < 0.4:
            axes.grid(True)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
        pyplot.close(figure)
    return Image.open(io.BytesIO(buffer.getvalue())).convert("RGB")


def _wave(numbers: np.random.Generator) -> np.ndarray:
    return np.add.outer(
        np.sin(np.linspace(0, numbers.uniform(2, 9), 40)), np.cos(np.linspace(0, 6, 40))
    )


_PLOTS: tuple[Callable[..., object], ...] = (
    lambda axes, rng, numbers: axes.bar(range(6), numbers.random(6)),
    lambda axes, rng, numbers: axes.bar(
        range(9), numbers.random(9), color=[tuple(numbers.random(3)) for _ in range(9)]
    ),
    lambda axes, rng, numbers: axes.barh(range(5), numbers.random(5)),
    lambda axes, rng, numbers: [
        axes.plot(np.cumsum(numbers.normal(size=100)), lw=rng.uniform(1, 4))
        for _ in range(rng.randint(1, 5))
    ],
    lambda axes, rng, numbers: axes.pie(
        numbers.random(5) + 0.1, labels=[_words(rng, 1) for _ in range(5)]
    ),
    lambda axes, rng, numbers: axes.pie(numbers.random(7) + 0.1),
    lambda axes, rng, numbers: axes.scatter(
        *numbers.normal(size=(2, 200)), c=numbers.random(200), s=rng.choice((5, 20, 60))
    ),
    lambda axes, rng, numbers: axes.imshow(
        numbers.random((rng.choice((9, 20, 40)), 9)),
        cmap=rng.choice(("viridis", "hot", "Blues", "jet")),
        aspect="auto",
    ),
    lambda axes, rng, numbers: axes.hist(numbers.normal(size=500), bins=rng.choice((8, 20, 50))),
    lambda axes, rng, numbers: axes.stackplot(range(20), numbers.random((4, 20))),
    lambda axes, rng, numbers: axes.contourf(_wave(numbers), levels=rng.choice((5, 10, 20))),
)


def _drawn(rng: Random) -> Image.Image:
    picture = Image.new("RGB", (rng.randint(120, 900), rng.randint(100, 700)), _ground(rng))
    rng.choice(_DRAWINGS)(picture, ImageDraw.Draw(picture), rng)
    return picture.convert("L").convert("RGB") if rng.random() < 0.15 else picture


def _bars(picture: Image.Image, draw: ImageDraw.ImageDraw, rng: Random) -> None:
    width, height = picture.size
    count, inks = rng.randint(3, 9), [_colour(rng) for _ in range(rng.randint(1, 4))]
    floor = height - height // 12
    for number in range(count):
        left = width * number / count
        draw.rectangle(
            (
                left + width / count * 0.15,
                rng.randint(height // 8, floor - 2),
                left + width / count * 0.85,
                floor,
            ),
            rng.choice(inks),
        )
    draw.line((0, floor, width, floor), "black", 2)


def _text(picture: Image.Image, draw: ImageDraw.ImageDraw, rng: Random) -> None:
    size, ink = rng.randint(10, 26), rng.choice(((0, 0, 0), (60, 60, 60), _colour(rng)))
    for top in range(10, picture.height - size, int(size * 1.5)):
        draw.text((10, top), _words(rng, rng.randint(3, 12)), ink, _font(size))


def _logo(picture: Image.Image, draw: ImageDraw.ImageDraw, rng: Random) -> None:
    width, height = picture.size
    for _ in range(rng.randint(1, 6)):
        x, y, half = (
            rng.randrange(width),
            rng.randrange(height),
            rng.randint(20, max(21, min(width, height) // 2)),
        )
        shape = rng.choice((draw.ellipse, draw.rectangle))
        shape((x - half, y - half, x + half, y + half), _colour(rng))
    if rng.random() < 0.5:
        draw.text(
            (width // 6, height // 3), _words(rng, 1), _colour(rng), _font(max(12, height // 6))
        )


def _gradient(picture: Image.Image, draw: ImageDraw.ImageDraw, rng: Random) -> None:
    width, height = picture.size
    across, down = np.linspace(0, 1, width)[None, :, None], np.linspace(1, 0, height)[:, None, None]
    values = across * np.array(_colour(rng)) + down * np.array(_colour(rng)) * 0.6
    picture.paste(Image.fromarray(np.clip(values, 0, 255).astype(np.uint8)))
    if rng.random() < 0.7:
        draw.text(
            (width // 8, height // 3),
            _words(rng, 2),
            rng.choice(("white", "black")),
            _font(max(12, height // 8)),
        )


def _table(picture: Image.Image, draw: ImageDraw.ImageDraw, rng: Random) -> None:
    rows, columns = rng.randint(3, 12), rng.randint(2, 7)
    high, wide = picture.height / rows, picture.width / columns
    for row in range(rows):
        draw.line((0, row * high, picture.width, row * high), (150, 150, 150))
        for column in range(columns):
            draw.line((column * wide, 0, column * wide, picture.height), (150, 150, 150))
            said = rng.choice((_words(rng, 1), str(rng.randrange(10_000))))
            draw.text((column * wide + 4, row * high + 4), said, "black", _font(12))


def _boxes(picture: Image.Image, draw: ImageDraw.ImageDraw, rng: Random) -> None:
    width, height = picture.size
    places = [
        (rng.randint(40, width - 40), rng.randint(30, height - 30))
        for _ in range(rng.randint(3, 7))
    ]
    draw.line(places, "black", 2)
    for x, y in places:
        draw.rounded_rectangle((x - 40, y - 18, x + 40, y + 18), 8, _colour(rng), "black")
        draw.text((x - 30, y - 7), _words(rng, 1), "black", _font(12))


def _screen(picture: Image.Image, draw: ImageDraw.ImageDraw, rng: Random) -> None:
    width, height = picture.size
    draw.rectangle((0, 0, width, height // 10), _colour(rng))
    draw.rectangle((0, height // 10, width // 5, height), (240, 240, 244))
    for number in range(rng.randint(3, 14)):
        draw.text((8, height // 10 + 10 + number * 24), _words(rng, 1), (80, 80, 90), _font(12))
        draw.text(
            (width // 5 + 12, height // 10 + 12 + number * 24),
            _words(rng, rng.randint(3, 9)),
            (30, 30, 30),
            _font(13),
        )
    for _ in range(rng.randint(0, 3)):
        x, y = rng.randint(width // 5, width), rng.randint(height // 10, height)
        draw.rounded_rectangle((x, y, x + 80, y + 24), 6, _colour(rng))


def _pie(picture: Image.Image, draw: ImageDraw.ImageDraw, rng: Random) -> None:
    x, y, radius = picture.width // 2, picture.height // 2, min(picture.size) // 2 - 4
    start = 0
    while start < 360:
        end = min(360, start + rng.randint(15, 110))
        draw.pieslice((x - radius, y - radius, x + radius, y + radius), start, end, _colour(rng))
        start = end


def _shapes(picture: Image.Image, draw: ImageDraw.ImageDraw, rng: Random) -> None:
    """Shapes that lie over each other and let each other through, as in maps, posters and
    illustrations; some blurred, some with words.
    """
    for _ in range(rng.randint(4, 50)):
        x, y, half = (
            rng.randrange(picture.width),
            rng.randrange(picture.height),
            rng.uniform(5, 120),
        )
        turns = np.linspace(0, 2 * np.pi, rng.choice((4, 7, 20, 60)), endpoint=False)
        radii = half * np.array([rng.uniform(rng.choice((0.6, 1)), 1) for _ in turns])
        mask = Image.new("L", picture.size)
        outline = np.stack([x + radii * np.cos(turns), y + radii * np.sin(turns)], axis=1)
        ImageDraw.Draw(mask).polygon(outline.ravel().tolist(), rng.choice((255, 255, 200, 120)))
        if rng.random() < 0.15:
            mask = mask.filter(ImageFilter.BoxBlur(rng.uniform(1, half / 3)))
        picture.paste(_colour(rng), mask=mask)
    for _ in range(rng.choice((0, 2, 20))):
        place = rng.randrange(picture.width), rng.randrange(picture.height)
        draw.text(
            place,
            _words(rng, 1),
            rng.choice(((0, 0, 0), (255, 255, 255))),
            _font(rng.randint(8, 30)),
        )


def _slide(picture: Image.Image, draw: ImageDraw.ImageDraw, rng: Random) -> None:
    """Words, and perhaps boxes, on a gradient."""
    _gradient(picture, draw, rng)
    for number in range(rng.randint(0, 6)):
        left = picture.width * number // 6
        top = rng.randint(picture.height // 2, picture.height - 4)
        draw.rectangle((left + 4, top, left + picture.width // 8, picture.height), _colour(rng))
    for top in range(8, picture.height // 2, rng.randint(18, 40)):
        draw.text(
            (10, top), _words(rng, rng.randint(2, 6)), (255, 255, 255), _font(rng.randint(10, 18))
        )


_DRAWINGS = (
    _bars,
    _text,
    _logo,
    _gradient,
    _table,
    _boxes,
    _screen,
    _pie,
    _shapes,
    _shapes,
    _slide,
)
