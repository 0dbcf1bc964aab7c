"""A TOML table as a dataclass, strictly: every mistake is named by its key.

Takes a dataclass and a table; gives an instance. Knows nothing of what the keys mean.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, TypeVar

from lib.errors import UserError

LARGEST = 2**53  # an integer that is also exact as a float
Settings = TypeVar("Settings")


def demand_small(value: Any, key: str = "") -> None:
    """Refuse huge integers, before anything else: neither a float nor a message can hold one.

    `key` is where the value stands, for the error.
    """
    if isinstance(value, Mapping):
        for name, item in value.items():
            demand_small(item, f"{key}.{name}" if key else name)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            demand_small(item, f"{key}[{index}]")
    elif isinstance(value, int) and abs(value) > LARGEST:
        raise UserError(f"{key}: must be from {-LARGEST} to {LARGEST}")


def build(cls: type[Settings], table: Any, where: str = "") -> Settings:
    """A dataclass from a table; `UserError` where a key is unknown, missing or mistyped.

    `where` is the table's own key, for the errors.
    """
    if not isinstance(table, Mapping):
        raise UserError(f"{where} = {table!r}: must be a table")
    known = typing.get_type_hints(cls)
    hints = {field.name: known[field.name] for field in fields(cls)}  # no class variable
    prefix = f"{where}." if where else ""
    for key in table:
        if key not in hints:
            raise UserError(f"{prefix}{key}: no such key; choose from {', '.join(hints)}")
    values = {}
    for field in fields(cls):
        key = f"{prefix}{field.name}"
        if field.name in table:
            values[field.name] = _value(hints[field.name], table[field.name], key)
        elif field.default is MISSING and field.default_factory is MISSING:
            raise UserError(f"{key}: missing")
    try:
        return cls(**values)
    except UserError as error:
        raise UserError(f"{prefix}{error}") from error


def _value(hint: Any, value: Any, key: str) -> Any:
    if is_dataclass(hint):
        return build(hint, value, key)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is types.UnionType:  # `Table | None`: a section that a profile may leave out
        return _value(arguments[0], value, key)
    if origin is tuple and isinstance(value, list):
        return tuple(_value(arguments[0], item, f"{key}[{i}]") for i, item in enumerate(value))
    if origin is dict and isinstance(value, Mapping):
        return {name: _value(arguments[1], item, f"{key}.{name}") for name, item in value.items()}
    if hint is Any:
        return value
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is hint:
        return value
    wanted = hint.__name__ if isinstance(hint, type) and origin is None else str(hint)
    if isinstance(hint, types.GenericAlias):
        wanted = "a list" if origin is tuple else "a table"
    raise UserError(f"{key} = {value!r}: must be {wanted}")
