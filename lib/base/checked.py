"""Checked dataclasses: pydantic's, where a bad value is a `UserError` of one line.

Takes annotated fields, and tables as TOML or JSON hold them; gives frozen dataclasses, or the line
that names the key, its value, and what would be right. Knows nothing of any particular setting.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import fields
from typing import Annotated, Any, TypeVar, dataclass_transform

from pydantic import (
    AfterValidator,
    ConfigDict,
    StrictFloat,
    StrictInt,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic.dataclasses import dataclass
from pydantic_core import ArgsKwargs

from lib.base.errors import UserError

Class = TypeVar("Class")
Kind = TypeVar("Kind")

#: What pydantic's names of a wrong type mean in a TOML file.
RIGHT = {
    "int_type": "must be int",
    "float_type": "must be float",
    "bool_type": "must be bool",
    "string_type": "must be str",
    "tuple_type": "must be a list",
    "dict_type": "must be a table",
    "dataclass_type": "must be a table",
}


class Mistake(ValueError):
    """What a check of several keys found; its text names the key, as `heads = 3: must be even`."""


def demand(key: str, value: Any, holds: object, right: str) -> None:
    """Raise the `Mistake` of a key whose value does not go with others."""
    if not holds:
        raise Mistake(f"{key} = {value!r}: must be {right}")


def rule(holds: Callable[[Any], object], right: str) -> AfterValidator:
    """A constraint of one value, for `Annotated`; where it does not hold, `right` is the error."""

    def check(value: Any) -> Any:
        if not holds(value):
            raise ValueError(right)
        return value

    return AfterValidator(check)


def at_least(bound: float, each: str = "") -> AfterValidator:
    """At least `bound`, and finite. `each` is " each" where the value is a list's item."""
    return rule(lambda value: bound <= value < math.inf, f"must be at least {bound}{each}")


def above(bound: float, each: str = "") -> AfterValidator:
    """More than `bound`, and finite."""
    return rule(lambda value: bound < value < math.inf, f"must be more than {bound}{each}")


def between(low: float, high: float) -> AfterValidator:
    """From `low` to `high`, both included."""
    return rule(lambda value: low <= value <= high, f"must be from {low} to {high}")


def one_of(names: Collection[str], right: str = "") -> AfterValidator:
    """One of these names."""
    return rule(lambda value: value in names, right or f"choose one of {', '.join(names)}")


NOT_EMPTY = rule(len, "must not be empty")
#: Numbers are strict: no text, no bool, and no float where an int is wanted; an int is a float.
Count = Annotated[StrictInt, at_least(1)]
Natural = Annotated[StrictInt, at_least(0)]
Positive = Annotated[StrictFloat, above(0)]
NotNegative = Annotated[StrictFloat, at_least(0)]
TwoOrMore = Annotated[StrictInt, at_least(2)]
Share = Annotated[StrictFloat, rule(lambda v: 0 < v <= 1, "must be more than 0 and at most 1")]
Counts = Annotated[tuple[Annotated[StrictInt, at_least(1, " each")], ...], NOT_EMPTY]
Naturals = Annotated[tuple[Annotated[StrictInt, at_least(0, " each")], ...], NOT_EMPTY]
Positives = Annotated[tuple[Annotated[StrictFloat, above(0, " each")], ...], NOT_EMPTY]
Names = Annotated[tuple[str, ...], NOT_EMPTY]


@dataclass_transform(frozen_default=True)
def checked(cls: type[Class]) -> type[Class]:
    """Make a class a frozen dataclass whose values are checked; `UserError` where one is wrong."""
    cls._known_keys = model_validator(mode="before")(classmethod(_known_keys))
    made = dataclass(cls, frozen=True, config=ConfigDict(extra="forbid"))
    validate, signature = made.__init__, inspect.signature(made)

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        given = signature.bind(*args, **kwargs).arguments  # by name, as errors shall have them
        try:
            validate(self, **given)
        except ValidationError as error:
            raise UserError(one_line(error)) from error

    made.__init__ = __init__
    return made


def _known_keys(cls: type, table: Any) -> Any:
    known = [field.name for field in fields(cls)]
    given = table.kwargs if isinstance(table, ArgsKwargs) else table
    for key in given if isinstance(given, Mapping) else ():
        if key not in known:
            raise Mistake(f"{key}: no such key; choose from {', '.join(known)}")
    return table


def build(kind: type[Kind], table: Any, where: str = "") -> Kind:
    """A value of this kind (a checked dataclass, or a type of several) from a table.

    `where` is the table's own key, for the `UserError` that names what is wrong.
    """
    try:
        return TypeAdapter(kind).validate_python(table)
    except ValidationError as error:
        raise UserError(one_line(error, where)) from error


def one_line(error: ValidationError, where: str = "") -> str:
    """The first of pydantic's errors as one line: key, value, and what would be right."""
    first = error.errors(include_url=False)[0]
    place = [where, *first["loc"]] if where else list(first["loc"])
    if place[-1:] == ["[key]"]:  # of a table: its error is the table's
        del place[-2:]
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place)[1:]
    if first["type"] == "missing":
        return f"{key}: missing"
    found = first.get("ctx", {}).get("error")
    if isinstance(found, Mistake):
        return f"{key}.{found}" if key else str(found)
    right = RIGHT.get(first["type"], first["msg"]) if found is None else found
    return f"{key} = {first['input']!r}: {right}"
