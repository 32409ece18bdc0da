"""The media type that a Content-Type names, as browsers read it.

Fetch standard, "extract a MIME type"; MIME Sniffing standard, section 7.
"""

import re
from functools import lru_cache

HTML = frozenset({"text/html", "application/xhtml+xml"})
# say nothing, so that the content is looked at (MIME Sniffing 7, step 1)
UNKNOWN = frozenset({"unknown/unknown", "application/unknown", "*/*"})
VALUE = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*"?)+')
# browsers end the type at a blank, where the standard finds none at all
ESSENCE = re.compile(
    r"[ \t\r\n]*([!#$%&'*+\-.^_`|~0-9a-z]+/[!#$%&'*+\-.^_`|~0-9a-z]+)(?=[; \t\r\n]|$)"
)


@lru_cache(maxsize=256)  # an archive names few, and each record is asked three times
def media_type(content_type: str | None) -> str:
    """`text/html` of `Text/HTML; charset=utf-8`: the last that can be used of several values.

    Empty if none can.
    """
    values = VALUE.findall((content_type or "").lower())
    found = (ESSENCE.match(value) for value in reversed(values))
    types = (match[1] for match in found if match is not None)
    return next((kind for kind in types if kind not in UNKNOWN), "")


def is_html(media: str, body: bytes) -> bool:
    """Whether a response is a page; without a media type, whether it begins like one."""
    return media in HTML or (
        not media and body[:512].lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<")
    )
