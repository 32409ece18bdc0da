"""Commands to look: the dashboard with the JSON twin of each of its views, and what can be
measured.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from filters.given_models import Given
from flows.cli.options import (
    ALONE,
    AtOnce,
    Json,
    Models,
    Root,
    Without,
    Work,
    exit_status,
    folder_of,
    print_json,
    progress_lines,
)
from pipelines.terminal import say

if TYPE_CHECKING:
    from flows.dashboard.decision_store import Decided
    from pipelines.store import Folder

Setting = Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative_iterable=())]


def dashboard(
    *,
    root: Root = "data",
    recipe: Annotated[
        tuple[str, ...],
        Parameter(consume_multiple=True, negative_iterable=(), help="Recipes to decide by first."),
    ] = (),
    collection: Annotated[
        tuple[str, ...],
        Parameter(consume_multiple=True, negative_iterable=(), help="Collections to decide."),
    ] = (),
    host: Annotated[str, Parameter(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, Parameter(help="Port to listen on.")] = 8501,
    json: Annotated[
        str | None,
        Parameter(
            help=(
                "Print a view as JSON and end: decisions, funnel, measurements, rules, moved,"
                " compare, time, groups, …"
            )
        ),
    ] = None,
    of: Annotated[
        Setting,
        Parameter(
            help="What the view is of, as NAME=VALUE: by=host, outcome=kept, query=ID, 3=off."
        ),
    ] = (),
    without: Without = (),
    measure_all: AtOnce = False,
    models: Models = None,
    work: Work = ALONE,
) -> int:
    """Look at what was decided, in a browser: funnel, distributions, sliders, pictures at the
    border, comparisons, stories.

    Example: winnow dashboard --recipe winnow --collection web
    """
    from flows.cli.data import recipes_without
    from pipelines.decide.decision import decide

    folder, given, failed = folder_of(root), models or Given(), 0
    for chosen in recipes_without(recipe, without, given) if collection else ():
        made = decide(
            folder,
            chosen,
            collection,
            given=given,
            at_once=measure_all,
            engine=work.engine(),
            progress=progress_lines(),
        )
        failed = max(failed, made.failed)
    status = exit_status(failed)  # which says what was set aside
    if json is not None:
        print_json(
            _view(
                folder,
                json,
                recipe,
                collection,
                dict(setting.partition("=")[::2] for setting in of),
            )
        )
        return status
    from flows.dashboard.serve import serve

    serve(folder, host, port)


def _view(
    root: "Folder",
    name: str,
    recipes: tuple[str, ...],
    collections: tuple[str, ...],
    of: Mapping[str, str],
) -> Any:
    """What a page of the dashboard shows, as plain data; ValueError for a page that there is
    not.
    """
    from flows.dashboard import candidate_history, decision_store, group_views, rule_views, views
    from flows.report.training import training_view

    def decided(place: int = 0) -> "Decided":
        recipe = recipes[min(place, len(recipes) - 1)] if recipes else None
        return decision_store.find(root, recipe, collections)

    calls: dict[str, Callable[[], Any]] = {
        "decisions": lambda: views.shelf_view(root),
        "funnel": lambda: views.funnel_view(decided()),
        "measurements": lambda: views.measurements_view(decided()),
        "rules": lambda: rule_views.knobs(decided()),
        "moved": lambda: rule_views.moved_view(decided(), views.changes_of(of)),
        "compare": lambda: views.compare_view(decided(0), decided(1)),
        "time": lambda: views.time_view(root, recipes[0] if recipes else "winnow"),
        "groups": lambda: group_views.groups_view(decided(), of.get("by", "host"), of.get("of")),
        "outcomes": lambda: views.outcome_view(decided(), of.get("outcome", "kept")),
        "story": lambda: candidate_history.story_view(root, of.get("query", "")),
        "training": lambda: training_view(root),
    }
    if name not in calls:
        raise ValueError(f"there is no view {name!r}; there are {', '.join(calls)}")
    return calls[name]()


def measurements(*, json: Json = False) -> None:
    """Every measurement that a recipe may read: what it says, its unit, where its definition comes
    from, and what it needs.

    Example: winnow measurements
    """
    from dataclasses import asdict

    from filters.recipe.catalogue import catalogue
    from filters.registry import FILTERS

    writers = {name: (one, str(kind)) for one in FILTERS for name, kind in one.writes.items()}
    if json:
        known = {
            name: {"type": kind, "of": one.level, "costly": one.costly}
            for name, (one, kind) in writers.items()
        }
        print_json(
            {name: {**asdict(about), **known.get(name, {})} for name, about in catalogue().items()}
        )
        return
    for name, about in catalogue().items():
        one, kind = writers.get(name, (None, "string"))
        needs = " ".join(f"--{option}" for option in about.needs)
        marks = ", ".join(
            filter(None, [kind, about.unit, "costly" if one is None or one.costly else None, needs])
        )
        say(f"{name}\n    {about.says} ({marks}). {about.source}")


def recipes(*, json: Json = False) -> None:
    """What can be applied and what can be trained: the recipes of curation and of training.

    Example: winnow recipes
    """
    from filters.recipe.catalogue import curation_recipes
    from training.recipes import sentences

    curation, training = curation_recipes(), sentences()
    if json:
        print_json({"curation": curation, "training": training})
        return
    say("for `winnow curate --recipe NAME`:")
    for name, about in curation.items():
        needs = ", ".join(f"--{need}" for need in about["needs"])
        say(f"  {name}: {about['says']}" + (f" Needs {needs}." if needs else ""))
    say("for `winnow train NAME`:")
    for name, sentence in training.items():
        say(f"  {name}: {sentence}")
