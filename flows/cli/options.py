"""What the commands share: the application, their common options, and how they print."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from filters.given_models import Given
from pipelines.terminal import say, visible, visible_json

if TYPE_CHECKING:
    from pipelines.engine.stage import Engine, Progress
    from pipelines.store import Folder

Root = Annotated[
    str,
    Parameter(
        name="--root",
        env_var="WINNOW_ROOT",
        help="Where all data lies: a folder or any fsspec URL.",
    ),
]
Json = Annotated[bool, Parameter(name="--json", negative="", help="Print the result as JSON.")]


@dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """Who does the work of a command."""

    runner: Annotated[
        str, Parameter(help="`local` (processes of this machine), or a runner of Beam by its name.")
    ] = "local"
    workers: Annotated[int, Parameter(help="Processes on this machine.")] = 1
    share: Annotated[
        str | None,
        Parameter(help="This command's share of every stage, e.g. 3/16 in a job array of sixteen."),
    ] = None
    wait: Annotated[
        float,
        Parameter(
            help=(
                "Seconds to wait for shares that nobody runs, and for a job of another runner that"
                " is silent."
            )
        ),
    ] = 600.0
    option: Annotated[
        tuple[str, ...],
        Parameter(
            negative="",
            allow_leading_hyphen=True,
            help="An option for the runner, as Beam spells it; may be repeated.",
        ),
    ] = ()

    def engine(self) -> "Engine":
        from pipelines.engine.shares import Share
        from pipelines.engine.stage import Engine

        share = None if self.share is None else Share.parse(self.share)
        return Engine(
            runner=self.runner,
            workers=self.workers,
            options=self.option,
            share=share,
            wait_seconds=self.wait,
        )


Models = Annotated[Given | None, Parameter(name="*", consume_multiple=True, negative_iterable=())]
Without = Annotated[
    tuple[str, ...],
    Parameter(
        consume_multiple=True,
        negative_iterable=(),
        help="Measurements whose rules are left out, e.g. alignment.score.",
    ),
]
Recipes = Annotated[
    tuple[str, ...], Parameter(consume_multiple=True, help="Names of recipes, or TOML files.")
]
Collections = Annotated[
    tuple[str, ...], Parameter(consume_multiple=True, help="Ids of collections.")
]
AtOnce = Annotated[
    bool,
    Parameter(
        name="--measure-all",
        negative="",
        help="Measure also the candidates that an earlier rule stops.",
    ),
]
Work = Annotated[EngineOptions, Parameter(name="*")]
ALONE = EngineOptions()


def folder_of(url: str) -> "Folder":
    from pipelines.store import Folder

    return Folder(url if "://" in url else str(Path(os.path.expanduser(url)).resolve()))


def progress_lines() -> "Callable[[Progress], None]":
    from flows.progress import Lines

    return Lines()


def print_json(value: Any) -> None:
    print(visible_json(value, indent=1))


def print_row(*cells: str) -> None:
    """A line of a table that other programs read: cells between tabs."""
    print("\t".join(map(visible, cells)))


def exit_status(parts: int) -> int:
    if parts:
        say(
            f"winnow: {parts} parts were set aside with their errors (receipts/*.failed); the same"
            " command tries them again",
            file=sys.stderr,
        )
    return 1 if parts else 0
