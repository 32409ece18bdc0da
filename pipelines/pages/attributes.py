"""Tags with more attributes than any page has: building the tree takes time with the square of their number.

Measured with lexbor: 20,000 attributes of one tag take a second, 50,000 take six and a half, and sixteen megabytes hold millions.
"""

import re

import numpy as np

MOST = 1000  # attributes of a tag
SMALL = 128 * 1024  # bytes; what fits in there takes five seconds at worst
LONG = 16 * 1024  # bytes of a tag that is looked at; fewer attributes than fit in there take a tenth of a second
LARGE = 1024 * 1024  # bytes from which every tag is looked at, however long it seems: such a page takes minutes at worst
# as the tokenizer of the HTML Standard (13.2.5.32 to 13.2.5.39) tells attributes apart
_ATTRIBUTE = rb"[\s/]*+[^\s/>][^\s/>=]*+(?:\s*+=\s*+(?:\"[^\"]*+\"|'[^']*+'|[^\s>]++)?+)?+"
_LONG = re.compile(rb"(<[A-Za-z][^\s/>]*+(?:%s){%d})(?:%s)++" % (_ATTRIBUTE, MOST, _ATTRIBUTE))


def few_attributes(html: bytes) -> bytes:
    """A page whose tags keep their first thousand attributes; nearly always as it is."""
    if len(html) <= SMALL:
        return html
    if len(html) > LARGE:
        return _LONG.sub(rb"\1", html)
    pieces: list[bytes] = []
    start = 0
    for begin in _long_tags(html):
        if begin >= start and (match := _LONG.match(html, begin)):
            pieces += [html[start:begin], match[1]]
            start = match.end()
    return b"".join([*pieces, html[start:]]) if pieces else html


def _long_tags(html: bytes) -> list[int]:
    """Where the tags begin that are long, if none of their attributes holds a `>`."""
    characters = np.frombuffer(html, np.uint8)
    begins = np.flatnonzero(characters[:-1] == ord("<"))
    begins = begins[((characters[begins + 1] | 32) >= ord("a")) & ((characters[begins + 1] | 32) <= ord("z"))]
    ends = np.append(np.flatnonzero(characters == ord(">")), len(html))
    found: list[int] = begins[ends[np.searchsorted(ends, begins)] - begins > LONG].tolist()
    return found
