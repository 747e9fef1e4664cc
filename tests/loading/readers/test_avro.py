from __future__ import annotations

import datetime as dt
import io
import uuid
from decimal import Decimal

import pytest

from howdah.loading.pieces import Failure, read_pieces
from howdah.loading.readers import BadRecord, Batch
from howdah.loading.readers.avro import Avro

from .reading import items, texts
from .samples import avro


def logical(kind, name, **more):
    return {"type": kind, "logicalType": name, **more}


FIELDS = {
    "long": ("long", 2**63 - 1, str(2**63 - 1)),
    "decimal": (
        logical("bytes", "decimal", precision=38, scale=9),
        Decimal("12345678901234567890.123456789"),
        "12345678901234567890.123456789",
    ),
    "moment": (
        logical("long", "timestamp-micros"),
        dt.datetime(2024, 2, 29, 12, 0, 0, 1, tzinfo=dt.UTC),
        '"2024-02-29T12:00:00.000001+00:00"',
    ),
    "local": (
        logical("long", "local-timestamp-millis"),
        dt.datetime(2024, 2, 29, 12),  # noqa: DTZ001  local is what it is
        '"2024-02-29T12:00:00"',
    ),
    "day": (["null", logical("int", "date")], dt.date(2024, 2, 29), '"2024-02-29"'),
    "none": (["null", "string"], None, "null"),
    "time": (logical("long", "time-micros"), dt.time(1, 2, 3, 4), '"01:02:03.000004"'),
    "uuid": (logical("string", "uuid"), uuid.UUID(int=1), f'"{uuid.UUID(int=1)}"'),
    "map": ({"type": "map", "values": "double"}, {"x": float("nan")}, '{"x":"NaN"}'),
    "list": ({"type": "array", "items": "int"}, [1, 2], "[1,2]"),
    "enum": ({"type": "enum", "name": "e", "symbols": ["A"]}, "A", '"A"'),
    "bytes": ("bytes", b"\0\xff", '"AP8="'),
    "fixed": ({"type": "fixed", "name": "f", "size": 2}, b"ab", '"YWI="'),
    "text": ("string", "é\0日", '"é\ufffd日"'),
    "record": (
        {"type": "record", "name": "n", "fields": [{"name": "a", "type": "boolean"}]},
        {"a": True},
        '{"a":true}',
    ),
}


def schema(*names):
    fields = [{"name": name, "type": FIELDS[name][0]} for name in names]
    return {"type": "record", "name": "r", "fields": fields}


@pytest.mark.parametrize("name", FIELDS)
def test_a_value_becomes_json_without_losing_a_digit(name):
    _, value, text = FIELDS[name]
    data = avro(schema(name), [{name: value}])
    assert texts(items(Avro(), data)) == [f'{{"{name}":{text}}}'.encode()]


@pytest.mark.parametrize("codec", ["null", "deflate", "bzip2", "xz", "snappy", "zstandard"])
def test_each_usual_codec_is_read(codec):
    records = [{"long": n} for n in range(5000)]
    data = avro(schema("long"), records, codec=codec, sync_interval=1000)
    assert items(Avro(), data) == records


def test_what_is_no_record_is_loaded_as_the_value_it_is():
    assert texts(items(Avro(), avro("string", ["a", "b"]))) == [b'"a"', b'"b"']


def test_a_value_that_python_cannot_hold_costs_the_rest_of_its_block():
    fields = [{"name": "day", "type": logical("int", "date")}]
    days = [{"day": 1}, {"day": 10**8}, {"day": 2}]
    data = avro({"type": "record", "name": "r", "fields": fields}, days)
    found = texts(items(Avro(), data))
    assert found[0] == b'{"day":"1970-01-02"}'
    assert isinstance(found[1], BadRecord)
    assert (found[1].place, len(found)) == ("records 2 to 3", 2)


def test_a_file_that_is_cut_off_gives_its_whole_blocks():
    data = avro(schema("long"), [{"long": n} for n in range(5000)], sync_interval=1000)
    pieces = list(read_pieces(Avro().read(io.BytesIO(data[:-500]), "")))
    assert [type(piece) for piece in pieces] == [Batch, Failure]
    assert 4000 < len(pieces[0].texts) < 5000
    assert "cut off" in pieces[1].reason
    assert pieces[1].place == f"after record {len(pieces[0].texts)}"
