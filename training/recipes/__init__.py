"""Plans of the literature: a module for each, with a function `plan`; and plans of one's own."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_type_hints

from training.config import change, decode, encode, nearest, read_value
from training.plan import TrainingPlan
from training.plan import smoke as shrunk

Size = Literal["tiny", "small", "base"]


def names() -> list[str]:
    """The recipes that are there, sorted."""
    return sorted(
        module.name for module in pkgutil.iter_modules(__path__) if module.name != "parts"
    )


def load(
    recipe: str,
    *,
    size: Size = "base",
    init: Mapping[str, str] | None = None,
    changes: Sequence[str] = (),
    smoke: bool = False,
    **settings: Any,
) -> TrainingPlan:
    """A plan by the name of its recipe, or from a file of one's own (.toml or .py).

    A TOML file begins with `recipe = "blip"` and changes what it names. `changes` are KEY=VALUE,
    such as `stages.0.batch=512`, or `over=albef` for an argument of the recipe itself; `init` says
    by which weights the towers begin; `smoke` shrinks whatever comes of it to seconds, for a
    rehearsal. ValueError names the nearest recipe or key where one is unknown.
    """
    if recipe in names():
        arguments, changes = _for_recipe(recipe, changes)
        settings = {**settings, **arguments}
    given = {"size": size, "init": dict(init or {}), **settings}
    if recipe.endswith(".toml"):
        plan = _of_toml(Path(recipe), given)
    elif recipe.endswith(".py"):
        plan = _of_file(Path(recipe), given)
    else:
        plan = _of_name(recipe, given)

    plan = _changed(plan, changes)
    return shrunk(plan) if smoke else plan


def _changed(plan: TrainingPlan, changes: Sequence[str]) -> TrainingPlan:
    plain = encode(plan)
    for one in changes:
        change(plain, *_parted(one))
    return decode(TrainingPlan, plain)


def _parted(one: str) -> tuple[str, str]:
    key, found, value = one.partition("=")
    if not found:
        raise ValueError(f"{one}: a change is written KEY=VALUE, as in stages.0.batch=512")
    return key.strip(), value.strip()


def _for_recipe(recipe: str, changes: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """Changes that are arguments of the recipe, and those that are made in its plan."""
    own = _arguments(recipe)
    arguments, others = {}, []
    for one in changes:
        key, value = _parted(one)
        if key in own:
            arguments[key] = decode(own[key], read_value(value), key)
        else:
            others.append(one)
    return arguments, others


def _arguments(recipe: str) -> dict[str, Any]:
    """What the recipe can be told besides what every one is, and the types."""
    kinds = get_type_hints(_module(recipe).plan)
    return {name: kinds[name] for name in kinds if name not in ("size", "init", "seed", "return")}


def _module(recipe: str) -> Any:
    if recipe not in names():
        known = ", ".join(names())
        hint = nearest(recipe, names())
        raise ValueError(f"no training recipe {recipe!r}; there are: {known}{hint}")
    return importlib.import_module(f"training.recipes.{recipe}")


def _of_name(recipe: str, given: Mapping[str, Any]) -> TrainingPlan:
    plan: TrainingPlan = _module(recipe).plan(**given)
    return plan


def _of_file(path: Path, given: Mapping[str, Any]) -> TrainingPlan:
    """The function `plan` of somebody's own module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ValueError(f"{path}: no such file; give one with a function `plan`")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not callable(getattr(module, "plan", None)):
        raise ValueError(f"{path} has no function `plan`")
    plan = module.plan(**given)
    if not isinstance(plan, TrainingPlan):
        raise ValueError(f"{path}: `plan` must return a TrainingPlan, not {type(plan).__name__}")
    return plan


def _of_toml(path: Path, given: Mapping[str, Any]) -> TrainingPlan:
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    recipe = table.pop("recipe", None)
    if not isinstance(recipe, str):
        raise ValueError(f'{path}: the first line says from which recipe: recipe = "blip"')

    try:
        arguments = dict(given)
        for name, kind in {"size": str, "init": Mapping[str, str], **_arguments(recipe)}.items():
            if name in table:
                arguments[name] = decode(kind, table.pop(name), name)
        plain = encode(_of_name(recipe, arguments))
        _merge(plain, table, "")
        return decode(TrainingPlan, plain)
    except ValueError as error:
        raise ValueError(f"{path}{_line_of(path, str(error))}: {error}") from error


def _merge(plain: Any, changed: Mapping[str, Any], where: str) -> None:
    """Tables into tables; of a list of tables the first into the first, and so on."""
    for name, value in changed.items():
        at = f"{where}.{name}" if where else name
        if name not in plain and "kind" in plain:
            raise ValueError(f"{at} is not known{nearest(name, plain)}")
        there = plain.get(name)
        if isinstance(value, Mapping) and isinstance(there, dict):
            _merge(there, value, at)
        elif _tables(value) and _tables(there):
            for place, (old, new) in enumerate(zip(there, value, strict=False)):
                _merge(old, new, f"{at}.{place}")
        else:
            plain[name] = value


def _tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], Mapping)


def _line_of(path: Path, message: str) -> str:
    """ ", line 3", where the last word of the wrong key stands first."""
    key = message.split(" ")[0].rstrip(":").split(".")[-1]
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if line.split("=")[0].strip().strip('"') == key:
            return f", line {number}"
    return ""
