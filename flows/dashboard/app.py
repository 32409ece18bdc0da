"""The pages of the dashboard, as streamlit runs them: `flows.dashboard.serve` starts it. Every
number comes from `views`.
"""

import functools
import sys
from collections.abc import Callable
from importlib.resources import files
from typing import Any

import streamlit as st

from filters.recipe.rules import RowRule
from flows.dashboard import candidate_charts, charts, group_charts, group_views, rule_views, views
from flows.dashboard.candidate_history import story_view
from flows.dashboard.decision_store import Decided, decisions
from flows.dashboard.redecide import Changes, moved
from flows.dashboard.save import recipe_file
from flows.report.runs import run_sections
from flows.report.training import read_runs
from flows.report.tree import Node, node
from pipelines.schema import KEPT
from pipelines.store import Folder

PAGES = (
    "decisions",
    "funnel",
    "measurements",
    "rules",
    "compare",
    "time",
    "groups",
    "outcomes",
    "story",
    "training",
)
RUNS = 5  # lines of a picture that can be told apart
NOTHING = "Nothing is decided yet: `winnow funnel --recipe winnow --collection NAME` does it."
NAMES = {"time": "Over time", "rules": "Move the rules"}

# Elements are made one by one: what came from the web is never parsed as HTML
SCRIPT = """
function build(spec, within) {
  if (typeof spec === "string") return document.createTextNode(spec);
  const [tag, attributes, children] = spec;
  const svg = within || tag === "svg";
  const made = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) if (!name.toLowerCase().startsWith("on")) made.setAttribute(name, value);
  for (const child of children) made.appendChild(build(child, svg));
  return made;
}
export default function ({ parentElement, data, setTriggerValue }) {
  const view = parentElement.querySelector(".view");
  view.replaceChildren(build(data.tree, false));
  for (const link of view.querySelectorAll("a.go")) link.onclick = (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    setTriggerValue("go", link.getAttribute("href"));
  };
}
"""  # noqa: E501
FRAME = """
<style>
  .stMainBlockContainer { max-width: 1240px; padding-top: 4.6rem; }
  [data-testid="stToolbarActions"], [data-testid="stDecoration"], [data-testid="stStatusWidget"], #MainMenu, footer { display: none; }
  [data-testid="stHeader"] { border-bottom: 1px solid #8883; }
  .stSlider [data-testid="stSliderTickBar"] { opacity: .55; }
  .stSlider { margin-bottom: -.4rem; }
</style>
"""  # noqa: E501


def main() -> None:
    """One run of the page that is asked for."""
    st.set_page_config(page_title="Winnow", layout="wide", initial_sidebar_state="collapsed")
    st.html(FRAME)
    pages = [
        st.Page(
            told(SHOW[name]),
            title=NAMES.get(name, name.capitalize()),
            url_path=name,
            default=name == "decisions",
        )
        for name in PAGES
    ]
    st.session_state["pages"] = dict(zip(PAGES, pages, strict=True))
    st.navigation(pages, position="top").run()


def told(draw: Callable[[], None]) -> Callable[[], None]:
    """A page that says in words what it cannot show: files that are half written, damaged, or gone
    meanwhile.
    """

    @functools.wraps(draw)
    def page() -> None:
        try:
            draw()
        except (ValueError, OSError) as error:
            st.error(f"This cannot be shown: {_plain(str(error))}")

    return page


def root() -> Folder:
    return Folder(sys.argv[1])


def show(tree: Node, key: str) -> None:
    """Draw a tree; a link to another page of the dashboard opens it without loading everything
    again.
    """
    css = (
        files("flows.report")
        .joinpath("report.css")
        .read_text(encoding="utf-8")
        .replace(":root", ":host")
    )
    css += (
        files(__package__ or "flows.dashboard")
        .joinpath("dashboard.css")
        .read_text(encoding="utf-8")
    )
    view = st.components.v2.component(
        "winnow.view", html='<div class="view"></div>', css=css, js=SCRIPT
    )
    found = view(data={"tree": charts.spec(tree)}, key=key, on_go_change=lambda: None)
    if target := getattr(found, "go", None):
        open_page(str(target))


