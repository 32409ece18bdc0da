"""The command line: `winnow`, with the words of the documentation."""

import os
import sys

from cyclopts import CycloptsError
from pydantic import ValidationError

from flows.cli import data, img2dataset, look, models, plans, vectors
from flows.cli.options import app
from pipelines.engine.shares import ShareUnfinished
from pipelines.terminal import guard_terminal, say

__all__ = ["app", "data", "img2dataset", "look", "models", "plans", "run", "vectors"]


def run() -> None:
    """Run the command line; exit status 0 only when all went well."""
    os.environ.setdefault("DO_NOT_TRACK", "1")
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    guard_terminal()
    try:
        status = (
            app(sys.argv[1:], exit_on_error=False, print_error=False, result_action="return_value")
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
        _leave(status)


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
