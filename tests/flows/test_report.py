"""The report: its numbers are those of the data, and nothing that came from the web does anything
in it.
"""

import base64
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from filters.recipe.statistics import TINY, Statistics
from flows.report import (
    Curve,
    Group,
    Histogram,
    ReportData,
    Sample,
    distribution,
    read_curves,
    write_report,
)

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(2)>',
    '=HYPERLINK("http://evil.example/","here")',
    "</style></title><svg onload=alert(3)>",
    "&lt;b&gt; & \u202egnirts \x00\x1b ok",
    "a\ud800b",
)

BREAKING = 'http://x.example/"><script>alert(5)</script>'


def jpeg(colour: str = "teal", size: tuple[int, int] = (400, 300)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "JPEG")
    return buffer.getvalue()


DATA = ReportData(
    title="A collection & its <release>",
    happened=("Ten pages came in.", "Something was kept."),
    funnel=(
        ("permission.robots", 120),
        ("text.too_short", 1380),
        ("text.language", 0),
        ("image.too_small", 300),
        ("kept", 1200),
    ),
    reasons={"text.too_short": "fewer than four words", "image.too_small": "a side < 200 pixels"},
    histograms=(
        Histogram(
            measure="text.words",
            edges=(1, 2, 3, 4, 5),
            kept=(0, 0, 5, 7),
            dropped=(3, 2, 1, 0),
            thresholds=((">=", 3),),
            whole=True,
        ),
        Histogram(
            measure="text.language", labels=("en", "de"), kept=(12, 0), dropped=(1, 5), unmeasured=4
        ),
    ),
    groups={
        "host": (
            Group(
                name="<b>shop</b>.example",
                candidates=2000,
                kept=500,
                stopped=(("text.too_short", 1380), ("image.too_small", 120)),
            ),
        ),
        "source": (),
    },
    samples=(
        *(
            Sample(outcome="kept", text=text, image=jpeg(), page_url="javascript:alert(4)")
            for text in HOSTILE
        ),
        Sample(outcome="text.too_short", text="", page_url="https://example.org/a/b?c=1&d=2"),
        Sample(
            outcome="decode.truncated",
            text="a broken one",
            image=jpeg()[:80],
            page_url=BREAKING,
            note="<i>0.3</i>",
        ),
        Sample(outcome="kept", text="odd addresses", page_url="http://[half"),
        Sample(outcome="kept", text="data", page_url="data:text/html,<script>alert(6)</script>"),
    ),
    curves=(
        Curve(
            stage="align <1>",
            steps=(0, 10, 20),
            losses={"loss": (4.0, 3.0, 2.5), "matching": (0.7, None, 0.5)},
        ),
    ),
    retrieval={
        "curated": {"text to image R@1": 0.4125, "image to text R@1": 0.5},
        "chance": {"text to image R@1": 1 / 240},
    },
    facts={"release": "/tmp/<x>/releases/y"},
)


class Outline(HTMLParser):
    """Tags, attributes and the text of table rows, read by another parser than the one that wrote
    them.
    """

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.text = ""
        self.in_cell = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.in_cell = True
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        self.in_cell = self.in_cell and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.in_cell and self.tags[-1][0] != "title":
            self.rows[-1][-1] += data


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(tmp_path_factory.mktemp("report") / "report.html", DATA)


@pytest.fixture(scope="module")
def outline(path: Path) -> Outline:
    return Outline(path.read_text(encoding="utf-8"))


def test_the_funnel_runs_from_all_candidates_to_the_kept_ones(outline: Outline) -> None:
    rows = [[cell.strip() for cell in row] for row in outline.rows]
    assert rows[1:6] == [
        ["candidates", "", "3,000", "100.0 %", "", ""],
        ["permission.robots", "", "120", "4.0 %", "2,880", ""],
        ["text.too_short", "fewer than four words", "1,380", "46.0 %", "1,500", ""],
        ["image.too_small", "a side < 200 pixels", "300", "10.0 %", "1,200", ""],
        ["kept", "", "1,200", "40.0 %", "", ""],
    ]
    assert "Of 3,000 candidates 1,200 were kept (40.0 %)." in outline.text


def test_retrieval_is_in_percent(outline: Outline) -> None:
    rows = [[cell.strip() for cell in row] for row in outline.rows[8:]]
    assert rows == [
        ["percent", "curated", "chance", "0 to 100"],
        ["text to image R@1", "41.2", "0.4", ""],
        ["image to text R@1", "50.0", "–", ""],  # noqa: RUF001
    ]


