"""Loading against other tools and libraries, on the same records, in turn, in one run.

    python bench/peers.py [--records 500000] [--rounds 3] [--only json|csv] [--out docs/pictures]

Two tasks: NDJSON into a jsonb column, and CSV of 12 columns into a typed table.
A way that takes more than ten times as long gets fewer records; the figure is
records a second. Needs what `tools/setup all,bench` installs; a peer that is
not there is left out, and said so. howdah's side is the whole command.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import importlib.util
import json
import random
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import partial
from itertools import islice
from pathlib import Path

import common
import djangoside
import psycopg
from common import AS_IT_IS, BINARY, Side

from howdah import server

FEW = 25_000
"""How many records a slow way gets, at most."""

JSON_TABLE = "CREATE TABLE plain (attributes jsonb)"
COLUMNS = {
    "id": "bigint",
    "code": "text",
    "name": "text",
    "email": "text",
    "age": "bigint",
    "balance": "numeric",
    "score": "double precision",
    "active": "boolean",
    "born": "date",
    "seen": "timestamptz",
    "token": "uuid",
    "city": "text",
}
CSV_TABLE = f"CREATE TABLE people ({', '.join(f'{n} {t}' for n, t in COLUMNS.items())})"


class Task:
    """A server, and the files that each side loads."""

    def __init__(self, running: server.Running, folder: Path, records: int) -> None:
        self.running = running
        self.dsn = running.conninfo()
        self.folder = folder
        self.records = records
        self.sides: list[Side] = []

    def add(
        self,
        name: str,
        run: Callable[[Path], object],
        *,
        needs: str = "",
        slow: bool = False,
        into: str = "",
        note: str = "",
    ) -> None:
        """Add a side, if what it needs is installed; `into`: another table than the task's."""
        if needs and importlib.util.find_spec(needs) is None and shutil.which(needs) is None:
            print(f"left out: {name} ({needs} is not installed)")
            return
        file = self.few if slow else self.data
        count = min(FEW, self.records) if slow else self.records

        check = partial(common.counted, self.dsn, into or self.table, count)
        self.sides.append(Side(name, partial(run, file), count, note, check))

    data: Path
    few: Path

    table = "plain"


# ---- NDJSON into jsonb


def json_task(running: server.Running, folder: Path, records: int) -> Task:
    """Return the task of loading NDJSON, with its sides."""
    task = Task(running, folder, records)
    task.data, task.few = folder / "records.ndjson", folder / "few.ndjson"
    common.write_records(task.data, records)
    common.write_records(task.few, min(FEW, records))
    halves, dsn = common.halves(task.data), task.dsn
    binary = [common.binary(half) for half in halves]
    copy = common.server_copy
    task.add("COPY FROM, 2 backends", lambda _: copy(dsn, halves, "plain", AS_IT_IS))
    task.add("COPY FROM, 1 backend", lambda file: copy(dsn, [file], "plain", AS_IT_IS))
    task.add(
        "COPY FROM, binary, 2 backends",
        lambda _: copy(dsn, binary, "plain", BINARY),
    )
    task.add("psql \\copy", lambda file: common.psql_copy(running, file, "plain", AS_IT_IS))
    task.add("howdah load", lambda file: _howdah(dsn, file), into="documents")
    task.add("psycopg copy.write_row", lambda file: _psycopg_copy(dsn, file))
    task.add("psycopg executemany", lambda file: _psycopg_executemany(dsn, file), slow=True)
    task.add("asyncpg copy", lambda file: _asyncpg(dsn, file), needs="asyncpg")
    task.add(
        "SQLAlchemy insert", lambda file: _sqlalchemy(dsn, file), needs="sqlalchemy", slow=True
    )
    task.add("Django bulk_create", lambda file: _django(dsn, file), needs="django", slow=True)
    return task


def _howdah(dsn: str, file: Path, *options: str) -> None:
    command = [sys.executable, "-m", "howdah", "load", "--quiet", "--dsn", dsn, str(file), *options]
    subprocess.run(command, check=True, env=common.compiled())


