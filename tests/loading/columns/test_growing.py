"""Tables that grow: columns added and widened, no digit lost."""

from __future__ import annotations

import json

import psycopg
import pytest

import howdah
from howdah.errors import Refused
from tests.loading.columns.shared import INTO_COLUMNS, TYPES, write
from tests.loading.test_faults import wait_until


def test_columns_are_added_and_widened_far_behind_the_sample(dsn, ask, tmp_path):
    path = tmp_path / "a.ndjson"
    with path.open("w") as file:
        for n in range(200_000):
            file.write(
                f'{{"n": {n}, "code": "{n:08}", "when": "2024-01-02", "pad": "{"x" * 60}"}}\n'
            )
        file.write('{"n": 1.5, "code": [1], "when": "2024-01-02 03:04", "late": true}\n')

    report = howdah.load([path], dsn=dsn, table="t", columns=INTO_COLUMNS, workers=2)

    assert (report.records, report.rejects) == (200_001, 0)
    assert dict(ask(TYPES, "t")) == {
        "n": "numeric",  # a bigint may have more digits than a double
        "code": "jsonb",
        "when": "timestamp without time zone",
        "pad": "text",
        "late": "boolean",
    }
    assert ask("SELECT count(*), count(DISTINCT n), sum(n) FROM t") == [
        (200_001, 200_001, sum(range(200_000)) + 1.5)
    ]
    assert ask("SELECT code FROM t WHERE n IN (7, 1.5) ORDER BY n") == [[1], "00000007"]


@pytest.mark.long
@pytest.mark.parametrize("suffix", ["csv", "ndjson"])
def test_many_workers_that_widen_at_once_lose_nothing(dsn, ask, tmp_path, suffix):
    """Every chunk holds what the table has no room for yet."""
    path = tmp_path / f"a.{suffix}"
    with path.open("w") as file:
        if suffix == "csv":
            file.write("n,x\n")
        for n in range(300_000):
            odd = {0: "text", 1: 0.25, 2: True}.get(n // 10_000 % 4) if n % 5_000 == 4_999 else n
            row = {"n": n, "x": odd, f"c{n // 15_000}": n} if suffix == "ndjson" else None
            file.write(f"{json.dumps(row)}\n" if row else f"{n},{odd}{',1' * (n % 9_999 == 0)}\n")

    report = howdah.load([path], dsn=dsn, table="t", columns=INTO_COLUMNS, workers=4)

    assert (report.records, report.rejects) == (300_000, 0)
    assert ask("SELECT count(DISTINCT n) FROM t") == [300_000]
    assert dict(ask(TYPES, "t"))["x"] == "text"


def test_value_that_the_server_would_change_widens_the_column(dsn, ask, tmp_path):
    first = tmp_path / "a.csv"
    first.write_text("i,f,day,at,flag\n1,0.5,2024-01-02,2024-01-02 03:04,true\n")
    second = tmp_path / "b.csv"
    second.write_text("i,f,day,at,flag\n007,0.10,2024-01-02 03:04,2024-01-02 03:04Z,1\n")
    for path in (first, second):
        howdah.load([path], dsn=dsn, table="t", columns=INTO_COLUMNS)

    assert [found for _, found in ask(TYPES, "t")] == [
        "text",
        "numeric",
        "timestamp without time zone",
        "text",
        "text",
    ]
    assert ask("SELECT i, f::text, day::text, flag FROM t ORDER BY i") == [
        ("007", "0.10", "2024-01-02 03:04:00", "1"),
        ("1", "0.5", "2024-01-02 00:00:00", "true"),
    ]


def test_widened_values_do_not_depend_on_the_settings_of_the_role(dsn, ask, tmp_path):
    ask("""
        DO $$ BEGIN
            EXECUTE format('ALTER DATABASE %I SET DateStyle = ''German''', current_database());
            EXECUTE format('ALTER DATABASE %I SET extra_float_digits = -5', current_database());
        END $$
    """)
    for number, row in enumerate(["2024-01-02,0.1234567890123457", "never,none"]):
        (tmp_path / f"{number}.csv").write_text(f"day,f\n{row}\n")
        howdah.load([tmp_path / f"{number}.csv"], dsn=dsn, table="t", columns=INTO_COLUMNS)

    assert ask("SELECT * FROM t ORDER BY day") == [
        ("2024-01-02", "0.1234567890123457"),
        ("never", "none"),
    ]


def test_table_whose_mark_is_gone_stays_as_it_is(dsn, ask, tmp_path):
    howdah.load([write(tmp_path / "a.ndjson", {"n": 1})], dsn=dsn, table="t", columns=INTO_COLUMNS)
    ask("COMMENT ON TABLE t IS NULL")

    report = howdah.load([write(tmp_path / "b.ndjson", {"n": "x"}, {"new": 1})], dsn=dsn, table="t")

    assert (report.records, report.rejects) == (0, 2)
    assert ask(TYPES, "t") == [("n", "bigint")]


@pytest.mark.parametrize(
    "obstacle",
    [
        "CREATE VIEW v AS SELECT n FROM t",
        "ALTER TABLE t ADD twice bigint GENERATED ALWAYS AS (n * 2) STORED",
        "ALTER TABLE t ADD CHECK (n > 0)",
        "CREATE UNIQUE INDEX ON t (abs(n))",
    ],
)
def test_column_that_something_depends_on_is_refused_and_the_load_goes_on_later(
    dsn, ask, tmp_path, obstacle
):
    howdah.load([write(tmp_path / "a.ndjson", {"n": 1})], dsn=dsn, table="t", columns=INTO_COLUMNS)
    ask(obstacle)
    path = write(tmp_path / "b.ndjson", {"n": 2}, {"n": "x"})

    with pytest.raises(Refused, match="do not fit t") as refused:
        howdah.load([path], dsn=dsn, table="t")

    assert 'ALTER COLUMN "n" TYPE text' in str(refused.value)
    assert ask("SELECT n FROM t") == [1]
    ask("DROP TABLE t CASCADE")
    assert howdah.load([path], dsn=dsn, table="t", columns=INTO_COLUMNS).records == 2


def test_reader_of_the_table_does_not_hold_the_widening_up_for_ever(howdah, dsn, ask, tmp_path):
    howdah("load", write(tmp_path / "a.ndjson", {"n": 1}), "--as", "columns", "--table", "t")
    with psycopg.connect(dsn) as reader:
        reader.execute("SELECT * FROM t")
        loading = howdah.start("load", write(tmp_path / "b.ndjson", {"n": "x"}), "--table", "t")
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
        wait_until(lambda: ask(waiting) == [1])
        wait_until(lambda: ask(waiting) == [0])  # others are let through in between
        assert ask("SELECT n FROM t") == [1]
    _, errors = loading.communicate(timeout=60)

    assert loading.returncode == 0, errors
    assert ask("SELECT n FROM t ORDER BY n") == ["1", "x"]
