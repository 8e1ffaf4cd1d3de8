"""Frozen dataclasses from parsed JSON with every key and type proved; nothing is ignored, filled in or converted."""

import math
from collections.abc import Collection, Mapping
from dataclasses import fields, is_dataclass
from enum import StrEnum
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from volar.core.errors import ConfigError, unknown_name

T = TypeVar("T")


def from_plain(cls: type[T], content: Any, *, where: str, omit: Collection[str] = (), newer: Collection[str] = ()) -> T:
    """An instance of the dataclass `cls`. Raises ConfigError that begins with `where` and names the key.

    omit: fields that JSON does not carry; they keep their defaults, as do `newer` ones that older files lack. Every
    other field must be present.
    """
    assert is_dataclass(cls)
    if not isinstance(content, Mapping):
        raise ConfigError(f"{where}: expected an object with named values, got {content!r}.")
    names = [field.name for field in fields(cls) if field.name not in omit]
    for key in content:
        if key not in names:
            raise ConfigError(f"{where}: {unknown_name('key', str(key), names)}")
    if missing := [name for name in names if name not in content and name not in newer]:
        raise ConfigError(f"{where}: missing {', '.join(map(repr, missing))}.")
    hints = _hints(cls)
    return cls(**{name: _value(hints[name], content[name], f"{where}, {name!r}") for name in names if name in content})


@cache
def _hints(cls: type) -> dict[str, Any]:
    """Once per class: a record file is thousands of one kind."""
    return get_type_hints(cls)


def _value(expected: Any, value: Any, where: str) -> Any:
    if expected is Any:
        return value
    origin, arguments = get_origin(expected), get_args(expected)
    if origin in (Union, UnionType):
        if value is None and NoneType in arguments:
            return None
        (expected,) = (member for member in arguments if member is not NoneType)  # only "X | None" is supported
        return _value(expected, value, where)
    if origin is tuple:
        if not isinstance(value, list):
            raise ConfigError(f"{where}: expected a list, got {value!r}.")
        if arguments[0] in (int, float) and _is_plain(arguments[0], value):
            return tuple(value)
        return tuple(_value(arguments[0], member, f"{where}[{i}]") for i, member in enumerate(value))
    if origin is Literal:
        if value not in arguments:
            raise ConfigError(f"{where}: {unknown_name('value', str(value), map(str, arguments))}")
        return value
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where}: expected an object, got {value!r}.")
        return {key: _value(arguments[1], member, f"{where}, {key!r}") for key, member in value.items()}
    if is_dataclass(expected):
        return from_plain(expected, value, where=where)  # type: ignore[arg-type]
    return _scalar(expected, value, where)


def _is_plain(kind: type, values: list[Any]) -> bool:
    """Whether nothing has to be converted or refused; records hold long lists of numbers."""
    return all(type(value) is kind for value in values) and all(map(math.isfinite, values))


def _scalar(expected: type, value: Any, where: str) -> Any:
    if issubclass(expected, StrEnum):
        if value not in list(expected):
            raise ConfigError(f"{where}: {unknown_name('value', str(value), map(str, expected))}")
        return expected(value)
    accepted = (int, float) if expected is float else (expected,)
    if not isinstance(value, accepted) or (isinstance(value, bool) and expected is not bool):
        words = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
        raise ConfigError(f"{where}: expected {words[expected]}, got {value!r}.")
    if expected is float and not math.isfinite(value):
        raise ConfigError(f"{where}: expected a finite number, got {value}.")
    return expected(value)
