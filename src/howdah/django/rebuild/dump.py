"""What makes the tables of a built database once more, under the names beside the live ones.

pg_dump writes the SQL; the rows are copied by `carry`. For the time of the
dump the schemas in the built database have the names that they are to have
beside the live ones.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from psycopg import Connection, sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from howdah.django.rebuild import names
from howdah.errors import HowdahError
from howdah.server import binaries

_SCHEMAS = """
    SELECT n.nspname
      FROM pg_namespace AS n
     WHERE n.nspname NOT LIKE 'pg\\_%' AND n.nspname NOT IN ('information_schema', 'howdah_kept')
       AND NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.classid = 'pg_namespace'::regclass
                          AND d.objid = n.oid AND d.deptype = 'e')
       AND EXISTS (SELECT FROM pg_depend AS d
                    WHERE d.refclassid = 'pg_namespace'::regclass AND d.refobjid = n.oid
                      AND d.classid <> 'pg_extension'::regclass
                      AND NOT EXISTS (SELECT FROM pg_depend AS m
                                       WHERE m.classid = d.classid AND m.objid = d.objid
                                         AND m.deptype IN ('e', 'i')))
     ORDER BY n.nspname
"""

_MOVE = """
    DO $$
    DECLARE
        source name := current_setting('howdah.source');
        target name := current_setting('howdah.target');
        statement text;
    BEGIN
        FOR statement IN
            SELECT format('ALTER %s %s SET SCHEMA %I', o.kind, o.name, target)
              FROM (
                SELECT 1 AS turn, c.oid, 'pg_class'::regclass AS class, 'TABLE' AS kind,
                       format('%I.%I', source, c.relname) AS name
                  FROM pg_class AS c
                 WHERE c.relnamespace = to_regnamespace(quote_ident(source))
                   AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
                   AND NOT EXISTS (SELECT FROM pg_depend AS d
                                    WHERE c.relkind = 'S' AND d.classid = 'pg_class'::regclass
                                      AND d.objid = c.oid AND d.deptype IN ('a', 'i')
                                      AND d.refclassid = 'pg_class'::regclass)
                UNION ALL
                SELECT 2, t.oid, 'pg_type'::regclass, 'TYPE', format('%I.%I', source, t.typname)
                  FROM pg_type AS t LEFT JOIN pg_class AS c ON c.oid = t.typrelid
                 WHERE t.typnamespace = to_regnamespace(quote_ident(source))
                   AND (t.typtype IN ('e', 'd', 'r') OR c.relkind = 'c')
                UNION ALL
                SELECT 3, p.oid, 'pg_proc'::regclass,
                       CASE p.prokind WHEN 'a' THEN 'AGGREGATE' ELSE 'ROUTINE' END,
                       format('%I.%I(%s)', source, p.proname,
                              pg_get_function_identity_arguments(p.oid))
                  FROM pg_proc AS p
                 WHERE p.pronamespace = to_regnamespace(quote_ident(source))
                   AND NOT EXISTS (SELECT FROM pg_depend AS d
                                    WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid
                                      AND d.deptype = 'i')
              ) AS o
             WHERE NOT EXISTS (SELECT FROM pg_depend AS d
                                WHERE d.classid = o.class AND d.objid = o.oid AND d.deptype = 'e')
             ORDER BY o.turn, o.oid
        LOOP
            EXECUTE statement;
        END LOOP;
    END
    $$
"""


def built_schemas(conn: Connection[Any]) -> list[str]:
    """Return the schemas of a database that hold more than an extension's objects."""
    return [row[0] for row in conn.execute(_SCHEMAS).fetchall()]


def move(conn: Connection[Any], source: str, target: str) -> None:
    """Move all but an extension's objects from one schema to another."""
    conn.execute(
        "SELECT set_config('howdah.source', %s, true), set_config('howdah.target', %s, true)",
        [source, target],
    )
    conn.execute(_MOVE)


def sections(
    conn: Connection[Any], conninfo: str, schemas: Sequence[str], shared: Sequence[str], role: str
) -> tuple[str, str]:
    """Return the SQL of before and after the rows, for the names beside the live ones.

    Args:
        conn: To the built database.
        conninfo: How pg_dump connects to it.
        schemas: Which.
        shared: Those of them that cannot be renamed.
        role: Whose objects they are.
    """
    program = _pg_dump(conn.info.server_version // 10000)
    with _beside(conn, schemas, shared), ThreadPoolExecutor(2) as threads:
        before, after = (
            threads.submit(_dump, program, conninfo, section, schemas, role)
            for section in ("pre-data", "post-data")
        )
        return before.result(), after.result()


@contextmanager
def _beside(
    conn: Connection[Any], schemas: Sequence[str], shared: Sequence[str]
) -> Generator[None]:
    with conn.transaction():
        for schema in schemas:
            target = names.beside(schema, names.NEXT)
            if schema in shared:
                conn.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(target)))
                move(conn, schema, target)
            else:
                rename(conn, schema, target)
    yield
    with conn.transaction():
        for schema in schemas:
            source = names.beside(schema, names.NEXT)
            if schema in shared:
                move(conn, source, schema)
                conn.execute(sql.SQL("DROP SCHEMA {}").format(sql.Identifier(source)))
            else:
                rename(conn, source, schema)


def rename(conn: Connection[Any], schema: str, new: str) -> None:
    """Rename a schema; no table in it is locked."""
    query = sql.SQL("ALTER SCHEMA {} RENAME TO {}")
    conn.execute(query.format(sql.Identifier(schema), sql.Identifier(new)))


def _dump(program: str, conninfo: str, section: str, schemas: Sequence[str], role: str) -> str:
    parts: dict[str, Any] = conninfo_to_dict(conninfo)
    # The process list shows arguments: the password goes by the environment.
    secret = {"PGPASSWORD": str(parts.pop("password"))} if parts.get("password") else {}
    wanted = [
        f'--schema="{names.beside(one, names.NEXT).replace(chr(34), chr(34) * 2)}"'
        for one in schemas
    ]
    done = subprocess.run(
        [
            program,
            f"--section={section}",
            "--no-owner",
            "--no-publications",
            "--no-subscriptions",
            "--encoding=UTF8",
            f"--role={role}",
            *wanted,
            make_conninfo(**parts),
        ],
        env=os.environ | secret,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    if done.returncode:
        raise HowdahError(
            f"pg_dump could not write out what was built: {' '.join(done.stderr.split())}",
            next_step=f"Look at the program: {program} --version",
        )
    # psql's commands, which are for psql; a line of SQL begins with no backslash outside strings.
    lines = done.stdout.splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith(("\\restrict", "\\unrestrict")))


def _pg_dump(major: int) -> str:
    """Return a pg_dump that understands the server: of its major or a later one."""
    found = [
        Path(one.program("pg_dump")) for one in reversed(binaries.installed()) if one.major >= major
    ]
    if program := shutil.which("pg_dump"):
        found.insert(0, Path(program))
    for program_path in found:
        if program_path.exists() and _major_of(program_path) >= major:
            return str(program_path)
    raise HowdahError(
        f"No pg_dump of PostgreSQL {major} or later is installed here.",
        next_step=f"Install it (on Debian and Ubuntu: apt install postgresql-client-{major}), "
        "or use --in-place.",
    )


def _major_of(program: Path) -> int:
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    version = binaries.version_of(done.stdout)
    return version[0] if version else 0
