"""A whole plan once, in its order, through the flows; and the flows as functions for whoever has a
plan of his own.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.deployments.prefect_server import ready, session
from flows.progress import Lines, funnel_table
from pipelines.collect.collection import Collection
from pipelines.collect.run import CollectConfig
from pipelines.engine.stage import Engine, Progress, silent
from pipelines.releases.publish import CurateConfig, Release
from pipelines.store import Folder

if TYPE_CHECKING:
    from flows.deployments.project_file import Configuration

__all__ = ["collect_flow", "curate_flow", "pretrain_flow", "ready", "run", "session"]

# Prefect and torch are imported inside the functions: they take seconds, in which the temporary
# server starts


def run(plan: "Configuration") -> int:
    """Collect, curate and pretrain what a plan says, schedules aside; returns how many parts were
    set aside with their errors.

    What is finished is not done again. Errors are those of the plain functions.
    """
    lines = Lines()
    root, engine = Folder(plan.root), plan.engine.engine()
    with session(home(root)):
        _check(plan)
        failed = 0
        for source in plan.collect:
            found = collect_flow(
                root, source.config(), id=source.name, engine=engine, progress=lines
            )
            lines.say(
                f"collection {found.id}: "
                + ", ".join(f"{count:,} {name}" for name, count in found.counts.items())
            )
            failed += found.failed
        for entry in plan.curate:
            release, aside = _curate(root, entry.config(), engine, lines)
            lines.say(funnel_table(release.funnel))
            lines.say(
                f"release {release.name}: {release.samples:,} images in {release.shards} shards,"
                f" digest {release.digest}"
            )
            failed += aside
        for wanted in plan.pretrain:
            told = wanted.model_dump(exclude={"out"})
            model = pretrain_flow(root, out=Path(wanted.out), progress=lines, **told)
            lines.say(f"model {wanted.name}: {model}")
    return failed


def home(root: Folder) -> Path | None:
    """Where the temporary server of a root keeps its database: with the data, when that is on this
    machine.
    """
    return Path(root.path()) / ".prefect" if root.is_local else None


def _check(plan: "Configuration") -> None:
    """Read every training recipe, so that a mistake in the last step shows before the first."""
    if plan.pretrain:
        from flows.deployments.pretrain import read_plan

        for entry in plan.pretrain:
            read_plan(entry.recipe, entry.releases, **entry.settings())


def collect_flow(
    root: Folder,
    config: CollectConfig,
    *,
    id: str,
    engine: Engine | None = None,
    progress: Callable[[Progress], None] = silent,
) -> Collection:
    """`pipelines.collect.run.collect` as a flow; call it inside `session`."""
    from flows.deployments.collect import collect
    from flows.deployments.prefect_progress import listening

    ready()
    with listening(progress):
        return collect(root=root.url, name=id, source=config, engine=engine)


def curate_flow(
    root: Folder,
    config: CurateConfig,
    *,
    engine: Engine | None = None,
    progress: Callable[[Progress], None] = silent,
) -> Release:
    """`pipelines.curate.curate` as a flow, which announces the release; call it inside
    `session`.
    """
    return _curate(root, config, engine, progress)[0]


def _curate(
    root: Folder, config: CurateConfig, engine: Engine | None, progress: Callable[[Progress], None]
) -> tuple[Release, int]:
    from flows.deployments.curate import curate
    from flows.deployments.prefect_progress import listening

    ready()
    with listening(progress):
        return curate(root=root.url, config=config, engine=engine)


def pretrain_flow(
    root: Folder,
    *,
    recipe: str,
    releases: Mapping[str, str],
    out: Path,
    name: str = "",
    progress: Callable[[Progress], None] = silent,
    **settings: Any,
) -> Path:
    """`training.train.train` of a recipe on releases of a root as a flow; the folder of the
    exported model. Call it inside `session`.

    `settings` are those of the flow: size, init, set, seed, smoke.
    """
    from flows.deployments.prefect_progress import listening
    from flows.deployments.pretrain import pretrain

    ready()
    with listening(progress):
        result = pretrain(
            root=root.url,
            name=name or out.name,
            recipe=recipe,
            releases=dict(releases),
            out=str(out),
            **settings,
        )
    assert result is not None, "only a run that a digest triggers waits for other releases"
    return Path(result.model)
