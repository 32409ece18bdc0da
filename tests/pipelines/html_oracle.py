"""What a page shows, read slowly and plainly: the tree by html5lib, and a walk that does what
docs/collect.md says.

It shares no code with the extractor, names the lazy attributes by what they look like instead of
one by one, and joins addresses by the URL standard step by step. Sources: HTML standard 4.8.4.2 and
4.8.4.3, URL standard 4.4.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import html5lib
import idna

TARGET_WIDTH, WINDOW_HEIGHT = 512, 768
Offer = tuple[str, float | None, float | None]  # address, width, density

# attributes that scripts put in the place of srcset and of src are called by a few words
WORDS = (
    "lazy|lazyload|load|actual|real|orig|original|defer|deferred|delay|delayed|async|img|image|hi-res|full|large|opt|ll|"
    "cf|ez|wp|pagespeed|flickity"
)
LATE_SET = re.compile(
    rf"(?:data|nitro|lazy)-(?:(?:{WORDS}|bg)-?)*(?:srcset|original-set)(?:-webp)?|lazysrcset"
)
LATE = re.compile(
    rf"(?:(?:data|lazy|load|nitro|real)[-_]|_)+(?:(?:{WORDS})-?)*"
    r"(?:src|source|original|lazy|load|img|image|hires|echo|url|deferred|breeze|lazyload)|file|original|lazysrc"
)
# those among them under which sites keep other things too
DOUBTFUL = {"data-source", "data-url", "data-image", "data-img", "data-echo", "original", "file"}
SAID = re.compile(
    r"credit|copyright|caption|author|licen[cs]e|agency|photographer|description|keyword"
)
FILE = re.compile(
    r"\.(jpe?g|jfif|png|webp|gif|avif|bmp|tiff?|heic|svg)($|[?#&!:@,;/])", re.IGNORECASE
)
WEB = re.compile(r"https?://")
BEGINS = ("http://", "https://", "/", "./", "../")
# names of files that keep a place: of any kind, of drawings, and those that must stand alone
KEEPS = [
    "blank",
    "spacer",
    "shim",
    "placeholder",
    "dummy",
    "lazy",
    "lazyload",
    "lazyloader",
    "lazyloading",
]
MOVES = ["pixel", "loading", "loader"]
LOOKS = ["transparent", "trans", "clear", "grey", "gray", "1x1", "1px", "pix"]
BESIDE = ["white", "black", "empty", "fallback"]
IMAGE = (
    r"src|img|image|lazy|original|photo|pic|thumb|url|full|large|hires|file|media|poster|bg"
    r"|background"
)
ELSEWHERE = r"href|link|page|action|share|target|video|json|script|css|alt|title"
OTHERS = r"placeholder|blank|loading|loader|fallback|error|default"


@dataclass
class Image:
    """An image of a page: its address, its alt, every address that its attributes offer, and where
    it stands.
    """

    node: Any
    url: str
    alt: str
    offered: set[str]
    holders: tuple[Any, ...]

    @property
    def noscript(self) -> Any:
        return next((holder for holder in reversed(self.holders) if holder.tag == "noscript"), None)

    @property
    def keeps_a_place(self) -> bool:
        return (
            not self.url
            or (self.url.startswith("data:") and len(self.url) < 512)
            or (bool(WEB.match(self.url)) and is_dot(self.url))
        )

    @property
    def counts_visits(self) -> bool:
        sizes = [
            re.match(r"\s*(\d+)(\.\d+)?\s*(px)?\s*$", self.node.get(name) or "9")
            for name in ("width", "height")
        ]
        style = re.sub(r"\s", "", self.node.get("style") or "").lower().split(";")
        unseen = {"display:none", "visibility:hidden", "width:1px", "height:1px"}
        return any(
            size is not None and int(size[1]) <= 1 for size in sizes
        ) or not unseen.isdisjoint(style)


# the tree


def tree_of(html: bytes, content_type: str = "") -> tuple[Any, str]:
    """The document of html5lib with scripts off, and the encoding; without a declaration UTF-8
    where the bytes are.
    """
    parser = html5lib.HTMLParser(html5lib.getTreeBuilder("etree"), namespaceHTMLElements=False)
    label = re.search(r"charset=[\"' ]*([^\s\"';,]+)", content_type, re.IGNORECASE)
    encodings = {
        "transport_encoding": label[1] if label else None,
        "likely_encoding": "utf-8" if is_utf8(html) else None,
    }
    tree = parser.parse(html, scripting=False, useChardet=False, **encodings)
    return tree, parser.tokenizer.stream.charEncoding[0].name


def is_utf8(html: bytes) -> bool:
    try:
        html.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.end == len(html) and error.reason == "unexpected end of data"
    return True


def walked(node: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    """Every element in document order with those that hold it; of templates only those of shadow
    roots.
    """
    todo = [(node, above)]
    while todo:
        element, holders = todo.pop()
        if not isinstance(element.tag, str):
            continue
        if element.tag == "template" and not opens(element, holders):
            continue
        yield element, holders
        todo.extend((child, (*holders, element)) for child in reversed(list(element)))


def opens(template: Any, holders: tuple[Any, ...]) -> bool:
    """Whether the content of a template is a shadow root: the first such of an element that can
    have one.
    """
    if not is_shadow(template) or not holders:
        return False
    host = holders[-1]
    names = (
        "article aside blockquote body div footer h1 h2 h3 h4 h5 h6 header main nav p section span"
    )
    first = next(child for child in host if child.tag == "template" and is_shadow(child))
    return first is template and (host.tag in names.split() or "-" in host.tag)


def is_shadow(template: Any) -> bool:
    return (template.get("shadowrootmode") or "").lower() in ("open", "closed")


# addresses


def join(base: str, address: str, charset: str = "utf-8") -> str:
    """An address at its base by the URL standard, without fragment; empty if it is none of http,
    https or data.
    """
    address = address.strip("".join(map(chr, range(0x21))))
    if address[:5].lower() == "data:":
        return address[:8192]
    address = re.sub(r"[\t\n\r]", "", address).split("#")[0]
    if not address:
        return ""
    scheme, authority, base_path = re.match(r"(https?):/*([^/?]*)([^?]*)", base).groups()
    written = re.match(r"([A-Za-z][A-Za-z0-9+.-]*):", address)
    rest = address
    if written:
        rest = address[written.end() :]
        if written[1].lower() not in ("http", "https"):
            return re.sub(r"^file:///C\|", "file:///C:", address)
        if written[1].lower() != scheme or (rest[:1] in ("/", "\\") and rest[1:2] in ("/", "\\")):
            scheme = written[1].lower()
            rest = "//" + rest.lstrip("/\\")
    before, mark, query = rest.partition("?")
    before = before.replace("\\", "/")
    if before.startswith("//"):
        authority, slash, path = before.lstrip("/").partition("/")
        path = slash + path
    elif before.startswith("/"):
        path = before
    elif before:
        path = base_path[: base_path.rfind("/") + 1] + before
    else:
        path = base_path
    host = host_of(authority, scheme)
    if host is None:
        return ""
    query = escaped(query, " \"#<>'", charset) if mark else ""
    path = steps(escaped(path, ' "#<>?^`{}', "utf-8"))
    return f"{scheme}://{host}{path}{mark}{query}"


def host_of(authority: str, scheme: str) -> str | None:
    user, at, host = authority.rpartition("@")
    name, _, port = host.partition(":")
    name = re.sub("%([0-9A-Fa-f]{2})", lambda found: chr(int(found[1], 16)), name).lower()
    if not name.isascii():
        try:
            name = idna.encode(name, uts46=True, transitional=False).decode()
        except idna.IDNAError:
            return None
    if (
        not name
        or re.search(r"[\x00-\x20\"#%/:<>?@\[\\\]^`{|}]", name)
        or not (port or "0").isdecimal()
    ):
        return None
    keeps = port and port != {"http": "80", "https": "443"}[scheme]
    return f"{user}{at}{name}:{port}" if keeps else f"{user}{at}{name}"


def steps(path: str) -> str:
    """A path without its dots."""
    found: list[str] = []
    pieces = (path or "/")[1:].split("/")
    for number, piece in enumerate(pieces):
        plain = re.sub("%2e", ".", piece, flags=re.IGNORECASE)
        last = number == len(pieces) - 1
        if plain == "..":
            found = found[:-1]
        elif plain != ".":
            found.append(piece)
        if plain in (".", "..") and last:
            found.append("")
    return "/" + "/".join(found)


def escaped(text: str, marks: str, charset: str) -> str:
    pieces = []
    for letter in text:
        if "!" <= letter <= "~" and letter not in marks:
            pieces.append(letter)
            continue
        try:
            pieces.extend(f"%{byte:02X}" for byte in letter.encode(charset))
        except UnicodeEncodeError:
            pieces.append(f"%26%23{ord(letter)}%3B")
    return "".join(pieces)


def is_dot(url: str) -> bool:
    """Whether an address is that of no image but of what keeps its place; so are addresses of other
    schemes.
    """
    if not WEB.match(url):
        return True
    stem, _, kind = url.split("?")[0].rsplit("/", 1)[-1].lower().rpartition(".")
    if kind not in ("gif", "png", "svg", "jpg", "jpeg", "webp"):
        return False
    drawn = kind in ("gif", "png", "svg")
    words = re.split("[-_.]", stem)
    last = words[-1:]
    if re.fullmatch(r"\d+x\d+|image|img|gif|pixel", words[-1]):
        last = words[-2:]
    if any(word in KEEPS or (drawn and word in MOVES) for word in last):
        return True
    sizes = [word for word in words if re.fullmatch(r"\d+x\d+", word)]
    allowed = {
        *KEEPS,
        *MOVES,
        *LOOKS,
        *BESIDE,
        *sizes,
        *(["image", "img", "gif", "data"] if drawn else []),
    }
    return {*words} <= allowed and not {*words}.isdisjoint({*MOVES, *LOOKS})


# which of the addresses


def srcset_of(value: str) -> list[Offer]:
    """The candidates of a srcset, letter by letter as the standard splits."""
    found: list[Offer] = []
    place = 0
    while True:
        while place < len(value) and value[place] in " \t\n\f\r,":
            place += 1
        if place == len(value):
            return found
        start = place
        while place < len(value) and value[place] not in " \t\n\f\r":
            place += 1
        address, words, word, inside = value[start:place], [], "", False
        if address.endswith(","):
            found.append((address.rstrip(","), None, None))
            continue
        while place < len(value) and (inside or value[place] != ","):
            letter = value[place]
            inside = letter == "(" or (inside and letter != ")")
            if letter in " \t\n\f\r" and not inside:
                words.append(word)
                word = ""
            else:
                word += letter
            place += 1
        offer = described(address, [word for word in (*words, word) if word])
        if offer is not None:
            found.append(offer)


def described(address: str, words: list[str]) -> Offer | None:
    """A candidate with its descriptors; none if they are wrong."""
    kinds = sorted(word[-1] for word in words)
    if kinds not in ([], ["w"], ["h", "w"], ["x"]):
        return None
    values: dict[str, float] = {}
    for word in words:
        pattern = r"-?(\d+(\.\d+)?|\.\d+)([eE][+-]?\d+)?" if word[-1] == "x" else r"\d+"
        if not re.fullmatch(pattern, word[:-1], re.ASCII):
            return None
        values[word[-1]] = float(word[:-1])
    if values.get("w", 1) == 0 or values.get("h", 1) == 0 or values.get("x", 1) < 0:
        return None
    return address, values.get("w"), values.get("x")


def taken(offers: list[Offer]) -> str:
    """What a browser takes that shows the image as wide as the target, on a screen of density
    one.
    """
    if not offers:
        return ""
    scaled = [
        width / TARGET_WIDTH if width else 1.0 if density is None else density
        for _, width, density in offers
    ]
    enough = [density for density in scaled if density >= 1]
    return offers[scaled.index(min(enough) if enough else max(scaled))][0]


class Attributes:
    """What one element offers."""

    def __init__(self, element: Any, base: str, charset: str, *, with_src: bool) -> None:
        self.base, self.charset = base, charset
        self.named = {name: value for name, value in element.attrib.items() if value}
        self.src = self.named.get("src", "") if with_src else ""
        self.element = element

    def joined(self, address: str) -> str:
        return join(self.base, address, self.charset)

    def real(self, offers: list[Offer]) -> list[Offer]:
        whole = [(self.joined(address), width, density) for address, width, density in offers]
        return [offer for offer in whole if offer[0] and not is_dot(offer[0])]

    def late_sets(self) -> list[Offer]:
        """All that attributes say which scripts put in the place of srcset, and `{width}` filled
        in.
        """
        found: list[Offer] = []
        for name, value in self.named.items():
            late = LATE_SET.fullmatch(name) or LATE.fullmatch(name)
            if late and re.search(r"(\{|%7[bB])(width|height)(\}|%7[dD])", value):
                found += self.real(self.filled(value))
            elif LATE_SET.fullmatch(name):
                found += self.real(srcset_of(value))
        return found

    def filled(self, value: str) -> list[Offer]:
        widths = [
            int(width)
            for width in re.findall(
                r"(?<![\d.])\d{1,4}(?![\d.])", self.named.get("data-widths", "")
            )
        ]
        own = [*range(180, 1081, 180), *range(1296, 3025, 216)]
        widths = [width for width in widths if width] or [
            next(width for width in own if width >= TARGET_WIDTH)
        ]
        found: list[Offer] = []
        for width in widths:
            ratio = self.ratio()
            height = round(width / ratio) if ratio else width
            address = re.sub(r"(\{|%7[bB])width(\}|%7[dD])", str(width), value)
            found.append(
                (re.sub(r"(\{|%7[bB])height(\}|%7[dD])", str(height), address), width, None)
            )
        return found

    def ratio(self) -> float:
        number = r"(\d+(?:\.\d+)?)"
        said = re.fullmatch(
            rf"{number}(?:\s*[/:]\s*{number})?", self.named.get("data-aspectratio", "").strip()
        )
        size = re.fullmatch(
            rf"{number}/{number}", f"{self.named.get('width')}/{self.named.get('height')}"
        )
        said = said or size
        return float(said[1]) / float(said[2] or 1) if said and float(said[2] or 1) else 0.0

    def late(self, *, sure: bool) -> list[str]:
        """Addresses that scripts put in the place of src; with `sure` only those that beat a
        src.
        """
        found = []
        for name, value in sorted(self.named.items(), key=lambda one: rank(one[0])):
            if not LATE.fullmatch(name) or LATE_SET.fullmatch(name) or not is_address(value):
                continue
            looks = value.strip().startswith(BEGINS) or "?" in value
            if not sure or FILE.search(value) or (name not in DOUBTFUL and looks):
                found += [url for url, _, _ in self.real([(value, None, None)])]
        return found

    def best(self) -> str:
        """The address of an image once scripts have run; empty if there are only stand-ins."""
        plain = self.real(srcset_of(self.named.get("srcset", "")))
        sets = self.late_sets()
        if sets:
            sized = any(width for _, width, _ in sets)
            return taken(sets + [offer for offer in plain if offer[1] and sized])
        late = self.late(sure=True)
        if late and max((width or 0 for _, width, _ in plain), default=0) < 100:
            return late[0]
        if not any(width or density in (None, 1.0) for _, width, density in plain):
            plain += self.real([(self.src, None, None)])
        other = [
            name
            for name in self.named
            if name.endswith("srcset") and name != "srcset" and not LATE_SET.fullmatch(name)
        ]
        other = [
            name
            for name in other
            if "dark" not in name and not re.search(OTHERS, name) and not SAID.search(name)
        ]
        more = [offer for name in other for offer in self.real(srcset_of(self.named[name]))]
        return taken(plain) or taken(more) or next(iter(self.late(sure=False)), "")

    def beside(self) -> list[tuple[str, str]]:
        """What other attributes hold that may be an address."""
        found = []
        for name, value in self.named.items():
            speaks = name.startswith("data-") or "src" in name or "lazy" in name
            if speaks and name not in ("src", "srcset") and not SAID.search(name):
                found.append((name.removeprefix("data-"), value.strip()))
        return found

    def elsewhere(self) -> str:
        """Where nothing else gives one, the address that another data attribute holds."""
        data = self.beside()
        good = [(name, value) for name, value in data if not re.search(OTHERS, name)]
        found = [*files(good)]
        for _, value in data:
            is_json = value.startswith(("{", "["))
            said = re.findall(r'"src(?:set)?"\s*:\s*"([^"]*)"', value) if is_json else [value]
            for text in said:
                if re.search(r"\s\d+(\.\d+)?[wx]\s*(,|$)", text) and not re.search(
                    r"[<>{}\[\]\"]", text
                ):
                    found.append(taken(srcset_of(text)))
                elif is_json and is_address(text):
                    found.append(text)
        found += paths(good)
        for _, value in data:
            tokens = re.findall(r"https?:\\?/\\?/[^\s\"'<>()\[\]{},]+", value)
            found += [token.replace("\\/", "/") for token in tokens if FILE.search(token)]
        if self.element.get("src") is not None and not self.element.get("src").strip():
            pages = r"\.(html?|xhtml|php\d?|aspx?|jsp|js|json|css|xml|pdf|mp[34]|webm)($|[?#])"
            only = [
                value
                for _, value in good
                if is_path(value) and not re.search(pages, value, re.IGNORECASE)
            ]
            found += only if len(only) == 1 else []
        return self.first(found)

    def first(self, addresses: list[str]) -> str:
        return next(
            iter(url for url, _, _ in self.real([(address, None, None) for address in addresses])),
            "",
        )

    def unknown(self) -> str:
        """What an attribute holds whose name speaks of an image that comes later."""
        speaks = [
            (name, value) for name, value in self.beside() if re.search("src|orig|lazy|thumb", name)
        ]
        speaks = [(name, value) for name, value in speaks if not re.search(OTHERS, name)]
        return self.first([*files(speaks), *paths(speaks)])

    def stand_in(self) -> str:
        """An address that is no image but all there is; first what scripts put there."""
        named = [name for name in self.named if LATE.fullmatch(name) or LATE_SET.fullmatch(name)]
        late = [value for name in sorted(named, key=rank) for value in self.values(name)]
        plain = [address for address, _, _ in srcset_of(self.named.get("srcset", ""))]
        found = [self.joined(address) for address in (*late, *plain, self.src)]
        return next(
            (url for url in found if WEB.match(url)),
            self.joined(self.src) or next((url for url in found if url), ""),
        )

    def values(self, name: str) -> list[str]:
        value = self.named[name]
        return (
            [address for address, _, _ in srcset_of(value)]
            if LATE_SET.fullmatch(name)
            else [value]
            if is_address(value)
            else []
        )

    def offered(self) -> set[str]:
        found = [self.src, *self.late(sure=False)]
        for name, value in self.named.items():
            if name == "srcset" or LATE_SET.fullmatch(name):
                found += [address for address, _, _ in srcset_of(value)]
        return {url for address in found if not is_dot(url := self.joined(address))}


def files(values: list[tuple[str, str]]) -> list[str]:
    """Addresses of image files, those first whose attributes are called like it."""
    found = [(name, value) for name, value in values if FILE.search(value) and is_address(value)]
    return [value for _, value in sorted(found, key=lambda one: re.search(IMAGE, one[0]) is None)]


def paths(values: list[tuple[str, str]]) -> list[str]:
    """What looks like an address under a name of an image's."""
    named = [
        (name, value)
        for name, value in values
        if re.search(IMAGE, name) and not re.search(ELSEWHERE, name)
    ]
    return [value for _, value in named if is_path(value)]


