r"""Attributes -> JSON text that jsonb accepts, and the repair of JSON text that it refused.

jsonb stores RFC 8259 but for two things: `\u0000`, and surrogates that are not
a pair; each becomes U+FFFD. And JSON has no NaN and no infinity: they become
the strings "NaN", "Infinity" and "-Infinity", which PostgreSQL's float8 reads.
Whatever was changed so is reported as repaired; digits are never changed.
Source: https://www.postgresql.org/docs/current/datatype-json.html
"""

from __future__ import annotations

import base64
import dataclasses
import datetime as dt
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from enum import Enum
from typing import Any, NoReturn, cast

import orjson

from howdah.loading.readers import BadRecord, Batch, Item

__all__ = ["TooDeep", "as_batches", "encode", "repair"]

# A high surrogate followed by a low one is one character and is kept (group 1);
# so is every other escape. In valid JSON a backslash stands in strings alone.
_ESCAPES = re.compile(
    rb"(\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\[^u])"
    rb"|\\u(?:0000|[dD][89a-fA-F][0-9a-fA-F]{2})"
)
_BYTES = (bytes, bytearray, memoryview)
_HARMLESS = frozenset(
    {str, int, bool, type(None), Decimal, dt.datetime, dt.date, dt.time, dt.timedelta, *_BYTES}
)
_NUMPY_TYPES = frozenset("?bhilqnpBHILQNPefdUO")
"""Types of NumPy that Python's own say as well; a datetime64 has a text.

Source: https://numpy.org/doc/stable/reference/generated/numpy.dtype.char.html
"""
_NOT_STORABLE = re.compile("[\0\ud800-\udfff]")


class TooDeep(ValueError):
    """Raised for what is nested more deeply than Python can follow; PostgreSQL may."""


def encode(attributes: Any) -> tuple[bytes, bool]:
    """Return attributes as the JSON text of an object, and whether it had to be repaired.

    What is no mapping becomes the JSON text that it is: an array, a string, a number.

    Dates and times become ISO 8601, timedeltas ISO 8601 durations, bytes
    base64, sets arrays, numbers and arrays of NumPy what they are in Python,
    and unknown objects their `str()`.

    Raises:
        TooDeep: The attributes are nested too deeply.
    """
    record = attributes
    if not isinstance(record, dict) and isinstance(record, Mapping):
        record = dict(record)
    try:
        text = orjson.dumps(record, default=_fragment, option=orjson.OPT_NON_STR_KEYS)
    except orjson.JSONEncodeError:
        return _slowly(record)
    # orjson writes NaN as null, and may have met the text "\\u0000" as well as a NUL.
    if b"\\u0000" in text or (b"null" in text and _has_non_finite(record)):
        return _slowly(record)
    # A copy: orjson shortens a buffer of 4 KiB in place, and the allocator has
    # no use for what is left of each. The copy costs less than the fresh pages.
    return b"%b" % text, False


def repair(text: bytes) -> bytes | None:
    """Return a JSON text that the server refused in a form that it can store.

    Args:
        text: One JSON text, in UTF-8.

    Returns:
        The text with U+FFFD for what jsonb cannot store; None if it has nothing
        of that kind, so that the refusal had another reason.

    Raises:
        ValueError: It is no valid JSON by RFC 8259; the message says why, in short.
        TooDeep: It is nested too deeply to tell.
    """
    try:
        json.loads(text.decode(), parse_int=str, parse_float=str, parse_constant=_refuse_constant)
    except UnicodeDecodeError as exc:
        raise ValueError(f"invalid UTF-8 at byte {exc.start}") from exc
    except RecursionError as exc:
        raise TooDeep("nested too deeply") from exc
    except json.JSONDecodeError as exc:
        raise ValueError(f"invalid JSON at character {exc.pos}: {exc.msg}") from exc
    repaired = _ESCAPES.sub(lambda match: match[1] or rb"\ufffd", text)
    return None if repaired == text else repaired


def as_batches(  # noqa: C901  the loop that each record goes through
    items: Iterable[Item],
    *,
    first: int = 1,
    limit_bytes: int = 1 << 20,
    untyped: bool = False,
) -> Iterator[Batch | BadRecord]:
    """Number and encode what a reader yields, and gather it in batches.

    Args:
        items: What `Reader.read` or `SplittingReader.read_range` yields.
        first: The number of the first of them.
        limit_bytes: A batch ends with the record that makes it this long.
        untyped: That of the reader.

    Yields:
        Batches and bad records in the order of the items; each bad record has its number.
    """
    texts: list[bytes] = []
    size = repaired = 0
    number = first  # of the next item

    def taken() -> Iterator[Batch]:
        nonlocal texts, size, repaired
        if texts:
            yield Batch(range(number - len(texts), number), texts, repaired, untyped)
            texts, size, repaired = [], 0, 0

    try:
        for item in items:
            if not isinstance(item, Batch | BadRecord):
                try:
                    text, changed = encode(item)
                except ValueError as exc:
                    item = BadRecord(f"record {number}", f"The record cannot be stored: {exc}.")  # noqa: PLW2901
                else:
                    texts.append(text)
                    size += len(text)
                    repaired += changed
                    number += 1
                    if size < limit_bytes:
                        continue
            yield from taken()
            if isinstance(item, Batch):
                yield item
                number = item.numbers[-1] + 1 if item.numbers else number
            elif isinstance(item, BadRecord):
                known = number if item.number is None else item.number
                yield dataclasses.replace(item, number=known)
                number = known + 1
    except Exception:
        yield from taken()  # what was read before the source broke off
        raise
    yield from taken()


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number (RFC 8259)")


