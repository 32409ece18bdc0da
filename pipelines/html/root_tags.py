"""Tags of the document itself, html, head and body, said so that a page costs the square of its
size.

Measured with lexbor: each `<html a1>`, `<body a2>` adds its attributes to one element, and 20,000
of them take 1.2 seconds. Blanks behind `</head>` or `</body>` become one text, which is copied anew
with each element or comment between them: a page of 2 MB takes 5 GB.
"""

import re

import numpy as np

SMALL = 128 * 1024  # bytes; what fits in there takes 0.3 seconds and 60 MB at worst
MOST = 100  # tags that open the document again; they only add attributes
# bytes that may be copied at worst; a twentieth of it for the largest pages of a survey of 3,000
COPIED = 1024**3
_OPENS = re.compile(rb"<(?:html|body)(?=[\t\n\f\r />])[^>]*+>?", re.IGNORECASE)
_CLOSES = re.compile(rb"</(?:html|head|body)(?=[\t\n\f\r />])[^>]*+>?", re.IGNORECASE)


def _starts(*begins: bytes) -> np.ndarray:
    """A table of two characters behind a `<`, in lower case, that tells whether they begin one of
    the tags.
    """
    table = np.zeros((256, 256), bool)
    for begin in begins:
        table[begin[0], begin[1] if len(begin) > 1 else slice(None)] = True
    return table.reshape(-1)


# elements that stand in a head wherever they are, comments, and what is read as one: `</` before no
# letter
_BETWEEN = _starts(b"!", b"?", b"/", b"ba", b"bg", b"li", b"me", b"no", b"sc", b"st", b"te", b"ti")
_BETWEEN.reshape(256, 256)[ord("/"), ord("a") : ord("z") + 1] = False
_ROOTS = _starts(b"ht", b"bo")


def few_roots(html: bytes) -> bytes:
    """A page that opens its document a hundred times at most, and does not close it where that is
    costly.
    """
    if len(html) <= SMALL:
        return html
    characters = np.frombuffer(html, np.uint8)
    places = np.flatnonzero(characters[:-2] == ord("<"))
    begins = (characters[places + 1] | 32).astype(np.uint16) * 256 + (characters[places + 2] | 32)
    between = int(np.count_nonzero(_BETWEEN[begins]))
    roots = int(np.count_nonzero(_ROOTS[begins]))
    if between * len(html) > COPIED:  # few pages; blanks may be written as references too
        blanks = int(np.count_nonzero(characters <= ord(" "))) + html.count(b"&")
        if between * blanks > COPIED:
            html = _CLOSES.sub(b"", html)
    return _opened(html) if roots > MOST else html


def _opened(html: bytes) -> bytes:
    pieces: list[bytes] = []
    start = 0
    for number, match in enumerate(_OPENS.finditer(html)):
        if number >= MOST:
            pieces.append(html[start : match.start()])
            start = match.end()
    return b"".join([*pieces, html[start:]])
