"""Every record format through the whole loader, into PostgreSQL."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import psycopg
import pyarrow as pa
import pytest

import howdah
from tests.loading.readers.samples import OPTIONS, parquet, samples, sqlite


def test_a_folder_of_all_formats_gives_a_row_for_each_record(dsn, ask, tmp_path):
    wanted = {}
    for name, (data, count) in samples().items():
        if name not in OPTIONS:
            path = tmp_path / (f"{name}.csv" if name == "csv" else name)
            path.write_bytes(data)
            wanted[str(path)] = count

    report = howdah.load([tmp_path], dsn=dsn, workers=2)

    assert report.rejects == 0
    found = ask("SELECT source, count(*) FROM documents GROUP BY source")
    assert dict(found) == wanted
    assert report.records == sum(wanted.values())


@pytest.mark.parametrize("name", OPTIONS)
def test_formats_that_need_an_option_are_loaded_with_it(name, dsn, tmp_path):
    data, count = samples()[name]
    (tmp_path / "a.txt").write_bytes(data)
    report = howdah.load([tmp_path], dsn=dsn, options=OPTIONS[name])
    assert (report.records, report.rejects) == (count, 0)


def test_numbers_and_times_come_out_of_postgresql_as_they_went_in(dsn, tmp_path):
    number = Decimal("12345678901234567890123456789.123456789")
    table = pa.table(
        {
            "i": pa.array([2**63 - 1]),
            "d": pa.array([number], pa.decimal128(38, 9)),
            "ts": pa.array([dt.datetime(2024, 2, 29, 12, tzinfo=dt.UTC)]),
            "gap": pa.array([dt.timedelta(days=-1, microseconds=1)]),
            "odd": pa.array([float("nan")]),
            "far": pa.array([3_000_000], pa.date32()),
        }
    )
    (tmp_path / "a.parquet").write_bytes(parquet(table))
    (tmp_path / "b.db").write_bytes(
        sqlite("CREATE TABLE t (i)", f"INSERT INTO t VALUES ({2**63 - 1})")
    )

    report = howdah.load([tmp_path], dsn=dsn)

    assert (report.records, report.repaired) == (2, 1)
    with psycopg.connect(dsn) as conn:
        (row,) = conn.execute("""
            SELECT (attributes->>'i')::bigint, (attributes->>'d')::numeric,
                   (attributes->>'ts')::timestamptz, (attributes->>'gap')::interval,
                   (attributes->>'odd')::float8::text, attributes->>'far'
              FROM documents WHERE source LIKE '%.parquet'
        """).fetchall()
        (big,) = conn.execute(
            "SELECT attributes FROM documents WHERE source LIKE '%.db'"
        ).fetchone()
    assert row == (
        2**63 - 1,
        number,
        dt.datetime(2024, 2, 29, 12, tzinfo=dt.UTC),
        dt.timedelta(days=-1, microseconds=1),
        "NaN",
        "10183-09-21",
    )
    assert big == {"i": 2**63 - 1}


def test_a_database_in_an_archive_is_read_from_there(dsn, ask, tmp_path):
    import tarfile

    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.db").write_bytes(samples()["sqlite"][0])
    (tmp_path / "in" / "a.parquet").write_bytes(samples()["parquet"][0])
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "in", "in")

    report = howdah.load([tmp_path / "a.tar.gz"], dsn=dsn)

    assert (report.sources, report.records, report.rejects) == (2, 100, 0)
