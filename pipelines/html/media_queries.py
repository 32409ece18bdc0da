"""Whether a media query holds for a window of a given width on a screen with a mouse, one pixel of
the image a pixel of the window.

Sources: Media Queries Level 4 and 5.
"""

import functools
import re
from collections.abc import Iterator

# pixels; the commonest of laptops: windows narrower than that are upright, wider ones lie
WINDOW_HEIGHT = 768
DEPTH = 8  # parentheses of a media query inside each other
UNITS = {
    "px": 1.0,
    "em": 16.0,
    "rem": 16.0,
    "pt": 96 / 72,
    "pc": 16.0,
    "in": 96.0,
    "cm": 96 / 2.54,
    "mm": 9.6 / 2.54,
    "q": 2.4 / 2.54,
}
# what a window on a screen with a mouse says of the other features
FEATURES = {
    "orientation": ("portrait", "landscape"),
    "prefers-color-scheme": ("light",),
    "prefers-reduced-motion": ("no-preference",),
    "prefers-reduced-data": ("no-preference",),
    "prefers-contrast": ("no-preference",),
    "hover": ("hover",),
    "any-hover": ("hover",),
    "pointer": ("fine",),
    "any-pointer": ("fine",),
    "display-mode": ("browser",),
    "scripting": ("none",),
    "update": ("fast",),
    "overflow-block": ("scroll",),
    "overflow-inline": ("scroll",),
    "grid": ("0",),
    "forced-colors": ("none",),
    "inverted-colors": ("none",),
    "dynamic-range": ("standard",),
    "color-gamut": ("srgb",),
}
# values that do not hold where a feature stands without one
SAYS_NO = frozenset({"no-preference", "none", "0"})

_NAME = re.compile(r"[-a-z]+")
_LENGTH = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)([a-z]*)")
_RATIO = re.compile(r"(\d+\.?\d*)\s*(?:/\s*(\d+\.?\d*))?")
_RANGE = re.compile(r"(?:([^<>=]+?)\s*(<=|>=|<|>|=)\s*)?([-a-z]+)(?:\s*(<=|>=|<|>|=)\s*([^<>=]+))?")
_FLIPPED = {"<": ">", ">": "<", "<=": ">=", ">=": "<=", "=": "="}
_COMMENT = re.compile(r"/\*.*?(?:\*/|$)", re.DOTALL)


@functools.lru_cache(maxsize=4096)
def matches(media: str, width: int) -> bool:
    """Whether a list of media queries holds for a window on a screen; an empty one does."""
    media = _COMMENT.sub(" ", media).strip().lower()[:2048]
    return not media or any(_query(query, width) for query in _split(media, ","))


def _query(query: str, width: int) -> bool:
    words = query.split()
    if not words or "(" in words[0]:
        return _condition(query, width, 0) is True
    negated = words[0] == "not"
    if (negated or words[0] == "only") and len(words) > 1:
        if "(" in words[1]:
            return _condition(query, width, 0) is True
        words = words[1:]
    if not _NAME.fullmatch(words[0]) or words[0] in ("and", "or", "not", "only", "layer"):
        return False
    holds: bool | None = words[0] in ("all", "screen")
    if len(words) > 1:
        rest = " ".join(words[1:])
        if not rest.startswith("and"):
            return False
        holds = _both(holds, _condition(rest[3:], width, 0))
    return holds is not None and holds is not negated


def _both(left: bool | None, right: bool | None) -> bool | None:
    return (
        False
        if left is False or right is False
        else None
        if left is None or right is None
        else True
    )


def _condition(text: str, width: int, depth: int) -> bool | None:
    """A condition of parts in parentheses; None if it cannot be told, which counts as not holding
    wherever it stands.
    """
    text = text.strip()
    if depth > DEPTH:
        return None
    if text.startswith("not") and text[3:].lstrip().startswith("("):
        inner = _condition(text[3:], width, depth + 1)
        return None if inner is None else not inner
    parts, joints = _joined(text)
    if not parts or len(set(joints)) > 1:
        return None
    values = [_part(part, width, depth) for part in parts]
    if joints and joints[0] == "or":
        return True if True in values else None if None in values else False
    return False if False in values else None if None in values else True


