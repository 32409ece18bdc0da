"""The characters of an HTML page, as browsers read them.

Sources: HTML standard 13.2.3.2 (determining the character encoding) and 2.5.4 (extracting it from a
meta element), Encoding standard.
"""

import codecs
import functools
import re
from typing import NamedTuple

import webencodings  # type: ignore[import-untyped]

# bytes in which a declaration counts before the tree is built: HTML standard 13.2.3.2
PRESCANNED = 1024
UTF8 = "utf-8"
WESTERN = "windows-1252"  # what browsers take where nothing is declared, in most of the world
# where the name of the Encoding standard is another codec here
CODECS = {
    "gbk": "gb18030",
    "iso-8859-8-i": "iso8859-8",
    "x-mac-cyrillic": "mac-cyrillic",
    "macintosh": "mac-roman",
    "windows-874": "cp874",
    "shift_jis": "cp932",
    "big5": "big5hkscs",
    "euc-kr": "cp949",
    "euc-jp": "euc_jp",
    "iso-2022-jp": "iso2022_jp_ext",
}
# ASCII bytes are not ASCII characters there
NOT_ASCII = frozenset({"utf-16le", "utf-16be", "iso-2022-jp", "replacement"})
# encodings in which no address is written: UTF-8 takes their place
UNWRITTEN = frozenset({"utf-16le", "utf-16be", "replacement"})

_PARAMETER = re.compile(r";[ \t]*charset=[ \t]*(?:\"([^\"]*)\"|([^;, \t\"]+))", re.IGNORECASE)
_TOKEN = re.compile(rb"<!--|<meta(?=[\t\n\f\r /])|</?[A-Za-z][^\t\n\f\r >]*|<[!/?]", re.IGNORECASE)
_ATTRIBUTE = re.compile(
    rb"[\t\n\f\r /]*(?:>|([^\t\n\f\r />][^\t\n\f\r />=]*)"
    rb"(?:[\t\n\f\r ]*=[\t\n\f\r ]*(?:\"([^\"]*)\"|'([^']*)'|([^\t\n\f\r >\"'][^\t\n\f\r >]*|)))?)"
)
_CONTENT = re.compile(
    r"charset[\t\n\f\r ]*=[\t\n\f\r ]*(?:\"([^\"]*)\"|'([^']*)'|([^\t\n\f\r ;\"'][^\t\n\f\r ;]*))",
    re.IGNORECASE,
)
_XML = re.compile(
    rb"<\?xml[\t\n\r ][^>]*?encoding[\t\n\r ]*=[\t\n\r ]*[\"']([A-Za-z][A-Za-z0-9._-]*)[\"']"
)


class Charset(NamedTuple):
    """The name of an encoding in the Encoding standard; whether a meta element further down may
    still correct it.
    """

    name: str
    mark: int = 0  # bytes of the byte order mark
    tentative: bool = False


def charset_of(body: bytes, content_type: str) -> Charset:
    """By byte order mark, HTTP header, meta element or XML declaration; else UTF-8 where the bytes
    are, else Windows-1252.
    """
    for mark, name in (
        (codecs.BOM_UTF8, UTF8),
        (codecs.BOM_UTF16_LE, "utf-16le"),
        (codecs.BOM_UTF16_BE, "utf-16be"),
    ):
        if body.startswith(mark):
            return Charset(name, len(mark))
    declared = of_header(content_type) or of_prescan(body[:PRESCANNED])
    if declared is not None:
        return Charset(declared)
    return Charset(UTF8 if _is_utf8(body) else WESTERN, tentative=True)


def characters(body: bytes, charset: Charset) -> str | bytes:
    """A page for the parser: its bytes where they are UTF-8, faults included (each is replaced when
    it is read), else its text.
    """
    if charset.mark:
        body = body[charset.mark :]
    if charset.name == UTF8 or (charset.name not in NOT_ASCII and body.isascii()):
        return body
    return decoded(body, charset.name)


def decoded(body: bytes, name: str) -> str:
    """Text of bytes in an encoding of the Encoding standard; what is no character becomes
    U+FFFD.
    """
    # encodings with which filters were evaded: browsers show nothing of such a page
    if name == "replacement":
        return "\ufffd" if body else ""
    if name == "x-user-defined":
        return str(webencodings.decode(body, webencodings.lookup(name))[0])
    errors = (
        "euc_jp_rows"
        if name == "euc-jp"
        else "c1_or_replace"
        if name.startswith("windows-")
        else "replace"
    )
    return body.decode(CODECS.get(name, name), errors)


