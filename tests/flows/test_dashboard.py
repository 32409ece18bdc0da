"""The dashboard in a real browser, and its views as data: numbers equal the funnel's, moved sliders
decide as decisions do.

With WINNOW_PICTURES=docs the pictures of its pages are written there: docs/dashboard-*.png.
"""

import io
import json
import os
import re
import socket
import subprocess
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pytest
from PIL import Image

from filters.recipe.recipe import load, parse
from flows.dashboard import group_views, rule_views, views
from flows.dashboard.candidate_history import story_view
from flows.dashboard.decision_store import Decided, decisions, find, rows
from flows.dashboard.redecide import again, moved
from flows.dashboard.save import recipe_file
from flows.dashboard.serve import command
from pipelines.decide.decision import decide
from pipelines.store import Folder
from pipelines.tables import read_table
from tests.flows.drawn import HOSTILE, NIGHTS, collect_all

PICTURES = os.environ.get("WINNOW_PICTURES")
NAMES = [name for name, _ in NIGHTS]

pytestmark = pytest.mark.timeout(900)  # three small collections are drawn, measured and decided


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    folder = Folder(str(tmp_path_factory.mktemp("root")))
    collect_all(folder)
    for recipe, collections in (
        ("demo", NAMES),
        ("everything", NAMES),
        *(("demo", [name]) for name in NAMES),
    ):
        decide(folder, recipe, collections)
    return folder


@pytest.fixture(scope="module")
def decided(root: Folder) -> Decided:
    return find(root, "demo", NAMES)


def place_of(decided: Decided, reason: str) -> int:
    return next(place for place, rule in enumerate(decided.recipe.rule) if rule.reason == reason)


def test_decisions_are_found_with_their_recipes(root: Folder, decided: Decided) -> None:
    assert [(one.recipe.name, list(one.collections)) for one in decisions(root)] == [
        *(("demo", [name]) for name in NAMES[:1]),
        ("demo", NAMES),
        *(("demo", [name]) for name in NAMES[1:]),
        ("everything", NAMES),
    ]
    assert decided.recipe == load("demo")
    with pytest.raises(ValueError, match="there is no such decision"):
        find(root, "lait")


def test_the_funnel_is_that_of_the_decision(root: Folder, decided: Decided) -> None:
    funnel = decide(root, "demo", NAMES).funnel.to_json()
    view = views.funnel_view(decided)
    assert {step["outcome"]: step["count"] for step in view["steps"]} == funnel["outcomes"]
    assert (view["candidates"], view["kept"], view["steps"][-2]["left"]) == (
        funnel["candidates"],
        funnel["outcomes"]["kept"],
        view["kept"],
    )


def test_nothing_moved_decides_the_same(root: Folder) -> None:
    for one in decisions(root):
        assert again(one, one.recipe).outcome.equals(
            rows(one, ["outcome"])["outcome"].combine_chunks()
        ), one.label


@pytest.mark.parametrize(
    "changes",
    [
        {"text.too_short": 9.0},
        {"image.graphic": 0.05, "text.too_short": 12.0},
        {"group.shared_text": 2.0},
        {"group.duplicate": None, "image.too_small": 200.0},
    ],
)
def test_moved_sliders_decide_as_the_recipe_would(
    root: Folder, decided: Decided, tmp_path: Path, changes: dict[str, float | None]
) -> None:
    placed = {place_of(decided, reason): value for reason, value in changes.items()}
    path = tmp_path / "moved.toml"
    path.write_text(recipe_file(moved(decided.recipe, placed), "moved"), encoding="utf-8")
    (tmp_path / "collections").symlink_to(root.path("collections"))
    real = decide(Folder(str(tmp_path)), str(path), NAMES).funnel.outcomes
    view = rule_views.moved_view(decided, placed)
    assert {name: count for name, count in view["after"].items() if count} == {
        name: count for name, count in real.items() if count
    }
    assert view["after"]["kept"] - view["kept"] == view["enters"] - view["leaves"]
    assert not view["estimate"]


def test_the_border_is_what_stands_nearest_to_the_threshold(decided: Decided) -> None:
    place = place_of(decided, "text.too_short")
    border = rule_views.moved_view(decided, {place: 9.0}, place)["border"]
    assert border["rule"] == "text.words >= 9"
    assert {card["value"] for card in border["outside"][:3]} == {8}
    assert min(card["value"] for card in border["inside"]) == 9
    assert all(card["now"] == "kept" for card in border["inside"])
    assert all(card["now"] == "text.too_short" for card in border["outside"])


