"""Frozen dataclasses to plain values and back: what plans and models are written as.

A dataclass is a table of its fields; where several kinds could stand, `kind` names the one.
Whatever is wrong is a ValueError that says where, and names the nearest key that is right.
"""

from __future__ import annotations

import difflib
import json
import math
import types
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import Enum
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

T = TypeVar("T")
Plain = Any  # what JSON and TOML can say


def encode(value: object) -> Plain:
    """As plain values; a dataclass says its kind."""
    if is_dataclass(value) and not isinstance(value, type):
        table = {field.name: encode(getattr(value, field.name)) for field in fields(value)}
        return {"kind": type(value).__name__, **table}
    if isinstance(value, Mapping):
        return {str(key): encode(item) for key, item in value.items()}
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, list | tuple):
        return [encode(item) for item in value]
    return value


def decode(kind: type[T], value: Plain, where: str = "") -> T:
    """The value as `kind`, every field checked."""
    return cast(T, _decode(kind, value, where))


def _decode(kind: Any, value: Plain, where: str) -> Any:
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        return _one_of(get_args(kind), value, where)
    if origin is Literal:
        return _literal(get_args(kind), value, where)
    if origin is tuple:
        return _tuple(get_args(kind), value, where)
    if origin is not None and issubclass(origin, Mapping):
        inner = get_args(kind)[1]
        table = _table(value, where)
        return {name: _decode(inner, item, _at(where, name)) for name, item in table.items()}
    if is_dataclass(kind):
        return _dataclass(kind, value, where)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind[_literal(tuple(kind.__members__), value, where)]
    return _plain(kind, value, where)


def _dataclass(kind: Any, value: Plain, where: str) -> Any:
    if isinstance(value, kind):
        return value
    table = dict(_table(value, where))
    said = table.pop("kind", kind.__name__)
    if said != kind.__name__:
        raise ValueError(f"{where or 'value'}: a {kind.__name__} is wanted, not a {said}")

    known = {field.name: field for field in fields(kind)}
    for name in table:
        if name not in known:
            raise ValueError(f"{_at(where, name)} is not known{nearest(name, known)}")

    hints = get_type_hints(kind)
    given = {name: _decode(hints[name], item, _at(where, name)) for name, item in table.items()}
    missing = [name for name, field in known.items() if name not in given and _needed(field)]
    if missing:
        raise ValueError(f"{where or kind.__name__} lacks {', '.join(missing)}")
    try:
        return kind(**given)
    except ValueError as error:
        raise ValueError(f"{where}: {error}" if where else str(error)) from error


