"""Plans of the literature: a module for each, with a function `plan`; and plans of one's own.

To list recipes, or to refuse what is none, imports no torch.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import pkgutil
import re
import tomllib
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_type_hints

from training.config import change, decode, encode, nearest, read_value, table_with

if TYPE_CHECKING:
    from training.plan import TrainingPlan

Size = Literal["tiny", "small", "base"]


def names() -> list[str]:
    """The recipes that are there, sorted."""
    return sorted(
        module.name for module in pkgutil.iter_modules(__path__) if module.name != "parts"
    )


def check(recipe: str) -> None:
    """ValueError when there is no such recipe, file or model; nobody has looked into it yet."""
    if _is_model(recipe):
        return
    if Path(recipe).suffix in (".toml", ".py"):
        if not Path(recipe).is_file():
            raise ValueError(f"{recipe}: no such file; recipes by name are {', '.join(names())}")
    else:
        _check_name(recipe)


def _is_model(recipe: str) -> bool:
    """Whether it is the folder of a trained model, which is trained further."""
    return (Path(recipe) / "config.json").is_file()


def _check_name(recipe: str) -> None:
    if recipe not in names():
        known = ", ".join(names())
        hint = nearest(recipe, names())
        raise ValueError(f"no training recipe {recipe!r}; there are: {known}{hint}")


def load(
    recipe: str,
    *,
    size: Size | None = None,
    init: Mapping[str, str] | None = None,
    changes: Sequence[str] = (),
    smoke: bool = False,
    **settings: Any,
) -> TrainingPlan:
    """A plan by the name of its recipe, from a file of one's own (.toml or .py), or for a model.

    The folder of a trained model stands for a plan that trains it further, on the release `train`.
    A TOML file begins with `recipe = "blip"` and changes what it names; what is given here stands
    above it. `changes` are KEY=VALUE, such as `stages.0.batch=512`, or `over=albef` for an argument
    of the recipe itself; `init` says by which weights the towers begin; `smoke` shrinks whatever
    comes of it to seconds, for a rehearsal. ValueError names the nearest recipe or key where one is
    unknown.
    """
    check(recipe)
    if recipe in names():
        arguments, changes = _for_recipe(recipe, changes)
        settings = {**settings, **arguments}
    given = {"size": size, "init": dict(init or {}) or None, **settings}
    given = {name: value for name, value in given.items() if value is not None}
    if _is_model(recipe):
        plan = _of_model(Path(recipe), given)
    elif recipe.endswith(".toml"):
        plan = _of_toml(Path(recipe), given)
    elif recipe.endswith(".py"):
        plan = _of_file(Path(recipe), given)
    else:
        plan = _of_name(recipe, given)

    plan = _changed(plan, changes)
    if smoke:
        from training.plan import smoke as shrunk

        plan = shrunk(plan)
    return plan


def _changed(plan: TrainingPlan, changes: Sequence[str]) -> TrainingPlan:
    plain = encode(plan)
    for one in changes:
        change(plain, *_parted(one))
    return _decoded(plain)


def _decoded(plain: Any) -> TrainingPlan:
    from training.plan import TrainingPlan

    return decode(TrainingPlan, plain)


def _parted(one: str) -> tuple[str, str]:
    key, found, value = one.partition("=")
    if not found:
        raise ValueError(f"{one}: a change is written KEY=VALUE, as in stages.0.batch=512")
    return key.strip(), value.strip()


def _for_recipe(recipe: str, changes: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """Changes that are arguments of the recipe, and those that are made in its plan."""
    own = _own_arguments(recipe)
    arguments, others = {}, []
    for one in changes:
        key, value = _parted(one)
        if key in own:
            arguments[key] = decode(own[key], read_value(value), key)
        else:
            others.append(one)
    return arguments, others


def _own_arguments(recipe: str) -> dict[str, Any]:
    """What the recipe can be told besides what every one is, and the types."""
    kinds = get_type_hints(_module(recipe).plan)
    return {name: kinds[name] for name in kinds if name not in ("size", "init", "seed", "return")}


def _module(recipe: str) -> Any:
    _check_name(recipe)
    return importlib.import_module(f"training.recipes.{recipe}")


def _of_name(recipe: str, given: Mapping[str, Any]) -> TrainingPlan:
    plan: TrainingPlan = _called(_module(recipe).plan, given, f"the recipe {recipe}")
    known = list(dict.fromkeys(["image", "text", *plan.init]))
    for part in given.get("init", {}):
        if part not in known:
            hint = nearest(part, known)
            raise ValueError(f"init {part}: {recipe} begins with {', '.join(known)} alone{hint}")
    return plan


def _called(plan: Callable[..., Any], given: Mapping[str, Any], who: str) -> Any:
    """What a function `plan` makes of its arguments; ValueError where it takes none so called."""
    size, sizes = given.get("size", "base"), get_args(Size)
    if size not in sizes:
        hint = nearest(str(size), sizes)
        raise ValueError(f"size: {size!r} is not one of {', '.join(sizes)}{hint}")

    takes = inspect.signature(plan).parameters
    if not any(one.kind is inspect.Parameter.VAR_KEYWORD for one in takes.values()):
        for name in sorted(given.keys() - takes.keys()):
            raise ValueError(f"{who} has no setting {name}: its `plan` takes {', '.join(takes)}")
    usual = {"size": "base", "init": {}}
    needed = [name for name in usual if name in takes and takes[name].default is takes[name].empty]
    return plan(**{**{name: usual[name] for name in needed}, **given})


def _of_model(folder: Path, given: Mapping[str, Any]) -> TrainingPlan:
    """A plan that trains a model further: its shape and its weights are there."""
    from training.finetune import finetune

    for name in ("size", "init"):
        if name in given:
            raise ValueError(f"{folder} is a trained model, which settles its {name}: leave it out")
    return finetune(folder, **given)


def _of_file(path: Path, given: Mapping[str, Any]) -> TrainingPlan:
    """The function `plan` of somebody's own module."""
    from training.plan import TrainingPlan

    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None, "what ends in .py is a module"
    assert spec.loader is not None, "what ends in .py is a module"
    module = importlib.util.module_from_spec(spec)
    with _told(path):
        spec.loader.exec_module(module)
    if not callable(getattr(module, "plan", None)):
        raise ValueError(f"{path} has no function `plan`")
    with _told(path):
        plan = _called(module.plan, given, str(path))
    if not isinstance(plan, TrainingPlan):
        raise ValueError(f"{path}: `plan` must return a TrainingPlan, not {type(plan).__name__}")
    return plan


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Whatever somebody's own module raises is a ValueError that names its line."""
    try:
        yield
    except ValueError:
        raise
    except Exception as error:  # of theirs, so of any kind
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if Path(frame.filename) == path.absolute()]
        line = error.lineno if isinstance(error, SyntaxError) else next(reversed(lines), None)
        where = f"{path}, line {line}" if line else str(path)
        raise ValueError(f"{where}: {type(error).__name__}: {error}") from error


