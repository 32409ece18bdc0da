"""Serve a plan: its flows as deployments on their schedules, and pretraining whenever a release of
its own is published.
"""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from flows.deployments.project_file import CollectTable, Configuration, CurateTable, PretrainTable
from pipelines.store import Folder

if TYPE_CHECKING:
    from prefect import Flow
    from prefect.deployments.runner import RunnerDeployment
    from prefect.events import DeploymentEventTrigger

NO_SERVER = (
    "a plan is served to a Prefect server, and none is configured: start one with `prefect server"
    " start`, then run `PREFECT_API_URL=http://127.0.0.1:4200/api winnow serve` with the plan"
)


def serve(plan: Configuration) -> None:
    """Serve a plan's deployments until interrupted.

    Raises ValueError when no server is configured or none answers, and when a training recipe reads
    other releases than given.
    """
    url = os.environ.get("PREFECT_API_URL")
    if not url:
        raise ValueError(NO_SERVER)
    if not _is_address(url):
        raise ValueError(
            f"PREFECT_API_URL is {url!r}, and an address of a server's API is wanted, such as"
            " http://127.0.0.1:4200/api"
        )
    os.environ.setdefault("DO_NOT_TRACK", "1")
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    from prefect import serve as serve_deployments
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        if fault := client.api_healthcheck():
            raise ValueError(
                f"the Prefect server at {os.environ['PREFECT_API_URL']} does not answer ({fault}):"
                " start it with `prefect server start`"
            )
    serve_deployments(*deployments(plan))


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets without end, a port that is no number
        return False


def deployments(plan: Configuration) -> "list[RunnerDeployment]":
    """One deployment for each table of the plan, called `collect/<name>`, `curate/<release>` and
    `pretrain/<name>`.
    """
    made = [_collect(plan, entry) for entry in plan.collect]
    made += [_curate(plan, entry) for entry in plan.curate]
    return made + [_pretrain(plan, entry) for entry in plan.pretrain]


def _collect(plan: Configuration, entry: CollectTable) -> "RunnerDeployment":
    from flows.deployments.collect import collect

    source = entry.config().model_dump(mode="json")
    parameters = {
        "name": entry.name,
        "source": source,
        "repeated": bool(entry.schedule),
        "engine": _engine(plan),
    }
    return _deployment(collect, entry.name, plan, parameters, cron=entry.schedule)


def _curate(plan: Configuration, entry: CurateTable) -> "RunnerDeployment":
    from flows.deployments.curate import curate

    parameters = {
        "config": entry.config().model_dump(mode="json"),
        "repeated": bool(entry.schedule),
        "engine": _engine(plan),
    }
    return _deployment(curate, entry.release, plan, parameters, cron=entry.schedule)


def _pretrain(plan: Configuration, entry: PretrainTable) -> "RunnerDeployment":
    from flows.deployments.pretrain import pretrain, read_plan

    read_plan(entry.recipe, entry.releases, **entry.settings())
    return _deployment(
        pretrain, entry.name, plan, entry.model_dump(), triggers=[published(plan.root, entry)]
    )


def _deployment(
    flow: "Flow[..., Any]",
    name: str,
    plan: Configuration,
    parameters: Mapping[str, Any],
    **when: Any,
) -> "RunnerDeployment":
    from prefect.deployments.runner import RunnerDeployment
    from prefect.types.entrypoint import EntrypointType

    return RunnerDeployment.from_flow(
        flow,
        name,
        parameters={"root": plan.root, **parameters},
        concurrency_limit=1,  # runs of one table go one after the other; they have one folder
        entrypoint_type=EntrypointType.MODULE_PATH,
        **when,
    )


def published(root: str, entry: PretrainTable) -> "DeploymentEventTrigger":
    """The trigger that starts a training when one of its releases is published, with the digest of
    that release's manifest.
    """
    from prefect.events import DeploymentEventTrigger

    from flows.deployments.curate import OF, PUBLISHED, ROOT

    # as JSON, because a template alone would arrive as whatever its text looks like
    digest = {
        "__prefect_kind": "json",
        "value": {"__prefect_kind": "jinja", "template": "{{ event.payload.digest | tojson }}"},
    }
    return DeploymentEventTrigger(
        name=f"pretrain {entry.name} on a published release",
        expect={PUBLISHED},
        match={OF: sorted(set(entry.releases.values())), ROOT: Folder(root).url},
        parameters={"digest": digest},
    )


def _engine(plan: Configuration) -> dict[str, Any]:
    return plan.engine.model_dump(mode="json")
