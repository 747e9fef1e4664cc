"""Carry a built result into the live database, beside what is there.

One transaction makes NAME__next of every schema: tables, rows, indexes and
constraints, then what people had granted, said and published of the objects
of the same names. Nobody looks at these schemas yet; if the transaction
fails, there is nothing of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, cast

from psycopg import Connection, sql

from howdah import pg
from howdah.django.rebuild import names
from howdah.django.rebuild.store import Kept

_COPY_BYTES = 1 << 20

_TABLES = """
    SELECT n.nspname AS schema, c.relname AS name,
           ARRAY(SELECT a.attname FROM pg_attribute AS a
                  WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
                    AND a.attgenerated = '' ORDER BY a.attnum) AS columns
      FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
     WHERE n.nspname = ANY(%s) AND c.relkind = 'r' AND pg_relation_size(c.oid) > 0
       AND NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.classid = 'pg_class'::regclass
                          AND d.objid = c.oid AND d.deptype = 'e')
"""
_SEQUENCES = """
    SELECT s.schemaname, s.sequencename, s.last_value
      FROM pg_sequences AS s
     WHERE s.schemaname = ANY(%s) AND s.last_value IS NOT NULL
"""
_SETVAL = """
    SELECT count(setval(format('%%I.%%I', s.schema, s.name)::regclass, s.value))
      FROM unnest(%s::text[], %s::text[], %s::bigint[]) AS s(schema, name, value)
"""
_NOTE = """
    INSERT INTO {0} (app, name, applied)
    SELECT g.app, g.name, now() FROM unnest(%s::text[], %s::text[]) AS g(app, name)
     WHERE NOT EXISTS (SELECT FROM {0} AS m WHERE m.app = g.app AND m.name = g.name)
"""
_FORGET = """
    DELETE FROM {} AS m
     WHERE NOT EXISTS (SELECT FROM unnest(%s::text[], %s::text[]) AS g(app, name)
                        WHERE m.app = g.app AND m.name = g.name)
