"""The flow `curate`: a recipe over collections to a published release, and the event that says
so.
"""

from datetime import UTC, datetime

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.events import emit_event
from prefect.runtime import flow_run

from flows.deployments.naming import named, stamped
from flows.deployments.prefect_progress import listener, show_funnel, warn
from pipelines.collect.collection import collections as complete
from pipelines.decide.decision import Decision
from pipelines.decide.decision import decide as decide_plainly
from pipelines.engine.stage import MANIFEST, Engine
from pipelines.releases.publish import CurateConfig, Release, superseded
from pipelines.releases.publish import publish as publish_plainly
from pipelines.store import Folder

PUBLISHED = "winnow.release.published"
# label of the event's resource: the name in the plan, which a trigger knows beforehand
OF = "winnow.release.of"
ROOT = "winnow.root"


@flow(name="curate", flow_run_name="curate-{config.release}", persist_result=False)
def curate(
    root: str, config: CurateConfig, repeated: bool = False, engine: Engine | None = None
) -> tuple[Release, int]:
    """Publish a release, of all that bears the collections' names; the release and how many parts
    were set aside on the way.

    Repeated, each run publishes a release of its own, called by name and time, unless nothing has
    changed since an earlier one.
    """
    folder = Folder(root)
    decision = decide(folder, config, engine)
    name = _turn(folder, config.release, decision) if repeated else config.release
    release = publish(folder, config.model_copy(update={"release": name}), decision, engine)
    warn(decision.failed, f"release {release.name}")
    show_funnel(release.name, release.funnel)
    _announce(root, config.release, release)
    return release, decision.failed


@task(
    name="decide",
    task_run_name="decide-{config.release}",
    cache_policy=NO_CACHE,
    persist_result=False,
)
def decide(root: Folder, config: CurateConfig, engine: Engine | None) -> Decision:
    """The plain function as a task."""
    ids = complete(root)
    chosen = dict.fromkeys(id for name in config.collections for id in named(name, ids) or [name])
    given, without, also = config.given, config.without, config.also
    return decide_plainly(
        root,
        config.recipe,
        tuple(chosen),
        given=given,
        without=without,
        also=also,
        engine=engine,
        progress=listener(),
    )


@task(
    name="publish",
    task_run_name="publish-{config.release}",
    cache_policy=NO_CACHE,
    persist_result=False,
)
def publish(
    root: Folder, config: CurateConfig, decision: Decision, engine: Engine | None
) -> Release:
    """The plain function as a task."""
    return publish_plainly(root, config, decision, engine=engine, progress=listener())


def _turn(root: Folder, name: str, decision: Decision) -> str:
    """The name of a run's release: the last one of the same recipe and collections, else a new
    one.
    """
    same = {
        "recipe_digest": decision.recipe.digest,
        "collections": {one.id: one.digest for one in decision.collections},
    }
    for there in reversed(named(name, (root / "releases").names())):
        folder = root / "releases" / there
        if (
            folder.exists(MANIFEST)
            and not superseded(folder)
            and same.items() <= folder.read_json(MANIFEST).items()
        ):
            return there
    return stamped(name, flow_run.scheduled_start_time or datetime.now(UTC))


def _announce(root: str, entry: str, release: Release) -> None:
    """Say that a release stands, also when it stood before: a run that was killed in between may
    have said nothing.
    """
    emit_event(
        event=PUBLISHED,
        resource={
            "prefect.resource.id": f"winnow.release.{release.name}",
            "prefect.resource.name": release.name,
            OF: entry,
            ROOT: root,
        },
        payload={
            "name": release.name,
            "digest": release.digest,
            "root": root,
            "samples": release.samples,
        },
    )
