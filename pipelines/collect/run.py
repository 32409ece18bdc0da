"""Collect: from a source on the web, an archive or a list to a complete collection of candidates
and images.
"""

import functools
import itertools
import json
import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from filters.recipe.recipe import Recipe, load
from filters.registry import filters_for, writer
from pipelines.collect.collection import (
    Collection,
    collections,
    fit_name,
    open_collection,
    stage_manifest,
)
from pipelines.collect.config import CollectConfig
from pipelines.collect.fetched_urls import IndexFetchedUrls
from pipelines.collect.join_fetches import DistinctUrls, PartitionByHost
from pipelines.collect.retry import Retry, fates
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
from pipelines.lease import lease
from pipelines.measure import Measure
from pipelines.permission.takedown_list import TakedownList
from pipelines.sources.archives.extract import Extract, ExtractWat
from pipelines.sources.archives.extract_chosen import ExtractChosen
from pipelines.sources.archives.extract_saved_pages import ExtractHtml
from pipelines.sources.archives.indexes import Choose
from pipelines.sources.datasets.imports import Import
from pipelines.sources.lists.pairs import Pairs
from pipelines.store import Folder, digest
from pipelines.times import now, written
from pipelines.web.budget import spent_file
from pipelines.web.crawl import REPORT, Crawl, accounts_of, counts_of, crawl
from pipelines.web.fetch import Fetch
from pipelines.web.proxies import check_proxies

CONFIGURATION = "configuration.json"
FAMILIES = ("address.", "permission.", "fetch.", "decode.")  # of outcomes of images
TIME = "%Y%m%dT%H%M%SZ"  # of an id that the time gives
__all__ = ["Begun", "CollectConfig", "collect", "unfinished"]


@dataclass(frozen=True, kw_only=True)
class Begun:
    """What a collection was begun with, and keeps to however often it is resumed."""

    settings: dict[str, Any]
    began: str  # ISO 8601, UTC
    # collections that were complete then: what they hold is referred to
    remembered: tuple[str, ...] = ()
    previous: str | None = None  # the collection of the same pages before this one


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
            found = _nonempty(
                run(_candidates(root, folder, config, begun, run, progress)),
                _outcomes(root, config),
            )
        except Exception:
            if new and _is_empty(folder):  # so that the corrected command may have its name
                folder.remove()
            raise
        scattered = run(_scatter(folder, config, run))
        distinct = run(_distinct(root, folder, config, begun, run))
        fetched = run(_fetch(folder, config, started))
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
        _known_beforehand(load(config.before_fetch))


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


Run = Callable[[Stage], Manifest]


def _candidates(
    root: Folder,
    folder: Folder,
    config: CollectConfig,
    begun: Begun,
    run: Run,
    progress: Callable[[Progress], None],
) -> Stage:
    """The stage that brings the candidates, with all that must come before it done."""
    out = folder / "candidates"
    if config.retry:
        stages = tuple(
            fates(folder, open_collection(root, id)) for id in dict.fromkeys(config.earlier)
        )
        for stage in stages:
            run(stage)
        return Retry(out=out, outcomes=config.retry, fates=stages)
    if config.imports is not None:
        return Import(
            out=out,
            path=config.imports,
            images=config.import_images or "",
            title=config.import_name or "",
            text_column=config.text_column or "",
            url_column=config.url_column or "",
        )
    if config.pairs is not None:
        return Pairs(
            out=out,
            path=config.pairs,
            text_column=config.text_column or "",
            url_column=config.url_column or "",
        )
    width, around = config.target_width, config.surrounding
    if config.warc:
        return Extract(
            out=out,
            archives=config.warc,
            prefix=config.path_prefix,
            target_width=width,
            surrounding=around,
        )
    if config.wat:
        return ExtractWat(out=out, wat=config.wat, prefix=config.path_prefix)
    if config.html is not None:
        return ExtractHtml(
            out=out,
            html=config.html,
            base_url=config.base_url or "",
            target_width=width,
            surrounding=around,
        )
    if config.index:
        return ExtractChosen(
            out=out, chosen=_chosen(folder, config, run), target_width=width, surrounding=around
        )
    return Extract(
        out=out,
        pages=_crawled(root, folder, config, begun, progress),
        target_width=width,
        surrounding=around,
    )


def _chosen(folder: Folder, config: CollectConfig, run: Run) -> Folder:
    """The folder of the records that an index names and the options let through."""
    stage = Choose(
        out=folder / "chosen",
        index=config.index,
        languages=config.languages,
        hosts=config.hosts,
        mime=config.mime or Choose.mime,
        prefix=config.path_prefix,
    )
    if (made := run(stage)).failed:
        raise ValueError(_cause(made))
    return stage.out


