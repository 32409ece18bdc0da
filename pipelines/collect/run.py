"""Collect: from a source on the web, an archive or a list to a complete collection of candidates
and images.
"""

import functools
import itertools
import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from filters.recipe.recipe import load
from pipelines.collect.collection import (
    Collection,
    collections,
    fit_name,
    open_collection,
    stage_manifest,
)
from pipelines.collect.config import CollectConfig
from pipelines.collect.fetched_urls import IndexFetchedUrls
from pipelines.collect.steps import (
    CONFIGURATION,
    Begun,
    candidates_of,
    distinct_of,
    fetch_of,
    known_beforehand,
    nonempty,
    outcomes_wanted,
    scatter_of,
)
from pipelines.engine.runner import run_stage
from pipelines.engine.shares import right_to_write
from pipelines.engine.stage import (
    IDENTITY,
    MANIFEST,
    RECEIPTS,
    Engine,
    Manifest,
    Progress,
    Stage,
    silent,
)
from pipelines.permission.takedown_list import TakedownList
from pipelines.store import Folder, digest
from pipelines.times import now
from pipelines.web.budget import spent_file
from pipelines.web.crawl import REPORT, accounts_of, counts_of
from pipelines.web.proxies import check_proxies

TIME = "%Y%m%dT%H%M%SZ"  # of an id that the time gives
__all__ = ["Begun", "CollectConfig", "collect", "unfinished"]


def collect(
    root: Folder,
    config: CollectConfig,
    *,
    id: str | None = None,
    previous: str | None = None,
    engine: Engine | None = None,
    progress: Callable[[Progress], None] = silent,
) -> Collection:
    """Bring a collection to its manifest, going on where an earlier run of the same options
    stopped.

    `previous` is an earlier collection of the same pages: only those that changed since are sent
    again. Raises ValueError for a source that gives nothing or an id that belongs to other options,
    LeaseHeld when another process writes it.
    """
    started = time.time()
    _check(config, id, previous, engine)
    name = (
        fit_name(id, "collection")
        if id is not None
        else unfinished(root, config) or _new_name(root)
    )
    folder = root / "collections" / name
    new = not folder.exists() and (engine is None or engine.share is None)
    forgotten = TakedownList.read(root)
    begun = _begin(root, folder, config, previous)
    if folder.exists(MANIFEST) and not folder.read_json(MANIFEST)["failed"]:
        return open_collection(root, name)

    ran: list[tuple[Stage, Manifest]] = []

    def run(stage: Stage) -> Manifest:
        manifest = run_stage(replace(stage, forgotten=forgotten), engine, progress)
        ran.append((stage, manifest))
        return manifest

    with right_to_write(folder, engine.share if engine is not None else None, name="writer"):
        try:
            found = nonempty(
                run(candidates_of(root, folder, config, begun, run, progress)),
                outcomes_wanted(root, config),
            )
        except Exception:
            if new and _is_empty(folder):  # so that the corrected command may have its name
                folder.remove()
            raise
        scattered = run(scatter_of(folder, config, run))
        distinct = run(distinct_of(root, folder, config, begun, run))
        fetched = run(fetch_of(folder, config, started))
        run(IndexFetchedUrls.of(root, name))
        _seal(folder, [found, scattered, distinct, fetched], _report(folder), _accounts(ran))
        Path(spent_file(folder.path())).unlink(missing_ok=True)
    return open_collection(root, name)


def _check(
    config: CollectConfig, id: str | None, previous: str | None, engine: Engine | None
) -> None:
    """ValueError for what cannot be collected so, before anything is begun."""
    if id is None and engine is not None and engine.share is not None:
        raise ValueError(
            "shares of one collection find each other by its name: give all of them the same id"
        )
    if previous is not None and not config.seeds:
        raise ValueError(
            "only a crawl of live pages can refer to an earlier one: --recrawl goes with --seed"
        )
    if config.fetch or config.seeds:
        check_proxies(allow_private=config.allow_private_proxy or config.allow_private_addresses)
    if config.before_fetch is not None:
        # a recipe that cannot be applied is said before anything is collected
        known_beforehand(load(config.before_fetch))


def _is_empty(folder: Folder) -> bool:
    """Whether nothing was collected yet: no pages, and no part that has candidates."""
    candidates = folder / "candidates"
    made = Manifest.read(candidates)
    if made is not None:
        parts = [dict(made.counts)]
    else:
        receipts = candidates / RECEIPTS
        parts = [
            receipts.read_json(name)["counts"]
            for name in receipts.names()
            if name.endswith(".json") and name != IDENTITY
        ]
    return not any(counts.get("candidates") for counts in parts) and not (folder / "pages").exists(
        REPORT
    )