def is_path(value: str) -> bool:
    return value.startswith(BEGINS) and is_address(value) and not re.search(r"\s", value)


def rank(name: str) -> int:
    """The commonest names first, then by what they are called."""
    common = ["data-src", "data-lazy-src", "data-original", "data-lazy"]
    return (
        common.index(name)
        if name in common
        else len(common) + (name in DOUBTFUL) + ("orig" in name)
    )


def is_address(value: str) -> bool:
    """Whether a value is an address and no setting, sentence or template."""
    if (
        len(value) < 3
        or re.search(r"[<>{}\[\]\"]|\s\d+(\.\d+)?[wx]\s*(,|$)", value)
        or not re.search(r"[/.]", value)
    ):
        return False
    return (
        not re.search(r"\s", value.strip())
        or value.strip().startswith(BEGINS)
        or FILE.search(value) is not None
    )


def address_of(
    image: Any, holders: tuple[Any, ...], base: str, charset: str
) -> tuple[str, set[str]]:
    """The address of an image and all that it offers."""
    own = Attributes(image, base, charset, with_src=True)
    others = []
    if holders and holders[-1].tag == "picture":
        for child in holders[-1]:
            if child is image:
                break
            if child.tag == "source" and is_shown(child.get("type") or ""):
                others.append(
                    (
                        holds(child.get("media") or ""),
                        Attributes(child, base, charset, with_src=False),
                    )
                )
    every = own.offered().union(*(attributes.offered() for _, attributes in others))
    tried = [attributes.best() for takes, attributes in others if takes]
    tried += [
        own.best(),
        own.elsewhere(),
        *(attributes.best() for _, attributes in others),
        own.stand_in(),
    ]
    return next((url for url in tried if url), ""), every


