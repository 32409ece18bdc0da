"""Curate: measure what is missing, decide with a recipe, release what it keeps."""

from collections.abc import Callable, Sequence

from filters.recipe.funnel import Funnel
from pipelines.decide.decision import decide
from pipelines.engine.stage import Engine, Progress, silent
from pipelines.releases.publish import CurateConfig, Release, check_name, publish
from pipelines.store import Folder


def funnel(
    root: Folder,
    recipe: str,
    collections: Sequence[str],
    *,
    engine: Engine | None = None,
    progress: Callable[[Progress], None] = silent,
) -> Funnel:
    """What a recipe would keep and drop, and why; nothing is released."""
    return decide(root, recipe, collections, engine=engine, progress=progress).funnel


def curate(
    root: Folder,
    config: CurateConfig,
    *,
    engine: Engine | None = None,
    progress: Callable[[Progress], None] = silent,
) -> Release:
    """Measure, decide and write a release; at once if the same release stands already.

    Raises ValueError when nothing was kept, or when the name belongs to another release.
    """
    check_name(root, config)
    given, without, also = config.given, config.without, config.also
    decision = decide(
        root,
        config.recipe,
        config.collections,
        given=given,
        without=without,
        also=also,
        engine=engine,
        progress=progress,
    )
    return publish(root, config, decision, engine=engine, progress=progress)
