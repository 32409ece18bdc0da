"""Addresses of the web as browsers read them: the URL standard, through the library ada.

Hosts by UTS 46 without its transitional mappings (`straße.example` is not `strasse.example`),
slashes that lack, abound or lean the wrong way, tabs and line ends inside, dots of a path, escapes
for what is not ASCII.
"""

import re
from functools import lru_cache
from urllib.parse import SplitResult, quote

import ada_url

HOST = r"(?![a-z0-9.-]*xn--)(?:[a-z0-9][a-z0-9-]{0,62}\.){1,8}[a-z]{2,62}"
_PATH = r"/[!$%&()*+,\-./0-9:;=?@A-Z_a-z~]*"
# what the standard would leave as it is, once it has no step of dots; nearly every address there is
_AS_IT_IS = re.compile(rf"https?://{HOST}(?:{_PATH})?")
_STEPS = re.compile(r"/(?:\.|%2[eE])")
BLANKS = re.compile(r"[\s\x00-\x1f\x7f]")  # what no request may hold
_SURROGATES = re.compile("[\ud800-\udfff]")
_NOT_ASCII = re.compile(r"[^\x00-\x7f]+")
_WEB = ("http://", "https://")


def ascii_address(url: str) -> str | None:
    """The one spelling in which a web address is asked for; None if it is none that can be asked
    for.

    Only ASCII, the host in lower case and by UTS 46, path and query escaped in UTF-8, without
    fragment; the same address given back stays as it is. Other schemes than http and https, hosts
    that the standard forbids and those that no name server knows (empty labels, labels of more than
    63 characters) are none.
    """
    if _AS_IT_IS.fullmatch(url) and not _STEPS.search(url):
        return url if url.count("/") > 2 else f"{url}/"
    whole = joined("", url)
    return whole if whole is not None and whole.startswith(_WEB) and _has_name(whole) else None


def without_blanks(url: str) -> str:
    """An address as it was written; one with blanks or control characters in it as it is asked for,
    if it can be.

    The standard escapes blanks of a path and drops tabs and line ends: `/a b.jpg` is `/a%20b.jpg`.
    """
    plain = url.strip()
    return (ascii_address(plain) if BLANKS.search(plain) else None) or plain


def joined(base: str, address: str) -> str | None:
    """An address as it stands at `base`, any scheme, without fragment; None if it cannot be read.
    An empty base stands for none.

    Halves of characters become U+FFFD, as everywhere in browsers.
    """
    text = _SURROGATES.sub("\ufffd", address)
    try:
        whole = ada_url.join_url(base, text) if base else ada_url.normalize_url(text)
    except ValueError:
        return None
    return whole.partition("#")[0]


@lru_cache(maxsize=1024)  # thousands of addresses are of one host
def place_of(authority: str) -> tuple[str, int | None]:
    """Host and port of the authority of an address, as `urlsplit` has them; ValueError for what is
    no port.
    """
    parts = SplitResult("", authority, "", "", "")
    return parts.hostname or "", parts.port


def octets_escaped(header: str) -> str:
    """A header such as Location with its octets beyond ASCII escaped, as browsers send them back;
    `header` is read as Latin-1.
    """
    return _NOT_ASCII.sub(lambda found: quote(found[0].encode("latin-1", "replace")), header)


def ascii_host(host: str) -> str:
    """A host name by UTS 46, e.g. xn--strae-oqa.example; one that cannot be written so, or is
    ASCII, in lower case.
    """
    if host.isascii():
        return host.lower()
    try:
        return ada_url.idna_to_ascii(host).decode("ascii") or host.lower()
    except ValueError:
        return host.lower()


def _has_name(whole: str) -> bool:
    """Whether the host is one that a name server can be asked for (RFC 1035 2.3.4), or an IP
    address.
    """
    authority = whole.split("/", 3)[2]
    host = authority.rpartition("@")[2]
    if host.startswith("["):
        return True
    name = host.partition(":")[0].removesuffix(".")
    return len(name) <= 253 and all(0 < len(label) <= 63 for label in name.split("."))
