"""Which type holds some values, without losing a digit."""

from __future__ import annotations

import json
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from howdah.loading.inference import Kind, fits, join, kind_of_type, kinds_of, sql_type
from howdah.loading.records import parse


def type_of(*values, texts=True) -> str:
    """Return the type for values, of which numbers are given as JSON has them."""
    records = [parse(b'{"x": %b}' % json.dumps(value).encode()) for value in values]
    return sql_type(kinds_of(records, texts=texts)["x"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", "bigint"),
        ("-1", "bigint"),
        ("9223372036854775807", "bigint"),
        ("9223372036854775808", "numeric"),
        ("-9223372036854775808", "bigint"),
        ("-9223372036854775809", "numeric"),
        ("12345678901234567890", "numeric"),
        ("007", "text"),
        ("00", "text"),
        ("+5", "text"),
        (" 5", "text"),
        ("5 ", "text"),
        ("-0", "text"),
        ("-0.0", "text"),
        ("1_000", "text"),
        ("0x1F", "text"),
        ("1,5", "text"),
        ("\u0663", "text"),
        ("0.1", "double precision"),
        ("-2.5", "double precision"),
        ("1.50", "numeric"),
        ("1.0", "numeric"),
        ("1e5", "numeric"),
        ("1e-05", "double precision"),
        ("0.1000000000000000055511151231257827", "numeric"),
        ("123456789.123456789", "numeric"),
        ("1e9999", "text"),
        (".5", "text"),
        ("5.", "text"),
        ("NaN", "text"),
        ("true", "boolean"),
        ("false", "boolean"),
        ("True", "text"),
        ("t", "text"),
        ("yes", "text"),
        ("2024-02-29", "date"),
        ("2023-02-29", "text"),
        ("0000-01-01", "text"),
        ("20240229", "bigint"),
        ("\u0662\u0660\u0662\u0664-01-01", "text"),
        ("2024-01-02 03:04", "timestamp without time zone"),
        ("2024-01-02T03:04:05.123456", "timestamp without time zone"),
        ("2024-01-02T03:04:05.1234567", "text"),
        ("2024-01-02T24:00:00", "text"),
        ("2024-01-02T03:04:60", "text"),
        ("2024-01-02T03:04:05Z", "timestamp with time zone"),
        ("2024-01-02 03:04:05+0530", "timestamp with time zone"),
        ("2024-01-02 03:04:05-08", "timestamp with time zone"),
        ("2024-01-02 03:04:05+16:00", "text"),
        ("123e4567-e89b-12d3-a456-426614174000", "uuid"),
        ("123E4567-E89B-12D3-A456-426614174000", "text"),
        ("{123e4567-e89b-12d3-a456-426614174000}", "text"),
        ("", "text"),
        ("hello", "text"),
    ],
)
def test_text_of_a_file_without_types_has_the_type_that_gives_it_back(text, expected):
    assert type_of(text) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("5", "text"),
        ("true", "text"),
        ("1.5", "text"),
        ("2024-01-02", "date"),
        ("2024-01-02T03:04:05Z", "timestamp with time zone"),
        ("123e4567-e89b-12d3-a456-426614174000", "uuid"),
        (5, "bigint"),
        (2**70, "numeric"),
        (True, "boolean"),
        (None, "text"),
        ([1], "jsonb"),
        ({}, "jsonb"),
    ],
)
def test_json_says_itself_what_is_a_number_but_not_what_is_a_moment(value, expected):
    assert type_of(value, texts=False) == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (("1", ""), "bigint"),
        (("1", "0.5"), "double precision"),
        (("1", "1.50"), "numeric"),
        (("0.5", "1.50"), "numeric"),
        (("1234567890123456", "0.5"), "numeric"),
        (("1", "12345678901234567890", "0.5"), "numeric"),
        (("1", "007"), "text"),
        (("1", "true"), "text"),
        (("2024-01-02", "2024-01-02 03:04"), "timestamp without time zone"),
        (("2024-01-02", "2024-01-02 03:04Z"), "text"),
        (("2024-01-02 03:04", "2024-01-02 03:04Z"), "text"),
        (("2024-01-02", "5"), "text"),
        ((1, "x"), "text"),
        ((1, [1]), "jsonb"),
        (("x", {"a": 1}), "jsonb"),
    ],
)
def test_values_of_several_kinds_have_one_type_in_whatever_order(values, expected):
    assert {type_of(*order) for order in permutations(values)} == {expected}


@given(st.sampled_from(Kind), st.sampled_from(Kind), st.sampled_from(Kind))
def test_join_is_a_least_upper_bound(one, two, three):
    assert join(one, one) is one
    assert join(one, two) is join(two, one)
    assert join(one, Kind.NOTHING) is one
    assert join(join(one, two), two) is join(one, two)
    if Kind.TEXT not in (join(one, two), join(two, three)):
        assert join(join(one, two), three) is join(one, join(two, three))


@given(st.lists(st.text() | st.integers() | st.floats(allow_nan=False).map(repr), min_size=1))
def test_what_values_were_inferred_for_holds_them(values):
    kind = kinds_of([{"x": value} for value in values], texts=True)["x"]
    column = kind_of_type(sql_type(kind))

    assert column is not None
    assert all(fits(value, column, texts=True) for value in values)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("007", Kind.INTEGER),
        ("1", Kind.BOOLEAN),
        ("t", Kind.BOOLEAN),
        ("2024-01-02 10:00", Kind.DATE),
        ("2024-01-02 10:00Z", Kind.TIMESTAMP),
        ("2024-01-02 10:00", Kind.TIMESTAMPTZ),
        ("1234567890123456", Kind.DOUBLE),
        ("0.10000000000000001", Kind.DOUBLE),
        ("NaN", Kind.NUMERIC),
        ([1], Kind.TEXT),
    ],
)
def test_what_the_server_would_take_but_change_does_not_fit(value, kind):
    assert not fits(value, kind, texts=True)