def is_shown(kind: str) -> bool:
    names = [
        "jpeg",
        "jpg",
        "pjpeg",
        "png",
        "x-png",
        "apng",
        "gif",
        "webp",
        "avif",
        "svg+xml",
        "bmp",
        "x-icon",
        "vnd.microsoft.icon",
    ]
    return not kind or kind.split(";")[0].strip().lower() in [f"image/{name}" for name in names]


def holds(media: str) -> bool:
    """Media queries in the forms that pages use: sizes, orientation, density, colours, joined by
    `and` and commas.
    """
    media = re.sub(r"/\*.*?\*/", " ", media).strip().lower()
    media = re.sub(r"\s*([():])\s*", r"\1", media)
    return not media or any(
        all(holds_one(part.strip()) for part in re.split(r"\band\b", query))
        for query in media.split(",")
    )


def holds_one(part: str) -> bool:
    units = {"px": 1.0, "em": 16.0, "rem": 16.0, "": 0.0}
    length = re.fullmatch(r"\((min|max)-(?:device-)?(width|height):(-?[\d.]+)(px|em|rem|)\)", part)
    if length:
        if length[4] == "" and float(length[3]) != 0:
            return False
        limit = float(length[3]) * units[length[4]]
        size = TARGET_WIDTH if length[2] == "width" else WINDOW_HEIGHT
        return size >= limit if length[1] == "min" else size <= limit
    density = re.fullmatch(
        r"\((?:-webkit-)?(min|max)-(?:device-pixel-ratio|resolution):([\d.]+)(dppx|dpi|x|)\)", part
    )
    if density:
        limit = float(density[2]) / (96 if density[3] == "dpi" else 1)
        return limit <= 1 if density[1] == "min" else limit >= 1
    return part in (
        "screen",
        "all",
        "only screen",
        "(orientation:portrait)",
        "(prefers-color-scheme:light)",
        "(prefers-reduced-motion:no-preference)",
        "(max-device-aspect-ratio:1/1)",
    )


