"""winnow.toml: what to collect, curate and pretrain, and when; one table for each, validated on
load.
"""

import difflib
import json
import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from filters.given_models import Given
from filters.recipe.recipe import load
from filters.registry import check_given
from flows.deployments.schedule import check_schedule
from pipelines.collect.config import PATHS, CollectConfig
from pipelines.engine.stage import LOCAL, MANIFEST, Engine
from pipelines.releases.publish import CurateConfig
from pipelines.store import Folder
from training.recipes import Size
from training.recipes import names as training_recipes

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class EngineTable(_Table):
    """[engine]: what runs every stage (`local`, or a runner of Beam, with its options), and in how
    many processes of this machine.
    """

    runner: str = LOCAL
    options: tuple[str, ...] = ()
    workers: int = Field(default=1, ge=1)

    def engine(self) -> Engine:
        return Engine(runner=self.runner, options=self.options, workers=self.workers)


class _Scheduled(BaseModel):
    schedule: str | None = None

    @field_validator("schedule")
    @classmethod
    def _cron(cls, value: str | None) -> str | None:
        if value is not None:
            check_schedule(value)
        return value


class CollectTable(CollectConfig, _Scheduled):
    """[[collect]]: a source. Its collection is called `name`; with a schedule, each run brings
    `name`-<time>.
    """

    name: str = Field(pattern=NAME)

    def config(self) -> CollectConfig:
        return CollectConfig.model_validate(
            self.model_dump(include=set(CollectConfig.model_fields))
        )


class CurateTable(CurateConfig, _Scheduled):
    """[[curate]]: a recipe over collections, named as in [[collect]]. Its release is `release`;
    with a schedule, `release`-<time>.
    """

    def config(self) -> CurateConfig:
        return CurateConfig.model_validate(self.model_dump(include=set(CurateConfig.model_fields)))


class PretrainTable(_Table):
    """[[pretrain]]: a training recipe over releases. `releases` maps the names that the recipe's
    stages use to releases.
    """

    name: str = Field(pattern=NAME)
    recipe: str  # a name, or the path of a .toml or .py file
    releases: dict[str, str] = Field(min_length=1)
    out: str = ""  # folder of the run; "": models/<name> under the root
    size: Size | None = None
    init: dict[str, str] = Field(default_factory=dict)
    set: tuple[str, ...] = ()  # changes of the plan: KEY=VALUE, or a table
    seed: int | None = None
    smoke: bool = False

    @field_validator("set", mode="before")
    @classmethod
    def _changes(cls, value: Any) -> Any:
        if isinstance(value, dict):
            return tuple(f"{key}={json.dumps(one)}" for key, one in _leaves(value))
        return tuple(value) if isinstance(value, list) else value

    def settings(self) -> dict[str, Any]:
        """What `training.recipes.load` is asked for beside the recipe."""
        return {
            "size": self.size,
            "init": self.init,
            "changes": self.set,
            "seed": self.seed,
            "smoke": self.smoke,
        }


