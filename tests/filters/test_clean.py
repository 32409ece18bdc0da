"""Cleaned texts: each literal has its exact text and spans; what holds of every text is tried on
texts made of hostile pieces.
"""

import json
import re
import resource
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filters.text.clean import ROUNDS, CleanFilter, read_references
from tests.filters.conftest import wording

SHARED = Path(__file__).parents[3] / "shared" / "data"
BLANKS = re.compile(r"[\s\x1c-\x1f\x85\u200b\ufeff]+")

Row = tuple[str | None, list[str] | None]


def clean(texts: Sequence[str | None], pages: Sequence[str | None] | None = None) -> list[Row]:
    """The cleaned text and the spans cut, of each text."""
    pages = pages or [None] * len(texts)
    result = CleanFilter().measure(
        pa.record_batch(
            {"text": pa.array(texts, pa.string()), "page_url": pa.array(pages, pa.string())}
        )
    )
    return list(
        zip(
            result.column("text.clean").to_pylist(),
            result.column("text.cut").to_pylist(),
            strict=True,
        )
    )


LITERAL: dict[str, tuple[str, list[str]]] = {
    # names of sites
    "Two dogs on a beach | Flickr": ("Two dogs on a beach", ["| Flickr"]),
    "Two dogs on a beach - Getty Images": ("Two dogs on a beach", ["- Getty Images"]),
    "Two dogs \u2013 Shutterstock": ("Two dogs", ["\u2013 Shutterstock"]),
    "Two dogs | news.example.com": ("Two dogs", ["| news.example.com"]),
    "Two dogs: a film by Flickr": ("Two dogs: a film by Flickr", []),
    # stock
    "Two dogs on a beach stock photo": ("Two dogs on a beach", ["stock photo"]),
    "Two dogs - Royalty Free Stock Image": ("Two dogs", ["- Royalty Free Stock Image"]),
    "Stock photo of a dog": ("photo of a dog", ["Stock"]),
    "Photo of a dog": ("Photo of a dog", []),
    # calls
    "Two dogs (click to enlarge)": ("Two dogs", ["(click to enlarge)"]),
    "Two dogs. Click here for a larger image": ("Two dogs.", ["Click here for a larger image"]),
    "Two dogs (opens in a new tab)": ("Two dogs", ["(opens in a new tab)"]),
    "Learn more about dogs": ("Learn more about dogs", []),
    "A sign that says Buy Now": ("A sign that says Buy Now", []),
    # credits and claims
    "Two dogs (Photo by John Smith/Getty Images)": (
        "Two dogs",
        ["(Photo by John Smith/Getty Images)"],
    ),
    "Two dogs on a beach. Photo by John Smith": ("Two dogs on a beach.", ["Photo by John Smith"]),
    "Two dogs. Credit: NASA/JPL": ("Two dogs.", ["Credit: NASA/JPL"]),
    "Two dogs, courtesy of the Library of Congress": (
        "Two dogs",
        [", courtesy of the Library of Congress"],
    ),
    "A crowd in Paris. (AP Photo/John Smith)": ("A crowd in Paris.", ["(AP Photo/John Smith)"]),
    "Two dogs \u00a9 2019 Jane Doe": ("Two dogs", ["\u00a9 2019 Jane Doe"]),
    "A black-and-white photo by Ansel Adams": ("A black-and-white photo by Ansel Adams", []),
    "A portrait by Rembrandt": ("A portrait by Rembrandt", []),
    # labels and counts
    "Image 3 of 12: Two dogs": ("Two dogs", ["Image 3 of 12:"]),
    "Two dogs - Image 3 of 12": ("Two dogs", ["- Image 3 of 12"]),
    "Figure 3. Two dogs": ("Two dogs", ["Figure 3."]),
    "Figure 3 shows dogs": ("Figure 3 shows dogs", []),
    "Photo: Two dogs on a beach": ("Two dogs on a beach", ["Photo:"]),
    # markup
    "<b>Two</b> dogs<br>run": ("Two dogs run", ["<b>", "</b>", "<br>"]),
    "caf&eacute; &amp;amp; bar": ("caf\u00e9 & bar", []),
    "&lt;i&gt;Two dogs": ("Two dogs", ["<i>"]),
    "![Two dogs](http://a.example/c.png)": ("Two dogs", ["![", "](http://a.example/c.png)"]),
    "**Two dogs** run": ("Two dogs run", ["**", "**"]),
    "[b]Two[/b] dogs": ("Two dogs", ["[b]", "[/b]"]),
    '[caption id="x"]Two dogs[/caption]': ("Two dogs", ['[caption id="x"]', "[/caption]"]),
    "A man in a <PERSON> shirt, I <3 dogs, 5 < 6": (
        "A man in a <PERSON> shirt, I <3 dogs, 5 < 6",
        [],
    ),
    # addresses, files, tags
    "Two dogs at http://example.com/a?b=c on grass": (
        "Two dogs on grass",
        ["at http://example.com/a?b=c"],
    ),
    "Two dogs me@example.com": ("Two dogs", ["me@example.com"]),
    "A screenshot of the USA.gov homepage": ("A screenshot of the USA.gov homepage", []),
    "Two dogs IMG_1234.JPG": ("Two dogs", ["IMG_1234.JPG"]),
    "Two dogs #dog #beach": ("Two dogs", ["#dog #beach"]),
    "My lovely #dog on a beach": ("My lovely dog on a beach", ["#"]),
    "The #1 dad writes C#": ("The #1 dad writes C#", []),
    # signs
    "Two dogs!!!! Really????": ("Two dogs! Really?", ["!!!", "???"]),
    " | Two dogs || beach | ": ("Two dogs | beach", ["|", "|", "|"]),
    "Two  dogs\n run ": ("Two dogs run", []),
    "Tower Bridge \u2014 London": ("Tower Bridge \u2014 London", []),
    # one after the other, in the order of the text
    "Photo 1 of 3: Two dogs - stock photo | Flickr": (
        "Two dogs",
        ["Photo 1 of 3:", "- stock photo", "| Flickr"],
    ),
    "Two dogs Copyright <b>2019</b> Jane Doe": (
        "Two dogs Copyright 2019 Jane Doe",
        ["<b>", "</b>"],
    ),
    "Two dogs | Copyright <b>2019</b> Jane Doe": (
        "Two dogs",
        ["| Copyright", "<b>", "2019", "</b>", "Jane Doe"],
    ),
}