def open_page(target: str) -> None:
    """Go to `page?name=value`."""
    from urllib.parse import parse_qsl

    page, _, query = target.partition("?")
    st.switch_page(st.session_state["pages"][page], query_params=dict(parse_qsl(query)))


def choose(label: str = "Decision", key: str = "decision", start: int = 0) -> Decided:
    """The decision that the address names, or that is chosen."""
    there = decisions(root())
    if not there:
        st.info(NOTHING)
        st.stop()
    ids = [one.id for one in there]
    named = st.query_params.get(key) or st.session_state.get(f"last {key}")
    index = ids.index(named) if named in ids else min(start, len(ids) - 1)
    labels = {one.id: one.label for one in there}
    name = f"choose {key} {named}"
    chosen = st.selectbox(
        label, ids, index, labels.__getitem__, label_visibility="collapsed", key=name, width=460
    )
    st.session_state[f"last {key}"] = chosen
    st.query_params[key] = chosen
    return there[ids.index(chosen)]


def overview() -> None:
    view = views.shelf_view(root())
    if not view["decisions"]:
        st.info(NOTHING)
    text = (
        "What was decided, a recipe applied to collections in each line. Its name leads to its"
        " funnel."
    )
    show(node("div", node("p", text, class_="lead"), charts.shelf_picture(view)), "decisions")


def funnel() -> None:
    decided = choose()
    view = views.funnel_view(decided)
    show(node("div", charts.lead(view), charts.funnel_picture(view)), "funnel")


def measurements() -> None:
    decided = choose()
    sides = (
        node("b", "kept", class_="kept"),
        " above each line, ",
        node("b", "dropped", class_="dropped"),
    )
    key = node("p", "Counts of all candidates: ", *sides)
    key[-1].tail = (
        " below it, to the same scale. A dotted line is what the recipe asks for. Bins are drawn"
        " equally wide."
    )
    show(node("div", key, charts.histograms_picture(views.histograms(decided))), "measurements")


def rules() -> None:
    decided = choose()
    left, right = st.columns([5, 8], gap="large")
    with left:
        changes = sliders(decided)
    with right:
        movable = [
            knob
            for knob in rule_views.knobs(decided)
            if knob["measure"] and knob["least"] is not None
        ]
        strictest = max(
            movable,
            key=lambda knob: decided.outcomes.get(knob["reason"], 0),
            default={"rule": None},
        )
        focus = st.session_state.get(f"focus {decided.id}", strictest["rule"])
        view = rule_views.moved_view(decided, changes, focus)
        show(charts.moved_head(view), "moved")
        border(decided, changes, view, focus)
        save(decided, changes)


def sliders(decided: Decided) -> Changes:
    """A slider for every rule with a threshold, a switch for the others; what was changed."""
    changes: dict[int, float | None] = {}
    if st.button("Back to the recipe", type="tertiary", icon=":material/undo:"):
        st.session_state["turn"] = st.session_state.get("turn", 0) + 1
    for knob in rule_views.knobs(decided):
        place, value = knob["rule"], knob["value"]
        key = f"{decided.id} {place} {st.session_state.get('turn', 0)}"
        said, args = _plain(f"{knob['asked']}. {knob['source']}"), (decided.id, place)
        if knob["least"] is None:
            if not st.toggle(
                knob["reason"], value=True, key=key, help=said, on_change=_look, args=args
            ):
                changes[place] = None
            continue
        kind: Any = int if isinstance(value, int) and float(knob["step"]).is_integer() else float
        least, most, start, step = (kind(knob[name]) for name in ("least", "most", "value", "step"))
        # names of measurements and reasons have no markup
        label = f"{knob['reason']} \u2013 {knob['asked'].rsplit(' ', 1)[0]}"
        now = st.slider(
            label, least, most, start, step, key=key, help=said, on_change=_look, args=args
        )
        if now != value:
            changes[place] = float(now)
    return changes