def _psycopg_copy(dsn: str, file: Path) -> None:
    with (
        psycopg.connect(dsn) as conn,
        file.open() as lines,
        conn.cursor().copy("COPY plain FROM STDIN") as copy,
    ):
        for line in lines:
            copy.write_row([line])


def _psycopg_executemany(dsn: str, file: Path) -> None:
    with psycopg.connect(dsn) as conn, file.open() as lines:
        conn.cursor().executemany("INSERT INTO plain VALUES (%s)", ([line] for line in lines))


def _asyncpg(dsn: str, file: Path) -> None:
    import asyncpg

    async def load() -> None:
        conn = await asyncpg.connect(**_for_asyncpg(dsn))
        with file.open() as lines:
            await conn.copy_records_to_table("plain", records=((line,) for line in lines))
        await conn.close()

    asyncio.run(load())


def _for_asyncpg(dsn: str) -> dict[str, object]:
    known = psycopg.conninfo.conninfo_to_dict(dsn)
    return {
        "host": known["host"],
        "port": int(known["port"] or 5432),
        "database": known["dbname"],
        "user": known["user"],
        "passfile": known.get("passfile"),
    }


def _engine(dsn: str) -> object:
    from sqlalchemy import create_engine

    return create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(dsn))


def _sqlalchemy(dsn: str, file: Path) -> None:
    from sqlalchemy import Column, MetaData, Table, insert
    from sqlalchemy.dialects.postgresql import JSONB

    table = Table("plain", MetaData(), Column("attributes", JSONB))
    with _engine(dsn).begin() as conn, file.open() as lines:  # type: ignore[attr-defined]
        while batch := [{"attributes": json.loads(line)} for line in islice(lines, 10_000)]:
            conn.execute(insert(table), batch)


def _django(dsn: str, file: Path) -> None:
    from django.db import models, transaction

    djangoside.set_up(dsn)
    plain = djangoside.model("plain", {"attributes": models.JSONField(primary_key=True)})
    with transaction.atomic(), file.open() as lines:
        while batch := [plain(attributes=json.loads(line)) for line in islice(lines, 10_000)]:
            plain.objects.bulk_create(batch)  # type: ignore[attr-defined]
    djangoside.close()


# ---- CSV into a typed table


def csv_task(running: server.Running, folder: Path, records: int) -> Task:
    """Return the task of loading CSV, with its sides."""
    task = Task(running, folder, records)
    task.table = "people"
    task.data, task.few = folder / "people.csv", folder / "few.csv"
    _write_people(task.data, records)
    _write_people(task.few, min(FEW, records))
    halves, dsn = _headless_halves(task.data), task.dsn
    copy, options = common.server_copy, "WITH (FORMAT csv)"
    with_header = "WITH (FORMAT csv, HEADER)"
    task.add("COPY FROM, 2 backends", lambda _: copy(dsn, halves, "people", options))
    task.add("COPY FROM, 1 backend", lambda file: copy(dsn, [file], "people", with_header))
    task.add("psql \\copy", lambda file: common.psql_copy(running, file, "people", with_header))
    task.add("howdah load", lambda file: _howdah(dsn, file, "--table", "people"))
    task.add(
        "howdah load --as columns",
        lambda file: _howdah(dsn, file, "--table", "made", "--as", "columns"),
        into="made",
        note="makes the table",
    )
    task.add("psycopg copy.write_row", lambda file: _psycopg_people(dsn, file))
    task.add("asyncpg copy", lambda file: _asyncpg_people(dsn, file), needs="asyncpg", slow=True)
    task.add("ADBC ingest", lambda file: _adbc(dsn, file), needs="adbc_driver_postgresql")
    task.add("pgloader", lambda file: _pgloader(dsn, file), needs="pgloader", slow=True)
    task.add(
        "SQLAlchemy insert",
        lambda file: _sqlalchemy_people(dsn, file),
        needs="sqlalchemy",
        slow=True,
    )
    task.add("pandas to_sql", lambda file: _pandas(dsn, file), needs="pandas", slow=True)
    task.add(
        "Django bulk_create", lambda file: _django_people(dsn, file), needs="django", slow=True
    )
    task.add("dlt", lambda file: _dlt(dsn, file), needs="dlt", slow=True)
    return task