def test_a_saved_recipe_says_what_was_changed_by_hand(decided: Decided) -> None:
    place = place_of(decided, "text.too_short")
    written = recipe_file(
        moved(decided.recipe, {place: 4.0, place_of(decided, "group.duplicate"): None}), "mine"
    )
    read = parse(written)
    assert (
        read.rule[place].source
        == f"{decided.recipe.rule[place].source}; changed by hand in the dashboard, was 2"
    )
    assert [rule.source for rule in read.rule[:place]] == [
        rule.source for rule in decided.recipe.rule[:place]
    ]
    assert len(read.rule) == len(decided.recipe.rule) - 1
    with pytest.raises(ValueError, match="name"):
        recipe_file(decided.recipe, 'no "name"')


def test_groups_add_up_to_the_funnel(decided: Decided) -> None:
    for by in ("host", "language", "source"):
        view = group_views.groups_view(decided, by)
        summed: Counter[str] = sum((Counter(one["outcomes"]) for one in view["groups"]), Counter())
        assert summed == Counter({name: count for name, count in decided.outcomes.items() if count})
    hosts = {one["of"]: one for one in group_views.groups_view(decided, "host")["groups"]}
    assert set(hosts) == {
        "gardens.example",
        "museum.example",
        "news.example",
        "shop.example",
        "blog.example",
    }
    table = rows(decided, ["page_url", "outcome"]).filter(
        pc.match_substring(rows(decided, ["page_url"])["page_url"], "shop.example")
    )
    assert hosts["shop.example"]["outcomes"] == dict(Counter(table["outcome"].to_pylist()))
    one = group_views.groups_view(decided, "host", "shop.example")
    assert one["shown"]
    assert all("www.shop.example/" in card["page_url"] for card in one["shown"])
    assert {
        card["page_url"] for card in group_views.groups_view(decided, "language", "de")["shown"]
    }


def test_two_decisions_side_by_side(root: Folder, decided: Decided) -> None:
    other = find(root, "everything", NAMES)
    view = views.compare_view(decided, other)
    assert sum(pair["candidates"] for pair in view["pairs"]) == decided.candidates
    assert view["only_one"]["candidates"] == 0
    assert view["only_other"]["candidates"] == other.kept - decided.kept
    assert all(card["outcome"] != "kept" for card in view["only_other"]["shown"])


def test_over_time_each_collection_has_its_own_funnel(root: Folder) -> None:
    found = views.time_view(root, "demo")["collections"]
    assert [one["collection"] for one in found] == NAMES
    for one in found:
        own = find(root, "demo", [one["collection"]])
        assert (one["decision"], one["candidates"], one["kept"]) == (
            own.id,
            own.candidates,
            own.kept,
        )


def test_a_story_says_what_each_step_saw(root: Folder, decided: Decided) -> None:
    table = rows(decided, ["candidate_id", "outcome"])
    id = table["candidate_id"].filter(pc.equal(table["outcome"], "image.graphic"))[0].as_py()
    story = story_view(root, id)["story"]
    under = {(one["recipe"], one["decision"]): one for one in story["decisions"]}
    steps = under["demo", decided.id]["rules"]
    by_step = {step["step"]: step for step in steps}
    assert by_step["image.graphic"]["verdict"] == "stopped"
    assert by_step["image.graphic"]["value"] == story["measurements"]["image.flat"] > 0.5
    assert by_step["text.empty"]["verdict"] == "passed"
    assert by_step["group.duplicate"]["verdict"] == "not reached"
    assert {one["outcome"] for one in story["decisions"] if one["recipe"] == "everything"} == {
        "kept"
    }
    assert story["fetch"]["outcome"] == "fetched"
    assert len(story["image"]["image_part"]) > 0


def test_stories_by_address_and_by_image(root: Folder, decided: Decided) -> None:
    row = next(
        row
        for row in read_table(decided.folder, "part-00000.parquet").to_pylist()
        if row["image_id"]
    )
    for query in (row["image_url"], row["image_id"], row["page_url"]):
        assert row["candidate_id"] in {
            one["candidate_id"] for one in story_view(root, query)["candidates"]
        }
    assert story_view(root, "https://nobody.example/")["candidates"] == []
    assert story_view(root, "'; drop table parts; --")["candidates"] == []


def test_every_view_is_json(root: Folder, decided: Decided) -> None:
    everything = [
        views.shelf_view(root),
        views.funnel_view(decided),
        views.measurements_view(decided),
        rule_views.knobs(decided),
        rule_views.moved_view(decided, {4: 3.0}),
        group_views.groups_view(decided, "host"),
        views.outcome_view(decided, "kept"),
        views.compare_view(decided, decided),
        views.time_view(root, "demo"),
        story_view(root, rows(decided, ["candidate_id"])["candidate_id"][0].as_py()),
    ]
    for view in everything:
        json.dumps(view, allow_nan=False)


