"""Addresses as a page writes them, made whole: joined to its base as browsers do, spelled in ASCII, without fragment.

Source: URL standard (parsing), HTML standard 2.4.3 (document base URL).
"""

import re
from urllib.parse import urljoin, urlsplit

from w3lib.url import safe_url_string

URL_CHARACTERS = 8192  # servers refuse longer ones (nginx and Apache: 8 KiB of request line)

_PRINTED = re.compile(r"[!-~]+")
_ORIGIN = re.compile(r"(https?:)//[A-Za-z0-9.:-]+(?=[/?#]|$)")
_REMOVED = re.compile(r"[\t\r\n]")
_PLAIN = re.compile(r"[!$%&'()*+,\-./0-9:;=?@A-Z_a-z~]+")  # characters that stay as they are in every place of an address
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_DOTS = re.compile(r"/\.{1,2}(?:/|$)|^\.")
_WEB = re.compile(r"(https?):[/\\]*", re.IGNORECASE)
_BLANKS = "".join(map(chr, range(0x21)))  # C0 controls and space, which the URL standard strips


class Base:
    """What relative addresses of a page are joined to. `charset` is that of the page: the query of an address is written in it."""

    def __init__(self, url: str, charset: str = "utf-8") -> None:
        self.url, self.charset = url, charset
        self._known: dict[str, str] = {}
        origin = _ORIGIN.match(url)
        path = url[origin.end() :].partition("#")[0].partition("?")[0] if origin else ""
        folder = path[: path.rfind("/") + 1] or "/"
        simple = origin is not None and "/." not in folder and _PLAIN.fullmatch(folder)
        self.scheme, self.origin = (origin[1], origin[0]) if origin and simple else ("", "")  # without an origin all go the long way
        self.folder = self.origin + folder

    def join(self, address: str) -> str:
        """The whole address; one of data: stays; empty if it cannot be one."""
        whole = self._known.get(address)
        if whole is None:
            whole = self._known[address] = self._join(address)
        return whole

    def _join(self, address: str) -> str:
        if self.origin and _PLAIN.fullmatch(address) and "/." not in address and address[0] not in ".?":
            if address[0] == "/":
                whole = self.origin + address if address[1:2] != "/" else self.scheme + address
                return whole if len(address) <= URL_CHARACTERS and address[:3] != "///" else self._spelled(address)
            if ":" not in address:
                return self.folder + address if len(address) <= URL_CHARACTERS else ""
            if address.startswith(("http://", "https://")) and not address.startswith(("http:///", "https:///")):
                return address if len(address) <= URL_CHARACTERS else ""
        return self._spelled(address)

    def _spelled(self, address: str) -> str:
        address = address.strip(_BLANKS)
        if address[:5].lower() == "data:":
            return address[:URL_CHARACTERS]
        address = _REMOVED.sub("", address).split("#", 1)[0]
        if not address or len(address) > URL_CHARACTERS:
            return ""
        try:
            return self._ascii(_joined(self.url, address))
        except (ValueError, UnicodeError):  # nothing that can be asked for; kept where it can be shown, so that it is accounted for
            return address if _WEB.match(address) and _PRINTED.fullmatch(address) else ""

    def _ascii(self, whole: str) -> str:
        if _PLAIN.fullmatch(whole):
            return whole
        try:
            return str(safe_url_string(whole, encoding=self.charset))
        except (UnicodeError, LookupError):
            return str(safe_url_string(whole))


def _joined(base: str, address: str) -> str:
    """urljoin where a browser reads the address otherwise: backslashes are slashes, and slashes after `http:` may lack or abound."""
    if not _SCHEME.match(address) or _WEB.match(address):
        path, mark, query = address.partition("?")
        address = path.replace("\\", "/") + mark + query
    if web := _WEB.match(address):
        scheme = web[1].lower()
        if "/" not in web[0] and base.lower().startswith(f"{scheme}:"):
            return urljoin(base, address[len(scheme) + 1 :])  # `http:photo.jpg` on a page of http
        address = f"{scheme}://{address[web.end() :]}"
        return _undotted(address)
    return urljoin(base, address)


def _undotted(address: str) -> str:
    """An absolute address with the dots of its path resolved."""
    parts = urlsplit(address)
    if not _DOTS.search(parts.path):
        return address
    return urljoin(address, parts._replace(scheme="", netloc="").geturl())


def absolute(base: str, address: str) -> str:
    """One address joined to its base."""
    return Base(base).join(address)