@pytest.mark.parametrize(("text", "expected"), LITERAL.items())
def test_a_text_becomes(text: str, expected: Row) -> None:
    assert clean([text]) == [expected]


EMPTIED = (
    *(
        "click to enlarge",
        "image",
        "photo of",
        "Advertisement",
        "Read more...",
        "Share on Facebook",
        "logo",
        "View larger image",
    ),
    *(
        "Buy now | Free shipping | Add to cart",
        "thumbnail",
        "\u00a9 2019 All rights reserved",
        "http://example.com/?utm_source=feed",
    ),
    *(
        "...",
        "IMG_4711.JPG",
        "Photo: Anna Schmidt",
        "| Flickr",
        "Stock photo",
        "<br/>",
        "#sunset #beach",
        "(C) Jane Doe",
        "Image 3 of 12",
    ),
)


@pytest.mark.parametrize("text", EMPTIED)
def test_a_text_of_nothing_but_boilerplate_becomes_empty(text: str) -> None:
    ((left, cut),) = clean([text])
    assert left == ""
    assert cut
    assert BLANKS.sub("", "".join(cut)) == BLANKS.sub("", text)


@pytest.mark.parametrize(
    ("text", "page", "expected"),
    [
        ("Bread | Based Cooking", "https://based.cooking/bread", ("Bread", ["| Based Cooking"])),
        ("Bread - The NY Times", "https://www.nytimes.com/a", ("Bread", ["- The NY Times"])),
        (
            "Bread \u00bb cooking.example.co.uk",
            "https://cooking.example.co.uk/",
            ("Bread", ["\u00bb cooking.example.co.uk"]),
        ),
        ("Bread - Butter", "https://bread.example/", ("Bread - Butter", [])),
        ("Bread", "https://bread.example/", ("Bread", [])),
        ("Bread | Based Cooking", "https://other.example/", ("Bread | Based Cooking", [])),
        ("Bread | Based Cooking", None, ("Bread | Based Cooking", [])),
    ],
)
def test_the_name_of_the_pages_own_site_is_cut_behind_a_separator(
    text: str, page: str | None, expected: Row
) -> None:
    assert clean([text], [page]) == [expected]


def test_null_stays_null_and_rows_do_not_depend_on_their_neighbours() -> None:
    texts = [*LITERAL, None, "", *LITERAL]
    assert clean(texts) == [*LITERAL.values(), (None, None), ("", []), *LITERAL.values()]
    assert clean([]) == []


