"""Plans of the literature: a module for each, with a function `plan`; and plans of one's own.

To list recipes, or to refuse what is none, imports no torch.
"""

from __future__ import annotations

import ast
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
    modules = [module.name for module in pkgutil.iter_modules(__path__)]
    modules.remove("parts")
    return sorted(modules)


def sentences() -> dict[str, str]:
    """The first sentence of each recipe, read from its file."""
    return {name: _sentence(name) for name in names()}


def _sentence(name: str) -> str:
    text = (Path(__file__).parent / f"{name}.py").read_text(encoding="utf-8")
    words = ast.get_docstring(ast.parse(text)) or ""
    return " ".join(words.split("\n\n")[0].split())


def check(recipe: str) -> None:
    """ValueError when there is no such recipe, file or model; its content is not looked at."""
    if _is_model(recipe):
        return
    if Path(recipe).suffix not in (".toml", ".py"):
        _check_name(recipe)
    elif not Path(recipe).is_file():
        raise ValueError(f"{recipe}: no such file; recipes by name are {', '.join(names())}")


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
    A TOML file begins with `recipe = "blip"` and changes what it names; arguments here stand above
    it. `changes` are KEY=VALUE, such as `stages.0.batch=512`, or `over=albef` for an argument
    of the recipe itself; `init` says by which weights the towers begin; `smoke` shrinks whatever
    comes of it to seconds, for a rehearsal. ValueError names the nearest recipe or key where one is
    unknown.
    """
    check(recipe)
    if recipe in names():
        own, changes = _split_changes(recipe, changes)
        settings |= own
    if size is not None:
        settings["size"] = size
    if init:
        settings["init"] = dict(init)
    arguments = {name: value for name, value in settings.items() if value is not None}

    plain = encode(_plan(recipe, arguments))
    for text in changes:
        change(plain, *_key_and_value(text))
    plan = _decode(plain)
    if smoke:
        from training.plan import smoke as shrink

        plan = shrink(plan)
    return plan


def _plan(recipe: str, arguments: Mapping[str, Any]) -> TrainingPlan:
    if _is_model(recipe):
        return _from_model(Path(recipe), arguments)
    if recipe.endswith(".toml"):
        return _from_toml(Path(recipe), arguments)
    if recipe.endswith(".py"):
        return _from_module(Path(recipe), arguments)
    return _from_name(recipe, arguments)


def _decode(plain: Any) -> TrainingPlan:
    from training.plan import TrainingPlan

    return decode(TrainingPlan, plain)


def _key_and_value(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"{text}: a change is written KEY=VALUE, as in stages.0.batch=512")
    return key.strip(), value.strip()


def _split_changes(recipe: str, changes: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """Changes that are arguments of the recipe, and those that are made in its plan."""
    kinds = _own_arguments(recipe)
    arguments, others = {}, []
    for text in changes:
        key, value = _key_and_value(text)
        if key in kinds:
            arguments[key] = decode(kinds[key], read_value(value), key)
        else:
            others.append(text)
    return arguments, others


def _own_arguments(recipe: str) -> dict[str, Any]:
    """The arguments that not every recipe has, with their types."""
    kinds = get_type_hints(_module(recipe).plan)
    for name in ("size", "init", "seed", "return"):
        kinds.pop(name, None)
    return kinds


def _module(recipe: str) -> Any:
    _check_name(recipe)
    return importlib.import_module(f"training.recipes.{recipe}")


def _from_name(recipe: str, arguments: Mapping[str, Any]) -> TrainingPlan:
    plan: TrainingPlan = _call(_module(recipe).plan, arguments, f"the recipe {recipe}")
    known = list(dict.fromkeys(["image", "text", *plan.init]))
    for part in arguments.get("init", {}):
        if part not in known:
            hint = nearest(part, known)
            raise ValueError(f"init {part}: {recipe} begins with {', '.join(known)} alone{hint}")
    return plan


def _call(plan: Callable[..., Any], arguments: Mapping[str, Any], who: str) -> Any:
    """Call a function `plan`; ValueError for an argument that it does not take."""
    size, sizes = arguments.get("size", "base"), get_args(Size)
    if size not in sizes:
        hint = nearest(str(size), sizes)
        raise ValueError(f"size: {size!r} is not one of {', '.join(sizes)}{hint}")

    parameters = inspect.signature(plan).parameters
    takes_all = any(one.kind is one.VAR_KEYWORD for one in parameters.values())
    unknown = sorted(arguments.keys() - parameters.keys())
    if unknown and not takes_all:
        takes = ", ".join(parameters)
        raise ValueError(f"{who} has no setting {unknown[0]}: its `plan` takes {takes}")

    arguments = dict(arguments)
    for name, usual in (("size", "base"), ("init", {})):
        parameter = parameters.get(name)
        if parameter is not None and parameter.default is parameter.empty:
            arguments.setdefault(name, usual)
    return plan(**arguments)


def _from_model(folder: Path, arguments: Mapping[str, Any]) -> TrainingPlan:
    """A plan that trains a model further: its shape and its weights are there."""
    from training.finetune import finetune

    for name in ("size", "init"):
        if name in arguments:
            raise ValueError(f"{folder} is a trained model, which settles its {name}: leave it out")
    return finetune(folder, **arguments)


def _from_module(path: Path, arguments: Mapping[str, Any]) -> TrainingPlan:
    """The function `plan` of somebody's own module."""
    from training.plan import TrainingPlan

    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None, "what ends in .py is a module"
    assert spec.loader is not None, "what ends in .py is a module"
    module = importlib.util.module_from_spec(spec)
    with _naming_the_line(path):
        spec.loader.exec_module(module)
    if not callable(getattr(module, "plan", None)):
        raise ValueError(f"{path} has no function `plan`")
    with _naming_the_line(path):
        plan = _call(module.plan, arguments, str(path))
    if not isinstance(plan, TrainingPlan):
        raise ValueError(f"{path}: `plan` must return a TrainingPlan, not {type(plan).__name__}")
    return plan


