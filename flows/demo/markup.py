"""The HTML of the demo's site: each picture written in one of the ways in which real pages write
pictures.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from random import Random

from flows.demo import wording

PAGE_FAULTS = ("robots", "noai")  # refuse every reference of a page


@dataclass(frozen=True, kw_only=True)
class Reference:
    """One (image, text) of a page, what is wrong with it (None: nothing) and how its tag is written
    (None: any way).
    """

    image: str
    text: str
    fault: str | None = None
    width: int = 224


@dataclass(frozen=True, kw_only=True)
class Page:
    """One page of the site: its path, its references, and how it asks machines to leave it
    alone.
    """

    path: str
    references: Sequence[Reference]
    meta_robots: str | None = None
    header_robots: str | None = None


def _beside(reference: Reference, fault: str) -> str:
    """What is wrong with a further text of the same image: what refuses the whole page comes
    first.
    """
    return reference.fault if reference.fault in PAGE_FAULTS else fault


def _quoted(text: str, rng: Random) -> str:
    """An attribute value: unquoted where HTML allows it and the author was lazy, else in either
    kind of quotes.
    """
    plain = text.isascii() and text.replace("-", "").replace("_", "").isalnum()
    if plain and rng.random() < 0.5:
        return text
    return f"'{escape(text)}'" if rng.random() < 0.2 else f'"{escape(text)}"'


def _plain(url: str, alt: str, width: int) -> str:
    return f'<img src="{url}" alt={alt}>'


def _lazy(url: str, alt: str, width: int) -> str:
    return f'<img src="/static/blank.gif" data-src="{url}" class="lazy" alt={alt}>'


def _picture(url: str, alt: str, width: int) -> str:
    return (
        f'<picture><source srcset="{url}" media="(min-width: 1px)" type="image/jpeg">\n  <img'
        f' src="{url}" alt={alt}></picture>'
    )


def _srcset(url: str, alt: str, width: int) -> str:
    return (
        f'<img srcset="{url}?w={width // 2} {width // 2}w, {url}?w={width} {width}w" sizes="50vw"'
        f' src="{url}?w={width}" alt={alt}>'
    )


def _unquoted(url: str, alt: str, width: int) -> str:
    return f"<IMG SRC={url} WIDTH={width} ALT={alt}>"


def _linked(url: str, alt: str, width: int) -> str:
    return f'<a href="../index.html"><img alt={alt} src={url} loading=lazy></a>'


_TAGS = (_plain, _lazy, _picture, _srcset, _unquoted, _linked)


def _titled(url: str, reference: Reference, rng: Random) -> tuple[str, list[Reference]]:
    """No alt at all: the text is the tool tip."""
    return f'<img src="{url}" title={_quoted(reference.text, rng)}>', []


def _labelled(url: str, reference: Reference, rng: Random) -> tuple[str, list[Reference]]:
    """A figure with a number under it, which a reader of the page finds as a second text of the
    same image.
    """
    label = wording.label(rng)
    html = (
        f'<figure><img src="{url}"'
        f" alt={_quoted(reference.text, rng)}><figcaption>{label}</figcaption></figure>"
    )
    return html, [Reference(image=reference.image, text=label, fault=_beside(reference, "label"))]


def _captioned(url: str, reference: Reference, rng: Random) -> tuple[str, list[Reference]]:
    """The text stands under the figure, and the alt is empty: two references again."""
    html = (
        f'<figure>\n <img src={url} alt="">\n'
        f" <figcaption>{escape(reference.text)}</figcaption>\n</figure>"
    )
    return html, [Reference(image=reference.image, text="", fault=_beside(reference, "empty"))]


def _write(reference: Reference, rng: Random) -> tuple[str, list[Reference]]:
    """A reference as HTML, and the further references that this way of writing it brings along."""
    url = f"..{reference.image}" if rng.random() < 0.4 else reference.image
    if not reference.text:
        return (
            rng.choice(
                (f'<img src="{url}" alt="">', f"<img src={url}>", f'<img alt=" " src="{url}">')
            ),
            [],
        )
    special = {0: _titled, 1: _labelled, 2: _captioned}.get(rng.randrange(12))
    if special is not None:
        return special(url, reference, rng)
    return rng.choice(_TAGS)(url, _quoted(reference.text, rng), reference.width), []


def write_page(page: Page, following: str | None, rng: Random) -> tuple[str, list[Reference]]:
    """The HTML of a page and every reference that a correct reader finds on it."""
    blocks, found = [], []
    for reference in page.references:
        html, further = _write(reference, rng)
        blocks.append(f"<p>{wording.prose(rng)}</p>\n{html}")
        found += [reference, *further]
    heading = wording.title(rng)
    robots = f'<meta name="robots" content="{page.meta_robots}">\n' if page.meta_robots else ""
    onward = (
        f'<nav><a href="{following}">next page</a> <a href="../index.html">all pages</a></nav>'
        if following
        else ""
    )
    body = "\n".join(blocks)
    html = f"""<!doctype html>
<html lang="en">
<head><meta charset="utf-8">
{robots}<title>{heading}</title></head>
<body><h1>{heading}</h1>
{body}
{onward}
</body></html>
"""
    return html, found


def write_index(paths: Sequence[str]) -> str:
    """The front page: a link to every page, also to those that robots.txt forbids."""
    links = "\n".join(
        f'<li><a href="{path}">page {number}</a></li>' for number, path in enumerate(paths, 1)
    )
    head = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>All'
        " pages</title></head>"
    )
    return f"{head}\n<body><ol>\n{links}\n</ol></body></html>\n"
