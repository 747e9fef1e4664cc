"""A batch update by key: howdah against what Python programs do, in turn, in one run.

    python bench/update.py [--rows 200000] [--updates 10000] [--rounds 5] [--no-checkpoint]

A server of its own is started for the run. Each round runs every side once, each
on a new copy of the same table (a primary key, six columns) after a checkpoint, so that
whoever changes a page first writes all of it to the WAL; without, the table is one that
has been written to since. The new values are at hand in memory, but for howdah, which
reads them from a CSV file that it has not seen. Each side is checked: every row that was
to change has changed.
"""

from __future__ import annotations

import argparse
import csv
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import djangoside
import psycopg

import howdah
from howdah import server

BASE = "row by row, autocommit"
OURS = "howdah.load(..., updates_only)"
UPDATE = "UPDATE items SET price = %s, stock = %s WHERE id = %s"
TABLE = """
    DROP TABLE IF EXISTS items;
    CREATE TABLE items (
        id int PRIMARY KEY, name text, price numeric, stock int, note text, changed timestamptz
    );
    INSERT INTO items
    SELECT n, 'item ' || n, 1, 1, repeat('x', 40), now() FROM generate_series(1, {rows}) AS n
"""
BY_HAND = """
    UPDATE items SET price = new.price, stock = new.stock FROM new WHERE items.id = new.id
"""
Values = list[tuple[str, int, int]]
numbers = count()


def main() -> None:
    arguments = _arguments()
    folder = Path(tempfile.mkdtemp(prefix="howdah-bench-"))
    folder.chmod(0o755)
    try:
        running = server.start(folder / "server" / "cluster")
        try:
            print(f"PostgreSQL {running.version}, {arguments.updates:,} of {arguments.rows:,} rows")
            _measure(running.conninfo(), folder, arguments)
        finally:
            server.stop(running.data_dir)
    finally:
        shutil.rmtree(folder)


def _measure(dsn: str, folder: Path, arguments: argparse.Namespace) -> None:
    chance = random.Random(7)
    seconds: dict[str, list[float]] = {side: [] for side in SIDES}
    for number in range(arguments.rounds + 1):
        for side, run in SIDES.items():
            ids = chance.sample(range(1, arguments.rows + 1), arguments.updates)
            values = [(f"{chance.randrange(200, 10**6) / 100}", number + 2, id_) for id_ in ids]
            path = _written(folder / f"{next(numbers)}.csv", values)
            with psycopg.connect(dsn, autocommit=True) as conn:
                conn.execute(TABLE.format(rows=arguments.rows).encode())
                conn.execute("VACUUM ANALYZE items")  # as a table is that has been there a while
                if arguments.checkpoint:
                    conn.execute("CHECKPOINT")
            started = time.perf_counter()
            run(dsn, values, path)
            taken = time.perf_counter() - started
            _check(dsn, side, number + 2, arguments.updates)
            if number:  # the first round warms up: imports, the ledger's tables
                seconds[side].append(taken)
    base = statistics.median(seconds[BASE])
    print(f"\n{'side':<36} {'median s':>9}  {'times as fast':>13}   seconds")
    for side, taken in seconds.items():
        shown = " ".join(f"{one:.3f}" for one in taken)
        median = statistics.median(taken)
        print(f"{side:<36} {median:>9.3f}  {base / median:13.1f}   {shown}")


def _written(path: Path, values: Values) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["price", "stock", "id"])
        writer.writerows(values)
    return path


def _row_by_row(dsn: str, values: Values, _: Path) -> None:
    with psycopg.connect(dsn) as conn:
        for row in values:
            conn.execute(UPDATE, row)


def _autocommit(dsn: str, values: Values, _: Path) -> None:
    with psycopg.connect(dsn, autocommit=True) as conn:
        for row in values:
            conn.execute(UPDATE, row)


def _executemany(dsn: str, values: Values, _: Path) -> None:
    with psycopg.connect(dsn) as conn:
        conn.cursor().executemany(UPDATE, values)


def _copy_and_update(dsn: str, values: Values, _: Path) -> None:
    with psycopg.connect(dsn) as conn:
        conn.execute("CREATE TEMPORARY TABLE new (price numeric, stock int, id int)")
        with conn.cursor().copy("COPY new FROM STDIN") as copy:
            for row in values:
                copy.write_row(row)
        conn.execute(BY_HAND)


def _django_row_by_row(dsn: str, values: Values, _: Path) -> None:
    items = _items(dsn)
    for price, stock, id_ in values:
        items.filter(id=id_).update(price=price, stock=stock)
    djangoside.close()


def _django_bulk_update(dsn: str, values: Values, _: Path) -> None:
    items = _items(dsn)
    objects = [items.model(id=id_, price=price, stock=stock) for price, stock, id_ in values]
    items.bulk_update(objects, ["price", "stock"], batch_size=1_000)
    djangoside.close()


def _items(dsn: str) -> Any:
    from django.db import models

    djangoside.set_up(dsn)
    fields: dict[str, object] = {
        "id": models.IntegerField(primary_key=True),
        "price": models.DecimalField(max_digits=12, decimal_places=2),
        "stock": models.IntegerField(),
    }
    model: Any = djangoside.model("items", fields)
    return model.objects


def _howdah(dsn: str, _: Values, path: Path) -> None:
    columns = howdah.Columns(key=("id",), updates_only=True)
    report = howdah.load([path], dsn=dsn, table="items", columns=columns)
    assert not report.rejects


SIDES: dict[str, Callable[[str, Values, Path], None]] = {
    "Django's update(), row by row": _django_row_by_row,
    "Django's bulk_update, 1,000 at once": _django_bulk_update,
    BASE: _autocommit,
    "row by row, one transaction": _row_by_row,
    "executemany, one transaction": _executemany,
    "COPY and UPDATE FROM, by hand": _copy_and_update,
    OURS: _howdah,
}


def _check(dsn: str, side: str, stock: int, updates: int) -> None:
    with psycopg.connect(dsn) as conn:
        query = "SELECT count(*) FROM items WHERE stock = %s AND price <> 1"
        (found,) = conn.execute(query, [stock]).fetchone()  # type: ignore[misc]
    if found != updates:
        raise SystemExit(f"{side} changed {found} rows, not {updates}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--updates", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-checkpoint", dest="checkpoint", action="store_false")
    return parser.parse_args()


if __name__ == "__main__":
    main()
