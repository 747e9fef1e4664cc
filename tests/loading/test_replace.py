"""Other rows for a table: readers see all old ones or all new ones, whatever hangs on it."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import contextmanager

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

import howdah
from howdah.errors import HowdahError, Refused
from tests.fixtures.commands import Howdah
from tests.loading.proxy import Proxy
from tests.loading.records import PAIRS, digest, write_ndjson
from tests.loading.test_faults import wait_until

OLD, NEW = 1_000, 3_000


@pytest.fixture
def csv(tmp_path):
    def write(count, name="a.csv", start=0):
        path = tmp_path / name
        rows = "".join(f"{n},{count}\n" for n in range(start, start + count))
        path.write_text(f"id,n\n{rows}")
        return path

    return write


class Reader(threading.Thread):
    """Counts the rows of a table all the time, on a connection of its own."""

    def __init__(self, dsn, query):
        super().__init__()
        self.seen: list[object] = []
        self._dsn, self._query = dsn, query
        self._enough = threading.Event()

    def run(self):
        try:
            with psycopg.connect(self._dsn, autocommit=True) as conn:
                while not self._enough.is_set():
                    found = conn.execute(self._query).fetchone()
                    if self.seen[-1:] != [found]:
                        self.seen.append(found)
        except psycopg.Error as exc:
            self.seen.append(exc)

    def __enter__(self):
        self.start()
        wait_until(lambda: self.seen)
        return self

    def __exit__(self, *_):
        self._enough.set()
        self.join()


BINDINGS = {
    "nothing": "",
    "a view": "CREATE VIEW v AS SELECT * FROM t",
    "a materialised view": "CREATE MATERIALIZED VIEW v AS SELECT n FROM t",
    "a function": "CREATE FUNCTION f() RETURNS bigint BEGIN ATOMIC SELECT count(*) FROM t; END",
    "a function of its rows": "CREATE FUNCTION f(t) RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "a foreign key to it": "CREATE TABLE o (t int REFERENCES t); INSERT INTO o VALUES (1), (999)",
    "a foreign key of it": "ALTER TABLE t ADD FOREIGN KEY (n) REFERENCES ns",
    "a foreign key to itself": "ALTER TABLE t ADD parent int REFERENCES t; UPDATE t SET parent = 7",
    "a trigger": """
        CREATE FUNCTION g() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END';
        CREATE TRIGGER g BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION g()
    """,
    "a grant": "GRANT SELECT ON t TO pg_monitor",
    "a grant of a column": "GRANT SELECT (n) ON t TO pg_monitor",
    "a policy": "ALTER TABLE t ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON t USING (true)",
    "a publication": "CREATE PUBLICATION p FOR TABLE t",
    "a setting": "ALTER TABLE t SET (fillfactor = 50)",
    "a child": "CREATE TABLE child () INHERITS (t)",
}


@pytest.mark.parametrize("binding", BINDINGS)
def test_reader_sees_all_old_rows_or_all_new_ones(dsn, ask, csv, binding):
    ask(f"""
        CREATE TABLE ns (n int PRIMARY KEY);
        INSERT INTO ns VALUES ({OLD}), ({NEW});
        CREATE TABLE t (id int PRIMARY KEY, n int);
        CREATE INDEX t_n ON t (n) WHERE n > 0;
        INSERT INTO t SELECT g, {OLD} FROM generate_series(0, {OLD - 1}) AS g
    """)
    ask(BINDINGS[binding])
    oid = ask("SELECT 't'::regclass::oid")

    with Reader(dsn, "SELECT count(*), min(n), max(n) FROM t") as reader:
        report = howdah.load([csv(NEW)], dsn=dsn, table="t", replace=True)
        wait_until(lambda: len(reader.seen) > 1)

    assert (report.records, report.rejects) == (NEW, 0)
    assert reader.seen == [(OLD, OLD, OLD), (NEW, NEW, NEW)]
    assert ask("SELECT count(*), sum(id) FROM t") == [(NEW, sum(range(NEW)))]
    assert ask("SELECT to_regclass('t__next')") == [None]
    assert (ask("SELECT 't'::regclass::oid") == oid) == (binding != "nothing")
    assert ask("SELECT indexname FROM pg_indexes WHERE tablename = 't' ORDER BY 1") == [
        "t_n",
        "t_pkey",
    ]
    if binding.startswith("a view"):
        assert ask("SELECT count(*) FROM v") == [NEW]


def test_documents_are_replaced_too_and_ids_go_on(dsn, ask, tmp_path):
    howdah.load([write_ndjson(tmp_path / "a.ndjson", 10)], dsn=dsn)
    last = ask("SELECT max(id) FROM documents")[0]
    types = "SELECT pg_get_serial_sequence('documents', 'id')"
    sequence, comment = ask(types), ask("SELECT obj_description('documents'::regclass)")

    howdah.load([write_ndjson(tmp_path / "b.ndjson", 20)], dsn=dsn, replace=True)
    assert ask("SELECT count(*), min(id) > %s FROM documents", last) == [(20, True)]
    assert ask(types) == sequence
    assert ask("SELECT obj_description('documents'::regclass)") == comment

    assert howdah.load([tmp_path / "b.ndjson"], dsn=dsn).skipped == 1
    howdah.load([tmp_path / "a.ndjson"], dsn=dsn)
    assert ask("SELECT count(*), count(DISTINCT id) FROM documents") == [(30, 30)]


@pytest.mark.parametrize("bound", [False, True])
def test_sequences_go_on_behind_the_new_rows(dsn, ask, tmp_path, bound):
    ask("CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, n int)")
    ask("INSERT INTO t (n) SELECT 0 FROM generate_series(1, 5)")
    if bound:
        ask("CREATE VIEW v AS SELECT * FROM t")
    path = tmp_path / "a.ndjson"
    path.write_text("".join(f'{{"n": {n}}}\n' for n in range(50)))

    howdah.load([path], dsn=dsn, table="t", replace=True)

    ask("INSERT INTO t (n) VALUES (99)")
    assert ask("SELECT count(*), min(id), max(id), count(DISTINCT id) FROM t") == [(51, 6, 56, 51)]


def test_unique_and_exclusion_constraints_make_rejects_and_are_kept(dsn, ask, csv):
    ask("""
        CREATE TABLE "T ""1"" x" (id int, n int, during int4range GENERATED ALWAYS AS
                                (int4range(id, id, '[]')) STORED,
                                CONSTRAINT once EXCLUDE USING gist (during WITH &&));
        CREATE UNIQUE INDEX "x ON USING y" ON "T ""1"" x" (id DESC, (n + 0));
        CREATE INDEX plain ON "T ""1"" x" USING hash (n) WITH (fillfactor = 80);
        COMMENT ON TABLE "T ""1"" x" IS 'it''s {mine} 100%'
    """)
    definitions = "SELECT indexdef FROM pg_indexes WHERE tablename LIKE 'T%' ORDER BY 1"
    before = ask(definitions)
    path = csv(10)
    path.write_text(path.read_text() + "3,10\n")

    report = howdah.load([path], dsn=dsn, table='"T ""1"" x"', replace=True)

    assert (report.records, report.rejects) == (10, 1)
    assert ask(definitions) == before
    assert ask("""SELECT conname FROM pg_constraint WHERE contype = 'x'""") == ["once"]
    assert ask("""SELECT obj_description('"T ""1"" x"'::regclass)""") == ["it's {mine} 100%"]


def test_table_made_of_records_is_still_one_that_grows(dsn, ask, csv, tmp_path):
    howdah.load([csv(3)], dsn=dsn, table="t", columns=howdah.Columns())
    (tmp_path / "b.csv").write_text("id,n\n007,x\n")
    howdah.load([tmp_path / "b.csv"], dsn=dsn, table="t", replace=True)
    assert ask("SELECT id, n FROM t") == [("007", "x")]

    (tmp_path / "c.csv").write_text("id,n,new\n1,y,z\n")
    howdah.load([tmp_path / "c.csv"], dsn=dsn, table="t")
    assert ask("SELECT new FROM t ORDER BY id") == [None, "z"]


def test_bound_table_grows_with_the_one_beside_it(dsn, ask, csv, tmp_path):
    howdah.load([csv(3)], dsn=dsn, table="t", columns=howdah.Columns())
    ask("GRANT SELECT ON t TO pg_monitor")
    (tmp_path / "b.csv").write_text("id,n,new\n007,x,1\n")

    howdah.load([tmp_path / "b.csv"], dsn=dsn, table="t", replace=True)

    assert ask("SELECT id, n, new FROM t") == [("007", "x", 1)]


@pytest.mark.parametrize("action", ["CASCADE", "SET NULL"])
def test_rows_of_others_that_would_change_too_are_a_refusal(dsn, ask, csv, action):
    ask(f"""
        CREATE TABLE t (id int PRIMARY KEY, n int);
        INSERT INTO t VALUES (1, 1);
        CREATE TABLE o (t int REFERENCES t ON DELETE {action});
        INSERT INTO o VALUES (1)
    """)

    with pytest.raises(Refused, match="Rows of o"):
        howdah.load([csv(5)], dsn=dsn, table="t", replace=True)

    assert ask("SELECT t FROM o") == [1]
    assert ask("SELECT * FROM t") == [(1, 1)]


def test_rows_that_others_refer_to_and_are_not_among_the_new_ones_keep_the_old(dsn, ask, csv):
    ask("""
        CREATE TABLE t (id int PRIMARY KEY, n int);
        INSERT INTO t VALUES (1, 1), (77, 1);
        CREATE TABLE o (t int REFERENCES t);
        INSERT INTO o VALUES (77)
    """)

    with pytest.raises(Refused, match=r"keeps its old rows.*77"):
        howdah.load([csv(5)], dsn=dsn, table="t", replace=True)

    assert ask("SELECT * FROM t ORDER BY id") == [(1, 1), (77, 1)]
    assert ask("SELECT to_regclass('t__next')") == [None]


def test_foreign_keys_of_the_table_make_rejects(dsn, ask, csv):
    ask("""
        CREATE TABLE ns (n int PRIMARY KEY);
        CREATE TABLE t (id int PRIMARY KEY, n int REFERENCES ns);
        INSERT INTO ns VALUES (5)
    """)
    path = csv(5)
    path.write_text(path.read_text() + "99,1\n")

    report = howdah.load([path], dsn=dsn, table="t", replace=True)

    assert (report.records, report.rejects) == (5, 1)
    assert ask("SELECT count(*) FROM t") == [5]


def test_load_of_rejects_alone_keeps_the_old_rows(dsn, ask, csv, tmp_path):
    howdah.load([csv(5)], dsn=dsn, table="t", columns=howdah.Columns())
    ask("COMMENT ON TABLE t IS NULL")
    (tmp_path / "b.csv").write_text("id,n\nx,y\n")

    with pytest.raises(HowdahError, match="keeps its old rows"):
        howdah.load([tmp_path / "b.csv"], dsn=dsn, table="t", replace=True)

    assert ask("SELECT count(*) FROM t") == [5]
    assert ask("SELECT to_regclass('t__next')") == [None]


def test_table_of_someone_else_beside_it_is_not_dropped(dsn, ask, csv):
    ask("CREATE TABLE t (id int, n int); CREATE TABLE t__next (precious int)")

    with pytest.raises(Refused, match="There is a table t__next"):
        howdah.load([csv(5)], dsn=dsn, table="t", replace=True)

    assert ask("SELECT count(*) FROM t__next") == [0]


@pytest.mark.parametrize(
    ("stopped_by", "said"),
    [(signal.SIGKILL, ""), (signal.SIGINT, "The table has its old rows; run the same command")],
)
def test_stopped_replacement_leaves_the_old_rows_and_the_next_one_begins_anew(
    howdah, ask, tmp_path, stopped_by, said
):
    howdah("load", write_ndjson(tmp_path / "a.ndjson", 10))
    large = write_ndjson(tmp_path / "b.ndjson", 300_000)
    loading = howdah.start("load", large, "--replace", "--workers", 1)
    wait_until(lambda: ask("SELECT to_regclass('documents__next') IS NOT NULL")[0])
    wait_until(lambda: ask("SELECT count(*) FROM documents__next")[0] > 0)
    loading.send_signal(stopped_by)
    assert said in loading.communicate()[1]
    assert ask("SELECT count(*) FROM documents") == [10]

    done = howdah("load", large, "--replace")

    assert done.returncode == 0, done.stderr
    assert ask("SELECT count(*), count(DISTINCT record) FROM documents") == [(300_000, 300_000)]


def test_two_replacements_at_once_are_one_refusal(dsn, ask, csv):
    ask("CREATE TABLE t (id int, n int)")
    oid = ask("SELECT 't'::regclass::oid")[0]
    with psycopg.connect(dsn) as other:
        other.execute(
            "SELECT pg_advisory_lock(hashtextextended(%s, 0))", [f"howdah: replace {oid}"]
        )
        with pytest.raises(Refused, match="Another load is replacing t"):
            howdah.load([csv(5)], dsn=dsn, table="t", replace=True)


@contextmanager
def stopped(process):
    """Have a load, started in a session of its own, and its workers stand still."""
    os.killpg(process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGCONT)


# The session that made the table aside: the only one with a lock that is not shared.
TERMINATE_MAKER = """
    SELECT pg_terminate_backend(pid, 5000)
      FROM pg_locks
     WHERE locktype = 'advisory' AND mode = 'ExclusiveLock' AND objsubid = 1
       AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
