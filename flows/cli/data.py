"""Commands on collections and releases: collect, curate, look, take down."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from filters.given_models import Given
from flows.cli.collect_groups import group_options
from flows.cli.options import (
    ALONE,
    AtOnce,
    Collections,
    Json,
    Models,
    Recipes,
    Root,
    Without,
    Work,
    exit_status,
    folder_of,
    print_json,
    progress_lines,
)
from pipelines.collect.config import SOURCES, CollectConfig
from pipelines.terminal import say

if TYPE_CHECKING:
    from filters.recipe.recipe import Recipe

Format = Literal["arrow", "webdataset"]
group_options()


def collect(
    *,
    config: Annotated[
        CollectConfig | None, Parameter(name="*", consume_multiple=True, negative_iterable=())
    ] = None,
    root: Root = "data",
    id: Annotated[
        str | None,
        Parameter(
            help=(
                "Name of the collection; else an unfinished one of the same options goes on, else"
                " the time names it."
            )
        ),
    ] = None,
    recrawl: Annotated[
        str | None,
        Parameter(
            help="Earlier collection of the same pages: what did not change is not sent again."
        ),
    ] = None,
    work: Work = ALONE,
    json: Json = False,
) -> int:
    """Bring in image-text candidates from live pages, archives, lists or data sets, with their
    images.

    Example: winnow collect --seed https://example.org/ --max-pages 100
    """
    from flows.progress import collection_table
    from pipelines.collect.collection import collections
    from pipelines.collect.run import collect as run

    if config is None:
        raise ValueError(
            f"give one kind of source: {', '.join(f'--{way}' for way in _ways())}; `winnow collect"
            " --help` shows them"
        )
    there = id in collections(folder_of(root))
    found = run(
        folder_of(root),
        config,
        id=id,
        previous=recrawl,
        engine=work.engine(),
        progress=progress_lines(),
    )
    if there:
        say(
            f"winnow: collection {id} was complete before: nothing is asked for again (another --id"
            " brings it anew)",
            sys.stderr,
        )
    if json:
        told = {
            "collection": found.id,
            "digest": found.digest,
            "counts": dict(found.counts),
            "failed": found.failed,
        }
        print_json({**told, "accounts": [dict(one) for one in found.accounts]})
    else:
        say(collection_table(found.id, found.counts, found.accounts))
        say(f"next: winnow funnel --root {root} --recipe winnow --collection {found.id}")
    return exit_status(found.failed)


def _ways() -> list[str]:
    """The options that name a source."""
    return [CollectConfig.model_fields[name].alias or name for name in SOURCES]


def curate(
    *,
    root: Root = "data",
    recipe: Annotated[str, Parameter(help="Name of a recipe, or a TOML file.")] = "winnow",
    collection: Collections,
    release: Annotated[str, Parameter(help="Name of the release.")],
    shard_samples: Annotated[int, Parameter(help="Images in a shard.")] = 10_000,
    heldout: Annotated[
        float, Parameter(help="Share of the images held out, near duplicates together.")
    ] = 0.0,
    format: Annotated[Format, Parameter(help="Of the shards.")] = "arrow",
    without: Without = (),
    models: Models = None,
    work: Work = ALONE,
    json: Json = False,
) -> int:
    """Measure what is missing, decide with a recipe, write the release.

    Example: winnow curate --recipe winnow --collection web --release web-1
    """
    from flows.progress import funnel_table
    from pipelines.curate import curate as run
    from pipelines.releases.publish import CurateConfig

    config = CurateConfig(
        recipe=recipe,
        collections=collection,
        release=release,
        shard_samples=shard_samples,
        heldout=heldout,
        format=format,
        without=without,
        given=models or Given(),
    )
    made = run(folder_of(root), config, engine=work.engine(), progress=progress_lines())
    if json:
        about = {
            "release": made.name,
            "digest": made.digest,
            "samples": made.samples,
            "splits": dict(made.splits),
            "shards": made.shards,
        }
        print_json({**about, **made.funnel.to_json()})
    else:
        say(funnel_table(made.funnel))
        say(
            f"release {made.name}: {made.samples:,} images in {made.shards} shards at"
            f" {made.folder.path()}, digest {made.digest}"
        )
    for split in made.empty_splits:
        said = (
            f"none of the {made.samples:,} images fell into the split {split} with --heldout"
            f" {heldout:g}"
        )
        say(
            f"winnow: {said}; near duplicates stay together: take another share, or another name"
            " and more images",
            sys.stderr,
        )
    return 0


def funnel(
    *,
    root: Root = "data",
    recipe: Recipes = ("winnow",),
    collection: Collections,
    without: Without = (),
    measure_all: AtOnce = False,
    models: Models = None,
    work: Work = ALONE,
    json: Json = False,
) -> int:
    """Measure what is missing and show what each recipe keeps and drops; no release.

    Example: winnow funnel --recipe winnow --recipe everything --collection web
    """
    from flows.progress import funnel_table
    from pipelines.decide.decision import decide

    if not recipe:
        raise ValueError("name a recipe, or leave --recipe out for winnow")
    given, failed, shown = models or Given(), 0, []
    for chosen in recipes_without(recipe, without, given):
        decision = decide(
            folder_of(root),
            chosen,
            collection,
            given=given,
            at_once=measure_all,
            engine=work.engine(),
            progress=progress_lines(),
        )
        failed = max(failed, decision.failed)
        shown.append(decision.funnel)
    if json:
        print_json(shown[0].to_json() if len(shown) == 1 else [one.to_json() for one in shown])
    else:
        say("\n\n".join(funnel_table(one) for one in shown))
    return exit_status(failed)


def recipes_without(
    names: tuple[str, ...], without: tuple[str, ...], given: Given
) -> "list[Recipe]":
    """Recipes without what is left out: where several are compared, each need not read all of it.

    Raises ValueError for a measurement that none of them reads, and for all at once that need what
    was not given.
    """
    from filters.recipe.recipe import load
    from filters.registry import check_given

    loaded = [load(name) for name in names]
    shared = {name for recipe in loaded for name in recipe.needs}
    left = [
        recipe.without(name for name in without if name in recipe.needs or name not in shared)
        for recipe in loaded
    ]
    check_given({name for recipe in left for name in recipe.needs}, given, without)
    return left


def report(
    *,
    root: Root = "data",
    recipe: Annotated[str, Parameter(help="Name of a recipe, or a TOML file.")] = "winnow",
    collection: Collections = (),
    run: Annotated[
        tuple[Path, ...], Parameter(consume_multiple=True, help="Folders of training runs.")
    ] = (),
    out: Annotated[Path, Parameter(help="The HTML file.")] = Path("report.html"),
    without: Without = (),
    measure_all: AtOnce = False,
    models: Models = None,
    work: Work = ALONE,
) -> int:
    """One static HTML file: the funnel, distributions kept against dropped, samples with their
    pictures; or training runs; or both.

    Example: winnow report --recipe winnow --collection web --out report.html
    """
    from dataclasses import replace

    from flows.decision_report import report_data
    from flows.report import write_report
    from flows.report.training import read_run, report_of_runs
    from pipelines.decide.decision import decide

    folder, given = folder_of(root), models or Given()
    runs = tuple(read_run(one, folder) for one in run)
    if not collection:
        if not runs:
            raise ValueError("give --collection ID, or --run FOLDER of a training run, or both")
        say(str(write_report(out, report_of_runs(runs))))
        return 0
    decision = decide(
        folder,
        recipe,
        collection,
        given=given,
        without=without,
        at_once=measure_all,
        engine=work.engine(),
        progress=progress_lines(),
    )
    say(str(write_report(out, replace(report_data(folder, decision), runs=runs))))
    return exit_status(decision.failed)


def compare(
    *,
    warc: Annotated[str, Parameter(help="An archive.")],
    wat: Annotated[str, Parameter(help="The WAT file of the same pages.")],
    json: Json = False,
) -> None:
    """What WAT files lose against the archives themselves, on the pages that both hold: images, and
    texts by source.

    Example: winnow compare --warc CC-MAIN-x.warc.gz --wat CC-MAIN-x.warc.wat.gz
    """
    from flows.progress import roads_table
    from pipelines.sources.archives.compare_wat import compare_roads

    found = compare_roads(warc, wat)
    if json:
        print_json(found)
    else:
        say(roads_table(found))


def forget(
    *,
    root: Root = "data",
    url: Annotated[
        tuple[str, ...],
        Parameter(
            consume_multiple=True, negative_iterable=(), help="Addresses of pages or images."
        ),
    ] = (),
    domain: Annotated[
        tuple[str, ...],
        Parameter(
            consume_multiple=True, negative_iterable=(), help="Domains, with all below them."
        ),
    ] = (),
    sha256: Annotated[
        tuple[str, ...],
        Parameter(consume_multiple=True, negative_iterable=(), help="Images by their image_id."),
    ] = (),
    note: Annotated[str, Parameter(help="Why, for the record.")] = "",
    dry_run: Annotated[
        bool, Parameter(negative="", help="Say what would be erased, and do nothing.")
    ] = False,
    json: Json = False,
) -> None:
    """Take something out for ever: remembered, erased wherever it lies, and releases written again
    without it.

    Example: winnow forget --domain example.org --note "asked by its owner"
    """
    from pipelines.takedown.run import forget as run

    done = run(
        folder_of(root),
        urls=url,
        domains=domain,
        sha256=sha256,
        note=note,
        dry_run=dry_run,
        progress=progress_lines(),
    )
    if json:
        print_json(done.to_json())
    else:
        say(done.lines())


def remove(
    *,
    root: Root = "data",
    collection: Annotated[
        tuple[str, ...],
        Parameter(consume_multiple=True, negative_iterable=(), help="Ids of collections."),
    ] = (),
    release: Annotated[
        tuple[str, ...],
        Parameter(consume_multiple=True, negative_iterable=(), help="Names of releases."),
    ] = (),
    model: Annotated[
        tuple[str, ...],
        Parameter(consume_multiple=True, negative_iterable=(), help="Names of models of the root."),
    ] = (),
    dry_run: Annotated[
        bool, Parameter(negative="", help="Say what would go, and do nothing.")
    ] = False,
    json: Json = False,
) -> None:
    """Drop a collection, a release or a model, finished or not; what something else stands on is
    refused, with what that is. Models go before releases, and these before collections.

    Example: winnow remove --release web-1 --dry-run
    """
    from flows.remove import remove_all, removed_table

    done = remove_all(
        folder_of(root), models=model, releases=release, collections=collection, dry_run=dry_run
    )
    if json:
        print_json([one.to_json() for one in done])
    else:
        say(removed_table(done, dry_run=dry_run))
