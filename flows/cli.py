"""The command line: `winnow`, with the words of the documentation."""

import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, CycloptsError, Parameter
from pydantic import ValidationError

from pipelines.collect_config import CollectConfig

if TYPE_CHECKING:
    from pipelines.stage import Engine, Progress
    from pipelines.store import Folder

app = App(
    name="winnow",
    help="From web pages to a trained vision-language model: collect, curate, pretrain, inspect.",
    help_format="plaintext",
    version_flags=["--version"],
    suppress_keyboard_interrupt=False,  # main says what an interrupted command left
)

Root = Annotated[str, Parameter(name="--root", env_var="WINNOW_ROOT", help="Where all data lies: a folder or any fsspec URL.")]
Json = Annotated[bool, Parameter(name="--json", negative="", help="Print the result as JSON.")]
Runner = Annotated[str, Parameter(name="--runner", help="Beam runner that maps the parts.")]
Workers = Annotated[int, Parameter(name="--workers", help="Processes on this machine.")]
Share = Annotated[str | None, Parameter(name="--share", help="This command's share of every stage, e.g. 3/16 in a job array of sixteen.")]
Options = Annotated[tuple[str, ...], Parameter(name="--option", help="An option for the runner, as Beam spells it; may be repeated.")]


def main() -> None:
    """Run the command line; exit status 0 only when all went well."""
    os.environ.setdefault("DO_NOT_TRACK", "1")
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    try:
        status = app(sys.argv[1:], exit_on_error=False, print_error=False) or 0
    except KeyboardInterrupt:
        print("\nwinnow: stopped; what was finished is kept, and the same command goes on from here", file=sys.stderr)
        _leave(130)
    except (CycloptsError, ValueError, OSError, RuntimeError) as error:
        if os.environ.get("WINNOW_TRACEBACK"):
            raise
        print(f"winnow: {_words(error)}", file=sys.stderr)
        _leave(1)
    else:
        _leave(status)


def _words(error: BaseException) -> str:
    if isinstance(error, CycloptsError) and isinstance(error.__cause__, ValidationError):
        return _words(error.__cause__)
    if isinstance(error, ValidationError):
        return "; ".join(_complaint(one["loc"], one["msg"]) for one in error.errors())
    if isinstance(error, OSError) and error.errno is not None:
        place = f" ({error.filename})" if error.filename else ""
        return f"{error.strerror or error}{place}; what was finished is kept: mend the cause and run the same command again"
    return str(error) or repr(error)


def _complaint(place: tuple[int | str, ...], said: str) -> str:
    """A complaint of a configuration as an option of the command line is called."""
    option = "--" + str(place[0]).replace("_", "-") + ": " if place else ""
    return option + said.removeprefix("Value error, ")