def images_of(tree: Any, url: str, charset: str) -> list[Image]:
    """The images of a page in document order, one that a noscript repeats once."""
    elements = list(walked(tree))
    href = next(
        (
            node.get("href")
            for node, _ in elements
            if node.tag == "base" and node.get("href") is not None
        ),
        None,
    )
    base = join(url, href) if href is not None else url
    base = base if WEB.match(base) else url
    found = []
    for node, holders in elements:
        if node.tag in ("img", "amp-img"):
            address, offered = address_of(node, holders, base, charset)
            found.append(Image(node, address, (node.get("alt") or "")[:8192], offered, holders))
    reveal(found, base, charset)
    return [image for image in without_copies(found) if image.url]


def reveal(images: list[Image], base: str, charset: str) -> None:
    """Three images of one address whose attributes say three others: the address keeps their
    place.
    """
    for url in {image.url for image in images if image.url}:
        group = [image for image in images if image.url == url]
        late = [Attributes(image.node, base, charset, with_src=True).unknown() for image in group]
        if len({*late} - {"", url}) >= 3:
            for image, address in zip(group, late, strict=True):
                image.url = address or url


def without_copies(images: list[Image]) -> list[Image]:
    """Without what a noscript says again: the same address, the same image in another size, what a
    stand-in is kept for.
    """
    shown = {
        address
        for image in images
        if image.noscript is None
        for address in {image.url, *image.offered}
    }
    kept: list[Image] = []
    for image in images:
        if image.noscript is None:
            kept.append(image)
            continue
        if not image.url or image.url in shown:
            continue
        alone = sum(other.noscript is image.noscript for other in images) == 1
        beside = neighbours(image, images) if alone else []
        original = next(
            (one for one in beside if is_kept_for(one, image) or is_alike(one, image)), None
        )
        before = kept[-1] if kept and kept[-1].noscript is None else None
        if (
            original is None
            and before
            and is_kept_for(before, image)
            and (image.alt.strip() or not before.alt.strip())
        ):
            original = before
        if original is None:
            kept.append(image)
            continue
        shown.add(image.url)
        original.offered.add(image.url)
        if original.keeps_a_place:
            original.url = image.url
            original.alt = original.alt if original.alt.strip() else image.alt
    return kept


