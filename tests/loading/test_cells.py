"""Kinds of the cells of a column, found many at a time, are those of the records."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from howdah.loading.cells import kinds_in
from howdah.loading.inference import Kind, kinds_of
from howdah.loading.readers.layout import EXTRA_COLUMNS
from howdah.loading.records import parse

NAMES = ["a", "b"]
CELLS = [
    *("0", "-5", "123456789012345", "1234567890123456", "9223372036854775807"),
    *("-9223372036854775808", "9223372036854775808", "12345678901234567890", "007", "-0", "+5"),
    *("0.5", "-1.25", "1e-07", "0.10", "5.0", "1e5", "-0.0", "1234567890123456.5", "1" * 16_001),
    *("true", "false", "True", "2024-01-02", "2024-02-30", "2024-01-02 10:00", "2024-01-02T25:00"),
    *("2024-01-02T10:00:00Z", "2024-01-02T10:00:00.5+05:30", "2024-01-02 10:00-15:59"),
    *("2024-01-02T10:00:00+16:00", "2024-01-02T10:00:00+05:60", "2024-01-02T10:00:00+05:30:15"),
    *("123e4567-e89b-12d3-a456-426614174000", "123E4567-e89b-12d3-a456-426614174000"),
    *("", " ", "1\n2", "1,2", "a\nb", "x", "\u0663", "é", "NaN", "null", "[1]"),
]
ROWS = st.lists(st.lists(st.sampled_from(CELLS), max_size=3), max_size=6)
ALIKE = st.tuples(st.sampled_from(CELLS), st.integers(1, 5)).map(lambda t: [[t[0]]] * t[1])


def kinds_of_records(rows):
    named = [dict(zip(NAMES, row, strict=False)) for row in rows]
    records = [
        n | ({EXTRA_COLUMNS: r[2:]} if r[2:] else {}) for n, r in zip(named, rows, strict=True)
    ]
    return kinds_of([parse(json.dumps(record).encode()) for record in records], texts=True)


@given(st.lists(ROWS | ALIKE, max_size=4))
def test_kinds_are_those_of_the_records_whatever_block_a_row_is_in(blocks):
    kinds: dict[str, Kind] = {}
    for rows in blocks:
        kinds = kinds_in(rows, NAMES, kinds)

    assert kinds == kinds_of_records([row for rows in blocks for row in rows])


@pytest.mark.parametrize("first", CELLS)
def test_any_two_cells_of_a_column_have_the_kind_of_the_records(first):
    kinds = kinds_in([[first]] * 2, NAMES, {})

    for second in CELLS:
        found = kinds_in([[first], [second], [second]], NAMES, kinds)
        assert found == kinds_of_records([[first], [second]]), second
