"""Commands on whole plans and roots: demo, run, serve, status, validate, doctor."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from flows.cli.options import Json, Root, exit_status, folder_of, print_json
from pipelines.terminal import say


def demo(
    *,
    out: Annotated[Path, Parameter(help="Where everything of the demo goes.")] = Path("demo-out"),
    seed: Annotated[int, Parameter(help="Seed of the drawn site and of the training.")] = 0,
) -> int:
    """Watch a small web site become a trained model: draw, serve, crawl, curate, pretrain,
    evaluate, report.

    Example: winnow demo --out demo-out
    """
    from flows.demo.run import run_demo

    return run_demo(out.resolve(), seed=seed)


def run(configuration: Annotated[Path, Parameter(help="The plan, as TOML.")]) -> int:
    """Run a whole plan once, in its order: collect, curate, pretrain. No server is needed.

    Example: winnow run winnow.toml
    """
    from flows.deployments.orchestrate import run as run_plan
    from flows.deployments.project_file import read_configuration

    return exit_status(run_plan(read_configuration(configuration)))


def serve(configuration: Annotated[Path, Parameter(help="The plan, as TOML.")]) -> int:
    """Serve a plan's deployments on their schedules; a published release triggers its pretraining.
    Needs a Prefect server.

    Example: PREFECT_API_URL=http://127.0.0.1:4200/api winnow serve winnow.toml
    """
    from flows.deployments.project_file import read_configuration
    from flows.deployments.serve import serve as serve_plan

    serve_plan(read_configuration(configuration))
    return 0


def status(*, root: Root = "data", json: Json = False) -> None:
    """What is there, and what is unfinished.

    Example: winnow status --root data
    """
    from flows.status import status as look
    from flows.status import status_table

    found = look(folder_of(root))
    if json:
        print_json(found)
    else:
        say(status_table(found))


def validate(*, root: Root = "data", json: Json = False) -> int:
    """Read every file of every finished folder again and compare it with its manifest.

    Example: winnow validate --root data
    """
    from pipelines.validate import validate as check

    folder = folder_of(root)
    problems = check(folder)
    nothing = not any((folder / kind).names() for kind in ("collections", "releases"))
    if json:
        print_json({"problems": problems})
    else:
        sound = (
            f"there is nothing in {folder.path()}"
            if nothing
            else "every file is as its manifest says"
        )
        say("\n".join(problems) or sound)
    return 1 if problems else 0


def doctor(*, root: Root = "data") -> int:
    """Whether this machine is fit: versions that work together, the language model, disk, memory,
    the GPU.

    Example: winnow doctor
    """
    from flows.doctor import examine

    found = examine(folder_of(root))
    for finding in found:
        say(f"{'ok  ' if finding.ok else 'BAD '} {finding.subject}: {finding.words}")
    return 0 if all(finding.ok for finding in found) else 1