def unfinished(
    root: Folder, config: CollectConfig, names: Sequence[str] | None = None
) -> str | None:
    """The last unfinished collection of the same options, among `names` if given."""
    folder = root / "collections"
    among = reversed(folder.names() if names is None else names)
    open_ones = (
        name
        for name in among
        if not (folder / name).exists(MANIFEST) and (folder / name).exists(CONFIGURATION)
    )
    return next(
        (
            name
            for name in open_ones
            if _given((folder / name).read_json(CONFIGURATION)["settings"]) == _settings(config)
        ),
        None,
    )


def _new_name(root: Folder) -> str:
    """The time, or where another command was begun in the same second, the next one that is
    free.
    """
    taken = set((root / "collections").names())
    seconds = (datetime.now(UTC) + timedelta(seconds=later) for later in itertools.count())
    return next(name for second in seconds if (name := second.strftime(TIME)) not in taken)


def _settings(config: CollectConfig) -> dict[str, Any]:
    return config.model_dump(mode="json")


def _given(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings of a collection, with the defaults of options that are younger than it."""
    return {**_defaults(), **settings}


@functools.cache
def _defaults() -> dict[str, Any]:
    fields = CollectConfig.model_fields.items()
    return {
        field.alias or name: field.default
        for name, field in fields
        if field.default is None or field.default is False
    }


def _begin(root: Folder, folder: Folder, config: CollectConfig, previous: str | None) -> Begun:
    """What the collection was begun with; begins it if nothing was."""
    if not folder.exists(CONFIGURATION):
        remembered = tuple(name for name in collections(root) if name != folder.name)
        if previous is not None:
            open_collection(root, previous)
        begun = Begun(
            settings=_settings(config), began=now(), remembered=remembered, previous=previous
        )
        if config.max_bytes is not None:  # one that had this name was killed and removed
            Path(spent_file(folder.path())).unlink(missing_ok=True)
        with suppress(FileExistsError):  # another share was quicker
            folder.create(CONFIGURATION, json.dumps(asdict(begun), indent=1).encode())
    begun = Begun(**folder.read_json(CONFIGURATION))
    other = [
        key for key, value in _settings(config).items() if _given(begun.settings).get(key) != value
    ]
    if other:
        raise ValueError(
            f"collection {folder.name} was made with other options ({', '.join(other)}): "
            "collections do not change, give this one another --id"
        )
    return begun


def _report(folder: Folder) -> dict[str, Any] | None:
    """What the crawl of a collection said, if it is one of live pages."""
    pages = folder / "pages"
    return pages.read_json(REPORT) if pages.exists(REPORT) else None


def _accounts(ran: list[tuple[Stage, Manifest]]) -> list[dict[str, Any]]:
    """What went into each stage, and where it went; Miscounted if that does not add up though no
    part was set aside.
    """
    found: list[dict[str, Any]] = []
    totals: dict[str, int] = {}
    for stage, manifest in ran:
        if stage.accounts or stage.out.name == "candidates":
            totals.update(manifest.counts)
        for account in stage.accounts:
            went = account.went(manifest.counts)
            if not manifest.failed:
                account.check(totals.get(account.of, 0), manifest.counts, f"stage {stage.name}")
            if went or totals.get(account.of):
                found.append({"of": account.of, "in": totals.get(account.of, 0), "went": went})
    return found


def _seal(
    folder: Folder,
    manifests: list[Manifest],
    crawled: dict[str, Any] | None,
    accounts: list[dict[str, Any]],
) -> None:
    """The collection's own manifest, which makes it visible; its counts add up the stages', and
    those of the crawl.
    """
    counts: Counter[str] = Counter()
    for manifest in manifests:
        counts.update(manifest.counts)
    if crawled is not None:
        counts.update(counts_of(crawled))
        accounts = [*accounts_of(crawled), *accounts]
    held = {name: counts.pop(name) for name in sorted(counts) if name.startswith("held.")}
    value = {
        "digest": digest([manifest.digest for manifest in manifests]),
        "stages": {manifest.stage: manifest.digest for manifest in manifests},
        "counts": dict(
            sorted({**counts, **({"held": sum(held.values())} if held else {})}.items())
        ),
        "failed": sum(len(manifest.failed) for manifest in manifests),
        "accounts": accounts,
        "refers_to": [name.removeprefix("held.") for name in held],
    }
    assert stage_manifest(folder, "fetches").digest == manifests[-1].digest
    folder.write_json(MANIFEST, value)
