"""The flow `collect`: one source to one collection."""

from datetime import UTC, datetime

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run

from flows.deployments.naming import named, stamped
from flows.deployments.prefect_progress import listener, show_counts, warn
from pipelines.collect.collection import Collection, collections
from pipelines.collect.run import CollectConfig, unfinished
from pipelines.collect.run import collect as collect_plainly
from pipelines.engine.stage import Engine
from pipelines.store import Folder


@flow(name="collect", flow_run_name="collect-{name}", persist_result=False)
def collect(
    root: str,
    name: str,
    source: CollectConfig,
    repeated: bool = False,
    engine: Engine | None = None,
) -> Collection:
    """Bring the collection `name`; repeated, each run brings one of its own, called by name and
    time, unless one is unfinished.
    """
    folder = Folder(root)
    id = _turn(folder, name, source) if repeated else name
    found = bring(
        folder, source, id, _before(folder, name, id) if repeated and source.seeds else None, engine
    )
    warn(found.failed, f"collection {found.id}")
    show_counts("collection", found.id, found.counts)
    return found


@task(name="collect", task_run_name="collect-{id}", cache_policy=NO_CACHE, persist_result=False)
def bring(
    root: Folder, source: CollectConfig, id: str, previous: str | None, engine: Engine | None
) -> Collection:
    """The plain function as a task."""
    return collect_plainly(
        root, source, id=id, previous=previous, engine=engine, progress=listener()
    )


def _turn(root: Folder, name: str, source: CollectConfig) -> str:
    """The id of a run's collection: the last unfinished one of the same source, else a new one."""
    mine = named(name, (root / "collections").names())
    return unfinished(root, source, mine) or stamped(
        name, flow_run.scheduled_start_time or datetime.now(UTC)
    )


def _before(root: Folder, name: str, id: str) -> str | None:
    """The newest complete collection of the same name before a run's own: what it holds unchanged
    is not sent again.
    """
    return max((one for one in named(name, collections(root)) if one < id), default=None)
