"""Tags with more attributes than any page has: building the tree takes time with the square of their number.

Measured with lexbor: 20,000 attributes of one tag take a second, 50,000 take six and a half, and sixteen megabytes hold millions.
"""

import re

import numpy as np

MOST = 1000  # attributes of a tag
SMALL = 128 * 1024  # bytes; what fits in there takes five seconds at worst
LONG = 16 * 1024  # bytes of a tag that is looked at; fewer attributes than fit in there take a tenth of a second
LARGE = 2 * 1024 * 1024  # bytes from which every tag is looked at, whatever its length seems to be: a page of that size takes minutes at worst
# as the tokenizer of the HTML Standard (13.2.5.32 to 13.2.5.39) tells attributes apart
_ATTRIBUTE = rb"[\s/]*+[^\s/>][^\s/>=]*+(?:\s*+=\s*+(?:\"[^\"]*+\"|'[^']*+'|[^\s>]++)?+)?+"
_LONG = re.compile(rb"(<[A-Za-z][^\s/>]*+(?:%s){%d})(?:%s)++" % (_ATTRIBUTE, MOST, _ATTRIBUTE))


def few_attributes(html: bytes) -> bytes:
    """A page whose tags keep their first thousand attributes; nearly always as it is."""
    if len(html) <= SMALL or (len(html) <= LARGE and not _has_long_tag(html)):
        return html
    return _LONG.sub(rb"\1", html)


def _has_long_tag(html: bytes) -> bool:
    """Whether some tag is long, where none of its attributes holds a `>`."""
    characters = np.frombuffer(html, np.uint8)
    begins = np.flatnonzero(characters[:-1] == ord("<"))
    begins = begins[((characters[begins + 1] | 32) >= ord("a")) & ((characters[begins + 1] | 32) <= ord("z"))]
    ends = np.append(np.flatnonzero(characters == ord(">")), len(html))
    return bool((ends[np.searchsorted(ends, begins)] - begins > LONG).any())
