"""The addresses that one <img> offers, and the best of them: src, srcset, <picture>, and what
scripts load later.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial

from selectolax.lexbor import LexborNode

from pipelines.html.media_queries import matches
from pipelines.html.relative_urls import Base
from pipelines.html.srcset import CANDIDATES, Source, choose, parse_srcset, shown
from pipelines.permission.outcomes import address_outcome, is_placeholder

Attributes = Mapping[str, str | None]
# from names and values of attributes to addresses
Rank = Callable[[list[tuple[str, str]]], Iterator[str]]

SIBLINGS = 64  # children of a <picture> before its image
TINY = 100  # pixels; a srcset that goes no further is the blurred preview of a lazy image
# attributes that scripts put in the place of srcset and src when the image comes into view
# (lazysizes, lozad, jquery.lazyload, unveil, echo, blazy, slick, swiper, owl carousel, WP Rocket,
# Jetpack, LiteSpeed, EWWW, Smush, NitroPack, Discuz, Sina), the commonest first
LAZY_SETS = (
    "data-srcset",
    "data-lazy-srcset",
    "data-lazysrcset",
    "data-lazyload-srcset",
    "data-original-set",
    "data-original-srcset",
    "data-bg-srcset",
    "data-srcset-webp",
    "data-ll-srcset",
    "data-opt-srcset",
    "nitro-lazy-srcset",
    "lazy-srcset",
    "data-flickity-lazyload-srcset",
)
LAZY = (
    "data-src",
    "data-lazy-src",
    "data-lazysrc",
    "data-original",
    "data-lazy",
    "data-lazyload",
    "data-lazy-load",
    "data-ll-src",
    "data-orig-src",
    "data-original-src",
    "data-actualsrc",
    "data-actual-src",
    "data-real-src",
    "data-realsrc",
    "data-defer-src",
    "data-deferred-src",
    "data-deferred",
    "data-delayed-src",
    "data-delay-src",
    "data-load-src",
    "data-async-src",
    "data-source",
    "data-image-src",
    "data-img-src",
    "data-imgsrc",
    "data-img",
    "data-image",
    "data-hi-res-src",
    "data-hires",
    "data-full-src",
    "data-large-src",
    "data-echo",
    "data-url",
    "data-opt-src",
    "data-flickity-lazyload",
    "data-flickity-lazyload-src",
    "data-pagespeed-lazy-src",
    "data-cfsrc",
    "data-ezsrc",
    "data-breeze",
    "data-wp-src",
    "nitro-lazy-src",
    "lazy-src",
    "lazysrc",
    "load-src",
    "original",
    "real_src",
    "_src",
    "file",
)
RANK = {name: rank for rank, name in enumerate((*LAZY_SETS, *LAZY, "srcset"))}
LATE = frozenset(RANK)
# what data attributes hold beside the image: pages that it leads to, things that are no image of
# this kind
ELSEWHERE = re.compile(r"href|link|page|action|share|target|video|json|script|css|alt|title")
# images for when this one is not there, and what is said of it: who made it, what it shows
OTHER = re.compile(
    r"placeholder|blank|loading|loader|fallback|error|default|credit|copyright|caption|author|licen[cs]e|agency|"
    r"photographer|description|keyword"
)
# names under which sites keep other addresses and words too: one beats src only where it holds the
# address of an image file
WEAK = frozenset(
    {"data-source", "data-url", "data-image", "data-img", "data-echo", "original", "file"}
)
BEGINS = ("http://", "https://", "//", "/", "./", "../")
NO_IMAGE = re.compile(
    r"\.(?:html?|xhtml|php\d?|aspx?|jsp|js|json|css|xml|pdf|mp[34]|webm)(?:$|[?#])", re.IGNORECASE
)
IMAGE_NAME = re.compile(
    r"src|img|image|lazy|original|photo|pic|thumb|url|full|large|hires|file|media|poster|bg|background"
)
IMAGE_FILE = re.compile(
    r"\.(?:jpe?g|jfif|png|webp|gif|avif|bmp|tiff?|heic|svg)(?:$|[?#&!:@,;/])", re.IGNORECASE
)
# what the names of attributes say in which the themes of sites keep the image itself
LATER = re.compile(r"src|orig|lazy|thumb")
_TOKEN = re.compile(r"[^\s\"'<>()\[\]{},]+")
_BEGIN = re.compile(r"https?:(?:\\?/){2}", re.IGNORECASE)
_NO_ADDRESS = re.compile(r"[<>{}\[\]\"]")
_TEMPLATE = re.compile(r"(?:\{|%7[Bb])(width|height)(?:\}|%7[Dd])")
_BLANK = re.compile(r"\s")
_INTEGER = re.compile(r"(?<![\d.])\d{1,5}(?![\d.])")
_RATIO = re.compile(r"(\d{1,5}(?:\.\d{1,9})?)(?:\s*[/:]\s*(\d{1,5}(?:\.\d{1,9})?))?")
# the widths that the rias plugin of lazysizes asks for where a page names none: steps of 180
# pixels, of 216 from 1080 on
WIDTHS = (*range(180, 1081, 180), *range(1296, 3025, 216))
_KEYED = re.compile(r"\"src(?:set)?\"\s*:\s*\"([^\"]*)\"")
_DESCRIBED = re.compile(r"\s\d+(?:\.\d+)?[wx](?:\s*,|\s*$)")


def addresses(
    node: LexborNode,
    attributes: Attributes,
    parent: LexborNode | None,
    base: Base,
    target_width: int,
) -> tuple[str, tuple[str, ...]]:
    """The address to fetch and the others that the image offers; both empty where it has none."""
    in_picture = parent is not None and parent.tag == "picture"
    if not in_picture and LATE.isdisjoint(attributes):
        src = attributes.get("src")
        url = base.join(src) if src else ""
        if url and is_real(url):
            return url, ()
    offers = _Offers(attributes, base, target_width)
    groups = list(_picture_groups(node, base, target_width)) if in_picture else []
    chosen = (
        (_best(group for taken, group in groups if taken) if groups else "")
        or offers.best()
        or offers.anything()
    )
    chosen = chosen or _best(group for _, group in groups) or offers.stand_in()
    others = dict.fromkeys(offers.real())
    for _, group in groups:
        others |= dict.fromkeys(group.real())
    others.pop(chosen, None)
    return chosen, tuple(others)


def _best(groups: "Iterable[_Offers]") -> str:
    return next((best for group in groups if (best := group.best())), "")


def late_address(attributes: Attributes, base: Base) -> str:
    """What an attribute of an image that scripts may show later holds, under a name that is not
    known as such; empty if none does.
    """
    values = [(name, value) for name, value in _beside(attributes) if LATER.search(name)]
    found = (url for source in (*_files(values), *_named(values)) if (url := base.join(source)))
    return next((url for url in found if is_real(url)), "")


class _Offers:
    """What the attributes of one <img> or <source> offer, joined; stand-ins such as blank.gif
    apart.
    """

    def __init__(self, attributes: Attributes, base: Base, target_width: int) -> None:
        self.attributes, self.base, self.target_width = attributes, base, target_width
        self.stand_ins: list[Source] = []
        self.lazy_set: list[Source] = []
        self.lazy: list[Source] = []
        self.doubtful: list[Source] = []  # what may be an address: taken where there is no other
        for name in sorted(LATE.intersection(attributes), key=RANK.__getitem__):
            value = attributes[name]
            if not value:
                continue
            if name != "srcset" and _TEMPLATE.search(value):
                self.lazy_set += self._joined(_in_widths(value, attributes, target_width))
            elif RANK[name] < len(LAZY_SETS):
                self.lazy_set += self._joined(parse_srcset(value))
            elif name != "srcset" and _plausible(value):
                (self.lazy if _convincing(name, value) else self.doubtful).extend(
                    self._joined([Source(value)])
                )
        self.plain_set = (
            self._joined(parse_srcset(srcset)) if (srcset := attributes.get("srcset")) else []
        )
        self.plain = self._joined([Source(src)]) if (src := attributes.get("src")) else []

    def _joined(self, sources: Iterable[Source]) -> list[Source]:
        real: list[Source] = []
        for address, width, density in sources:
            if url := self.base.join(address):
                (real if is_real(url) else self.stand_ins).append(Source(url, width, density))
        return real

    def best(self) -> str:
        """What a browser takes once scripts have put the lazy attributes in place; empty if all are
        stand-ins.
        """
        if self.lazy_set:
            sized = any(source.width for source in self.lazy_set)
            offered = [
                *self.lazy_set,
                *(source for source in self.plain_set if source.width and sized),
            ]
        elif self.lazy and max((source.width or 0 for source in self.plain_set), default=0) < TINY:
            offered = self.lazy[:1]
        else:
            offered = self._browsers() or self._unknown_sets() or self.doubtful[:1]
        return choose(offered, self.target_width).url if offered else ""

    def _browsers(self) -> list[Source]:
        """The source set of the HTML standard: src joins in where nothing else is of width or
        density one.
        """
        alone = not any(source.width or source.density == 1 for source in self.plain_set)
        return [*self.plain_set, *self.plain] if alone else self.plain_set

    def _unknown_sets(self) -> list[Source]:
        """What stands under another name that ends like a source set, where there is no other."""
        values = (
            value
            for name, value in self.attributes.items()
            if value
            and name.endswith("srcset")
            and name not in RANK
            and not OTHER.search(name)
            and "dark" not in name
        )
        joined = (
            (self.base.join(source.url), source)
            for value in values
            for source in parse_srcset(value)
        )
        return [
            Source(url, source.width, source.density)
            for url, source in joined
            if url and is_real(url)
        ]

    def anything(self) -> str:
        """Where nothing else gives an address, that of any data attribute that holds one, or of one
        whose name speaks of it.
        """
        values = _beside(self.attributes)
        is_empty = "src" in self.attributes and not (self.attributes["src"] or "").strip()
        sets = partial(_sets, target_width=self.target_width)
        ranks: tuple[Rank, ...] = (_files, sets, _named, _within, *([_only] if is_empty else []))
        found = (
            url for rank in ranks for source in rank(values) if (url := self.base.join(source))
        )
        return next((url for url in found if is_real(url)), "")

    def stand_in(self) -> str:
        """An address that is no image but all there is: that which scripts put there, unless it is
        no address of the web.
        """
        late = self.plain_set or self.plain
        if late:
            return choose(late, self.target_width).url
        found = [source.url for source in self.stand_ins]
        return next((url for url in found if url.startswith("http")), found[-1] if found else "")

    def real(self) -> list[str]:
        offered = (*self.lazy_set, *self.lazy, *self.plain_set, *self.plain)
        return [source[0] for source in offered or self.doubtful]


def _beside(attributes: Attributes) -> list[tuple[str, str]]:
    """What attributes beside those of HTML may hold: names without their `data-`, and values."""
    return [
        (name.removeprefix("data-"), value.strip())
        for name, value in attributes.items()
        if value
        and name not in ("src", "srcset")
        and (name.startswith("data-") or "src" in name or "lazy" in name)
    ]


def _picture_groups(
    node: LexborNode, base: Base, target_width: int
) -> Iterator[tuple[bool, _Offers]]:
    """Each <source> before an image in its <picture> of a type that browsers show, and whether one
    as wide as the target takes it.
    """
    sources: list[Attributes] = []
    before = node.prev
    for _ in range(SIBLINGS):
        if before is None:
            break
        if before.tag == "source":
            sources.append(before.attributes)
        before = before.prev
    for attributes in reversed(sources):
        if shown(attributes.get("type") or ""):
            offers = {name: value for name, value in attributes.items() if name != "src"}
            yield (
                matches(attributes.get("media") or "", target_width),
                _Offers(offers, base, target_width),
            )


def is_real(url: str) -> bool:
    """Whether an address is one of an image and not of a stand-in: what address_outcome says, by a
    shorter way for most.
    """
    if not url.startswith(("http://", "https://")):
        return address_outcome(url) is None
    return not is_placeholder(url.partition("?")[0])


def _plausible(value: str) -> bool:
    """Whether a data attribute holds an address and not a setting, a number or a template."""
    if (
        len(value) <= 2
        or not ("/" in value or "." in value)
        or _NO_ADDRESS.search(value)
        or _DESCRIBED.search(value)
    ):
        return False
    value = value.strip()
    return (
        not _BLANK.search(value) or value.startswith(BEGINS) or IMAGE_FILE.search(value) is not None
    )


def _convincing(name: str, value: str) -> bool:
    """Whether the value of a lazy attribute is an address even where src has one too, and not the
    name of an agency, `dpa/Reuters`.
    """
    is_file = IMAGE_FILE.search(value) is not None
    return is_file or (name not in WEAK and (value.strip().startswith(BEGINS) or "?" in value))


def _in_widths(value: str, attributes: Attributes, target_width: int) -> Iterator[Source]:
    """What the rias plugin of lazysizes makes of `photo_{width}x{height}.jpg`: for each width that
    the page names, else for that of its own that it takes.
    """
    named = [
        int(width)
        for width in _INTEGER.findall((attributes.get("data-widths") or "")[:4096])
        if 0 < int(width) < 10_000
    ]
    ratio = _ratio(attributes)
    for width in named[:CANDIDATES] or [
        next((width for width in WIDTHS if width >= target_width), WIDTHS[-1])
    ]:
        height = round(width / ratio) if ratio else width
        pieces = _TEMPLATE.split(value)  # every second one is the name of a measure
        pieces[1::2] = [str(width if name == "width" else height) for name in pieces[1::2]]
        yield Source("".join(pieces), width)


def _ratio(attributes: Attributes) -> float:
    """Width by height, by `data-aspectratio` (1.5, 3/2) or the attributes of the image, 0 if none
    says.
    """
    said = _RATIO.fullmatch((attributes.get("data-aspectratio") or "").strip())
    if said is None:
        said = _RATIO.fullmatch(f"{attributes.get('width') or ''}/{attributes.get('height') or ''}")
    if said is None:
        return 0.0
    below = float(said[2] or 1)
    return float(said[1]) / below if below else 0.0


def _files(values: list[tuple[str, str]]) -> Iterator[str]:
    """Values that are addresses of image files, those of attributes that are named like it
    first.
    """
    found = [
        (name, value)
        for name, value in values
        if IMAGE_FILE.search(value) and _plausible(value) and not OTHER.search(name)
    ]
    return (value for _, value in sorted(found, key=lambda one: IMAGE_NAME.search(one[0]) is None))


def _sets(values: list[tuple[str, str]], target_width: int) -> Iterator[str]:
    """The best of values written like a srcset, also of one in JSON; and what JSON says under
    `src`.
    """
    for _, value in values:
        keyed = _KEYED.findall(value[:65_536]) if value[:1] in "[{" else [value]
        for text in keyed:
            if (
                _DESCRIBED.search(text)
                and not _NO_ADDRESS.search(text)
                and (sources := parse_srcset(text))
            ):
                yield choose(sources, target_width).url
            elif text is not value and _plausible(text):
                yield text


def _named(values: list[tuple[str, str]]) -> Iterator[str]:
    """Values that look like an address in attributes that are named like one of an image."""
    return (
        value
        for name, value in values
        if value.startswith(BEGINS)
        and _plausible(value)
        and " " not in value
        and IMAGE_NAME.search(name)
        and not ELSEWHERE.search(name)
        and not OTHER.search(name)
    )


def _only(values: list[tuple[str, str]]) -> Iterator[str]:
    """The one value that is a path, whatever its attribute is called."""
    found = [
        value
        for name, value in values
        if value.startswith(BEGINS)
        and _plausible(value)
        and not _BLANK.search(value)
        and not OTHER.search(name)
        and not NO_IMAGE.search(value)
    ]
    return iter(found if len(found) == 1 else ())


def _within(values: list[tuple[str, str]]) -> Iterator[str]:
    """Whole addresses of image files inside JSON and the like."""
    for _, value in values:
        for token in _TOKEN.findall(value[:65_536]):
            begin = _BEGIN.search(token)
            if begin and IMAGE_FILE.search(token, begin.end()):
                yield token[begin.start() :].replace("\\/", "/")
