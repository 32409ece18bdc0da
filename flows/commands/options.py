"""What the commands share: the application, their common options, and how they print."""

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

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


def folder_of(url: str) -> "Folder":
    from pipelines.store import Folder

    return Folder(url if "://" in url else str(Path(url).expanduser().resolve()))


def engine_of(runner: str, workers: int, options: Sequence[str], share: str | None = None) -> "Engine":
    from pipelines.shares import Share
    from pipelines.stage import Engine

    return Engine(runner=runner, workers=workers, options=tuple(options), share=None if share is None else Share.parse(share))


def progress_lines() -> "Callable[[Progress], None]":
    from flows.progress import Lines

    return Lines()


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=1, ensure_ascii=False))


def print_line(value: Any) -> None:
    print(json.dumps(value, ensure_ascii=False))


def exit_status(parts: int) -> int:
    if parts:
        print(
            f"winnow: {parts} parts were set aside with their errors (receipts/*.failed); the same command tries them again",
            file=sys.stderr,
        )
    return 1 if parts else 0
