"""Arrow arrays -> Python values that JSON text is made of, with every digit.

What Python's own types cannot hold (nanoseconds, years beyond 9999) becomes
text here. Rules, for docs/reference/loading-attributes.md:

- decimals and integers exact; float32 and float16 by the shortest decimal that
  reads back as the same float32; NaN and infinities as encode.py has them;
- dates, times, timestamps in ISO 8601; with an offset where there is a zone;
- durations and intervals as ISO 8601 durations; binary as base64;
- lists and structs as arrays and objects; a map as an object, its keys as text
  (of a repeated key the last counts); a dictionary as its values.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias
from uuid import UUID

__all__ = ["Array", "Batch", "rows_of", "values_of"]

# pyarrow's own hints know neither flatten() nor storage.
Array: TypeAlias = Any
Batch: TypeAlias = Any

_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_DIGITS = {"s": 0, "ms": 3, "us": 6, "ns": 9}
_DAY_S = 86_400
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def rows_of(batch: Batch, names: list[str]) -> Iterator[dict[str, Any]]:
    """Yield each row of a batch as a mapping of the names to values."""
    columns = [values_of(column) for column in batch.columns]
    if not columns:
        return
    for row in zip(*columns, strict=True):
        yield dict(zip(names, row, strict=True))


def values_of(array: Array) -> list[Any]:
    """Return the values of an array, None for null."""
    import pyarrow as pa

    kind = array.type
    if isinstance(kind, pa.BaseExtensionType):
        return _of_extension(array)
    for known, convert in _converters():
        if known(kind):
            return convert(array)
    return _plain(array)


def _converters() -> tuple[tuple[Callable[[Any], bool], Callable[[Any], list[Any]]], ...]:
    from pyarrow import types

    return (
        (types.is_timestamp, _timestamps),
        (types.is_string, _texts),
        (types.is_large_string, _texts),
        (types.is_float32, _short_floats),
        (types.is_float16, _short_floats),
        (types.is_date, _dates),
        (types.is_time, _times),
        (types.is_duration, _durations),
        (types.is_interval, _intervals),
        (types.is_struct, _structs),
        (types.is_map, _maps),
        (_is_list, _lists),
        (types.is_dictionary, lambda array: values_of(array.dictionary_decode())),
        (types.is_run_end_encoded, _run_end_encoded),
        (types.is_union, _unions),
    )


def _is_list(kind: Any) -> bool:
    from pyarrow import types

    return bool(
        types.is_list(kind)
        or types.is_large_list(kind)
        or types.is_fixed_size_list(kind)
        or types.is_list_view(kind)
        or types.is_large_list_view(kind)
    )


# ---- scalars


def _texts(array: Array) -> list[Any]:
    try:
        return _plain(array)
    except UnicodeDecodeError:  # what the writer has called text and is none
        import pyarrow as pa

        raw = array.cast(pa.large_binary() if pa.types.is_large_string(array.type) else pa.binary())
        return _each(raw, lambda data: data.decode("utf-8", "surrogateescape"))


def _short_floats(array: Array) -> list[Any]:
    import pyarrow as pa

    # Arrow writes the shortest text that reads back as the same float32.
    return _each(array.cast(pa.float32()).cast(pa.string()), float)


def _dates(array: Array) -> list[Any]:
    import pyarrow as pa

    try:
        return _plain(array)
    except (OverflowError, ValueError):
        return _plain(array.cast(pa.date32()).cast(pa.string()))


def _timestamps(array: Array) -> list[Any]:
    import pyarrow as pa

    unit = array.type.unit
    if unit != "ns":  # Python's datetime holds microseconds
        try:
            return _plain(array)
        except (OverflowError, ValueError):
            pass
    zone = pa.lib.string_to_tzinfo(array.type.tz) if array.type.tz else None
    return _each(array.cast(pa.int64()), lambda count: _timestamp(count, unit, zone))


def _timestamp(count: int, unit: str, zone: dt.tzinfo | None) -> str:
    seconds, fraction = divmod(count, _PER_SECOND[unit])
    offset = ""
    try:
        moment = _EPOCH + dt.timedelta(seconds=seconds)
        if zone is not None:
            moment = moment.astimezone(zone)
            offset = moment.isoformat()[19:]
        text = moment.strftime("%Y-%m-%dT%H:%M:%S").rjust(19, "0")
    except OverflowError:
        days, left = divmod(seconds, _DAY_S)
        text = f"{_far_date(days)}T{_clock(left)}"
        offset = "+00:00" if zone is not None else ""
    return text + _fraction(fraction, _DIGITS[unit]) + offset


def _far_date(days: int) -> str:
    """Return a date that Python's cannot hold, counted from 1970-01-01."""
    # 400 years have 146,097 days and then repeat.
    cycles, left = divmod(days, 146_097)
    date = dt.date(1970, 1, 1) + dt.timedelta(days=left)
    return f"{date.year + 400 * cycles:+05}-{date:%m-%d}"


