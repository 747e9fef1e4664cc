import psycopg
import pytest

from howdah import pg
from howdah.errors import HowdahError, NoDatabase, Refused, UsageError


@pytest.mark.parametrize(
    ("text", "schema", "table"),
    [
        ("documents", None, "documents"),
        ("Documents", None, "documents"),
        ("raw.events", "raw", "events"),
        ('"Raw"."ev.ents"', "Raw", "ev.ents"),
        ('raw."a ""quoted"" one"', "raw", 'a "quoted" one'),
        ("größe", None, "größe"),
    ],
)
def test_table_names_are_read_as_sql_reads_them(text, schema, table):
    assert pg.TableName.parse(text) == pg.TableName(schema, table)


@pytest.mark.parametrize("text", ["", ".", "a.", ".b", "a.b.c", 'a"b', '"a', "a b", 'a"; DROP'])
def test_what_is_no_table_name_is_refused(text):
    with pytest.raises(UsageError, match="is not the name of a table"):
        pg.TableName.parse(text)


def test_unreachable_server_is_told_without_the_password():
    with (
        pytest.raises(NoDatabase, match="does not answer") as caught,
        pg.connect("host=127.0.0.1 port=1 password=s3cret"),
    ):
        pass

    assert "s3cret" not in str(caught.value)
    assert caught.value.next_step is not None


def test_connections_are_named(dsn):
    with pg.connect(dsn, application_name="howdah test") as conn:
        (name,) = conn.execute("SHOW application_name").fetchone() or ("",)

    assert name == "howdah test"


def test_missing_privilege_is_told_as_a_sentence(dsn):
    with pg.connect(dsn) as conn:
        conn.execute("CREATE ROLE nobody_here")
        try:
            conn.execute("SET ROLE nobody_here")
            with pytest.raises(Refused, match="may not make it") as caught, pg.explained("make it"):
                conn.execute("CREATE SCHEMA s")
        finally:
            conn.execute("RESET ROLE")
            conn.execute("DROP ROLE nobody_here")

    assert caught.value.exit_code == 2


def test_lost_connection_is_told_as_a_sentence(dsn):
    with pg.connect(dsn) as conn, pg.connect(dsn) as other:
        other.execute("SELECT pg_terminate_backend(%s)", [conn.info.backend_pid])
        with pytest.raises(HowdahError, match="was to read") as caught, pg.explained("read"):
            conn.execute("SELECT 1")

    assert (
        caught.value.next_step
        == "Start it and run the same command again: what is committed stays."
    )


def test_unknown_errors_pass_through(dsn):
    with (
        pg.connect(dsn) as conn,
        pytest.raises(psycopg.errors.DivisionByZero),
        pg.explained("divide"),
    ):
        conn.execute("SELECT 1/0")


def test_whereabouts_are_the_connections(dsn):
    with pg.connect(dsn) as conn:
        found = pg.whereabouts(conn)

        assert found.database == conn.info.dbname
        assert (found.host, found.port) == (conn.info.host, conn.info.port)
        assert found.superuser
        assert found.version.startswith(str(conn.info.server_version // 10000))