def _write_people(path: Path, count: int) -> None:
    chance = random.Random(11)
    first = datetime(2024, 1, 1, tzinfo=UTC)
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for number in range(count):
            writer.writerow(
                [
                    number,
                    f"{chance.randrange(10**6):06}",
                    f"user {chance.randrange(10**6)}",
                    f"u{chance.randrange(10**6)}@example.com",
                    chance.randrange(18, 90),
                    f"{chance.randrange(10**6) / 100:.2f}",
                    chance.random(),
                    chance.choice(["true", "false"]),
                    date(1950, 1, 1) + timedelta(days=chance.randrange(20_000)),
                    (first + timedelta(seconds=chance.randrange(10**7))).isoformat(),
                    uuid.UUID(int=chance.getrandbits(128)),
                    chance.choice(["Oslo", "Paris", "Rome", "Kyiv", "Lima"]),
                ]
            )


def _headless_halves(data: Path) -> list[Path]:
    headless = data.with_suffix(".headless")
    with data.open("rb") as file, headless.open("wb") as out:
        file.readline()
        shutil.copyfileobj(file, out, 1 << 20)
    return common.halves(headless)


def _rows(file: Path) -> Iterator[list[str]]:
    with file.open(newline="") as lines:
        rows = csv.reader(lines)
        next(rows)
        yield from rows


def _typed_rows(file: Path) -> Iterator[tuple[object, ...]]:
    for row in _rows(file):
        yield (
            int(row[0]),
            row[1],
            row[2],
            row[3],
            int(row[4]),
            Decimal(row[5]),
            float(row[6]),
            row[7] == "true",
            date.fromisoformat(row[8]),
            datetime.fromisoformat(row[9]),
            uuid.UUID(row[10]),
            row[11],
        )


def _psycopg_people(dsn: str, file: Path) -> None:
    with psycopg.connect(dsn) as conn, conn.cursor().copy("COPY people FROM STDIN") as copy:
        for row in _rows(file):
            copy.write_row(row)


def _asyncpg_people(dsn: str, file: Path) -> None:
    import asyncpg

    async def load() -> None:
        conn = await asyncpg.connect(**_for_asyncpg(dsn))
        await conn.copy_records_to_table("people", records=_typed_rows(file))
        await conn.close()

    asyncio.run(load())


def _adbc(dsn: str, file: Path) -> None:
    import adbc_driver_postgresql.dbapi as adbc
    import pyarrow as pa
    import pyarrow.csv as arrow_csv

    # Its driver has no numeric and uuid: the table it appends to has what it can write.
    types = {
        "code": pa.string(),
        "balance": pa.float64(),
        "token": pa.string(),
        "seen": pa.timestamp("us", "UTC"),
    }
    data = arrow_csv.read_csv(file, convert_options=arrow_csv.ConvertOptions(column_types=types))
    known = psycopg.conninfo.conninfo_to_dict(dsn)
    uri = f"postgresql:///{known['dbname']}?host={known['host']}&port={known['port']}&user={known['user']}"
    with adbc.connect(f"{uri}&passfile={known['passfile']}") as conn, conn.cursor() as cursor:
        cursor.adbc_ingest("people", data, mode="replace")
        conn.commit()


def _pgloader(dsn: str, file: Path) -> None:
    known = psycopg.conninfo.conninfo_to_dict(dsn)
    password = Path(known["passfile"]).read_text().strip().rsplit(":", 1)[1]
    script = file.with_suffix(".load")
    # pgloader cannot find a unix socket by a path with dots: over TCP.
    script.write_text(f"""
LOAD CSV FROM '{file}' ({", ".join(COLUMNS)})
INTO postgresql://{known["user"]}:{password}@127.0.0.1:{known["port"]}/{known["dbname"]}?people
({", ".join(COLUMNS)})
WITH skip header = 1, fields terminated by ',', fields optionally enclosed by '"';
""")
    subprocess.run(["pgloader", "-q", str(script)], check=True, stdout=subprocess.DEVNULL)