def _leaves(table: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """The values of a table in tables, each with its keys, as in stages.0.batch."""
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{above}{key}.")
        else:
            yield above + key, value


class Configuration(_Table):
    """A whole plan. Relative paths in the file are relative to its folder."""

    root: str = "data"
    engine: EngineTable = EngineTable()
    collect: tuple[CollectTable, ...] = ()
    curate: tuple[CurateTable, ...] = ()
    pretrain: tuple[PretrainTable, ...] = ()


def read_configuration(path: Path) -> Configuration:
    """A plan from its file.

    Raises ValueError naming the file, the line and a remedy: no such file, not TOML, an unknown key
    (with the nearest valid one), a value of the wrong kind, a schedule that is no cron expression
    or never comes, a reference to something that is not there, or nothing at all.
    """
    if not path.is_file():
        raise ValueError(f"there is no plan {path}: give the path of a TOML file")
    source = _text(path)
    try:
        table = tomllib.loads(source)
    except RecursionError:
        raise ValueError(f"{path} is not TOML that can be read: it is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"{path} is not TOML: {error}") from error
    try:
        # by way of JSON, where what is not quite a number or a list is an error
        found = Configuration.model_validate_json(json.dumps(table, default=str), strict=True)
    except ValidationError as error:
        raise ValueError(_explain(error, path, source)) from error
    if not (found.collect or found.curate or found.pretrain):
        raise ValueError(
            f"{path} has no [[collect]], [[curate]] or [[pretrain]] table: there is nothing to do"
        )
    plan = _anchored(found, path.resolve().parent)
    for place, complaint in _complaints(plan):
        raise ValueError(f"{_where(path, source, place)}: {complaint}")
    return plan


def _text(path: Path) -> str:
    """What a file says, which is UTF-8 in TOML; editors on Windows put a mark before it."""
    data = path.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{path}, line {line}: TOML is UTF-8, and this is another encoding: save the file as"
            " UTF-8"
        ) from None


Place = tuple[str | int, ...]
_KINDS = {
    "tuple_type": 'this is a list: {key} = ["…"]',
    "dict_type": "this is a table: {key} = {{ … }}",
    "model_type": "this is a table: [{key}]",
    "model_attributes_type": "this is a table: [{key}]",
}


def _explain(error: ValidationError, path: Path, source: str) -> str:
    """The first complaint of pydantic in one sentence."""
    first = error.errors()[0]
    place: Place = first["loc"]
    key = str(place[-1]) if place else ""
    if first["type"] == "extra_forbidden":
        said = f"there is no key {key!r}{_nearest(key, _keys(place))}"
    elif first["type"] == "missing":
        said = f"{key!r} is missing"
    elif first["type"] == "value_error":
        said = str(first["ctx"]["error"])
    elif place[0] in ("collect", "curate", "pretrain") and len(place) <= 2:
        said = f"{place[0]} is a list of tables: begin each with [[{place[0]}]]"
    else:
        said = f"{key}: {_KINDS.get(first['type'], first['msg']).format(key=key)}"
    return f"{_where(path, source, place)}: {said}"


def _keys(place: Place) -> Iterable[str]:
    """The keys that are valid where an unknown one stands."""
    tables: dict[str, type[BaseModel]] = {
        "engine": EngineTable,
        "collect": CollectTable,
        "curate": CurateTable,
        "pretrain": PretrainTable,
    }
    if "given" in place:
        return Given.model_fields
    return tables[str(place[0])].model_fields if len(place) > 1 else Configuration.model_fields


def _nearest(name: str, valid: Iterable[str]) -> str:
    choices = sorted(valid)
    close = difflib.get_close_matches(name, choices, n=1, cutoff=0.5)
    return (
        f"; did you mean {close[0]!r}?" if close else f"; there are: {', '.join(choices) or 'none'}"
    )


def _where(path: Path, source: str, place: Place) -> str:
    line = _line(source, place)
    return f"{path}, line {line}" if line else str(path)


def _line(source: str, place: Place) -> int:
    """The line (from 1) of a key in its table, else of the table's header; 0 where neither is
    written in the usual form.
    """
    table = str(place[0]) if place and (len(place) > 1 or f"[{place[0]}]" in source) else ""
    nth = place[1] if len(place) > 1 and isinstance(place[1], int) else 0
    key = next((str(part) for part in reversed(place) if isinstance(part, str)), "")
    current, index, header = "", 0, 0
    seen: dict[str, int] = {}
    for number, line in enumerate(source.splitlines(), 1):
        if opened := re.match(r"\s*\[{1,2}\s*([\w-]+)[^\]]*\]", line):
            current = opened.group(1)
            if line.lstrip().startswith("[["):
                seen[current] = seen.get(current, -1) + 1
            index = seen.get(current, 0)
            header = number if (current, index) == (table, nth) and not header else header
        elif (current, index) == (table, nth) and re.match(
            rf"""\s*["']?{re.escape(key)}["']?\s*[=.]""", line
        ):
            return number
    return header or _only(source, key)


def _only(source: str, key: str) -> int:
    """The line of a key that stands once in a file, in whatever form; else 0."""
    named = [
        number
        for number, line in enumerate(source.splitlines(), 1)
        if re.search(rf"\b{re.escape(key)}\b\s*=", line)
    ]
    return named[0] if len(named) == 1 else 0


def _complaints(plan: Configuration) -> Iterator[tuple[Place, str]]:
    """What is wrong between the tables, each with its place."""
    root = Folder(plan.root)
    sources = [entry.name for entry in plan.collect]
    releases = [entry.release for entry in plan.curate]
    yield from _twice("collect", "name", sources)
    yield from _twice("curate", "release", releases)
    yield from _twice("pretrain", "name", [entry.name for entry in plan.pretrain])
    yield from _one_folder(plan.pretrain)
    for index, curated in enumerate(plan.curate):
        for name in _absent(root / "collections", curated.collections, sources):
            yield ("curate", index, "collections"), _nowhere("collection", name, root, sources)
        if complaint := _unknown_recipe(curated.recipe):
            yield ("curate", index, "recipe"), complaint
        elif complaint := _lacking(curated):
            yield ("curate", index, "without" if curated.without else "recipe"), complaint
    for index, trained in enumerate(plan.pretrain):
        for name in _absent(root / "releases", trained.releases.values(), releases):
            yield ("pretrain", index, "releases"), _nowhere("release", name, root, releases)
        if complaint := _unknown_training(trained.recipe):
            yield ("pretrain", index, "recipe"), complaint


def _absent(folder: Folder, names: Iterable[str], planned: Sequence[str]) -> list[str]:
    return [name for name in names if name not in planned and not (folder / name).exists(MANIFEST)]


def _nowhere(kind: str, name: str, root: Folder, planned: Sequence[str]) -> str:
    return (
        f"there is no {kind} {name!r}, neither in this plan nor in"
        f" {root.path()}{_nearest(name, planned)}"
    )


def _twice(table: str, key: str, names: Sequence[str]) -> Iterator[tuple[Place, str]]:
    for index, name in enumerate(names):
        if name in names[:index]:
            yield (
                (
                    table,
                    index,
                    key,
                ),
                f"{key} {name!r} is taken by an earlier [[{table}]]: names must differ",
            )


def _one_folder(trainings: Sequence[PretrainTable]) -> Iterator[tuple[Place, str]]:
    """Two trainings in one folder would go on with each other's checkpoints."""
    taken: dict[str, str] = {}
    for index, entry in enumerate(trainings):
        folder = entry.out if "://" in entry.out else os.path.realpath(entry.out)
        if folder in taken:
            said = (
                f"out {entry.out!r} is the folder of [[pretrain]] {taken[folder]!r} already: each"
                " training needs its own"
            )
            yield ("pretrain", index, "out"), said
        taken.setdefault(folder, entry.name)


def _unknown_recipe(recipe: str) -> str | None:
    try:
        load(recipe)
    except ValueError as error:
        return str(error)
    return None


def _unknown_training(recipe: str) -> str | None:
    if recipe.endswith((".toml", ".py")):
        return None if Path(recipe).is_file() else f"there is no file {recipe}"
    known = training_recipes()
    return (
        None
        if recipe in known
        else f"there is no training recipe {recipe!r}{_nearest(recipe, known)}"
    )


def _lacking(curated: CurateTable) -> str | None:
    """What its recipe needs and was not given, or what it is to do without and does not read."""
    try:
        recipe = load(curated.recipe).without(curated.without)
        check_given(recipe.needs, curated.given, curated.without)
    except ValueError as error:
        return str(error)
    return None


def _anchored(plan: Configuration, folder: Path) -> Configuration:
    """The plan with every relative path made absolute."""

    def at(path: str) -> str:
        return path if "://" in path else str(folder / os.path.expanduser(path))

    def anchored(value: str | tuple[str, ...] | None) -> str | tuple[str, ...] | None:
        return tuple(map(at, value)) if isinstance(value, tuple) else value and at(value)

    collect = tuple(
        entry.model_copy(update={name: anchored(getattr(entry, name)) for name in PATHS})
        for entry in plan.collect
    )

    def there(value: Any) -> Any:
        """A model or list by its path where it is one; names of a hub stay."""
        if isinstance(value, tuple):
            return tuple(map(there, value))
        return (
            at(value)
            if isinstance(value, str) and (folder / os.path.expanduser(value)).exists()
            else value
        )

    def of_curate(entry: CurateTable) -> CurateTable:
        recipe = at(entry.recipe) if entry.recipe.endswith(".toml") else entry.recipe
        given = {name: there(value) for name, value in entry.given if value}
        return entry.model_copy(update={"recipe": recipe, "given": Given(**given)})

    curate = tuple(map(of_curate, plan.curate))
    root = at(plan.root)

    def of_pretrain(entry: PretrainTable) -> PretrainTable:
        recipe = at(entry.recipe) if entry.recipe.endswith((".toml", ".py")) else entry.recipe
        init = {module: there(source) for module, source in entry.init.items()}
        out = at(entry.out) if entry.out else f"{root}/models/{entry.name}"
        return entry.model_copy(update={"recipe": recipe, "init": init, "out": out})

    pretrain = tuple(map(of_pretrain, plan.pretrain))
    return plan.model_copy(
        update={"root": root, "collect": collect, "curate": curate, "pretrain": pretrain}
    )
