"""`winnow img2dataset`: the arguments of img2dataset, as its own command line takes them."""

import ast
import difflib
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from pydantic import ValidationError
from pydantic_core import PydanticUndefined

from flows.cli.options import print_json, progress_lines
from pipelines.img2dataset.config import Img2datasetConfig
from pipelines.terminal import say

if TYPE_CHECKING:
    from pipelines.img2dataset.run import Done

FIELDS = Img2datasetConfig.model_fields
WORDS = {"None": None, "null": None, "True": True, "true": True, "False": False, "false": False}
FLAGS = frozenset(name for name, entry in FIELDS.items() if entry.annotation is bool)
JSON = "json"


def help_text() -> str:
    """What the command does, and a line for each argument."""
    lines = []
    for name, entry in FIELDS.items():
        default = entry.get_default(call_default_factory=False)
        said = (
            "required"
            if default is PydanticUndefined
            else f"default {default!r}"
            if default not in (None, "")
            else ""
        )
        lines.append(f"--{name:<28} {entry.description}" + (f" ({said})" if said else ""))
    intro = (
        "Download lists of images as img2dataset does, with its arguments and formats, as a guest."
    )
    example = (
        "Example: winnow img2dataset --url_list urls.txt --output_folder images --image_size 256"
    )
    return "\n".join([intro, "", example, "", *lines, f"--{JSON:<28} Print the counts as JSON."])


def img2dataset(*tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)]) -> int:
    from pipelines.img2dataset.run import img2dataset as run

    given = dict(arguments(tokens))
    as_json = bool(given.pop(JSON, False))
    try:
        config = Img2datasetConfig(**given)
    except ValidationError as error:
        raise ValueError(
            "; ".join(_complaint(one["loc"], one["msg"]) for one in error.errors())
        ) from error
    done = run(config, progress=progress_lines())
    if as_json:
        print_json(done.to_json())
    else:
        say(told(done))
    for shard, trace in done.failed.items():
        cause = (trace.strip() or "no error was left").splitlines()[-1]
        words = f"shard {shard} could not be written, the same command tries it again: {cause}"
        say(f"winnow: {words}", sys.stderr)
    return 1 if done.failed else 0


img2dataset.__doc__ = help_text()


def arguments(tokens: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """Names and values as Fire reads them: `--a_b 1`, `--a-b=1`, `--flag`, `--noflag`, or in
    turn.
    """
    names, place = list(FIELDS), 0
    waiting = list(tokens)
    while waiting:
        token = waiting.pop(0)
        if not token.startswith("--"):
            if place >= len(names):
                raise ValueError(f"{token!r} stands behind no argument: write --name value")
            yield names[place], value_of(token)
            place += 1
            continue
        name, equals, value = token[2:].partition("=")
        name = name.replace("-", "_")
        if equals:
            yield known(name), value_of(value)
        elif waiting and not waiting[0].startswith("--"):
            yield known(name), value_of(waiting.pop(0))
        elif name not in FLAGS and name.removeprefix("no") in FLAGS:
            yield name.removeprefix("no"), False
        else:
            yield known(name), True


def known(name: str) -> str:
    if name in FIELDS or name == JSON:
        return name
    near = difflib.get_close_matches(name, FIELDS, n=1)
    raise ValueError(
        f"img2dataset has no argument --{name}"
        + (f": did you mean --{near[0]}?" if near else "; --help lists all")
    )


def value_of(text: str) -> Any:
    """A value as it is typed: `None`, `True`, a list of Python's or of bare words, else the
    text.
    """
    if text in WORDS:
        return WORDS[text]
    if text[:1] in "[(" and text[-1:] in "])":
        try:
            return ast.literal_eval(text)
        except (ValueError, SyntaxError):
            return [word.strip(" '\"") for word in text[1:-1].split(",") if word.strip()]
    return text


def _complaint(place: tuple[int | str, ...], said: str) -> str:
    option = f"--{place[0]}: " if place else ""
    return option + said.removeprefix("Value error, ")


def told(done: "Done") -> str:
    """What came of a run, in lines."""
    lines = [
        f"{done.output_folder}: {done.successes:,} images of {done.count:,} addresses "
        f"in {done.shards:,} shards"
    ]
    width = max(map(len, done.outcomes), default=0)
    lines += [f"  {name:<{width}} {count:>10,}" for name, count in done.outcomes.items()]
    lines += [f"  left out of the lists: {count:,} {name}" for name, count in done.left_out.items()]
    return "\n".join(lines)
