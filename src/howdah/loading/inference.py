"""Values -> column types that hold every one of them without losing a digit.

A value has a kind; two kinds have a join, the narrowest kind that holds both.
Only what PostgreSQL gives back in the very digits it was given counts as a
number: "007", "+5" and " 5" are text, "1.50" and "1.0" are numeric (double
precision would give back 1.5 and 1), an integer of 20 digits is numeric. Of a
moment, what is kept is the moment: its zone becomes the session's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import date, datetime
from enum import Enum
from typing import Any

from howdah.loading.records import Number

__all__ = [
    "DECIMAL",
    "LONGEST_NUMERIC",
    "Kind",
    "fits",
    "is_exact_double",
    "join",
    "kind_of_text",
    "kind_of_type",
    "kinds_of",
    "sql_type",
]


class Kind(Enum):
    """What a column must be able to hold; the value is PostgreSQL's type."""

    NOTHING = ""
    """Only nulls so far."""
    BOOLEAN = "boolean"
    SHORT_INTEGER = "bigint of 15 digits"
    """An integer that double precision holds exactly as well."""
    INTEGER = "bigint"
    DOUBLE = "double precision"
    NUMERIC = "numeric"
    DATE = "date"
    TIMESTAMP = "timestamp without time zone"
    TIMESTAMPTZ = "timestamp with time zone"
    UUID = "uuid"
    JSON = "jsonb"
    TEXT = "text"


_TYPES = {Kind.NOTHING: "text", Kind.SHORT_INTEGER: "bigint"}
_NUMBERS = (Kind.SHORT_INTEGER, Kind.INTEGER, Kind.DOUBLE, Kind.NUMERIC)

_EXACT_DIGITS = 15
"""Decimal digits that every double holds: C's DBL_DIG."""
_LARGEST = 2**63 - 1
_LONGEST_INTEGER = len(str(-_LARGEST))
_UUID_LENGTH = 36

LONGEST_NUMERIC = 16_000
"""Digits that numeric holds on either side of the point, at the least.

Source: https://www.postgresql.org/docs/current/datatype-numeric.html.
"""

DECIMAL = r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,3})?"
"""A JSON number with an exponent of three digits at most."""

_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]*)")
_DECIMAL = re.compile(DECIMAL)
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_MOMENT = re.compile(
    r"(?P<day>\d{4}-\d\d-\d\d)"
    r"(?:[T ](?P<time>\d\d:\d\d(?::\d\d(?:\.\d{1,6})?)?)"
    # PostgreSQL knows no zone that is 16 hours off.
    r"(?P<zone>Z|[+-](?:0\d|1[0-5])(?::?[0-5]\d)?)?)?",
    re.ASCII,
)


def _kind_of(value: object, *, texts: bool) -> Kind:
    """Return the kind of a value of a record; see `kinds_of` for `texts`."""
    match value:
        case None:
            return Kind.NOTHING
        case bool():
            return Kind.BOOLEAN
        case int():
            return _kind_of_integer(value)
        case Number():
            return _kind_of_decimal(value)
        case str():
            kind = kind_of_text(value)
            return kind if texts or kind in _MARKED else Kind.TEXT
        case _:
            return Kind.JSON


_MARKED = (Kind.DATE, Kind.TIMESTAMP, Kind.TIMESTAMPTZ, Kind.UUID)
"""Kinds that JSON has only texts for."""

_WORDS = {"": Kind.NOTHING, "true": Kind.BOOLEAN, "false": Kind.BOOLEAN}


def kind_of_text(text: str) -> Kind:
    """Return the kind of what a text says: of a CSV cell, say."""
    known = _WORDS.get(text)
    if known is not None:
        return known
    if text[0] in "-0123456789":
        if text[0] == "-" and not text.strip("-0."):
            return Kind.TEXT  # minus zero, which only double precision has
        if len(text) <= _LONGEST_INTEGER and _INTEGER.fullmatch(text):
            return _kind_of_integer(int(text))
        if _DECIMAL.fullmatch(text):
            return _kind_of_decimal(text)
        if moment := _MOMENT.fullmatch(text):
            return _kind_of_moment(moment)
    return Kind.UUID if len(text) == _UUID_LENGTH and _UUID.fullmatch(text) else Kind.TEXT


def _kind_of_integer(value: int) -> Kind:
    if abs(value) < 10**_EXACT_DIGITS:
        return Kind.SHORT_INTEGER
    return Kind.INTEGER if -_LARGEST - 1 <= value <= _LARGEST else Kind.NUMERIC


def _kind_of_decimal(text: str) -> Kind:
    if is_exact_double(text):
        return Kind.DOUBLE
    holds = len(text) <= LONGEST_NUMERIC and _DECIMAL.fullmatch(text)
    return Kind.NUMERIC if holds else Kind.TEXT


def is_exact_double(text: str) -> bool:
    """Say whether double precision gives a decimal back in the very digits."""
    return repr(float(text)) == text and not text.endswith(".0")


def _kind_of_moment(moment: re.Match[str]) -> Kind:
    try:
        if moment["time"] is None:
            date.fromisoformat(moment["day"])
            return Kind.DATE
        datetime.fromisoformat(moment[0])
    except ValueError:
        return Kind.TEXT
    return Kind.TIMESTAMPTZ if moment["zone"] else Kind.TIMESTAMP


def join(one: Kind, other: Kind) -> Kind:  # noqa: PLR0911 - a table of kinds
    """Return the narrowest kind that holds what either kind holds."""
    pair = {one, other}
    if len(pair) == 1:
        return one
    if Kind.NOTHING in pair:
        return (pair - {Kind.NOTHING}).pop()
    if Kind.JSON in pair:
        return Kind.JSON
    if pair <= {Kind.DATE, Kind.TIMESTAMP}:
        return Kind.TIMESTAMP
    if pair == {Kind.INTEGER, Kind.DOUBLE}:
        return Kind.NUMERIC  # a double would round what has more than 15 digits
    if pair <= set(_NUMBERS):
        return max(pair, key=_NUMBERS.index)
    return Kind.TEXT


def kinds_of(
    records: Iterable[Mapping[str, Any]], *, texts: bool, known: Mapping[str, Kind] | None = None
) -> dict[str, Kind]:
    """Return, by attribute, the kind that holds its values in all records.

    Args:
        records: As `records.parse` gives them.
        texts: Whether a text may stand for a number, a moment and the like, as
            in CSV; JSON says itself what is a number, but not what is a moment.
        known: The kinds of earlier records, which are joined.
    """
    kinds = dict(known or {})
    for record in records:
        for name, value in record.items():
            before = kinds.get(name)
            if before is Kind.TEXT and type(value) is str:
                continue  # it holds any
            kind = _kind_of(value, texts=texts)
            if kind is not before:  # to join takes as long as to look
                kinds[name] = kind if before is None else join(before, kind)
    return kinds


def fits(value: object, kind: Kind, *, texts: bool) -> bool:
    """Say whether a column of a kind holds a value without losing anything of it."""
    if kind is Kind.TEXT:
        return not isinstance(value, list | dict)
    return join(_kind_of(value, texts=texts), kind) is kind


def sql_type(kind: Kind) -> str:
    """Return PostgreSQL's name of the type for a column of a kind."""
    return _TYPES.get(kind, kind.value)


def kind_of_type(type_name: str) -> Kind | None:
    """Return the kind that a column of a type holds; None for a type that is not of ours."""
    return next((kind for kind in Kind if kind.value == type_name), None)
