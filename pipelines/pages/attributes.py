"""Tags with more attributes than any page has: building the tree takes time with the square of their number.

Measured with lexbor: 20,000 attributes of one tag take a second, 50,000 take six and a half, and sixteen megabytes hold millions.
"""

import re

MOST = 1000  # attributes of a tag
SMALL = 128 * 1024  # bytes; what fits in there takes five seconds at worst
# as the tokenizer of the HTML Standard (13.2.5.32 to 13.2.5.39) tells attributes apart
_ATTRIBUTE = rb"[\s/]*+[^\s/>][^\s/>=]*+(?:\s*+=\s*+(?:\"[^\"]*+\"|'[^']*+'|[^\s>]++)?+)?+"
_LONG = re.compile(rb"(<[A-Za-z][^\s/>]*+(?:%s){%d})(?:%s)++" % (_ATTRIBUTE, MOST, _ATTRIBUTE))


def few_attributes(html: bytes) -> bytes:
    """A page whose tags keep their first thousand attributes; nearly always as it is."""
    return html if len(html) <= SMALL else _LONG.sub(rb"\1", html)
