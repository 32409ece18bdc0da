"""The steps of a collection, as stages: candidates out of a source, their addresses by host, the
fetch.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from filters.recipe.recipe import Recipe, load
from filters.registry import filters_for, writer
from pipelines.collect.collection import (
    open_collection,
)
from pipelines.collect.config import CollectConfig
from pipelines.collect.fetched_urls import IndexFetchedUrls
from pipelines.collect.join_fetches import DistinctUrls, PartitionByHost
from pipelines.collect.retry import Retry, fates
from pipelines.engine.stage import (
    Manifest,
    Progress,
    Stage,
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
from pipelines.store import Folder
from pipelines.times import written
from pipelines.web.budget import spent_file
from pipelines.web.crawl import Crawl, crawl
from pipelines.web.fetch import Fetch

CONFIGURATION = "configuration.json"


FAMILIES = ("address.", "permission.", "fetch.", "decode.")  # of outcomes of images


@dataclass(frozen=True, kw_only=True)
class Begun:
    """What a collection was begun with, and keeps to however often it is resumed."""

    settings: dict[str, Any]
    began: str  # ISO 8601, UTC
    # collections that were complete then: what they hold is referred to
    remembered: tuple[str, ...] = ()
    previous: str | None = None  # the collection of the same pages before this one


Run = Callable[[Stage], Manifest]


def candidates_of(
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


def outcomes_wanted(root: Folder, config: CollectConfig) -> list[str] | None:
    """How images ended in the collections that are looked at again, if it is that that is asked
    for.
    """
    names = {name for id in config.earlier for name in open_collection(root, id).counts}
    return sorted(name for name in names if name.startswith(FAMILIES)) if config.retry else None


def nonempty(manifest: Manifest, there: Sequence[str] | None = None) -> Manifest:
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


def scatter_of(folder: Folder, config: CollectConfig, run: Run) -> Stage:
    """The stage that sends addresses to their hosts' buckets; before it, what the rules of
    `before_fetch` read is measured.
    """
    stage = PartitionByHost.of(folder)
    if config.before_fetch is None:
        return stage
    recipe = known_beforehand(load(config.before_fetch))
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


def known_beforehand(recipe: Recipe) -> Recipe:
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


def distinct_of(
    root: Folder, folder: Folder, config: CollectConfig, begun: Begun, run: Run
) -> Stage:
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


def fetch_of(folder: Folder, config: CollectConfig, started: float) -> Stage:
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