def test_histograms_say_their_counts(outline: Outline) -> None:
    for said in (
        "12 kept",
        "6 dropped",
        "4 unmeasured",
        "3: 5 kept, 1 dropped",
        "4: 7 kept, 0 dropped",
        "≥ 3",
        "de: 0 kept, 5 dropped",
    ):
        assert said in outline.text, said


def test_groups_say_what_stopped_most_of_them(outline: Outline) -> None:
    assert outline.rows[7] == [
        "<b>shop</b>.example",
        "2,000",
        "500",
        "25.0 %",
        "",
        "text.too_short 1,380, image.too_small 120",
    ]


def test_curves_say_their_ends(outline: Outline) -> None:
    for said in (
        "align <1>",
        "loss 2.5",
        "matching 0.5",
        "loss: 4 at first, 2.5 at last",
        "matching: 0.7 at first, 0.5 at last",
        "step 0",
    ):
        assert said in outline.text, said


def test_no_tag_or_attribute_comes_from_the_data(outline: Outline) -> None:
    tags = {tag for tag, _ in outline.tags}
    assert not tags & {"script", "iframe", "object", "embed", "link", "base", "form", "i"}
    assert not any(name.startswith("on") for _, attributes in outline.tags for name in attributes)
    for text in HOSTILE[:4]:
        assert text in outline.text
    assert "a\ufffdb" in outline.text
    assert "\x00" not in outline.text


def test_only_addresses_of_the_web_become_links(outline: Outline) -> None:
    links = [attributes["href"] for tag, attributes in outline.tags if tag == "a"]
    assert [link for link in links if link and not link.startswith("#")] == [
        "https://example.org/a/b?c=1&d=2",
        BREAKING,
    ]
    assert all(
        said in outline.text for said in ("javascript:alert(4)", "data:text/html,", "http://[half")
    )


def test_pictures_are_small_jpegs_inside_the_page(outline: Outline) -> None:
    sources = [attributes["src"] or "" for tag, attributes in outline.tags if tag == "img"]
    assert len(sources) == len(HOSTILE)
    for source in sources:
        picture = Image.open(
            io.BytesIO(base64.b64decode(source.removeprefix("data:image/jpeg;base64,")))
        )
        assert (picture.format, picture.size) == ("JPEG", (176, 132))


def test_a_page_without_scripts_or_addresses_to_load_from(path: Path) -> None:
    html = path.read_text(encoding="utf-8")
    style = html[html.index("<style>") : html.index("</style>")]
    assert "default-src 'none'" in html
    assert not re.search(r"url\(|@import|http", style)


def test_the_twin_says_the_same(path: Path) -> None:
    twin = json.loads(path.with_suffix(".json").read_text())
    assert (twin["candidates"], twin["kept"]) == (3000, 1200)
    assert twin["funnel"][1] == {"outcome": "text.too_short", "count": 1380, "left": 1500}
    assert [sample["text"] for sample in twin["samples"]][:4] == list(HOSTILE[:4])
    assert twin["retrieval"]["curated"]["text to image R@1"] == 0.4125
    assert twin["curves"][0]["losses"]["matching"] == [0.7, None, 0.5]
    assert twin["groups"]["host"][0]["stopped"] == [
        ["text.too_short", 1380],
        ["image.too_small", 120],
    ]
    assert twin["histograms"][0]["dropped"] == [3, 2, 1, 0]


def test_a_report_of_nothing_but_a_title(tmp_path: Path) -> None:
    found = Outline(
        write_report(tmp_path / "deep" / "r.html", ReportData(title="Nothing yet")).read_text()
    )
    assert "Nothing yet" in found.text
    assert not {"section", "nav", "table", "svg"} & {tag for tag, _ in found.tags}
    assert sorted(path.name for path in (tmp_path / "deep").iterdir()) == ["r.html", "r.json"]


def test_counts_that_do_not_fit_their_edges_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"text\.words: 2 and 2 counts for 3 bins"):
        Histogram(measure="text.words", edges=(0, 1, 2, 3), kept=(1, 2), dropped=(1, 2))


def shape(
    kept: list[Any], dropped: list[Any], kind: pa.DataType, *, whole: bool = False
) -> Histogram | None:
    sides = (Statistics.of(pa.array(values, kind)) for values in (kept, dropped))
    return distribution("it", *sides, whole=whole, sentence="Words.", thresholds=[(">=", 4)])


