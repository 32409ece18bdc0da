"""Tags with more attributes than any page has: building the tree takes time with the square of
their number.

Measured with lexbor: 20,000 attributes of one tag take a second, 50,000 take six and a half, and
sixteen megabytes hold millions.
"""

import re
from collections.abc import Iterator

import numpy as np

MOST = 1000  # attributes of a tag
SMALL = 128 * 1024  # bytes; what fits in there takes five seconds at worst
# bytes of a tag that is looked at; fewer attributes than fit in there take a tenth of a second
LONG = 16 * 1024
# bytes from which every tag is looked at, however long it seems: such a page takes minutes at worst
LARGE = 1024 * 1024
# as the tokenizer of the HTML Standard (13.2.5.32 to 13.2.5.39) tells attributes apart
_ATTRIBUTE = rb"[\s/]*+[^\s/>][^\s/>=]*+(?:\s*+=\s*+(?:\"[^\"]*+\"|'[^']*+'|[^\s>]++)?+)?+"
_LONG = re.compile(rb"(<[A-Za-z][^\s/>]*+(?:%s){%d})(?:%s)++" % (_ATTRIBUTE, MOST, _ATTRIBUTE))
# a tag begins at the first place of a word that looks so: what leads out of a script, a comment or
# a value has a `>`
_BEGIN = re.compile(rb"<[A-Za-z][^\s>]*+")


def few_attributes(html: bytes) -> bytes:
    """A page whose tags keep their first thousand attributes; nearly always as it is."""
    if len(html) <= SMALL:
        return html
    pieces: list[bytes] = []
    start = 0
    for begin in _begins(html):
        if begin >= start and (match := _LONG.match(html, begin)):
            pieces += [html[start:begin], match[1]]
            start = match.end()
    return b"".join([*pieces, html[start:]]) if pieces else html


def _begins(html: bytes) -> Iterator[int]:
    """Where tags begin: of all but the largest pages those that are long, if none of their
    attributes holds a `>`.
    """
    if len(html) > LARGE:
        yield from (match.start() for match in _BEGIN.finditer(html))
        return
    ends = np.flatnonzero(np.frombuffer(html, np.uint8) == ord(">"))
    borders = np.concatenate(([-1], ends, [len(html)]))
    for place in np.flatnonzero(np.diff(borders) > LONG).tolist():
        yield from (
            match.start()
            for match in _BEGIN.finditer(html, borders[place] + 1, borders[place + 1] - LONG + 1)
        )