def _sqlalchemy_people(dsn: str, file: Path) -> None:
    from sqlalchemy import MetaData, Table, insert

    engine = _engine(dsn)
    table = Table("people", MetaData(), autoload_with=engine)  # type: ignore[arg-type]
    rows = _typed_rows(file)
    with engine.begin() as conn:  # type: ignore[attr-defined]
        while batch := [dict(zip(COLUMNS, row, strict=True)) for row in islice(rows, 10_000)]:
            conn.execute(insert(table), batch)


def _pandas(dsn: str, file: Path) -> None:
    import pandas as pd
    from sqlalchemy import types

    frame = pd.read_csv(
        file, dtype={"code": str}, parse_dates=["born", "seen"], converters={"token": uuid.UUID}
    )
    frame.to_sql(
        "people",
        _engine(dsn),  # type: ignore[arg-type]
        if_exists="append",
        index=False,
        chunksize=10_000,
        dtype={"token": types.UUID()},
    )


def _django_people(dsn: str, file: Path) -> None:
    from django.db import models, transaction

    djangoside.set_up(dsn)
    people = djangoside.model(
        "people",
        {
            "id": models.BigIntegerField(primary_key=True),
            "code": models.TextField(),
            "name": models.TextField(),
            "email": models.TextField(),
            "age": models.BigIntegerField(),
            "balance": models.DecimalField(max_digits=20, decimal_places=2),
            "score": models.FloatField(),
            "active": models.BooleanField(),
            "born": models.DateField(),
            "seen": models.DateTimeField(),
            "token": models.UUIDField(),
            "city": models.TextField(),
        },
    )
    rows = _typed_rows(file)
    with transaction.atomic():
        while batch := [
            people(**dict(zip(COLUMNS, row, strict=True))) for row in islice(rows, 10_000)
        ]:
            people.objects.bulk_create(batch)  # type: ignore[attr-defined]
    djangoside.close()


def _dlt(dsn: str, file: Path) -> None:
    import dlt
    from dlt.destinations import postgres

    known = psycopg.conninfo.conninfo_to_dict(dsn)
    password = Path(known["passfile"]).read_text().strip().rsplit(":", 1)[1]
    address = f"postgresql://{known['user']}:{password}@127.0.0.1:{known['port']}/{known['dbname']}"
    pipeline = dlt.pipeline(
        f"bench_{uuid.uuid4().hex[:8]}",
        destination=postgres(address),
        dataset_name="dlt_bench",
        pipelines_dir=str(file.parent / "dlt"),
    )
    names = list(COLUMNS)
    rows = (dict(zip(names, row, strict=True)) for row in _typed_rows(file))
    pipeline.run(rows, table_name="people")
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("DROP TABLE people")
        conn.execute("ALTER TABLE dlt_bench.people SET SCHEMA public")
        conn.execute("DROP SCHEMA dlt_bench CASCADE")


# ---- both


TASKS = {
    "json": (json_task, "NDJSON of 15 attributes into jsonb", JSON_TABLE),
    "csv": (csv_task, "CSV of 12 columns into a typed table", CSV_TABLE),
}


def main() -> None:
    arguments = _arguments()
    with common.own_server() as (running, folder):
        for name in [arguments.only] if arguments.only else TASKS:
            make, title, create = TASKS[name]
            task = make(running, folder, arguments.records)
            print(f"\nPostgreSQL {running.version}: {title}, {arguments.rounds} rounds\n")
            drop = "DROP TABLE IF EXISTS plain, people, documents, made"
            before = partial(common.settled, task.dsn, drop, create)
            common.in_turn(task.sides, arguments.rounds, before)
            print(common.table(task.sides, task.sides[0]))
            common.chart(task.sides, title, arguments.out / f"peers-{name}.svg")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=500_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=TASKS)
    parser.add_argument("--out", type=Path, default=Path("bench/out"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
