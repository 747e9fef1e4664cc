"""Parquet, ORC, Arrow's files and streams: every value as exact as JSON can say it."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from howdah.loading.readers import Head, UnreadableSource, reader_for
from howdah.loading.readers.columnar import ORC, ArrowFile, ArrowStream, Parquet
from howdah.loading.readers.encode import encode

from .reading import items
from .samples import feather, orc, parquet, stream


def written_as(array, reader=ArrowStream, write=stream):
    """Return the JSON text of each value of a column."""
    found = items(reader(), write(pa.table({"v": array})))
    return [encode(record)[0].decode().removeprefix('{"v":').removesuffix("}") for record in found]


@pytest.mark.parametrize(
    ("array", "texts"),
    [
        (pa.array([2**63 - 1, -(2**63), None]), [str(2**63 - 1), str(-(2**63)), "null"]),
        (pa.array([2**64 - 1], pa.uint64()), [str(2**64 - 1)]),
        (
            pa.array([Decimal("12345678901234567890123456789.123456789")], pa.decimal128(38, 9)),
            ["12345678901234567890123456789.123456789"],
        ),
        (pa.array([Decimal("1" * 60 + ".50")], pa.decimal256(70, 2)), ["1" * 60 + ".50"]),
        (pa.array([0.1, float("nan"), float("-inf")]), ["0.1", '"NaN"', '"-Infinity"']),
        (pa.array([0.1, 16777216.0, float("inf")], pa.float32()),
         ["0.1", "16777216.0", '"Infinity"']),
        (pa.array([True, False]), ["true", "false"]),
        (pa.array(["é\0", "日"]), ['"é\ufffd"', '"日"']),
        (pa.array([b"\0\xff", b""]), ['"AP8="', '""']),
        (pa.array([b"ab"], pa.binary(2)), ['"YWI="']),
        (pa.array(["x"], pa.large_string()), ['"x"']),
        (pa.array(["x"], pa.string_view()), ['"x"']),
        (pa.nulls(2), ["null", "null"]),
        (pa.array(["p", None, "p"]).dictionary_encode(), ['"p"', "null", '"p"']),
        (pa.array([0, 3_000_000, -1_000_000], pa.date32()),
         ['"1970-01-01"', '"10183-09-21"', '"-0768-02-04"']),
        (pa.array([86_399_999], pa.time32("ms")), ['"23:59:59.999000"']),
        (pa.array([1, 0], pa.time64("ns")), ['"00:00:00.000000001"', '"00:00:00"']),
        (pa.array([1, 1_709_210_096_123_456_789], pa.timestamp("ns")),
         ['"1970-01-01T00:00:00.000000001"', '"2024-02-29T12:34:56.123456789"']),
        (pa.array([1_709_210_096], pa.timestamp("s")), ['"2024-02-29T12:34:56"']),
        (pa.array([1_709_210_096_123_456], pa.timestamp("us", "Europe/Berlin")),
         ['"2024-02-29T13:34:56.123456+01:00"']),
        (pa.array([1_709_210_096_123_456_789], pa.timestamp("ns", "+05:30")),
         ['"2024-02-29T18:04:56.123456789+05:30"']),
        (pa.array([2**60, -(2**60)], pa.timestamp("us")),
         ['"+38504-08-17T21:30:06.846976"', '"-34565-05-17T02:29:53.153024"']),
        (pa.array([1, -(2**62), 0], pa.duration("us")),
         ['"PT0.000001S"', '"PT-4611686018427.387904S"', '"PT0S"']),
        (pa.array([pa.MonthDayNano([1, -2, 3_000_000_001])]), ['"P1M-2DT3.000000001S"']),
        (pa.array([[1, None], None, []]), ["[1,null]", "null", "[]"]),
        (pa.array([[1, 2], None], pa.list_(pa.int8(), 2)), ["[1,2]", "null"]),
        (pa.array([[1, 2]], pa.list_view(pa.int8())), ["[1,2]"]),
        (pa.array([{"a": 1, "b": [{"c": Decimal("1.10")}]}, None]),
         ['{"a":1,"b":[{"c":1.10}]}', "null"]),
        (pa.array([[("x", 1)], None], pa.map_(pa.string(), pa.int32())), ['{"x":1}', "null"]),
        (pa.array([[(1, "a")]], pa.map_(pa.int64(), pa.string())), ['{"1":"a"}']),
        (pa.array([[[("k", [1])]]], pa.list_(pa.map_(pa.string(), pa.list_(pa.int8())))),
         ['[{"k":[1]}]']),
        (pa.array([uuid.UUID(int=5).bytes], pa.uuid()),
         ['"00000000-0000-0000-0000-000000000005"']),
        (pa.RunEndEncodedArray.from_arrays([2], [dt.date(2024, 2, 29)]),
         ['"2024-02-29"', '"2024-02-29"']),
        (pa.UnionArray.from_dense(
            pa.array([0, 1], pa.int8()), pa.array([0, 0], pa.int32()),
            [pa.array([5]), pa.array(["z"])]), ["5", '"z"']),
    ],
    ids=lambda value: str(value.type)[:30] if isinstance(value, pa.Array) else "",
)  # fmt: skip
def test_a_value_becomes_json_without_losing_a_digit(array, texts):
    assert written_as(array) == texts


WIDE = pa.table(
    {
        "i": pa.array([2**63 - 1, None]),
        "d": pa.array([Decimal("1.10"), None], pa.decimal128(38, 2)),
        "ts": pa.array([1, None], pa.timestamp("ns")),
        "tz": pa.array([0, None], pa.timestamp("us", "UTC")),
        "day": pa.array([dt.date(2024, 2, 29), None]),
        "s": pa.array(["é", None]),
        "b": pa.array([b"\xff", None]),
        "l": pa.array([[1, None], None]),
        "st": pa.array([{"a": 1.5}, None]),
        "m": pa.array([[("x", 1)], None], pa.map_(pa.string(), pa.int32())),
    }
)
EXPECTED = {
    "i": 2**63 - 1,
    "d": 1.10,
    "ts": "1970-01-01T00:00:00.000000001",
    "tz": "1970-01-01T00:00:00+00:00",
    "day": "2024-02-29",
    "s": "é",
    "b": "/w==",
    "l": [1, None],
    "st": {"a": 1.5},
    "m": {"x": 1},
}


@pytest.mark.parametrize(
    ("reader", "data"),
    [
        (Parquet, parquet(WIDE)),
        (Parquet, parquet(WIDE, row_group_size=1, compression="zstd")),
        (ORC, orc(WIDE)),
        (ArrowFile, feather(WIDE)),
        (ArrowFile, feather(WIDE, compression="zstd")),
        (ArrowStream, stream(WIDE)),
    ],
    ids=["parquet", "row-groups", "orc", "feather", "zstd", "stream"],
)
def test_each_format_gives_the_same_records(reader, data):
    found = [json.loads(encode(record)[0]) for record in items(reader(), data)]
    assert found == [EXPECTED, dict.fromkeys(EXPECTED)]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "i": st.none() | st.integers(-(2**63), 2**63 - 1),
                "t": st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
                "l": st.none() | st.lists(st.none() | st.integers(0, 9), max_size=3),
                "s": st.none() | st.fixed_dictionaries({"d": st.none() | st.floats()}),
                "when": st.none() | st.datetimes(),
            }
        ),
        min_size=1,
    )
)
def test_what_pyarrow_writes_is_what_python_would_say(rows):
    schema = pa.schema(
        [
            ("i", pa.int64()),
            ("t", pa.string()),
            ("l", pa.list_(pa.int8())),
            ("s", pa.struct([("d", pa.float64())])),
            ("when", pa.timestamp("us")),
        ]
    )
    table = pa.Table.from_pylist(rows, schema)
    for reader, data in ((Parquet, parquet(table)), (ArrowStream, stream(table.slice(1)))):
        expected = rows if reader is Parquet else rows[1:]
        found = [json.loads(encode(record)[0]) for record in items(reader(), data)]
        assert found == [json.loads(encode(record)[0]) for record in expected]


def test_columns_of_one_name_are_all_kept():
    table = pa.table([pa.array([1]), pa.array([2])], names=["a", "a"])
    assert items(ArrowStream(), stream(table)) == [{"a": 1, "a_2": 2}]


def test_text_that_is_no_utf8_is_repaired_and_said_to_be():
    raw = pa.Array.from_buffers(pa.string(), 1, pa.array([b"a\xff"], pa.binary()).buffers())
    (record,) = items(Parquet(), parquet(pa.table({"v": raw})))
    assert encode(record) == ('{"v":"a\ufffd"}'.encode(), True)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"PARE" + b"x" * 50, "encrypted"),
        (b"PAR1" + b"x" * 50 + b"PAR1", "broken or cut off"),
        (parquet(WIDE)[:-20], "broken or cut off"),
    ],
)
def test_a_parquet_file_that_cannot_be_read_says_why(data, reason):
    with pytest.raises(UnreadableSource, match=reason):
        items(Parquet(), data)


def test_an_old_feather_file_says_what_to_do():
    with pytest.raises(UnreadableSource, match="write it as version 2"):
        items(ArrowFile(), b"FEA1" + b"\0" * 50)


def test_text_that_starts_like_a_magic_number_is_text():
    assert reader_for(Head("a.txt", b"ORCHIDS are flowers.\n")).name == "document"
    assert reader_for(Head("a.txt", b"ORC\nis a format.\n")).name == "document"


def test_a_table_without_rows_has_no_records():
    assert items(Parquet(), parquet(WIDE.slice(0, 0))) == []
    assert items(ORC(), orc(WIDE.slice(0, 0))) == []