LARGE = 300_000
ASIDE = "SELECT count(*) FROM documents__next"


@pytest.mark.long
def test_load_that_lost_the_lock_of_its_table_aside_still_keeps_others_from_it(
    howdah, ask, tmp_path
):
    howdah("load", write_ndjson(tmp_path / "old.ndjson", 10))
    large = write_ndjson(tmp_path / "large.ndjson", LARGE)
    first = howdah.start("load", large, "--replace", "--workers", 1, start_new_session=True)
    wait_until(lambda: ask("SELECT to_regclass('documents__next') IS NOT NULL")[0])
    wait_until(lambda: ask(ASIDE)[0] > 0)
    with stopped(first):
        assert ask(TERMINATE_MAKER) == [True]
        second = howdah("load", write_ndjson(tmp_path / "other.ndjson", 5), "--replace")
        assert ask("SELECT count(*) FROM documents") == [10]
    _, errors = first.communicate(timeout=60)

    assert second.returncode == 2
    assert "Another load is replacing documents now" in second.stderr
    assert first.returncode == 0, errors
    assert digest(ask(PAIRS)) == digest([(n + 1, n) for n in range(LARGE)])


def test_load_whose_table_aside_another_made_its_own_while_it_was_cut_off_ends(
    howdah, dsn, ask, tmp_path
):
    howdah("load", write_ndjson(tmp_path / "old.ndjson", 10))
    port = psycopg.conninfo.conninfo_to_dict(dsn)["port"]
    proxy = Proxy(int(port))
    try:
        by_proxy = Howdah(make_conninfo(dsn, host="127.0.0.1", port=proxy.port), howdah.started)
        large = write_ndjson(tmp_path / "large.ndjson", LARGE)
        first = by_proxy.start("load", large, "--replace", "--workers", 2)
        wait_until(lambda: ask("SELECT to_regclass('documents__next') IS NOT NULL")[0])
        wait_until(lambda: ask(ASIDE)[0] > 0)
        before = ask("SELECT 'documents__next'::regclass::oid")
        proxy.cut_all()
        other = write_ndjson(tmp_path / "other.ndjson", LARGE, start=LARGE)
        wait_until(lambda: ask("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == [0])
        second = howdah.start("load", other, "--replace", "--workers", 1, start_new_session=True)
        wait_until(lambda: ask("SELECT to_regclass('documents__next')::oid") != before)
        wait_until(lambda: ask(ASIDE)[0] > 0)
        with stopped(second):
            proxy.refuses = False
            _, errors = first.communicate(timeout=60)
            assert ask("SELECT count(*) FROM documents") == [10]
        _, errors_of_second = second.communicate(timeout=60)
    finally:
        proxy.close()

    assert first.returncode == 1
    assert "Another load began to replace documents while this one was cut off" in errors
    assert "Traceback" not in errors
    assert second.returncode == 0, errors_of_second
    assert digest(ask(PAIRS)) == digest([(n + 1, LARGE + n) for n in range(LARGE)])


@pytest.mark.parametrize(
    ("made_anew", "binding"),
    [
        (True, "nothing"),
        (False, "a grant"),
        pytest.param(False, "nothing", marks=pytest.mark.long),
        pytest.param(True, "a grant", marks=pytest.mark.long),
    ],
)
def test_table_that_was_dropped_while_its_rows_were_loaded_is_not_replaced(
    howdah, ask, tmp_path, made_anew, binding
):
    ask("CREATE TABLE t (n int)")
    ask(BINDINGS[binding].replace("(n)", ""))
    (tmp_path / "a.ndjson").write_text("".join(f'{{"n": {n}}}\n' for n in range(500_000)))
    loading = howdah.start(
        "load", tmp_path, "--table", "t", "--replace", "--workers", 1, start_new_session=True
    )
    wait_until(lambda: ask("SELECT to_regclass('t__next') IS NOT NULL")[0])
    with stopped(loading):
        ask("DROP TABLE t")
        if made_anew:
            ask("CREATE TABLE t (precious int)")
    _, errors = loading.communicate(timeout=60)

    assert loading.returncode == 2
    assert "t was dropped or made anew" in errors
    assert ask("SELECT to_regclass('t') IS NOT NULL, to_regclass('t__next')") == [(made_anew, None)]


@pytest.mark.parametrize("binding", ["nothing", "a view"])
def test_replacement_whose_end_cannot_be_noted_at_first_is_made_once(dsn, ask, csv, binding):
    howdah.load([csv(5)], dsn=dsn, table="t", columns=howdah.Columns())
    ask("""
        CREATE SEQUENCE tries;
        CREATE FUNCTION busy() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF nextval('tries') = 1 THEN RAISE SQLSTATE '55P03'; END IF;
            RETURN new;
        END $$;
        CREATE TRIGGER busy BEFORE INSERT ON howdah.loads FOR EACH ROW EXECUTE FUNCTION busy()
    """)
    ask(BINDINGS[binding])

    report = howdah.load([csv(7)], dsn=dsn, table="t", replace=True)

    assert report.records == 7
    assert ask("SELECT last_value FROM tries") == [2]
    assert ask("SELECT count(*) FROM t") == [7]
    assert ask("SELECT count(*) FROM howdah.loads WHERE target = 't'::regclass") == [
        1 if binding == "nothing" else 2
    ]


def test_swap_waits_for_a_reader_in_short_turns(howdah, dsn, ask, csv):
    howdah("load", csv(5), "--as", "columns", "--table", "t")
    with psycopg.connect(dsn) as reader:
        reader.execute("SELECT * FROM t")
        loading = howdah.start("load", csv(7, "b.csv"), "--table", "t", "--replace")
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
        wait_until(lambda: ask(waiting) == [1])
        wait_until(lambda: ask(waiting) == [0])
        assert ask("SELECT count(*) FROM t") == [5]
    _, errors = loading.communicate(timeout=60)

    assert loading.returncode == 0, errors
    assert ask("SELECT count(*) FROM t") == [7]


def test_truncate_empties_the_table_first_and_forgets_what_was_in_it(dsn, ask, csv):
    first, second = csv(5), csv(6, "b.csv", start=100)
    howdah.load([first], dsn=dsn, table="t", columns=howdah.Columns())
    howdah.load([second], dsn=dsn, table="t", truncate=True)
    assert ask("SELECT count(*) FROM t") == [6]

    assert howdah.load([first, second], dsn=dsn, table="t").skipped == 1
    assert ask("SELECT count(*) FROM t") == [11]


def test_table_that_others_refer_to_is_not_truncated(dsn, ask, csv):
    ask("CREATE TABLE t (id int PRIMARY KEY, n int); CREATE TABLE o (t int REFERENCES t)")

    with pytest.raises(Refused, match="foreign keys to t"):
        howdah.load([csv(5)], dsn=dsn, table="t", truncate=True)