def neighbours(image: Image, images: list[Image]) -> list[Image]:
    """The images that stand beside a noscript: right before it, around it, right behind it."""
    noscript = image.noscript
    parent = image.holders[image.holders.index(noscript) - 1]
    brothers = list(parent)
    place = brothers.index(noscript)
    found = []
    before_is_blank = not ((brothers[place - 1].tail if place else parent.text) or "").strip()
    if place and before_is_blank:
        found.append(brothers[place - 1])
    found.append(parent)
    if place + 1 < len(brothers) and not (noscript.tail or "").strip():
        found.append(brothers[place + 1])
    last = {id(one): list(one.iter("img"))[-1:] if one.tag == "picture" else [one] for one in found}
    nodes = [node for one in found for node in last[id(one)]]
    return [
        other for node in nodes for other in images if other.node is node and other.noscript is None
    ]


def is_kept_for(image: Image, copy: Image) -> bool:
    if not image.keeps_a_place or copy.counts_visits:
        return False
    one, other = image.alt.strip(), copy.alt.strip()
    return (bool(one) and one == other) or (
        FILE.search(copy.url) is not None and not (one and other)
    )


def is_alike(image: Image, copy: Image) -> bool:
    one, other = image.alt.strip(), copy.alt.strip()
    if one or other:
        return one == other
    names = [address.split("?")[0].rsplit("/", 1)[-1] for address in {image.url, *image.offered}]
    name = copy.url.split("?")[0].rsplit("/", 1)[-1]
    return bool(name) and name in names