def test_histograms_count_every_candidate_that_was_measured(decided: Decided) -> None:
    table = rows(decided, ["outcome", "text.words"])
    (words,) = views.histograms(decided, only="text.words")
    there = table.filter(pc.is_valid(table["text.words"]))
    counted = Counter((row["text.words"], row["outcome"] == "kept") for row in there.to_pylist())
    assert words.edges[1] - words.edges[0] == 1
    for low, kept, dropped in zip(words.edges, words.kept, words.dropped, strict=False):
        assert (kept, dropped) == (counted[int(low), True], counted[int(low), False])


# In the browser


@pytest.fixture(scope="module")
def address(root: Folder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("log") / "log.txt"
    home = Path(__file__).parents[2]
    with log.open("wb") as out:
        child = subprocess.Popen(
            command(root, port=port),
            cwd=home,
            env={**os.environ, "PYTHONPATH": str(home)},
            stdout=out,
            stderr=out,
        )
    try:
        _ready(f"http://127.0.0.1:{port}/_stcore/health", child)
        yield f"http://127.0.0.1:{port}/"
    finally:
        child.terminate()
        child.wait(20)
    assert b"Traceback" not in log.read_bytes(), log.read_text()


def _ready(url: str, child: "subprocess.Popen[bytes]") -> None:
    for _ in range(200):
        assert child.poll() is None, "the server ended"
        try:
            urllib.request.urlopen(url, timeout=2)
        except OSError:
            time.sleep(0.3)
        else:
            return
    raise AssertionError("the server did not answer within a minute")


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    """A page that may ask nobody but the dashboard; no dialogue opens and no error is thrown in
    it.
    """
    opened = browser.new_page(viewport={"width": 1280, "height": 860})
    foreign: list[str] = []
    said: list[str] = []

    def route(route: Any) -> None:
        own = route.request.url.startswith((address, "data:", "blob:"))
        foreign.extend([] if own else [route.request.url])
        route.continue_() if own else route.abort()

    opened.route("**/*", route)
    opened.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
    opened.on("pageerror", lambda error: said.append(str(error)))
    yield opened
    assert opened.evaluate("window.hacked") is None
    opened.close()
    assert foreign == []
    assert said == []


def visit(page: Any, address: str, name: str) -> None:
    page.goto(address + name)
    page.locator(".view > *").first.wait_for(timeout=90_000)
    page.locator("[data-testid=stStatusWidget]").wait_for(state="detached", timeout=90_000)
    page.wait_for_timeout(500)


def picture(page: Any, name: str) -> None:
    """Keep what the page looks like, if asked to."""
    if PICTURES:
        page.mouse.move(1279, 859)
        page.wait_for_timeout(400)
        shot = Image.open(io.BytesIO(page.screenshot()))
        shot.convert("RGB").quantize(256).save(
            Path(PICTURES) / f"dashboard-{name}.png", optimize=True
        )


@pytest.mark.browser
def test_the_page_of_the_funnel(page: Any, address: str, decided: Decided) -> None:
    visit(page, address, f"funnel?decision={decided.id}")
    shown = {}
    for row in page.locator(".funnel tbody tr").all():
        shown[row.locator("code").inner_text()] = int(
            row.locator("td.number").first.inner_text().replace(",", "")
        )
    assert shown == {"candidates": decided.candidates, **decided.outcomes}
    picture(page, "funnel")
    page.locator(".funnel a", has_text="text.boilerplate").click()
    page.wait_for_url(re.compile("outcomes"))
    page.get_by_text(
        f"{decided.outcomes['text.boilerplate']:,} of {decided.candidates:,} candidates"
    ).wait_for(timeout=60_000)
    picture(page, "outcomes")


@pytest.mark.browser
def test_the_page_of_measurements(page: Any, address: str, decided: Decided) -> None:
    visit(page, address, f"measurements?decision={decided.id}")
    shown = {
        one.locator("h3").inner_text(): one.locator(".totals").inner_text()
        for one in page.locator(".multiple").all()
    }
    words = rows(decided, ["outcome", "text.words"])
    kept = len(
        [
            row
            for row in words.to_pylist()
            if row["outcome"] == "kept" and row["text.words"] is not None
        ]
    )
    assert shown["text.words"].startswith(f"{kept:,} kept")
    picture(page, "measurements")


@pytest.mark.browser
def test_a_slider_decides_at_once(page: Any, address: str, decided: Decided) -> None:
    page.set_viewport_size({"width": 1280, "height": 1120})
    visit(page, address, f"rules?decision={decided.id}")
    place = place_of(decided, "text.too_short")
    slider = page.get_by_role("slider", name=re.compile("text.too_short"))
    slider.focus()
    for _ in range(7):
        page.keyboard.press("ArrowRight")
    expected = rule_views.moved_view(decided, {place: 9.0}, place)
    page.locator(
        ".figure.kept b", has_text=re.compile(f"^{expected['after']['kept']:,}$")
    ).wait_for(timeout=60_000)
    assert page.locator(".figure.leave b").inner_text() == f"\u2212{expected['leaves']:,}"
    halves = page.locator(".halves .cards figure")
    bordering = len(expected["border"]["inside"]) + len(expected["border"]["outside"])
    halves.nth(bordering - 1).wait_for(timeout=60_000)  # the page is drawn from the top
    assert halves.count() == bordering
    picture(page, "rules")
    page.get_by_role("tab", name=re.compile("Leave")).click()
    cards = page.locator("figure:visible .text")
    cards.nth(len(expected["leaving"]) - 1).wait_for(timeout=60_000)
    assert set(cards.all_inner_texts()) == {card["text"] for card in expected["leaving"]}
    page.get_by_text("Save as a recipe").click()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download the recipe").click()
    saved = parse(download.value.path().read_text(encoding="utf-8"))
    assert saved.digest == moved(decided.recipe, {place: 9.0}).digest


@pytest.mark.browser
def test_two_recipes_side_by_side_in_the_browser(
    page: Any, address: str, root: Folder, decided: Decided
) -> None:
    other = find(root, "everything", NAMES)
    visit(page, address, f"compare?decision={decided.id}&other={other.id}")
    cells = [
        cell.inner_text()
        for cell in page.locator(".compare tbody tr").last.locator("td.number").all()
    ]
    assert (cells[0], cells[2]) == (f"{decided.kept:,}", f"{other.kept:,}")
    page.get_by_text(f"Kept by everything alone: {other.kept - decided.kept:,}").wait_for()
    picture(page, "compare")


@pytest.mark.browser
def test_over_time_and_by_group_in_the_browser(page: Any, address: str, decided: Decided) -> None:
    visit(page, address, f"time?decision={decided.id}")
    assert page.locator(".time tbody th").all_inner_texts() == NAMES
    picture(page, "time")
    visit(page, address, f"groups?decision={decided.id}")
    shown = {
        row.locator("th").inner_text(): row.locator("td.number").first.inner_text()
        for row in page.locator(".plain tbody tr").all()
    }
    assert shown == {
        one["of"]: f"{one['candidates']:,}"
        for one in group_views.groups_view(decided, "host")["groups"]
    }
    picture(page, "groups")
    page.locator(".plain a", has_text="shop.example").click()
    page.get_by_role("heading", name="shop.example").wait_for(timeout=60_000)
    assert page.locator("figure").count() == len(
        group_views.groups_view(decided, "host", "shop.example")["shown"]
    )


@pytest.mark.browser
def test_hostile_texts_are_shown_as_they_are(
    page: Any, address: str, root: Folder, decided: Decided
) -> None:
    table = rows(decided, ["candidate_id", "text", "outcome"]).to_pylist()
    for hostile in HOSTILE:
        id = next(row["candidate_id"] for row in table if row["text"] == hostile)
        visit(page, address, f"story?q={id}")
        assert page.locator("figure .text").inner_text() == hostile
        assert page.locator(".view script, .view [onerror], .view a[href^=javascript]").count() == 0
    visit(page, address, "story")
    page.get_by_role("textbox").fill('<img src=x onerror="window.hacked=9">')
    page.keyboard.press("Enter")
    page.get_by_text("There is no such candidate.").wait_for(timeout=60_000)


@pytest.mark.browser
def test_the_page_of_a_story(page: Any, address: str, decided: Decided) -> None:
    table = rows(decided, ["candidate_id", "outcome"])
    id = table["candidate_id"].filter(pc.equal(table["outcome"], "image.graphic"))[0].as_py()
    visit(page, address, f"story?q={id}")
    stopped = page.locator(".verdicts tr.stopped").first
    assert stopped.locator("code").inner_text() == "image.graphic"
    assert page.locator("figure img").evaluate("one => one.naturalWidth > 0")
    picture(page, "story")


@pytest.mark.browser
def test_pictures_come_from_the_store(page: Any, address: str, decided: Decided) -> None:
    visit(page, address, f"outcomes?decision={decided.id}&outcome=kept")
    sources = page.locator("figure img").evaluate_all(
        "all => all.map(one => [one.src.slice(0, 22), one.naturalWidth > 0])"
    )
    assert len(sources) == 24
    assert all(start == "data:image/jpeg;base64" and drawn for start, drawn in sources)
    visit(page, address, "")
    assert page.locator(".plain tbody tr").count() == 5
    picture(page, "decisions")