def encoded(text: str, name: str) -> bytes:
    """Bytes of a text in an encoding of the Encoding standard; UnicodeEncodeError if it lacks a
    character.
    """
    if name == "x-user-defined":
        return bytes(webencodings.encode(text, name, "strict"))
    return text.encode(CODECS.get(name, name))


def _c1_or_replace(error: UnicodeError) -> tuple[str, int]:
    """Bytes 80 to 9F without a character are C1 controls in the indexes of the Encoding
    standard.
    """
    assert isinstance(error, UnicodeDecodeError)
    return (
        "".join(
            chr(byte) if byte < 0xA0 else "\ufffd" for byte in error.object[error.start : error.end]
        ),
        error.end,
    )


def _euc_jp_rows(error: UnicodeError) -> tuple[str, int]:
    """Row 13, circled numbers and company signs, which the codec of Python leaves out and that of
    JIS X 0213 holds.
    """
    assert isinstance(error, UnicodeDecodeError)
    pair = error.object[error.start : error.start + 2]
    if len(pair) == 2 and pair[0] == 0xAD:
        text = pair.decode("euc_jis_2004", "replace")
        return text, error.start + (1 if "\ufffd" in text else 2)
    return "\ufffd", error.end


codecs.register_error("c1_or_replace", _c1_or_replace)
codecs.register_error("euc_jp_rows", _euc_jp_rows)


@functools.lru_cache(maxsize=1024)
def named(label: str) -> str | None:
    """The encoding that a label means in the Encoding standard, e.g. windows-1252 for
    `ISO-8859-1`.
    """
    try:
        found = webencodings.lookup(label)
    except UnicodeError:
        return None
    return None if found is None else str(found.name)


@functools.lru_cache(maxsize=1024)
def of_header(content_type: str) -> str | None:
    match = _PARAMETER.search(content_type)
    return named(match[1] or match[2] or "") if match else None


def of_prescan(head: bytes) -> str | None:
    """What the first bytes of a page declare, in a meta element or else in an XML declaration."""
    declared = _prescan(head) if b"charset" in head.lower() else None
    if declared is None and (match := _XML.match(head)):
        declared = in_ascii(named(match[1].decode("ascii")))
    return declared


def in_ascii(name: str | None) -> str | None:
    """What a declaration written in ASCII can mean: it was read, so the page is not UTF-16."""
    return (
        UTF8 if name in ("utf-16le", "utf-16be") else WESTERN if name == "x-user-defined" else name
    )


def _prescan(head: bytes) -> str | None:
    position = 0
    while token := _TOKEN.search(head, position):
        text = token[0].lower()
        if text == b"<!--":
            position = head.find(b"-->", token.start() + 2) + 3
        elif text in (b"<!", b"</", b"<?"):
            position = head.find(b">", token.end()) + 1
        else:
            attributes, position = _attributes(head, token.end())
            name = of_meta(attributes) if text == b"<meta" else None
            if name is not None:
                return name
        if position < token.end():  # what was begun does not end here
            return None
    return None


def _attributes(head: bytes, position: int) -> tuple[dict[str, str], int]:
    found: dict[str, str] = {}
    while match := _ATTRIBUTE.match(head, position):
        position = match.end()
        if match[1] is None:
            break
        value = match[2] or match[3] or match[4] or b""
        found.setdefault(match[1].lower().decode("latin-1"), value.decode("latin-1"))
    return found, position


def of_meta(attributes: "dict[str, str] | dict[str, str | None]") -> str | None:
    """The encoding that a meta element declares by its charset, or by its content if it stands for
    the Content-Type header.
    """
    if (label := attributes.get("charset")) is not None:
        return in_ascii(named(label))
    if (attributes.get("http-equiv") or "").strip().lower() != "content-type":
        return None
    match = _CONTENT.search(attributes.get("content") or "")
    return in_ascii(named(match[1] or match[2] or match[3] or "")) if match else None


def _is_utf8(body: bytes) -> bool:
    if body.isascii():
        return True
    try:
        body.decode(UTF8)
    except UnicodeDecodeError as error:
        # inside the last character
        cut = error.end == len(body) and error.reason == "unexpected end of data"
        return cut and not body[: error.start].isascii()
    return True