PIECES = (
    *(
        "A dog",
        "two cats run",
        " ",
        "  ",
        "\u00a0",
        "\n",
        ".",
        ",",
        "|",
        "-",
        "\u2013",
        ":",
        "!",
        "!!!",
        "...",
        "(",
        ")",
        "[",
        "]",
    ),
    *(
        "<b>",
        "</b>",
        "<br",
        "<",
        ">",
        "&amp;",
        "&nbsp;",
        "&lt;b&gt;",
        "&",
        "#dog",
        "#",
        "@joe",
        "http://x.org/a",
        "www.a.com",
        "a.com",
    ),
    *(
        "me@a.com",
        "IMG_1.jpg",
        "photo",
        "Photo by",
        "John Smith",
        "Flickr",
        "Getty Images",
        "stock photo",
        "click to enlarge",
    ),
    *(
        "image 3 of 12",
        "Figure 2",
        "\u00a9",
        "(c)",
        "copyright",
        "2019",
        "All rights reserved",
        "courtesy of",
        "Credit:",
        "**",
        "*",
        "_",
    ),
    *(
        "__",
        "`",
        "{{",
        "}}",
        "Example",
        "read more",
        "of",
        "the",
        "\ue000",
        "\ue001",
        "\ue002",
        "'",
        '"',
        "://",
        "/",
        "::",
        "\u00bb",
    ),
    *(
        "[b]",
        "](http://c.d)",
        "[[",
        "]]",
        "x",
        "\u00e9",
        "\u65e5\u672c",
        "\u200b",
        "&#38;",
        "#38;",
        "amp;",
    ),
)
TEXTS = st.lists(
    st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=12).map("".join),
    min_size=1,
    max_size=60,
)


# patterns are compiled anew for each batch, so few batches of many texts
@settings(max_examples=15, deadline=None)
@given(TEXTS)
def test_of_every_text(texts: list[str]) -> None:
    """What is clean stays; each span is a piece of the text; what is left is made of the text's
    characters in order.
    """
    pages = ["https://www.example.org/x"] * len(texts)
    rows = clean(texts, pages)
    for text, (left, cut) in zip(read_references(pa.array(texts)).to_pylist(), rows, strict=True):
        assert left is not None
        assert cut is not None
        assert all(span and span in text for span in cut), (text, cut)
        assert in_order(BLANKS.sub("", left), iter(BLANKS.sub("", text))), (text, left)
    assert clean([left for left, _ in rows], pages) == [(left, []) for left, _ in rows]


def in_order(some: str, of: Iterator[str]) -> bool:
    return all(sign in of for sign in some)


def test_texts_that_describe_stay() -> None:
    texts = [*wording("faithful"), *wording("shared")]
    assert clean(texts) == [(" ".join(text.split()), []) for text in texts]


@pytest.mark.real
@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data")
def test_captions_by_people_stay() -> None:
    """Of 30,000 captions 17 lose a comma at their end; of 470 texts of a site nine lose a label, a
    sign, a credit or an address.
    """
    lines = (
        (SHARED / "captions" / "flickr8k-train" / "captions.jsonl")
        .read_text(encoding="utf-8")
        .splitlines()
    )
    captions = [caption for line in lines for caption in json.loads(line)["captions"]]
    cuts = [cut for _, cut in clean(captions) if cut]
    assert all(cut == [","] for cut in cuts)
    assert len(cuts) <= 0.001 * len(captions)
    texts = [
        json.loads(line)["alt"]
        for path in sorted(SHARED.glob("webalt/*/pairs.jsonl"))
        for line in path.read_text("utf-8").splitlines()
    ]
    cuts = [cut for _, cut in clean([text for text in texts if text]) if cut]
    assert len(cuts) <= 0.02 * len(texts)


def test_a_text_of_a_thousand_layers_loses_some_and_is_no_hang() -> None:
    layers = 2 * ROUNDS  # one at either end a round
    left, cut = clean(["x.jpg " * 1000])[0]
    assert cut == ["x.jpg"] * layers
    assert left == " ".join(["x.jpg"] * (1000 - layers))


def test_pieces_by_the_hundred_thousand_are_not_multiplied_by_their_text() -> None:
    pieces = 100_000  # of a text of 300 kB: held beside each piece it would be 30 GB
    before = peak_memory()
    left, cut = clean(['"" ' * pieces])[0]
    assert (left, cut) == ("", ['""'] * pieces)
    assert peak_memory() - before < 500_000_000


def peak_memory() -> int:
    """The most memory that this process has had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