def _needed(field: Field[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _one_of(kinds: tuple[Any, ...], value: Plain, where: str) -> Any:
    if value is None and type(None) in kinds:
        return None
    kinds = tuple(kind for kind in kinds if kind is not type(None))
    if len(kinds) == 1:
        return _decode(kinds[0], value, where)

    tables: dict[str, Any] = {kind.__name__: kind for kind in kinds if _is_table(kind)}
    if isinstance(value, tuple(tables.values())):
        return value
    if isinstance(value, Mapping) and tables:
        said = value.get("kind")
        if said not in tables:
            hint = nearest(str(said), tables)
            known = ", ".join(tables)
            raise ValueError(f"{_at(where, 'kind')}: one of {known} is wanted, not {said!r}{hint}")
        return _decode(tables[said], value, where)

    for kind in kinds:
        if not _is_table(kind) and isinstance(value, kind):
            return value
    raise ValueError(f"{where}: {value!r} is of none of the wanted kinds")


def _is_table(kind: Any) -> bool:
    return is_dataclass(kind)


def _literal(choices: tuple[Any, ...], value: Plain, where: str) -> Any:
    if isinstance(value, Enum):
        value = value.name
    if value not in choices:
        known = ", ".join(map(str, choices))
        raise ValueError(f"{where}: {value!r} is not one of {known}{nearest(str(value), choices)}")
    return value


def _tuple(kinds: tuple[Any, ...], value: Plain, where: str) -> Any:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise ValueError(f"{where}: a list is wanted, not {value!r}")
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        kinds = (kinds[0],) * len(value)
    if len(kinds) != len(value):
        raise ValueError(f"{where}: {len(kinds)} values are wanted, not {len(value)}")
    pairs = enumerate(zip(kinds, value, strict=True))
    return tuple(_decode(kind, item, _at(where, str(place))) for place, (kind, item) in pairs)


def _table(value: Plain, where: str) -> Mapping[str, Plain]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{where or 'value'}: a table is wanted, not {value!r}")
    return value


def _plain(kind: Any, value: Plain, where: str) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{where}: {value} is not a number to train with")
    if kind is Any or (isinstance(value, kind) and (kind is bool or not isinstance(value, bool))):
        return value
    raise ValueError(f"{where}: {value!r} is not of type {kind.__name__}")


def within(low: float, high: float, /, **numbers: float) -> None:
    """ValueError that names the first number which is not in `low`..`high`."""
    for name, number in numbers.items():
        if not low <= number <= high:
            raise ValueError(f"{name} is {number:,}: it must be in {low:,}..{high:,}")


def change(table: Plain, key: str, text: str) -> None:
    """Set `stages.0.batch` and the like, in plain values; the text is JSON, or else a string.

    Only what is there can be set, but for the keys of mappings, which the decoder checks. The name
    of a table may be left out where one alone has such a key: stages.0.lr is the optimizer's.
    """
    *path, last = key.split(".")
    at, where = table, ""
    for name in path:
        at, where = _inside(at, name, where), _at(where, name)

    value = read_value(text)
    if isinstance(at, list):
        at[_index(at, last, where)] = value
    elif isinstance(at, dict):
        if "kind" in at and last not in at:
            at = table_with(last, at, key)
        at[last] = value
    else:
        raise ValueError(f"{where} is {at!r}, and has nothing called {last}")


def table_with(name: str, at: dict[str, Plain], key: str) -> dict[str, Plain]:
    """The table right below that has such a key; ValueError unless one alone has it."""
    tables = {
        field: value for field, value in at.items() if isinstance(value, dict) and "kind" in value
    }
    holders = [field for field, value in tables.items() if name in value]
    if len(holders) == 1:
        return tables[holders[0]]
    if holders:
        several = " or ".join(f"{field}.{name}" for field in holders)
        raise ValueError(f"{key} is not known: say whether you mean {several}")
    below = [inner for value in tables.values() for inner in value]
    raise ValueError(f"{key} is not known{nearest(name, [*at, *below])}")


def _inside(at: Plain, name: str, where: str) -> Plain:
    if isinstance(at, list):
        return at[_index(at, name, where)]
    if isinstance(at, dict):
        if name not in at:
            raise ValueError(f"{_at(where, name)} is not known{nearest(name, at)}")
        return at[name]
    raise ValueError(f"{where} is {at!r}, and has nothing called {name}")


def _index(at: list[Plain], name: str, where: str) -> int:
    named = [
        place
        for place, item in enumerate(at)
        if isinstance(item, dict) and item.get("name") == name
    ]
    if named:
        return named[0]
    if name.isdecimal() and int(name) < len(at):
        return int(name)
    raise ValueError(f"{_at(where, name)}: there are {len(at)}, counted from 0")


def read_value(text: str) -> Plain:
    """What a value on a command line means: JSON where it is some, else the text itself."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def differences(there: Plain, here: Plain, where: str = "") -> list[str]:
    """What differs between two plain values: "stages.0.steps is 6 there and 7 here"."""
    found: list[str] = []
    if isinstance(there, dict) and isinstance(here, dict):
        for key in {**there, **here}:
            found += differences(there.get(key), here.get(key), _at(where, key))
    elif isinstance(there, list) and isinstance(here, list) and len(there) == len(here):
        for place, pair in enumerate(zip(there, here, strict=True)):
            found += differences(*pair, _at(where, str(place)))
    elif there != here:
        found.append(f"{where} is {json.dumps(there):.60} there and {json.dumps(here):.60} here")
    return found


def nearest(name: str, known: object) -> str:
    """ "; did you mean NAME?", or nothing when no known name is like it."""
    names = [str(item) for item in known] if isinstance(known, Mapping | Sequence) else []
    near = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _at(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name