def _of_toml(path: Path, given: Mapping[str, Any]) -> TrainingPlan:
    table = _read(path)
    recipe = table.pop("recipe", None)
    if not isinstance(recipe, str):
        raise ValueError(f'{path}: the first line says from which recipe: recipe = "blip"')

    try:
        arguments = _arguments(path, recipe, table, given)
        plain = encode(_of_name(recipe, arguments))
        _merge(plain, {name: value for name, value in table.items() if name not in given}, "")
        return _decoded(plain)
    except ValueError as error:
        raise ValueError(f"{path}{_line_of(path, str(error))}: {error}") from error


def _read(path: Path) -> dict[str, Any]:
    """The table of a file, which may begin with the mark that editors on Windows put there."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except RecursionError:
        raise ValueError(f"{path} cannot be read: it is nested too deeply") from None
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error


def _arguments(
    path: Path, recipe: str, table: dict[str, Any], given: Mapping[str, Any]
) -> dict[str, Any]:
    """What the recipe is asked for: taken out of the file, what is given standing above it.

    Weights are found beside the file, where it names a path from there.
    """
    kinds = {"size": str, "init": Mapping[str, str], **_own_arguments(recipe)}
    told = {name: decode(kinds[name], table.pop(name), name) for name in kinds if name in table}
    init = told.pop("init", {})
    beside = {name: path.parent / source for name, source in init.items()}
    init = {name: str(beside[name]) if beside[name].exists() else init[name] for name in init}
    init = {**init, **given.get("init", {})}
    asked = {**told, **given, "init": init or None}
    return {name: value for name, value in asked.items() if value is not None}


def _merge(plain: Any, changed: Mapping[str, Any], where: str) -> None:
    """Tables into tables; of a list of tables the first into the first, further ones behind."""
    for name, value in changed.items():
        at = f"{where}.{name}" if where else name
        if name not in plain and "kind" in plain:
            table_with(name, plain, at)[name] = value
            continue
        there = plain.get(name)
        if isinstance(value, Mapping) and isinstance(there, dict):
            _merge(there, value, at)
        elif _tables(value) and _tables(there):
            for place, (old, new) in enumerate(zip(there, value, strict=False)):
                _merge(old, new, f"{at}.{place}")
            there += value[len(there) :]
        else:
            plain[name] = value


def _tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], Mapping)


def _line_of(path: Path, message: str) -> str:
    """ ", line 3", where a key stands that the message begins with, or a value that it quotes."""
    key = message.split(" ")[0].rstrip(":").split(".")[-1]
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    for number, line in enumerate(lines, start=1):
        if line.split("=")[0].strip().strip("\"'") == key:
            return f", line {number}"
    for quoted in re.findall(r"'([^']+)'", message):
        for number, line in enumerate(lines, start=1):
            if re.search(rf"\b{re.escape(quoted)}\b", line):
                return f", line {number}"
    return ""
