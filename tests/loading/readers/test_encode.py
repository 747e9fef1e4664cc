from __future__ import annotations

import json
import math
import uuid
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from howdah.loading.readers import BadRecord, Batch
from howdah.loading.readers.encode import TooDeep, as_batches, encode, repair

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"))
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters())
ANY_TEXT = st.text(st.characters(codec=None, exclude_categories=[]))
VALUES = st.recursive(
    SCALARS | ANY_TEXT | st.decimals() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ANY_TEXT, inner, max_size=4),
    max_leaves=20,
)


@dataclass
class Point:
    x: float


def count(value):
    if isinstance(value, dict):
        return 1 + sum(map(count, value.values()))
    return 1 + sum(map(count, value)) if isinstance(value, list) else 1


@given(st.dictionaries(ANY_TEXT, VALUES, max_size=5))
def test_any_attributes_become_json_that_jsonb_accepts_and_none_is_lost(attributes):
    text, repaired = encode(attributes)
    stored = json.loads(text, parse_constant=pytest.fail)
    assert count(stored) == count(attributes)
    assert repair(text) is None
    if not repaired:
        assert encode(stored)[0].isascii() == text.isascii()


@given(
    st.dictionaries(
        TEXT,
        st.none()
        | st.booleans()
        | st.integers()
        | TEXT
        | st.floats(allow_nan=False, allow_infinity=False),
    )
)
def test_what_json_and_jsonb_can_hold_is_neither_changed_nor_called_repaired(attributes):
    text, repaired = encode(attributes)
    assert not repaired
    assert json.loads(text) == attributes


@pytest.mark.parametrize(
    ("value", "text", "repaired"),
    [
        (Decimal("1.10"), b"1.10", False),
        (Decimal("0.1000000000000000000000000001"), b"0.1000000000000000000000000001", False),
        (10**30, b"1" + b"0" * 30, False),
        (10**5000, b"1" + b"0" * 5000, False),
        (math.nan, b'"NaN"', True),
        (-math.inf, b'"-Infinity"', True),
        ([math.inf, None], b'["Infinity",null]', True),
        (Point(math.nan), b'{"x":"NaN"}', True),
        (Decimal("sNaN"), b'"NaN"', True),
        (None, b"null", False),
        ("a\0b", '"a\ufffdb"'.encode(), True),
        ("\ud800", '"\ufffd"'.encode(), True),
        (r"\u0000", rb'"\\u0000"', False),
        (datetime(2024, 2, 29, 12, tzinfo=UTC), b'"2024-02-29T12:00:00+00:00"', False),
        (date(2024, 2, 29), b'"2024-02-29"', False),
        (timedelta(days=1, milliseconds=500), b'"PT86400.500000S"', False),
        (uuid.UUID(int=1), b'"00000000-0000-0000-0000-000000000001"', False),
        (b"\0\xff", b'"AP8="', False),
        ({1: "a", None: "b"}, b'{"1":"a","null":"b"}', False),
    ],
    ids=range(19),
)
def test_each_type_has_one_form_in_json(value, text, repaired):
    assert encode({"a": value}) == (b'{"a":' + text + b"}", repaired)


def test_names_that_repair_makes_equal_are_both_kept():
    text, repaired = encode({"a\0": 1, "a\ufffd": 2})
    assert repaired
    assert json.loads(text) == {"a\ufffd": 1, "a\ufffd_2": 2}


def test_attributes_nested_too_deeply_are_refused_not_a_crash():
    attributes = inner = {}
    for _ in range(100_000):
        inner["a"] = inner = {}
    with pytest.raises(TooDeep):
        encode(attributes)
    while attributes:  # or the interpreter would recurse to free it
        attributes = attributes.pop("a")


@pytest.mark.parametrize(
    ("text", "repaired"),
    [
        (rb'{"a":"x\u0000y"}', rb'{"a":"x\ufffdy"}'),
        (rb'["\ud83d\ude00","\ud83d","\ude00"]', rb'["\ud83d\ude00","\ufffd","\ufffd"]'),
        (rb'["\ud83d\ud83d\ude00"]', rb'["\ufffd\ud83d\ude00"]'),
        (rb'["\\u0000","\\\u0000"]', rb'["\\u0000","\\\ufffd"]'),
        (rb'{ "n" : 1.10e400, "z":"\uD800" }', rb'{ "n" : 1.10e400, "z":"\ufffd" }'),
        (b'{"a": 12345678901234567890.10}', None),
    ],
)
def test_repair_changes_what_jsonb_cannot_store_and_nothing_else(text, repaired):
    assert repair(text) == repaired


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b'{"a": NaN}', "NaN is no JSON number"),
        (b"[-Infinity]", "-Infinity is no JSON number"),
        (b'{"a": \xff}', "invalid UTF-8 at byte 6"),
        (b'{"a": }', "character 6"),
        (b"", "invalid JSON"),
        (b"[" * 100_000 + b"]" * 100_000, "nested too deeply"),
    ],
)
def test_repair_says_why_a_text_is_no_json(text, reason):
    with pytest.raises(ValueError, match=reason):
        repair(text)


def test_batches_keep_the_order_and_the_numbers_of_all_that_a_reader_yields():
    bad = BadRecord("line 3", "no")
    given_batch = Batch([7, 9], [b"1", b"2"])
    found = list(as_batches([{"a": 1}, {"a": 2}, bad, given_batch, bad, {"a": "\0"}], first=5))
    assert [b.number if isinstance(b, BadRecord) else [*b.numbers] for b in found] == [
        [5, 6],
        7,
        [7, 9],
        10,
        [11],
    ]
    assert found[-1].repaired == 1


def test_a_batch_ends_when_it_has_reached_its_size():
    sizes = [
        len(b.texts) for b in as_batches(({"a": "x" * 100} for _ in range(25)), limit_bytes=1000)
    ]
    assert sizes == [10, 10, 5]


def test_numbers_and_arrays_of_numpy_are_numbers_and_arrays():
    values = [np.int64(2**62), np.float64(0.1), np.float32(0.5), np.bool_(True)]
    arrays = [np.arange(2_000), np.array([["a"], [None]], dtype=object), np.array([1.5, 2.25])]

    text, repaired = encode({"values": values, "arrays": arrays, "long": np.longdouble(1)})

    assert json.loads(text) == {
        "values": [2**62, 0.1, 0.5, True],
        "arrays": [list(range(2_000)), [["a"], [None]], [1.5, 2.25]],
        "long": "1.0",
    }
    assert not repaired
    assert encode({"a": np.float64("nan")}) == (b'{"a":"NaN"}', True)