@contextmanager
def _naming_the_line(path: Path) -> Iterator[None]:
    """Whatever somebody's own module raises is a ValueError that names its line."""
    try:
        yield
    except ValueError:
        raise
    except Exception as error:  # of theirs, so of any kind
        line = None
        for frame in traceback.extract_tb(error.__traceback__):
            if Path(frame.filename) == path.absolute():
                line = frame.lineno
        if isinstance(error, SyntaxError):
            line = error.lineno
        where = f"{path}, line {line}" if line else str(path)
        raise ValueError(f"{where}: {type(error).__name__}: {error}") from error


def _from_toml(path: Path, arguments: Mapping[str, Any]) -> TrainingPlan:
    table = _read(path)
    recipe = table.pop("recipe", None)
    if not isinstance(recipe, str):
        raise ValueError(f'{path}: the first line says from which recipe: recipe = "blip"')

    try:
        own = _pop_arguments(path, recipe, table, arguments)
        plain = encode(_from_name(recipe, own))
        changed = {name: value for name, value in table.items() if name not in arguments}
        _merge(plain, changed, "")
        return _decode(plain)
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


def _pop_arguments(
    path: Path, recipe: str, table: dict[str, Any], above: Mapping[str, Any]
) -> dict[str, Any]:
    """Arguments of the recipe, taken out of the file; those `above` stand above them.

    Weights are found beside the file, where it names a path from there.
    """
    kinds = {"size": str, "init": Mapping[str, str], **_own_arguments(recipe)}
    arguments = {}
    for name, kind in kinds.items():
        if name in table:
            arguments[name] = decode(kind, table.pop(name), name)

    init = {}
    for part, source in arguments.pop("init", {}).items():
        beside = path.parent / source
        init[part] = str(beside) if beside.exists() else source
    init.update(above.get("init", {}))

    arguments.update(above)
    if init:
        arguments["init"] = init
    return arguments


def _merge(plain: Any, changed: Mapping[str, Any], path: str) -> None:
    """Tables into tables; of a list of tables the first into the first, further ones behind."""
    for name, value in changed.items():
        key = f"{path}.{name}" if path else name
        if name not in plain and "kind" in plain:
            table_with(name, plain, key)[name] = value
            continue
        existing = plain.get(name)
        # what a stage reads is told as a whole, its releases are no changes of the recipe's
        if isinstance(value, Mapping) and isinstance(existing, dict) and name != "data":
            _merge(existing, value, key)
        elif _are_tables(value) and _are_tables(existing):
            for index, (old, new) in enumerate(zip(existing, value, strict=False)):
                _merge(old, new, f"{key}.{index}")
            existing += value[len(existing) :]
        else:
            plain[name] = value


def _are_tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], Mapping)


def _line_of(path: Path, message: str) -> str:
    """ ", line 3", where a key stands that the message begins with, or a value that it quotes."""
    key = message.split(" ")[0].rstrip(":").split(".")[-1]
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    for number, line in enumerate(lines, start=1):
        name = line.split("=")[0].strip()
        if name.strip("\"'") == key:
            return f", line {number}"
    for quoted in re.findall(r"'([^']+)'", message):
        word = re.compile(rf"\b{re.escape(quoted)}\b")
        for number, line in enumerate(lines, start=1):
            if word.search(line):
                return f", line {number}"
    return ""
