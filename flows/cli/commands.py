"""The command line: `winnow`, with the words of the documentation."""

import os
import sys
from importlib.metadata import version
from typing import NamedTuple

from cyclopts import App, CycloptsError, Group
from pydantic import ValidationError

from pipelines.engine.shares import ShareUnfinished
from pipelines.terminal import guard_terminal, say


class Command(NamedTuple):
    """A command, whose file is read when it is called; what it does, in the list of all."""

    group: str
    path: str  # module and function
    sentence: str

    @property
    def name(self) -> str:
        return self.path.partition(":")[2]


GROUPS = ("Data", "Models", "Looking", "Plans")
COMMANDS = (
    Command(
        "Data", "flows.cli.plans:demo", "a small web site becomes a trained model, before your eyes"
    ),
    Command(
        "Data",
        "flows.cli.data:collect",
        "candidates with their images, from pages, archives, lists or data sets",
    ),
    Command("Data", "flows.cli.data:curate", "measure, decide by a recipe, write a release"),
    Command(
        "Data",
        "flows.cli.data:funnel",
        "what recipes would keep and drop; nothing is written but measurements",
    ),
    Command(
        "Data",
        "flows.cli.data:report",
        "one HTML file: funnel, distributions, samples; or training runs",
    ),
    Command("Data", "flows.cli.data:forget", "take an address, a domain or an image out for ever"),
    Command("Data", "flows.cli.data:remove", "drop a collection, a release or a model of ours"),
    Command(
        "Data", "flows.cli.data:compare", "what WAT files lose against the archives themselves"
    ),
    Command(
        "Data",
        "flows.cli.img2dataset:img2dataset",
        "download lists of images with img2dataset's arguments and formats",
    ),
    Command(
        "Models",
        "flows.cli.models:train",
        "pretrain a recipe's stages on releases, or a model further",
    ),
    Command(
        "Models", "flows.cli.models:evaluate", "retrieval, matching, captions, … on held-out images"
    ),
    Command(
        "Models",
        "flows.cli.models:match",
        "the probability that a text belongs to an image, for each pair",
    ),
    Command("Models", "flows.cli.models:caption", "write a caption for each image"),
    Command("Models", "flows.cli.vectors:embed", "vectors of images and texts as Parquet"),
    Command(
        "Models",
        "flows.cli.models:convert",
        "to and from transformers and open_clip; no logit changes",
    ),
    Command(
        "Models", "flows.cli.models:scorer", "train LAIT's weak image-text scorer on labelled pairs"
    ),
    Command("Looking", "flows.cli.look:dashboard", "what was decided, in a browser, with sliders"),
    Command("Looking", "flows.cli.plans:status", "what there is, and what is unfinished"),
    Command(
        "Looking",
        "flows.cli.plans:validate",
        "read every file again and compare it with its manifest",
    ),
    Command("Looking", "flows.cli.plans:doctor", "whether this machine is fit"),
    Command(
        "Looking", "flows.cli.look:measurements", "what recipes may read, with unit and source"
    ),
    Command("Looking", "flows.cli.look:recipes", "what can be applied, and what can be trained"),
    Command("Plans", "flows.cli.plans:run", "a project file once, in its order; needs no server"),
    Command(
        "Plans", "flows.cli.plans:serve", "a project file on its schedules, with a Prefect server"
    ),
)


def application(*, brief: bool = False) -> App:
    """The command line; where it is only listed (`brief`), no command is loaded."""
    app = App(
        name="winnow",
        help="From web pages to a trained vision-language model.",
        help_format="plaintext",
        version=version("winnow"),
        version_flags=["--version"],
        suppress_keyboard_interrupt=False,  # `run` says what an interrupted command left
    )
    groups = {name: Group.create_ordered(name) for name in GROUPS}
    for command in COMMANDS:
        app.command(
            command.path,
            name=command.name,
            help=command.sentence if brief else None,
            group=groups[command.group],
        )
    return app


def run() -> None:
    """Run the command line; exit status 0 only when all went well."""
    os.environ.setdefault("DO_NOT_TRACK", "1")
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    guard_terminal()
    tokens = sys.argv[1:]
    known = bool(tokens) and tokens[0] in {command.name for command in COMMANDS}
    try:
        status = (
            application(brief=not known)(
                tokens, exit_on_error=False, print_error=False, result_action="return_value"
            )
            or 0
        )
    except KeyboardInterrupt as stopped:
        said = (
            str(stopped)
            or "stopped; what was finished is kept, and the same command goes on from here"
        )
        say(f"\nwinnow: {said}", file=sys.stderr)
        _leave(130)
    except ShareUnfinished as waiting:
        say(f"winnow: {waiting}", file=sys.stderr)
        _leave(os.EX_TEMPFAIL)  # a job array runs such a share again
    except ImportError as error:
        if os.environ.get("WINNOW_TRACEBACK"):
            raise
        say(
            f"winnow: {error}; `winnow doctor` says what is missing or does not go together",
            file=sys.stderr,
        )
        _leave(1)
    except (CycloptsError, ValueError, OSError, RuntimeError) as error:
        if os.environ.get("WINNOW_TRACEBACK"):
            raise
        say(f"winnow: {_words(error)}", file=sys.stderr)
        _leave(1)
    else:
        _leave(status or 0)


def _words(error: BaseException) -> str:
    if isinstance(error, CycloptsError) and isinstance(error.__cause__, ValidationError):
        return _words(error.__cause__)
    if isinstance(error, ValidationError):
        return "; ".join(_complaint(one["loc"], one["msg"]) for one in error.errors())
    if isinstance(error, OSError) and error.errno is not None:
        place = f" ({error.filename})" if error.filename else ""
        return (
            f"{error.strerror or error}{place}; what was finished is kept: mend the cause and run"
            " the same command again"
        )
    return str(error) or repr(error)


def _complaint(place: tuple[int | str, ...], said: str) -> str:
    """A complaint of a configuration as an option of the command line is called."""
    option = "--" + str(place[0]).replace("_", "-") + ": " if place else ""
    return option + said.removeprefix("Value error, ")


def _leave(status: int) -> None:
    """End at once: a worker in the middle of a part must not hold the process, and every file is
    committed whole.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