def _look(decision: str, place: int) -> None:
    st.session_state[f"focus {decision}"] = place


def _plain(text: str) -> str:
    """A text inside markdown, of which nothing is markup."""
    return "".join(f"\\{sign}" if sign in r"\`*_{}[]()#+-.!|<>~:$&" else sign for sign in text)


def border(decided: Decided, changes: Changes, view: views.View, focus: int | None) -> None:
    """Who enters, who leaves, who stands at the border of the rule that was moved last, and all
    outcomes.
    """
    names = [
        "At the border",
        f"Enter ({view['enters']:,})",
        f"Leave ({view['leaves']:,})",
        "All outcomes",
    ]
    edge, enter, leave, outcomes = st.tabs(names)
    with enter:
        show(charts.cards_picture(root(), view["entering"], decided.id), "entering")
    with leave:
        show(charts.cards_picture(root(), view["leaving"], decided.id), "leaving")
    with edge:
        show(_edge(decided, changes, view, focus), "edge")
    with outcomes:
        show(charts.moved_table(view), "outcomes")


def _edge(decided: Decided, changes: Changes, view: views.View, focus: int | None) -> Node:
    if not view["border"]:
        return node(
            "p",
            "This rule has no threshold: move a slider to see what stands on both sides of it.",
            class_="absent",
        )
    rule = decided.recipe.rule[focus if focus is not None else next(iter(changes))]
    assert isinstance(rule, RowRule), "only thresholds have a border"
    marked = moved(decided.recipe, changes)
    distribution = charts.histograms_picture(views.histograms(decided, marked, rule.measure))
    halves = [
        node(
            "div",
            node("h2", title),
            charts.cards_picture(root(), view["border"][side], decided.id),
        )
        for title, side in (
            ("The last that it lets pass", "inside"),
            ("The first that it stops", "outside"),
        )
    ]
    return node(
        "div", node("div", distribution, class_="focus"), node("div", *halves, class_="halves")
    )


def save(decided: Decided, changes: Changes) -> None:
    """The moved thresholds as a recipe file."""
    with st.expander("Save as a recipe", icon=":material/save:"):
        name = st.text_input("Name", f"{decided.recipe.name}-moved")
        try:
            written = recipe_file(moved(decided.recipe, changes), name)
        except ValueError as error:
            st.text(str(error))
            return
        st.download_button(
            "Download the recipe",
            written,
            file_name=f"{name}.toml",
            mime="application/toml",
            on_click="ignore",
        )
        st.code(written, language=None, height=280)


def compare() -> None:
    columns = st.columns(2)
    with columns[0]:
        one = choose("One", "decision")
    with columns[1]:
        other = choose("Other", "other", 1)
    view = views.compare_view(one, other)
    parts = [charts.compare_picture(view)]
    if view["same"]:
        names = [side["recipe"] for side in (view["one"], view["other"])]
        parts += [
            node("h2", "What becomes of the same candidates otherwise"),
            charts.pairs_picture(view),
        ]
        for name, side, decided in ((names[0], "only_one", one), (names[1], "only_other", other)):
            title = f"Kept by {name} alone: {view[side]['candidates']:,}"
            parts += [
                node("h2", title),
                charts.cards_picture(root(), view[side]["shown"], decided.id),
            ]
    show(node("div", *parts), "compare")


def time() -> None:
    decided = choose()
    view = views.time_view(root(), decided.recipe.name)
    text = (
        f"Recipe {decided.recipe.name} over each collection that it decided, in the order of their"
        " names."
    )
    parts = (
        group_charts.time_picture(view),
        node("h2", "Share of each outcome"),
        group_charts.shares_picture(view),
    )
    show(node("div", node("p", text, class_="lead"), *parts), "time")


