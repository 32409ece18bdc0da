"""Addresses as a page writes them, made whole: joined to its base as browsers do, spelled in ASCII,
without fragment.

Sources: URL standard, through `permission.urls`; HTML standard 2.4.3 (document base URL). Nearly
all addresses of pages are plain, and of those what the standard makes is put together here: a third
of the time of reading a page went into joining them otherwise.
"""

import re
from urllib.parse import quote

from pipelines.html.charset import UNWRITTEN, encoded
from pipelines.urls import HOST, ascii_address, joined

URL_CHARACTERS = 8192  # servers refuse longer ones (nginx and Apache: 8 KiB of request line)

_PRINTED = re.compile(r"[!-~]+")
_ORIGIN = re.compile(r"(https?:)//[^/?#]+")
# characters that stay as they are in every place of an address
_PLAIN = re.compile(r"[!$%&()*+,\-./0-9:;=?@A-Z_a-z~]+")
_WHOLE = re.compile(rf"(?:https?:)?//{HOST}/")
_WEB = re.compile(r"https?:", re.IGNORECASE)
_BLANKS = "".join(map(chr, range(0x21)))  # C0 controls and space, which the URL standard strips
_NOT_ASCII = re.compile(r"[^\x00-\x7f]+")
# what the special-query percent-encode set of the standard leaves as it is
_QUERY = "!$%&()*+,-./:;=?@[\\]^_`{|}~"


class Base:
    """What relative addresses of a page are joined to. `charset` is that of the page: the query of
    an address is written in it.
    """

    def __init__(self, url: str, charset: str = "utf-8") -> None:
        self.url = ascii_address(url) or joined("", url) or ""
        self.charset = "utf-8" if charset in UNWRITTEN else charset
        self._known: dict[str, str] = {}
        origin = _ORIGIN.match(self.url)
        # without an origin all go the long way
        self.scheme, self.origin = (origin[1], origin[0]) if origin else ("", "")
        path = self.url[len(self.origin) :].partition("?")[0]
        self.folder = self.origin + path[: path.rfind("/") + 1]

    def join(self, address: str) -> str:
        """The whole address; one of data: stays; empty if it cannot be one."""
        whole = self._known.get(address)
        if whole is None:
            whole = self._known[address] = self._join(address)
        return whole

    def _join(self, address: str) -> str:
        # what is plain and has no steps of dots; `%2e` is a dot too
        plain = self.origin and len(address) <= URL_CHARACTERS and _PLAIN.fullmatch(address)
        if plain and "/." not in address and "/%2" not in address and address[0] not in ".?%":
            if address[0] == "/" and address[1:2] != "/":
                return self.origin + address
            if ":" not in address and address[0] != "/":
                return self.folder + address
            if _WHOLE.match(address):
                return self.scheme + address if address[0] == "/" else address
        return self._spelled(address)

    def _spelled(self, address: str) -> str:
        address = address.strip(_BLANKS)
        if address[:5].lower() == "data:":
            return address[:URL_CHARACTERS]
        bare = address.partition("#")[0]
        if not bare or len(bare) > URL_CHARACTERS:
            return ""
        address = self._with_query(address)
        whole = joined(self.url, address) or joined("", address)
        if whole is not None:
            return whole
        # nothing that can be asked for; kept where it can be shown, so that it is accounted for
        return bare if _WEB.match(bare) and _PRINTED.fullmatch(bare) else ""

    def _with_query(self, address: str) -> str:
        """An address whose query is escaped in the encoding of the page (URL standard,
        percent-encode after encoding).
        """
        before, mark, query = address.partition("?")
        if self.charset == "utf-8" or query.isascii():
            return address
        return before + mark + _NOT_ASCII.sub(lambda found: _escaped(found[0], self.charset), query)


def _escaped(text: str, charset: str) -> str:
    """Characters as escapes of their bytes; those that the encoding lacks as escaped references of
    HTML.
    """
    try:
        return quote(encoded(text, charset), safe=_QUERY)
    except UnicodeEncodeError:
        pass
    if len(text) > 1:
        return "".join(_escaped(character, charset) for character in text)
    return f"%26%23{ord(text)}%3B"


def absolute(base: str, address: str) -> str:
    """One address joined to its base."""
    return Base(base).join(address)
