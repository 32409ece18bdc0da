"""Which address of an image a browser takes: srcset and type attributes, for an image shown at a
given width.

Source: HTML standard 4.8.4.2 and 4.8.4.3 (source sets).
"""

import functools
import re
from typing import NamedTuple

CANDIDATES = 256  # of one attribute; more is an attack
# types that browsers show; a <source> of another type, e.g. image/jxl, is passed over
SHOWN = frozenset(
    {
        "image/jpeg",
        "image/jpg",
        "image/pjpeg",
        "image/png",
        "image/x-png",
        "image/apng",
        "image/gif",
        "image/webp",
        "image/avif",
        "image/svg+xml",
        "image/bmp",
        "image/x-icon",
        "image/vnd.microsoft.icon",
    }
)

_CANDIDATE = re.compile(
    r"[\t\n\f\r ,]*+([^\t\n\f\r ]*[^\t\n\f\r ,])(?:,+(?=[\t\n\f\r"
    r" ]|$)|((?:[^,(]+|\([^)]*(?:\)|$))*)(?:,|$))"
)
_WIDTH = re.compile(r"([1-9][0-9]{0,8})w")
_DESCRIPTOR = re.compile(r"(?:[^\t\n\f\r (]+|\([^)]*(?:\)|$))+")
_FLOAT = re.compile(r"-?(?:\d+(?:\.\d+)?|\.\d+)(?:[eE][+-]?\d+)?")


class Source(NamedTuple):
    """One address that an image offers: its width in pixels or its density."""

    url: str
    width: int | None = None
    density: float = 1.0


def parse_srcset(value: str) -> list[Source]:
    """The candidates of a srcset attribute, those with wrong descriptors left out."""
    if quick := _sized(value):
        return quick
    found: list[Source] = []
    place = 0
    for _ in range(CANDIDATES):
        match = _CANDIDATE.match(value, place)
        if match is None:  # commas and blanks are left: a search would begin again at each of them
            break
        place = match.end()
        if (source := _described(*match.groups())) is not None:
            found.append(source)
    return found


def _sized(value: str) -> list[Source]:
    """What is written plainly, each address with a width and none with a comma; nothing if it is
    written otherwise.
    """
    found: list[Source] = []
    for piece in value.split(",", CANDIDATES):
        words = piece.split()
        if len(words) != 2 or not (width := _WIDTH.fullmatch(words[1])):
            return []
        found.append(Source(words[0], int(width[1])))
    return found[:CANDIDATES] if value.isascii() else []


def _described(url: str, descriptors: str | None) -> Source | None:
    if not descriptors or not (words := _DESCRIPTOR.findall(descriptors)):
        return Source(url)
    width: int | None = None
    height: int | None = None
    density: float | None = None
    for word in words:
        number, unit = word[:-1], word[-1]
        if (
            unit == "w"
            and width is None
            and density is None
            and number.isdecimal()
            and number.isascii()
            and 0 < len(number) < 10
        ):
            width = int(number)
        elif (
            unit == "h"
            and height is None
            and density is None
            and number.isdecimal()
            and number.isascii()
            and 0 < len(number) < 10
        ):
            height = int(number)
        elif (
            unit == "x"
            and width is None
            and density is None
            and height is None
            and _FLOAT.fullmatch(number)
        ):
            density = float(number)
        else:
            return None
    if width == 0 or height == 0 or (height is not None and width is None) or (density or 0) < 0:
        return None
    return Source(url, width, 1.0 if density is None else density)


def choose(sources: list[Source], target_width: int) -> Source:
    """What a browser takes that shows the image that wide: the smallest that is wide enough, else
    the largest; the first of equals.
    """
    if len(sources) == 1:
        return sources[0]
    densities = [
        source.density if source.width is None else source.width / target_width
        for source in sources
    ]
    enough = [density for density in densities if density >= 1]
    return sources[densities.index(min(enough) if enough else max(densities))]


@functools.lru_cache(maxsize=1024)
def shown(media_type: str) -> bool:
    """Whether browsers show images of the type of a <source>; none given counts as shown."""
    return not media_type or media_type.split(";", 1)[0].strip().lower() in SHOWN
