from __future__ import annotations

import sqlite3

import pytest

from howdah.loading.readers import UnreadableSource
from howdah.loading.readers.sqlite import SQLite

from .reading import items, texts
from .samples import sqlite

BIG = 2**63 - 1


def test_each_row_of_each_table_is_a_record_with_the_tables_name():
    data = sqlite(
        "CREATE TABLE b (x)",
        "INSERT INTO b VALUES (1), (2)",
        "CREATE TABLE a (k TEXT PRIMARY KEY, v) WITHOUT ROWID",
        "INSERT INTO a VALUES ('k', 1)",
        "CREATE TABLE empty (x)",
        "CREATE VIEW seen AS SELECT * FROM b",
        "CREATE VIRTUAL TABLE words USING fts5(x)",
        "CREATE TABLE counted (id INTEGER PRIMARY KEY AUTOINCREMENT)",
    )
    assert items(SQLite(), data) == [
        {"table": "a", "k": "k", "v": 1},
        {"table": "b", "x": 1},
        {"table": "b", "x": 2},
    ]


def test_in_a_database_of_one_table_a_column_keeps_the_name_table():
    data = sqlite('CREATE TABLE t ("table", x)', "INSERT INTO t VALUES ('a', 1)")
    assert items(SQLite(), data) == [{"table": "a", "x": 1}]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (BIG, str(BIG)),
        (-BIG - 1, str(-BIG - 1)),
        (0.1, "0.1"),
        (None, "null"),
        ("é\0日", '"é\ufffd日"'),
        (b"\0\xff", '"AP8="'),
        (float("inf"), '"Infinity"'),
    ],
)
def test_a_value_is_exact(value, text):
    data = sqlite("CREATE TABLE t (v)", ("INSERT INTO t VALUES (?)", [value]))
    assert texts(items(SQLite(), data)) == [f'{{"v":{text}}}'.encode()]


def test_text_that_is_no_utf8_is_repaired():
    data = sqlite("CREATE TABLE t (v)", "INSERT INTO t VALUES (CAST(x'61FF' AS TEXT))")
    assert texts(items(SQLite(), data)) == ['{"v":"a\ufffd"}'.encode()]


def test_any_name_of_a_table_and_of_columns_is_read():
    data = sqlite(
        'CREATE TABLE "we""ird; DROP %s {}" ("a b", "c""d", "é", "select")',
        'INSERT INTO "we""ird; DROP %s {}" VALUES (1, 2, 3, 4)',
    )
    assert items(SQLite(), data) == [{"a b": 1, 'c"d': 2, "é": 3, "select": 4}]


def test_the_file_itself_is_read_in_place_and_nothing_is_written_beside_it(tmp_path):
    path = tmp_path / "a b?#%.db"
    conn = sqlite3.connect(path)
    conn.execute("PRAGMA journal_mode = wal")
    conn.execute("CREATE TABLE t (v)")
    conn.execute("INSERT INTO t VALUES (1)")
    conn.commit()
    conn.close()
    path.chmod(0o444)
    with path.open("rb") as file:
        assert list(SQLite().read(file, "a.db")) == [{"v": 1}]
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_a_file_that_is_gone_from_its_folder_is_read_from_a_copy(tmp_path):
    path = tmp_path / "a.db"
    path.write_bytes(sqlite("CREATE TABLE t (v)", "INSERT INTO t VALUES (1)"))
    with path.open("rb") as file:
        path.unlink()
        assert list(SQLite().read(file, "a.db")) == [{"v": 1}]


def test_a_database_that_is_cut_off_gives_what_can_be_read_and_says_so():
    rows = [("INSERT INTO t VALUES (?)", ["x" * 1000]) for _ in range(100)]
    data = sqlite("CREATE TABLE t (v)", *rows)
    found = []
    with pytest.raises(UnreadableSource, match="broken or cut off"):
        found.extend(items(SQLite(), data[: len(data) // 2]))
    with pytest.raises(UnreadableSource, match="broken or cut off"):
        items(SQLite(), data[:100])