def _leave(status: int) -> None:
    """End at once: a worker in the middle of a part must not hold the process, and every file is committed whole."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _root(url: str) -> "Folder":
    from pipelines.store import Folder

    return Folder(url if "://" in url else str(Path(url).expanduser().resolve()))


def _engine(runner: str, workers: int, options: Sequence[str], share: str | None = None) -> "Engine":
    from pipelines.shares import Share
    from pipelines.stage import Engine

    return Engine(runner=runner, workers=workers, options=tuple(options), share=None if share is None else Share.parse(share))


def _progress() -> "Callable[[Progress], None]":
    from flows.progress import Lines

    return Lines()


def _print(value: Any) -> None:
    print(json.dumps(value, indent=1, ensure_ascii=False))


@app.command
def demo(
    *,
    out: Annotated[Path, Parameter(help="Where everything of the demo goes.")] = Path("demo-out"),
    seed: Annotated[int, Parameter(help="Seed of the drawn site and of the training.")] = 0,
) -> int:
    """Watch a small web site become a trained model: draw, serve, crawl, curate, pretrain, evaluate, report.

    Example: winnow demo --out demo-out
    """
    from flows.demo.run import run_demo

    return run_demo(out.resolve(), seed=seed)


@app.command
def collect(
    *,
    config: Annotated[CollectConfig | None, Parameter(name="*", consume_multiple=True, negative_iterable=())] = None,
    root: Root = "data",
    id: Annotated[
        str | None, Parameter(help="Name of the collection; else an unfinished one of the same options goes on, else the time names it.")
    ] = None,
    recrawl: Annotated[str | None, Parameter(help="Earlier collection of the same pages: what did not change is not sent again.")] = None,
    runner: Runner = "FnApiRunner",
    workers: Workers = 1,
    share: Share = None,
    option: Options = (),
    json: Json = False,
) -> int:
    """Bring in image-text candidates from live pages, archives, lists or data sets, with their images.

    Example: winnow collect --seed https://example.org/ --max-pages 100
    """
    from pipelines.collect import collect as run

    config = config or CollectConfig()  # which says that a source is missing
    engine = _engine(runner, workers, option, share)
    found = run(_root(root), config, id=id, previous=recrawl, engine=engine, progress=_progress())
    if json:
        _print({"collection": found.id, "digest": found.digest, "counts": dict(found.counts), "failed": found.failed})
    else:
        print(f"collection {found.id}: " + ", ".join(f"{count:,} {name}" for name, count in found.counts.items()))
        print(f"next: winnow funnel --root {root} --recipe winnow --collection {found.id}")
    return _failed(found.failed)


def _failed(parts: int) -> int:
    if parts:
        print(
            f"winnow: {parts} parts were set aside with their errors (receipts/*.failed); the same command tries them again",
            file=sys.stderr,
        )
    return 1 if parts else 0


@app.command
def curate(
    *,
    root: Root = "data",
    recipe: Annotated[str, Parameter(help="Name of a recipe, or a TOML file.")] = "winnow",
    collection: Annotated[tuple[str, ...], Parameter(consume_multiple=True, help="Ids of collections.")],
    release: Annotated[str, Parameter(help="Name of the release.")],
    shard_samples: Annotated[int, Parameter(help="Images in a shard.")] = 10_000,
    heldout: Annotated[float, Parameter(help="Share of the images held out.")] = 0.0,
    runner: Runner = "FnApiRunner",
    workers: Workers = 1,
    share: Share = None,
    option: Options = (),
    json: Json = False,
) -> int:
    """Measure what is missing, decide with a recipe, write the release.

    Example: winnow curate --recipe winnow --collection web --release web-1
    """
    from flows.progress import funnel_table
    from pipelines.curate import CurateConfig
    from pipelines.curate import curate as run

    config = CurateConfig(recipe=recipe, collections=collection, release=release, shard_samples=shard_samples, heldout=heldout)
    made = run(_root(root), config, engine=_engine(runner, workers, option, share), progress=_progress())
    if json:
        _print({"release": made.name, "digest": made.digest, "samples": made.samples, "shards": made.shards, **made.funnel.to_json()})
    else:
        print(funnel_table(made.funnel))
        print(f"release {made.name}: {made.samples:,} images in {made.shards} shards at {made.folder.path()}, digest {made.digest}")
    return 0


@app.command
def funnel(
    *,
    root: Root = "data",
    recipe: Annotated[tuple[str, ...], Parameter(consume_multiple=True, help="Names of recipes, or TOML files.")] = ("winnow",),
    collection: Annotated[tuple[str, ...], Parameter(consume_multiple=True, help="Ids of collections.")],
    runner: Runner = "FnApiRunner",
    workers: Workers = 1,
    share: Share = None,
    option: Options = (),
    json: Json = False,
) -> int:
    """Measure what is missing and show what each recipe keeps and drops; no release.

    Example: winnow funnel --recipe winnow --recipe everything --collection web
    """
    from flows.progress import funnel_table
    from pipelines.curate import decide

    failed = 0
    shown = []
    for name in recipe:
        decision = decide(_root(root), name, collection, engine=_engine(runner, workers, option, share), progress=_progress())
        failed = max(failed, decision.failed)
        shown.append(decision.funnel)
    if json:
        _print(shown[0].to_json() if len(shown) == 1 else [one.to_json() for one in shown])
    else:
        print("\n\n".join(funnel_table(one) for one in shown))
    return _failed(failed)


@app.command
def train(
    recipe: Annotated[str, Parameter(help="Name of a training recipe.")],
    *,
    root: Root = "data",
    release: Annotated[tuple[str, ...], Parameter(consume_multiple=True, help="NAME, or DATA=NAME where the recipe reads several.")],
    out: Annotated[Path, Parameter(help="Folder of the run.")],
    seed: Annotated[int, Parameter(help="Seed of weights, order and masks.")] = 0,
    smoke: Annotated[bool, Parameter(negative="", help="The recipe shrunk to seconds, to see that all runs.")] = False,
    json: Json = False,
) -> None:
    """Pretrain a recipe's stages on releases; resumes exactly where it stopped.

    Example: winnow train vilt --release web-1 --out data/models/vilt
    """
    from flows.training import fit, match_releases
    from training.recipes import load

    plan = load(recipe, seed=seed, smoke=smoke)
    result = fit(_root(root), plan, match_releases(plan, release), out, _progress())
    if json:
        _print({"model": str(result.model), "steps": result.steps, **result.numbers})
    else:
        numbers = ", ".join(f"{name} {value:.4g}" for name, value in result.numbers.items())
        print(f"model {result.model} after {result.steps:,} steps: {numbers}")
        print(f"next: winnow evaluate {result.model} --captions captions.jsonl")


@app.command
def evaluate(
    model: Annotated[Path, Parameter(help="Exported model folder.")],
    *,
    captions: Annotated[Path, Parameter(help='Lines of {"image": path beside the file, "captions": [text, …]}.')],
    json: Json = False,
) -> None:
    """Retrieval recall of a model, both ways, on held-out captions.

    Example: winnow evaluate runs/vilt/model --captions captions.jsonl
    """
    from flows.progress import recall_table
    from training.evaluate import evaluate as run

    found = run(model, captions)
    if json:
        _print(found)
    else:
        print(recall_table({"model": found}))


@app.command
def match(
    model: Annotated[Path, Parameter(help="Exported model folder.")],
    *,
    captions: Annotated[Path, Parameter(help='Lines of {"image": path beside the file, "captions": [text, …]}.')],
    json: Json = False,
) -> None:
    """Score each given pair: the probability that text and image belong together.

    Example: winnow match runs/vilt/model --captions captions.jsonl
    """
    from captioning.matcher import match as run

    for row in run(model, captions):
        if json:
            _print_line(row)
        else:
            print(f"{row['score']:.4f}\t{row['image']}\t{row['caption']}")


def _print_line(value: Any) -> None:
    print(json.dumps(value, ensure_ascii=False))


@app.command
def report(
    *,
    root: Root = "data",
    recipe: Annotated[str, Parameter(help="Name of a recipe, or a TOML file.")] = "winnow",
    collection: Annotated[tuple[str, ...], Parameter(consume_multiple=True, help="Ids of collections.")],
    out: Annotated[Path, Parameter(help="The HTML file.")] = Path("report.html"),
) -> int:
    """One static HTML file: the funnel, distributions kept against dropped, samples with their pictures.

    Example: winnow report --recipe winnow --collection web --out report.html
    """
    from flows.inspect import report_data
    from flows.report import write_report
    from pipelines.curate import decide

    decision = decide(_root(root), recipe, collection, progress=_progress())
    print(write_report(out, report_data(_root(root), decision)))
    return _failed(decision.failed)


@app.command
def run(configuration: Annotated[Path, Parameter(help="The plan, as TOML.")]) -> int:
    """Run a whole plan once, in its order: collect, curate, pretrain. No server is needed.

    Example: winnow run winnow.toml
    """
    from flows.configuration import read_configuration
    from flows.orchestrate import run as run_plan

    return _failed(run_plan(read_configuration(configuration)))


@app.command
def serve(configuration: Annotated[Path, Parameter(help="The plan, as TOML.")]) -> int:
    """Serve a plan's deployments on their schedules; a published release triggers its pretraining. Needs a Prefect server.

    Example: PREFECT_API_URL=http://127.0.0.1:4200/api winnow serve winnow.toml
    """
    from flows.configuration import read_configuration
    from flows.serve import serve as serve_plan

    serve_plan(read_configuration(configuration))
    return 0


@app.command
def status(*, root: Root = "data", json: Json = False) -> None:
    """What is there, and what is unfinished.

    Example: winnow status --root data
    """
    from flows.inspect import status as look
    from flows.inspect import status_table

    found = look(_root(root))
    if json:
        _print(found)
    else:
        print(status_table(found))


@app.command
def validate(*, root: Root = "data", json: Json = False) -> int:
    """Read every file of every finished folder again and compare it with its manifest.

    Example: winnow validate --root data
    """
    from flows.inspect import validate as check

    problems = check(_root(root))
    if json:
        _print({"problems": problems})
    else:
        print("\n".join(problems) or "every file is as its manifest says")
    return 1 if problems else 0


@app.command
def doctor(*, root: Root = "data") -> int:
    """Whether this machine is fit: versions that work together, the language model, disk, memory, the GPU.

    Example: winnow doctor
    """
    from flows.doctor import examine

    found = examine(_root(root))
    for finding in found:
        print(f"{'ok  ' if finding.ok else 'BAD '} {finding.subject}: {finding.words}")
    return 0 if all(finding.ok for finding in found) else 1


if __name__ == "__main__":
    main()