def test_distributions_of_numbers_and_of_names() -> None:
    words = shape([5, 6, 5], [1, None], pa.int32(), whole=True)
    assert words is not None
    assert (words.edges, words.kept, words.dropped) == (
        (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0),
        (0, 0, 0, 0, 2, 1),
        (1, 0, 0, 0, 0, 0),
    )
    assert (words.unmeasured, words.whole, words.sentence, words.thresholds) == (
        1,
        True,
        "Words.",
        ((">=", 4),),
    )
    language = shape(["en", "en", "en"], ["de", None], pa.string())
    assert language is not None
    assert (language.labels, language.kept, language.dropped, language.unmeasured) == (
        ("en", "de"),
        (3, 0),
        (0, 1),
        1,
    )
    score = shape([0.5, 1.0], [0.25, 0.0], pa.float32())
    assert score is not None
    assert (sum(score.kept), sum(score.dropped), score.edges[0], score.edges[-1]) == (
        2,
        2,
        0.0,
        1.0,
    )


@given(st.lists(st.floats(-1e6, 1e6) | st.floats(0, 1), min_size=1, max_size=80))
def test_a_distribution_counts_each_number_once_and_where_it_lies(values: list[float]) -> None:
    found = shape(values, [], pa.float64())
    assert found is not None
    assert sum(found.kept) == len(values)
    # next to nothing counts as nothing
    told = [0.0 if abs(value) < TINY else value for value in values]
    inside = [value for value in told if found.edges[0] <= value < found.edges[-1]]
    for low, high, counted in zip(
        found.edges[1:-2], found.edges[2:-1], found.kept[1:-1], strict=True
    ):
        assert counted == sum(low <= value < high for value in inside), (low, high)


def test_skewed_numbers_get_bins_that_grow() -> None:
    found = shape([float(10**power) for power in range(1, 6)] * 20, [], pa.float64())
    assert found is not None
    assert found.edges[-1] - found.edges[-2] > 100 * (found.edges[1] - found.edges[0])
    assert sum(found.kept) == 100


def test_texts_and_digests_are_no_distribution() -> None:
    assert shape([f"text {n}" for n in range(60)], [], pa.string()) is None
    assert shape([], [None], pa.string()) is None


def test_curves_of_a_log(tmp_path: Path) -> None:
    log = tmp_path / "metrics.jsonl"
    rows: list[dict[str, Any]] = [
        {
            "stage": "one",
            "step": 0,
            "loss": 3.0,
            "itc": 1.0,
            "itm": 2.0,
            "rate": 0.1,
            "itm_right": 0.5,
            "heldout_itc": 2.0,
        },
        {"stage": "one", "step": 10, "loss": 9.0, "itc": 4.0, "itm": 5.0, "rate": 0.1},
        {"stage": "one", "step": 10, "loss": 2.0, "itc": 0.5, "itm": float("nan"), "rate": 0.1},
        {"stage": "one", "step": 20, "loss": 1.5, "itc": 0.5, "rate": 0.1},
        {"event": "resumed"},
        {"stage": "two", "step": 20, "loss": 1.5, "itc": 1.5, "rate": 0.1},
    ]
    log.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"stage": "two", "st')
    assert read_curves(log, prefix="raw, ") == (
        Curve(
            stage="raw, one",
            steps=(0, 10, 20),
            losses={"loss": (3.0, 2.0, 1.5), "itc": (1.0, 0.5, 0.5), "itm": (2.0, 5.0, None)},
        ),
        Curve(stage="raw, two", steps=(20,), losses={"loss": (1.5,)}),
    )


@pytest.mark.browser
def test_in_a_browser_nothing_runs_and_nothing_is_asked_for(path: Path, browser: Any) -> None:
    page = browser.new_page(viewport={"width": 390, "height": 800})
    asked: list[str] = []
    said: list[str] = []
    page.route(
        "**/*",
        lambda route: (
            asked.append(route.request.url),
            route.continue_() if route.request.url == path.as_uri() else route.abort(),
        ),
    )
    page.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("console", lambda message: said.append(message.text))
    page.goto(path.as_uri())
    page.wait_for_timeout(300)
    assert [url for url in asked if not url.startswith("data:")] == [path.as_uri()]
    assert said == []
    texts = page.locator(".text").all_inner_texts()
    assert texts[:4] == list(HOSTILE[:4])
    assert page.locator(".funnel tr.total .number").first.inner_text() == "3,000"
    assert page.locator("img").evaluate_all("all => all.every(one => one.naturalWidth === 176)")


@pytest.mark.browser
@pytest.mark.parametrize("width", [320, 390, 820, 1600])
def test_in_a_browser_no_width_needs_scrolling_sideways(
    path: Path, browser: Any, width: int
) -> None:
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme="dark")
    page.goto(path.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(22, 22, 20)"