"""
_ANALYZE_FROM_ROWS = 1_000


@dataclass(frozen=True, slots=True)
class Carried:
    """What was carried over.

    Attributes:
        tables: With rows.
        rows: In them.
    """

    tables: int
    rows: int


@dataclass(frozen=True, slots=True)
class _Table:
    schema: str
    name: str
    columns: list[str]


def carry(
    live: Connection[Any],
    built: Connection[Any],
    kept: Kept,
    migrations: Sequence[tuple[str, str]],
) -> Carried:
    """Make NAME__next of each schema of a built result.

    Args:
        live: A connection for this alone: it is left with pg_dump's settings.
        built: To the database of the result.
        kept: The result.
        migrations: App and name of all there are now: other databases' may have changed.
    """
    with live.transaction():
        drop_next(live, kept.schemas)
        _install(live, kept.extensions)
        _run(live, kept.before_data)
        counts = [_copy(built, live, one) for one in _tables(built, kept)]
        _set_sequences(built, live, kept)
        for schema in kept.schemas:
            _note(live, names.beside(schema, names.NEXT), migrations)
        _run(live, kept.after_data)
        for schema in kept.schemas:
            waiting = names.beside(schema, names.NEXT)
            follow(live, schema, waiting)
            comment = comment_of(live, waiting)
            facts = {"kind": "unfinished", "generation": -2, "schema": schema}
            comment_on(live, waiting, names.mark(**facts, comment=comment))
    return Carried(len(counts), sum(counts))


def drop_next(live: Connection[Any], schemas: Sequence[str]) -> None:
    """Drop what a rebuild that died has left beside the live schemas."""
    for schema in schemas:
        query = sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE")
        live.execute(query.format(sql.Identifier(names.beside(schema, names.NEXT))))


def _install(live: Connection[Any], extensions: Sequence[tuple[str, str, str]]) -> None:
    there = {row[0] for row in live.execute("SELECT extname FROM pg_extension").fetchall()}
    for name, schema, version in extensions:
        if name not in there:
            with pg.explained(f"create the extension {name}"):
                install(live, name, schema, version)


def install(conn: Connection[Any], name: str, schema: str, version: str) -> None:
    """Create an extension in the schema and the version that it has elsewhere."""
    conn.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(schema)))
    conn.execute(
        sql.SQL("CREATE EXTENSION IF NOT EXISTS {} SCHEMA {} VERSION {} CASCADE").format(
            sql.Identifier(name), sql.Identifier(schema), sql.Literal(version)
        )
    )


def _run(live: Connection[Any], text: str) -> None:
    # Without parameters, psycopg sends all the statements in one message.
    # pg_dump has quoted what is in them.
    live.execute(sql.SQL(cast("Any", text)), prepare=False)


def _tables(built: Connection[Any], kept: Kept) -> list[_Table]:
    return pg.fetch_all(built, _Table, _TABLES, [list(kept.schemas)])


def _copy(built: Connection[Any], live: Connection[Any], table: _Table) -> int:
    columns = sql.SQL(", ").join(map(sql.Identifier, table.columns))
    source = sql.Identifier(table.schema, table.name)
    target = sql.Identifier(names.beside(table.schema, names.NEXT), table.name)
    query_out = sql.SQL("COPY {} ({}) TO STDOUT (FORMAT binary)").format(source, columns)
    query_in = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary)").format(target, columns)
    with built.cursor() as reading, live.cursor() as writing:
        with reading.copy(query_out) as out, writing.copy(query_in) as into:
            for block in out:
                into.write(block)
        rows = writing.rowcount
        if rows >= _ANALYZE_FROM_ROWS:
            writing.execute(sql.SQL("ANALYZE {}").format(target))
    return rows


def _set_sequences(built: Connection[Any], live: Connection[Any], kept: Kept) -> None:
    rows = built.execute(_SEQUENCES, [list(kept.schemas)]).fetchall()
    schemas = [names.beside(row[0], names.NEXT) for row in rows]
    live.execute(_SETVAL, [schemas, [row[1] for row in rows], [row[2] for row in rows]])


def _note(live: Connection[Any], schema: str, migrations: Sequence[tuple[str, str]]) -> None:
    """Have Django's table of migrations, if the schema holds it, name those there are."""
    table = sql.Identifier(schema, "django_migrations")
    found = live.execute("SELECT to_regclass(%s) IS NOT NULL", [table.as_string(live)]).fetchone()
    if found is None or not found[0]:
        return
    given = [[app for app, _ in migrations], [name for _, name in migrations]]
    live.execute(sql.SQL(_NOTE).format(table), given)
    live.execute(sql.SQL(_FORGET).format(table), given)


def follow(live: Connection[Any], source: str, target: str, *, is_new: bool = True) -> None:
    """Give the objects of a schema what those of the same names in another have from people.

    Args:
        live: In a transaction.
        source: The schema of the old ones.
        target: The schema of the new ones.
        is_new: The target itself is new too.
    """
    live.execute(
        "SELECT set_config('howdah.source', %s, true), set_config('howdah.target', %s, true),"
        " set_config('howdah.is_new', %s::boolean::text, true)",
        [source, target, is_new],
    )
    text = files("howdah.django.rebuild").joinpath("follow.sql").read_text()
    live.execute(sql.SQL(cast("Any", text)), prepare=False)


def comment_of(conn: Connection[Any], schema: str) -> str | None:
    """Return a schema's comment."""
    row = conn.execute(
        "SELECT obj_description(to_regnamespace(quote_ident(%s)), 'pg_namespace')", [schema]
    ).fetchone()
    return row[0] if row else None


def comment_on(conn: Connection[Any], schema: str, text: str | None) -> None:
    """Set a schema's comment; None removes it."""
    query = sql.SQL("COMMENT ON SCHEMA {} IS {}")
    conn.execute(query.format(sql.Identifier(schema), sql.Literal(text)))