def _crawled(
    root: Folder,
    folder: Folder,
    config: CollectConfig,
    begun: Begun,
    progress: Callable[[Progress], None],
) -> Folder:
    """The folder of the crawled pages. Of several shares one crawls, and the others wait for it."""
    order = Crawl(
        seeds=config.seeds,
        allowed_hosts=config.sites,
        sitemaps=config.sitemaps,
        images=config.crawl_images,
        max_pages=config.max_pages,
        max_pages_per_host=config.max_pages_per_host,
        max_depth=config.max_depth,
        seconds=_seconds(config),
        target_width=config.target_width,
        allow_private_addresses=config.allow_private_addresses,
        allow_private_proxy=config.allow_private_proxy,
        ca_file=config.ca_file,
        max_bytes=config.bytes_at_most(),
        contact=config.contact,
        previous=(
            None
            if begun.previous is None
            else (root / "collections" / begun.previous / "pages").path()
        ),
    )
    pages = folder / "pages"
    with lease(pages, "crawling.json", wait=math.inf):
        found = crawl(
            order,
            pages,
            progress=_pages_read(progress),
            forgotten=TakedownList.read(root),
            spent_in=spent_file(folder.path()),
        )
    progress(
        Progress(
            stage="crawl",
            done=1,
            parts=1,
            counts={"pages": found["pages"], **found["refused"], **found["errors"]},
        )
    )
    return pages


def _pages_read(progress: Callable[[Progress], None]) -> Callable[[int], None]:
    return lambda done: progress(
        Progress(stage="crawl", done=done, parts=0, counts={"pages": done})
    )


def _seconds(config: CollectConfig) -> float | None:
    return None if config.deadline is None else config.deadline * 3600


def _outcomes(root: Folder, config: CollectConfig) -> list[str] | None:
    """How images ended in the collections that are looked at again, if it is that that is asked
    for.
    """
    names = {name for id in config.earlier for name in open_collection(root, id).counts}
    return sorted(name for name in names if name.startswith(FAMILIES)) if config.retry else None


def _nonempty(manifest: Manifest, there: Sequence[str] | None = None) -> Manifest:
    """Candidates there must be: a source without any is a mistake worth saying at once. `there`:
    outcomes that could be tried again.
    """
    if manifest.counts.get("candidates", 0):
        return manifest
    if manifest.failed:
        raise ValueError(_cause(manifest))
    if there is not None:
        raise ValueError(
            "no image ended so: what there is to try again is"
            f" {', '.join(there) or 'nothing, all was fetched'}"
        )
    seen = (
        ", ".join(f"{count:,} {name}" for name, count in manifest.counts.items() if count)
        or "nothing to read"
    )
    raise ValueError(f"the source holds no image-text candidates ({seen})")


def _cause(manifest: Manifest) -> str:
    """What the first part that was set aside died of, in the words of its error."""
    return next(iter(manifest.failed.values())).strip().splitlines()[-1].partition(": ")[2]


def _scatter(folder: Folder, config: CollectConfig, run: Run) -> Stage:
    """The stage that sends addresses to their hosts' buckets; before it, what the rules of
    `before_fetch` read is measured.
    """
    stage = PartitionByHost.of(folder)
    if config.before_fetch is None:
        return stage
    recipe = _known_beforehand(load(config.before_fetch))
    filters = filters_for(
        {name for rule in recipe.candidate_rules for name in rule.reads}
        | ({recipe.text} - {"text"})
    )
    rewriter = next((filter_ for filter_ in filters if recipe.text in filter_.writes), None)
    measures = [
        Measure.of(folder, filter_, rewriter)
        for filter_ in sorted(filters, key=lambda filter_: filter_ is not rewriter)
    ]
    for measure in measures:
        run(measure)
    return replace(stage, recipe=recipe, measured=tuple(measure.out for measure in measures))


def _known_beforehand(recipe: Recipe) -> Recipe:
    """The recipe without the rules on candidates that need a model or a list: the decision applies
    them, to the same outcomes.
    """
    if recipe.text != "text" and (needs := writer(recipe.text).needs) is not None:
        raise ValueError(
            f"recipe {recipe.name} rewrites texts with a model (--{needs}): it cannot be applied"
            " before fetching"
        )
    return recipe.without(
        name
        for rule in recipe.candidate_rules
        for name in rule.reads
        if writer(name).needs is not None
    )


def _distinct(root: Folder, folder: Folder, config: CollectConfig, begun: Begun, run: Run) -> Stage:
    """The stage that finds what is to be fetched, and refers to what earlier collections hold."""
    memories = [IndexFetchedUrls.of(root, id) for id in begun.remembered]
    for memory in memories:
        run(memory)
    since = datetime.fromisoformat(begun.began) - timedelta(days=config.fresh_days)
    return replace(
        DistinctUrls.of(folder),
        remembered=tuple(memory.out for memory in memories),
        since=written(since),
    )


def _fetch(folder: Folder, config: CollectConfig, started: float) -> Stage:
    return Fetch(
        out=folder / "fetches",
        images=folder / "images",
        urls=folder / "urls",
        held=folder / "candidates",
        allow_private_addresses=config.allow_private_addresses,
        allow_private_proxy=config.allow_private_proxy,
        ca_file=config.ca_file,
        contact=config.contact,
        max_bytes=config.bytes_at_most(),
        spent_in=spent_file(folder.path()) if config.max_bytes is not None else None,
        web=config.fetch,
        images_per_second=config.images_per_second,
        encoding=config.encoding(),
        deadline_seconds=_seconds(config),
        begun=started,
    )


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