def _fragment(value: object) -> orjson.Fragment | str:
    """Let orjson write a finite Decimal digit by digit, and bytes; all else goes the slow way."""
    if isinstance(value, Decimal) and value.is_finite():
        return orjson.Fragment(str(value).encode())
    if isinstance(value, (*_BYTES, dt.timedelta)):
        return _as_text(value)
    raise TypeError(type(value).__name__)


def _has_non_finite(record: object) -> bool:
    """Say whether a float in a record is not finite, or may be: in a dataclass, say."""
    left: list[object] = [record]
    while left:
        match left.pop():
            case dict() as members:
                left += [part for part in members.values() if type(part) not in _HARMLESS]
                left += [key for key in members if type(key) is not str]
            case list() | tuple() as parts:
                left += [part for part in parts if type(part) not in _HARMLESS]
            case float() as number if math.isfinite(number):
                pass
            case other if type(other) not in _HARMLESS:
                return True
    return False


def _slowly(record: object) -> tuple[bytes, bool]:
    writer = _Writer()
    try:
        return writer.text(record).encode(), writer.repaired
    except RecursionError as exc:
        raise TooDeep("it is nested too deeply") from exc


class _Writer:
    """Writes any value as JSON text and remembers whether it had to change something."""

    def __init__(self) -> None:
        self.repaired = False

    def text(self, value: object) -> str:  # noqa: PLR0911  a table of types
        """Return the JSON text of a value."""
        match value:
            case Enum():
                return self.text(value.value)
            case None | bool():
                return json.dumps(value)
            case str():
                return json.dumps(self._storable(str(value)), ensure_ascii=False)
            case int():
                # Decimal, since str() refuses integers of more than 4300 digits.
                return str(Decimal(value))
            case float() | Decimal():
                return self._number(value)
            case Mapping():
                return self._object(value)
            case list() | tuple() | set() | frozenset():
                return f"[{','.join(map(self.text, value))}]"
            case _ if dataclasses.is_dataclass(value):
                names = (field.name for field in dataclasses.fields(value))
                return self._object({name: getattr(value, name) for name in names})
            case _ if getattr(getattr(value, "dtype", None), "char", None) in _NUMPY_TYPES:
                return self.text(cast("Any", value).tolist())
            case _:
                return self.text(_as_text(value))

    def _storable(self, text: str) -> str:
        storable = _NOT_STORABLE.sub("\ufffd", text)
        self.repaired |= storable != text
        return storable

    def _number(self, value: float | Decimal) -> str:
        exact = value if isinstance(value, Decimal) else Decimal(value)
        if exact.is_finite():
            # A subclass, as NumPy's, may have a repr() of its own.
            return float.__repr__(value) if isinstance(value, float) else str(value)
        self.repaired = True
        if exact.is_nan():
            return '"NaN"'
        return '"-Infinity"' if exact.is_signed() else '"Infinity"'

    def _object(self, value: Mapping[Any, Any]) -> str:
        members: dict[str, str] = {}
        for key, member in value.items():
            name = unique = self._name(key)
            count = 1
            while unique in members:  # repaired names may meet, and jsonb would keep one of them
                count += 1
                unique = f"{name}_{count}"
            members[unique] = self.text(member)
        pairs = (f"{json.dumps(n, ensure_ascii=False)}:{text}" for n, text in members.items())
        return f"{{{','.join(pairs)}}}"

    def _name(self, key: object) -> str:
        if isinstance(key, str) and not isinstance(key, Enum):
            return self._storable(str(key))
        text = self.text(key)
        return json.loads(text) if text.startswith('"') else text


def _as_text(value: object) -> str:
    match value:
        case dt.datetime() | dt.date() | dt.time():
            return value.isoformat()
        case dt.timedelta():
            seconds, rest = divmod(abs(value), dt.timedelta(seconds=1))
            sign = "-" if value < dt.timedelta() else ""
            return f"PT{sign}{seconds}.{rest.microseconds:06}S"
        case bytes() | bytearray() | memoryview():
            return base64.b64encode(value).decode()
        case _:
            return str(value)