def _joined(text: str) -> tuple[list[str], list[str]]:
    """`(a) and (b)` as what stands in the parentheses, and the words between them; nothing if it is
    no such thing.
    """
    parts: list[str] = []
    joints: list[str] = []
    while text.startswith("("):
        end = _closing(text)
        if end < 0:
            return [], []
        parts.append(text[1:end])
        text = text[end + 1 :].strip()
        if not text:
            return parts, joints
        word, text = text[:3].strip(" ("), text[3 if text.startswith("and") else 2 :].strip()
        if word not in ("and", "or"):
            return [], []
        joints.append(word)
    return [], []


def _closing(text: str) -> int:
    depth = 0
    for place, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if depth == 0:
            return place
    return len(text)  # the standard closes at the end what was left open


def _part(text: str, width: int, depth: int) -> bool | None:
    text = text.strip()
    if text.startswith("(") or (text.startswith("not") and "(" in text):
        return _condition(text, width, depth + 1)
    name, colon, value = (piece.strip() for piece in text.partition(":"))
    if colon:
        return _feature(name, value, width)
    if not any(mark in text for mark in "<>="):
        return _plain(text, width)
    match = _RANGE.fullmatch(text)
    if not match:
        return None
    holds: bool | None = True
    if match[2]:
        holds = _compared(match[3], _FLIPPED[match[2]], match[1], width)
    if match[4]:
        holds = _both(holds, _compared(match[3], match[4], match[5], width))
    return holds


def _plain(name: str, width: int) -> bool | None:
    """A feature without a value holds where it is not none or zero."""
    if (measure := _measured(name, width)) is not None:
        return measure > 0
    if name not in FEATURES:
        return None
    return SAYS_NO.isdisjoint(FEATURES[name])


def _feature(name: str, value: str, width: int) -> bool | None:
    name = name.removeprefix("-webkit-")
    if name.startswith(("min-", "max-")):
        return _compared(name[4:], ">=" if name.startswith("min-") else "<=", value, width)
    if _measured(name, width) is not None:
        return _compared(name, "=", value, width)
    if name == "orientation" and value in FEATURES[name]:
        return (value == "portrait") == (width <= WINDOW_HEIGHT)
    return value in FEATURES[name] if name in FEATURES else None


def _measured(name: str, width: int) -> float | None:
    known = {
        "width": width,
        "device-width": width,
        "height": WINDOW_HEIGHT,
        "device-height": WINDOW_HEIGHT,
        "resolution": 1.0,
        "device-pixel-ratio": 1.0,
        "aspect-ratio": width / WINDOW_HEIGHT,
        "device-aspect-ratio": width / WINDOW_HEIGHT,
        "color": 8,
        "color-index": 0,
        "monochrome": 0,
    }
    return known.get(name)


def _compared(name: str, sign: str, value: str, width: int) -> bool | None:
    measure, limit = _measured(name, width), _value(name, value.strip())
    if measure is None or limit is None:
        return None
    return {
        "<": measure < limit,
        ">": measure > limit,
        "<=": measure <= limit,
        ">=": measure >= limit,
        "=": measure == limit,
    }[sign]


def _value(name: str, value: str) -> float | None:
    if name.endswith("aspect-ratio"):
        ratio = _RATIO.fullmatch(value)
        return float(ratio[1]) / (float(ratio[2] or 1) or 1) if ratio else None
    match = _LENGTH.fullmatch(value)
    if not match:
        return None
    number, unit = float(match[1]), match[2]
    if name == "resolution":
        scales = {"dppx": 1.0, "x": 1.0, "dpi": 1 / 96, "dpcm": 2.54 / 96}
        return number * scales[unit] if unit in scales else None
    if name.endswith(("width", "height")):
        return (
            number * UNITS[unit] if unit in UNITS else number if number == 0 and not unit else None
        )
    return None if unit else number


def _split(text: str, mark: str) -> Iterator[str]:
    """The pieces between marks that stand outside parentheses."""
    depth, start = 0, 0
    for place, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if character == mark and depth <= 0:
            yield text[start:place].strip()
            start = place + 1
    yield text[start:].strip()
