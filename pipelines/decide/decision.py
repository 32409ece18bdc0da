"""The outcome of every candidate of some collections under a recipe, from measurements to the last
segment.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from filters.given_models import Given
from filters.recipe.funnel import Funnel
from filters.recipe.recipe import Recipe, load
from filters.registry import NOTHING_GIVEN
from pipelines.collect.collection import Collection, open_all
from pipelines.decide.decision_run import DecisionRun, Runner
from pipelines.engine.stage import Engine, Progress, silent
from pipelines.store import Folder


@dataclass(frozen=True, kw_only=True)
class Decision:
    """A recipe applied: where the outcomes lie, in which files, and the funnel."""

    folder: Folder
    digest: str
    names: tuple[str, ...]
    recipe: Recipe
    collections: tuple[Collection, ...]
    funnel: Funnel
    failed: int  # parts set aside on the way
    given: Given = NOTHING_GIVEN
    basis: str = ""  # the digest without what was taken down
    forgotten: str = ""  # the digest of what was taken down


def decide(
    root: Folder,
    recipe: str | Recipe,
    collections: Sequence[str],
    *,
    given: Given = NOTHING_GIVEN,
    without: Sequence[str] = (),
    also: Sequence[str] = (),
    at_once: bool = False,
    engine: Engine | None = None,
    progress: Callable[[Progress], None] = silent,
) -> Decision:
    """The outcome of every candidate of some collections under a recipe; what was measured or
    decided before is not done again.

    A collection that is named twice counts once. `without` leaves out the rules that read these
    measurements, `also` asks for measurements of what is kept. Costly measurements are computed
    only for what no earlier rule has stopped, unless `at_once` asks them about all candidates. What
    was taken down (`winnow forget`) ends as `permission.forgotten`, whatever the collections still
    hold of it.

    Raises ValueError for an unknown recipe, collection or measurement, and for one that needs what
    was not given; StageFailed when a part of the decision itself could not be processed.
    """
    loaded = load(recipe) if isinstance(recipe, str) else recipe
    loaded = loaded.without(without) if without else loaded
    run = Runner(engine=engine, progress=progress, failed=[])
    opened = open_all(root, collections)
    course = DecisionRun(
        root=root,
        recipe=loaded,
        collections=opened,
        given=given,
        also=tuple(also),
        at_once=at_once,
        run=run,
    )
    last = course.standing() or course.decide()
    candidates = sum(collection.counts.get("candidates", 0) for collection in opened)
    counts = Funnel(
        recipe=loaded.name, outcomes=loaded.ordered(last.counts), without=loaded.left_out
    ).conserve(candidates)
    return Decision(
        folder=course.folder,
        digest=course.identity,
        names=tuple(last.names(".parquet", "part-")),
        recipe=loaded,
        collections=opened,
        funnel=counts,
        failed=len(run.failed),
        given=given,
        basis=course.basis,
        forgotten=course.forgotten.digest,
    )