def _times(array: Array) -> list[Any]:
    import pyarrow as pa

    unit = array.type.unit
    counts = array.cast(pa.int32() if array.type.bit_width == 32 else pa.int64())  # noqa: PLR2004

    def text(count: int) -> str:
        seconds, fraction = divmod(count, _PER_SECOND[unit])
        return _clock(seconds) + _fraction(fraction, _DIGITS[unit])

    return _each(counts, text)


def _durations(array: Array) -> list[Any]:
    import pyarrow as pa

    unit = array.type.unit

    def text(count: int) -> str:
        seconds, fraction = divmod(abs(count), _PER_SECOND[unit])
        sign = "-" if count < 0 else ""
        return f"PT{sign}{seconds}{_fraction(fraction, _DIGITS[unit])}S"

    return _each(array.cast(pa.int64()), text)


def _intervals(array: Array) -> list[Any]:
    def text(value: Any) -> str:
        seconds, fraction = divmod(abs(value.nanoseconds), 10**9)
        sign = "-" if value.nanoseconds < 0 else ""
        return f"P{value.months}M{value.days}DT{sign}{seconds}{_fraction(fraction, 9)}S"

    return [None if value is None else text(value) for value in array.to_pylist()]


def _clock(seconds: int) -> str:
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def _fraction(count: int, digits: int) -> str:
    """Return a fraction of a second: none, or six digits, or nine where they are needed."""
    if not count:
        return ""
    text = f"{count:0{digits}}".ljust(6, "0")
    return f".{text.removesuffix('000') if digits == _DIGITS['ns'] else text}"


def _plain(array: Array) -> list[Any]:
    values: list[Any] = array.to_pylist()
    return values


def _each(array: Array, convert: Callable[[Any], Any]) -> list[Any]:
    return [None if value is None else convert(value) for value in array.to_pylist()]


# ---- what holds others


def _structs(array: Array) -> list[Any]:
    from howdah.loading.readers.layout import column_names

    names = column_names((field.name for field in array.type), ())
    columns = [values_of(child) for child in array.flatten()]
    rows = zip(*columns, strict=True) if columns else iter([()] * len(array))
    objects = [dict(zip(names, row, strict=True)) for row in rows]
    if not array.null_count:
        return objects
    valid = array.is_valid().to_pylist()
    return [value if there else None for value, there in zip(objects, valid, strict=True)]


def _lists(array: Array) -> list[Any]:
    import pyarrow.compute as pc

    values = iter(values_of(array.flatten()))
    lengths = pc.list_value_length(array).to_pylist()  # ty: ignore[missing-attribute]
    return [None if length is None else [next(values) for _ in range(length)] for length in lengths]


def _maps(array: Array) -> list[Any]:
    import pyarrow as pa

    entries = pa.list_(pa.struct([("key", array.type.key_type), ("value", array.type.item_type)]))
    pairs = _lists(array.cast(entries))
    return [
        None if found is None else {pair["key"]: pair["value"] for pair in found} for found in pairs
    ]


def _run_end_encoded(array: Array) -> list[Any]:
    import pyarrow.compute as pc

    return values_of(pc.call_function("run_end_decode", [array]))


def _unions(array: Array) -> list[Any]:
    children = [values_of(array.field(place)) for place in range(array.type.num_fields)]
    codes = dict(zip(array.type.type_codes, children, strict=True))
    which = array.type_codes.to_pylist()
    if array.type.mode == "sparse":
        return [codes[code][place] for place, code in enumerate(which)]
    return [codes[code][at] for code, at in zip(which, array.offsets.to_pylist(), strict=True)]


def _of_extension(array: Array) -> list[Any]:
    import pyarrow as pa

    values = values_of(array.storage)
    name = array.type.extension_name
    if name == "arrow.uuid":
        return [None if value is None else str(UUID(bytes=value)) for value in values]
    if name == "arrow.bool8" and pa.types.is_int8(array.storage.type):
        return [None if value is None else bool(value) for value in values]
    return values
