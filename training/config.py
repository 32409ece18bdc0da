"""Frozen dataclasses to plain values and back: how plans and models are written.

A dataclass becomes a table of its fields; `kind` names its class where several could stand. Errors
are ValueErrors with the path of the value and the nearest valid key.
"""

from __future__ import annotations

import difflib
import json
import math
import types
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import Enum
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

T = TypeVar("T")
Plain = Any  # what JSON and TOML can represent


def encode(value: object) -> Plain:
    """Plain values; a dataclass says its kind."""
    if is_dataclass(value) and not isinstance(value, type):
        table: dict[str, Plain] = {"kind": type(value).__name__}
        for field in fields(value):
            table[field.name] = encode(getattr(value, field.name))
        return table
    if isinstance(value, Mapping):
        return {str(key): encode(item) for key, item in value.items()}
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, list | tuple):
        return [encode(item) for item in value]
    return value


def decode(kind: type[T], value: Plain, path: str = "") -> T:
    """The value as `kind`, every field checked."""
    return cast(T, _decode(kind, value, path))


def _decode(kind: Any, value: Plain, path: str) -> Any:
    origin = get_origin(kind)
    arguments = get_args(kind)

    if origin in (Union, types.UnionType):
        return _union(arguments, value, path)
    if origin is Literal:
        return _literal(arguments, value, path)
    if origin is tuple:
        return _tuple(arguments, value, path)
    if origin in (Mapping, dict):
        return _mapping(arguments[1], value, path)

    if is_dataclass(kind):
        return _dataclass(kind, value, path)
    if isinstance(kind, type) and issubclass(kind, Enum):
        name = _literal(tuple(kind.__members__), value, path)
        return kind[name]
    return _scalar(kind, value, path)


def _union(kinds: tuple[type, ...], value: Plain, path: str) -> Any:
    if value is None and types.NoneType in kinds:
        return None
    kinds = tuple(kind for kind in kinds if kind is not types.NoneType)
    if len(kinds) == 1:
        return _decode(kinds[0], value, path)

    classes = {kind.__name__: kind for kind in kinds if is_dataclass(kind)}
    if classes and isinstance(value, Mapping):
        name = value.get("kind")
        if name not in classes:
            known = ", ".join(classes)
            hint = nearest(str(name), classes)
            where = _join(path, "kind")
            raise ValueError(f"{where}: one of {known} is wanted, not {name!r}{hint}")
        return _decode(classes[name], value, path)

    for kind in kinds:
        if isinstance(value, kind):
            return value
    raise ValueError(f"{path}: {value!r} is of none of the wanted kinds")


def _literal(choices: tuple[Any, ...], value: Plain, path: str) -> Any:
    if isinstance(value, Enum):
        value = value.name
    if value not in choices:
        known = ", ".join(map(str, choices))
        hint = nearest(str(value), choices)
        raise ValueError(f"{path}: {value!r} is not one of {known}{hint}")
    return value


def _tuple(kinds: tuple[Any, ...], value: Plain, path: str) -> Any:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise ValueError(f"{path}: a list is wanted, not {value!r}")
    if kinds[1:] == (Ellipsis,):
        kinds = kinds[:1] * len(value)
    if len(kinds) != len(value):
        raise ValueError(f"{path}: {len(kinds)} values are wanted, not {len(value)}")

    items = []
    for index, kind in enumerate(kinds):
        items.append(_decode(kind, value[index], _join(path, str(index))))
    return tuple(items)


def _mapping(kind: Any, value: Plain, path: str) -> dict[str, Any]:
    table = {}
    for name, item in _table(value, path).items():
        table[name] = _decode(kind, item, _join(path, name))
    return table


def _table(value: Plain, path: str) -> Mapping[str, Plain]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{path or 'value'}: a table is wanted, not {value!r}")
    return value


def _dataclass(kind: Any, value: Plain, path: str) -> Any:
    if isinstance(value, kind):
        return value
    table = dict(_table(value, path))
    name = table.pop("kind", kind.__name__)
    if name != kind.__name__:
        raise ValueError(f"{path or 'value'}: a {kind.__name__} is wanted, not a {name}")

    kinds = get_type_hints(kind)
    for name in table:
        if name not in kinds:
            raise ValueError(f"{_join(path, name)} is not known{nearest(name, kinds)}")
    for name, item in table.items():
        table[name] = _decode(kinds[name], item, _join(path, name))

    required = [field.name for field in fields(kind) if _is_required(field)]
    missing = [name for name in required if name not in table]
    if missing:
        raise ValueError(f"{path or kind.__name__} lacks {', '.join(missing)}")
    try:
        return kind(**table)
    except ValueError as error:
        raise ValueError(f"{path}: {error}" if path else str(error)) from error


