"""Rows that COPY takes as they are stay rows, where a column is widened or one is refused."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import psycopg
import pytest

import howdah
from howdah.loading.opening import open_file, splitter_of
from howdah.loading.readers import ReaderOptions, encode
from howdah.loading.rejects import Part, deliver
from howdah.loading.target import Load, prepare
from howdah.pg import TableName
from tests.loading.columns.shared import INTO_COLUMNS, TYPES

NARROW = ("bigint", "bigint", "date", "double precision")
ROWS = [f"{n},{n},2024-01-{n % 31 + 1:02},{n}.5" for n in range(40_000)]
WIDE = {"a": "12345678901234567890", "b": "x", "c": "soon", "d": "0.10"}
TYPE = {"a": "numeric", "b": "text", "c": "text", "d": "numeric"}


def with_odd_rows(places):
    """Return the rows, with a value that is too wide for a column at some of the places."""
    rows = list(ROWS)
    for place, column in places.items():
        cells = rows[place].split(",")
        cells["abcd".index(column)] = WIDE[column]
        rows[place] = ",".join(cells)
    return rows


@pytest.fixture
def delivered(dsn, tmp_path, monkeypatch):
    """Return what delivers rows to a table t, and counts those that were made records."""

    encoded = encode.encode

    def delivered(rows, columns=None):
        path = tmp_path / "rows.csv"
        path.write_text("".join(f"{row}\n" for row in ["a,b,c,d", *rows]))
        made = []
        monkeypatch.setattr(encode, "encode", lambda row: made.append(1) or encoded(row))
        with psycopg.connect(dsn, autocommit=True) as conn, open_file(str(path)) as file:
            reader = splitter_of(file, str(path), ReaderOptions())
            start = reader.start(file)
            batch = reader.rows(file, start, path.stat().st_size - start, 1)
            load = Load(prepare(conn, TableName(None, "t"), columns), datetime.now(UTC))
            with conn.transaction():
                found = deliver(conn, load, [Part("rows.csv", [batch])])
        return found, len(made)

    return delivered


@pytest.mark.parametrize(
    "places",
    [
        {39_999: "a"},
        {20_000: "c"},
        {0: "d"},
        {10: "a", 15_000: "b", 30_000: "c", 39_990: "d"},
        dict.fromkeys(range(0, 40_000, 1_000), "a"),
    ],
)
def test_columns_are_widened_without_a_record_made_of_any_row(
    dsn, ask, tmp_path, delivered, places
):
    first = tmp_path / "first.csv"
    first.write_text("a,b,c,d\n1,1,2024-01-02,0.5\n")
    howdah.load([first], dsn=dsn, table="t", columns=INTO_COLUMNS)
    rows = with_odd_rows(places)

    found, made = delivered(rows)

    assert (found.records["rows.csv"], found.rejects, made) == (len(rows), [], 0)
    assert tuple(dict(ask(TYPES, "t")).values()) == tuple(
        TYPE[column] if column in places.values() else narrow
        for column, narrow in zip("abcd", NARROW, strict=True)
    )
    stored = ask("SELECT concat_ws(',', a, b, c, d) FROM t")
    assert sorted(stored) == sorted([*rows, "1,1,2024-01-02,0.5"])


def test_only_the_blocks_with_a_bad_row_become_records(ask, delivered):
    ask("CREATE TABLE t (a bigint, b bigint, c date, d double precision)")
    bad = with_odd_rows({10: "b", 39_999: "a"})

    found, made = delivered([*bad[:30_000], "", *bad[30_000:]])

    assert [r.record for r in found.rejects] == [11, 40_000]
    assert [json.loads(r.content)["b"] for r in found.rejects] == ["x", "39999"]
    assert found.records["rows.csv"] == len(ROWS) - 2
    assert ask("SELECT count(*), count(DISTINCT a) FROM t") == [(39_998, 39_998)]
    assert made < len(ROWS)