def groups() -> None:
    decided = choose()
    ways = ("host", "language", "source")
    asked = st.query_params.get("by", "host")
    start = asked if asked in ways else "host"
    by = (
        st.segmented_control(
            "By", ways, default=start, label_visibility="collapsed", key=f"by {asked}"
        )
        or start
    )
    of = st.query_params.get("of") if by == asked else None
    view = group_views.groups_view(decided, by, of)
    parts = [group_charts.groups_picture(view)]
    if of is not None:
        parts = [
            node("h2", of),
            *parts,
            node("h2", "Some of them"),
            charts.cards_picture(root(), view["shown"], decided.id),
        ]
        parts += [node("h2", "What was measured on them"), group_charts.means_picture(view)]
    show(node("div", *parts), "groups")


def outcomes() -> None:
    decided = choose()
    there = [name for name, count in decided.outcomes.items() if count] or [KEPT]
    named = st.query_params.get("outcome")
    start = named if named in there else there[-1]
    outcome = (
        st.pills(
            "Outcome", there, default=start, label_visibility="collapsed", key=f"outcome {named}"
        )
        or start
    )
    view = views.outcome_view(decided, outcome)
    title = node(
        "h2", node("code", outcome), f" {view['count']:,} of {view['candidates']:,} candidates"
    )
    parts: list[Node] = [title, charts.cards_picture(root(), view["shown"], decided.id)]
    for by in ("host", "language", "source"):
        parts += [node("h2", f"By {by}"), charts.tally_picture(view[by], by, decided.id)]
    show(node("div", *parts), "outcome")


def story() -> None:
    asked = st.query_params.get("q", "")
    said = "The id of a candidate or of an image, or the address of a page or of an image"
    query = st.text_input(
        "Candidate", asked, placeholder=said, label_visibility="collapsed", key=f"story {asked}"
    )
    if not query:
        show(
            node("p", f"{said}: everything that is known of it appears here.", class_="absent"),
            "nothing",
        )
        return
    view = story_view(root(), query)
    if view["story"] is None:
        none = node("p", "There is no such candidate.", class_="absent")
        show(
            candidate_charts.found_picture(view["candidates"]) if view["candidates"] else none,
            "found",
        )
        return
    show(story_picture(view["story"]), "story")


def training() -> None:
    runs, damaged = read_runs(root())
    if not runs and not damaged:
        st.info(
            "Nothing is trained here yet: `winnow train RECIPE --release NAME --out models/NAME` in"
            " the root does it."
        )
        return
    names = [run.name for run in runs]
    chosen = st.multiselect(
        "Runs", names, default=names[:RUNS], label_visibility="collapsed", key="runs"
    )
    sections = run_sections([run for run in runs if run.name in chosen], damaged)
    show(
        node(
            "div",
            *(part for title, parts in sections for part in (node("h2", title), *parts)),
            class_="training",
        ),
        "training",
    )


def story_picture(found: Any) -> Node:
    """One candidate: its picture, text and origin, then its verdicts under each recipe, then all
    that is known.
    """
    candidate, fetch = found["candidate"], found["fetch"] or {"outcome": "never asked for"}
    outcome = found["decisions"][0]["outcome"] if found["decisions"] else ""
    one = {**candidate, **(found["image"] or {}), "outcome": outcome}
    said = (
        ("Where it was found", candidate),
        ("What became of its image", fetch),
        ("Measurements", found["measurements"]),
    )
    facts = [
        node("div", node("h2", title), candidate_charts.facts_picture(_given(values)))
        for title, values in said
    ]
    top = node(
        "div",
        node("div", charts.cards_picture(root(), [one], ""), class_="large"),
        facts[0],
        class_="story",
    )
    verdicts = (candidate_charts.verdicts_picture(decided) for decided in found["decisions"])
    return node("div", top, *verdicts, node("div", *facts[1:], class_="halves"))


def _given(values: views.View) -> views.View:
    return {name: value for name, value in values.items() if value not in (None, [], "")}


SHOW = {
    "decisions": overview,
    "funnel": funnel,
    "measurements": measurements,
    "rules": rules,
    "compare": compare,
    "time": time,
    "groups": groups,
    "outcomes": outcomes,
    "story": story,
    "training": training,
}

if __name__ == "__main__":
    main()