def _is_required(field: Field[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _scalar(kind: Any, value: Plain, path: str) -> Any:
    is_bool = isinstance(value, bool)
    if kind is float and isinstance(value, int) and not is_bool:
        return float(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{path}: {value} is not a number to train with")
    if kind is Any:
        return value
    if isinstance(value, kind) and is_bool == (kind is bool):  # to Python a bool is an int
        return value
    raise ValueError(f"{path}: {value!r} is not of type {kind.__name__}")


def within(low: float, high: float, /, **numbers: float) -> None:
    """ValueError that names the first number outside `low`..`high`."""
    for name, number in numbers.items():
        if not low <= number <= high:
            raise ValueError(f"{name} is {number:,}: it must be in {low:,}..{high:,}")


def change(table: Plain, key: str, text: str) -> None:
    """Set a key such as `stages.0.batch` in plain values; the text is JSON, or else a string.

    Only existing keys can be set, except in mappings, whose keys the decoder checks. The name of a
    table may be left out where one alone has such a key: stages.0.lr is the optimizer's.
    """
    *names, last = key.split(".")
    path = ""
    for name in names:
        table = table[_existing(table, name, path)]
        path = _join(path, name)

    if isinstance(table, dict):
        if "kind" in table and last not in table:
            table = table_with(last, table, key)
        table[last] = read_value(text)
        return
    table[_existing(table, last, path)] = read_value(text)


def _existing(parent: Plain, name: str, path: str) -> str | int:
    """The key of a table, or the index into a list, that `name` means."""
    if isinstance(parent, list):
        return _index(parent, name, path)
    if not isinstance(parent, dict):
        raise ValueError(f"{path} is {parent!r}, and has nothing called {name}")
    if name not in parent:
        raise ValueError(f"{_join(path, name)} is not known{nearest(name, parent)}")
    return name


def table_with(name: str, table: dict[str, Plain], key: str) -> dict[str, Plain]:
    """The table right below that has such a key; ValueError unless one alone has it."""
    known = list(table)
    holders: dict[str, dict[str, Plain]] = {}
    for field, value in table.items():
        if isinstance(value, dict) and "kind" in value:
            known += value
            if name in value:
                holders[field] = value

    if len(holders) == 1:
        (holder,) = holders.values()
        return holder
    if holders:
        choices = " or ".join(f"{field}.{name}" for field in holders)
        raise ValueError(f"{key} is not known: say whether you mean {choices}")
    raise ValueError(f"{key} is not known{nearest(name, known)}")


def _index(items: list[Plain], name: str, path: str) -> int:
    """By the name of a stage, or by number."""
    for index, item in enumerate(items):
        if isinstance(item, dict) and item.get("name") == name:
            return index
    if name.isdecimal() and int(name) < len(items):
        return int(name)
    raise ValueError(f"{_join(path, name)}: there are {len(items)}, counted from 0")


def read_value(text: str) -> Plain:
    """A value on a command line: JSON where it parses as JSON, else the text itself."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def differences(there: Plain, here: Plain, path: str = "") -> list[str]:
    """How two plain values differ: "stages.0.steps is 6 there and 7 here"."""
    found: list[str] = []
    if isinstance(there, dict) and isinstance(here, dict):
        for key in there | here:
            found += differences(there.get(key), here.get(key), _join(path, key))
        return found
    if isinstance(there, list) and isinstance(here, list) and len(there) == len(here):
        for index, pair in enumerate(zip(there, here, strict=True)):
            found += differences(*pair, _join(path, str(index)))
        return found
    if there == here:
        return []
    return [f"{path} is {json.dumps(there):.60} there and {json.dumps(here):.60} here"]


def nearest(name: str, known: Iterable[object]) -> str:
    """ "; did you mean NAME?", or nothing when no known name is close to it."""
    names = [str(item) for item in known]
    matches = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean {matches[0]}?" if matches else ""


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
