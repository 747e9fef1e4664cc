"""The main jobs on an embedded PostgreSQL: `make demo`.

Each step prints the command that it runs; nothing here is special to the demo.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent
HOWDAH = [sys.executable, "-m", "howdah"]
REJECTS = 3  # exit code: done, and some sources could not be read

QUESTIONS = {
    "What kinds of documents are there?": """
        SELECT regexp_replace(attributes->>'format', '^.*[.]', '') AS format,
               count(*) AS documents,
               sum((attributes->>'bytes')::bigint) AS bytes
          FROM documents
         WHERE attributes ? 'sha256'
         GROUP BY 1
         ORDER BY 2 DESC, 3 DESC
         LIMIT 8
    """,
    "Which documents speak of agents in a conversation?": """
        SELECT attributes->>'title' AS title,
               attributes->>'creator' AS creator,
               (attributes->>'pages')::int AS pages,
               regexp_replace(source, '.*/examples/', '') AS source
          FROM documents
         WHERE to_tsvector('english', attributes->>'text')
               @@ websearch_to_tsquery('english', 'agents conversation')
         ORDER BY source
    """,
    "Which airlines were latest, over 109,119 flights?": """
        SELECT airline.attributes->>'name' AS airline,
               count(*) AS flights,
               round(avg((flight.attributes->>'dep_delay')::numeric), 1) AS minutes_late
          FROM records AS flight
          JOIN records AS airline
            ON airline.attributes->>'carrier' = flight.attributes->>'carrier'
           AND airline.source LIKE '%airlines.csv'
         WHERE flight.attributes ? 'dep_delay' AND flight.attributes->>'dep_delay' <> 'NA'
         GROUP BY 1
         ORDER BY 3 DESC
         LIMIT 5
    """,
    "What could not be read, and why?": """
        SELECT regexp_replace(source, '.*/examples/', '') AS source, place, reason
          FROM howdah.rejects
         ORDER BY id
    """,
}


def main() -> None:
    """Run every step; end with how to go on."""
    os.environ["HOWDAH_DATA"] = str(ROOT / ".server" / "cluster")
    for name in [name for name in os.environ if name.startswith("PG") or name in _ELSEWHERE]:
        del os.environ[name]  # the demo writes to its own server only
    os.chdir(ROOT.parent)
    console = Console()
    where = json.loads(_run("where", "--json", quiet=True))
    console.print(f"PostgreSQL {where['version']} runs, in {ROOT / '.server'}.\n")
    _run("load", "examples/documents", "--table", "documents")
    _run("load", "examples/records", "--table", "records")
    console.print("\nA second time, nothing is loaded twice:")
    _run("load", "examples/records", "--table", "records")
    console.print("\nWhy is it slow to insert rows one by one, and what would help?")
    _run("tune", "inserts", *_TUNED)
    _run("tune", "inserts", *_TUNED, "--measure", "--rounds", "5", "--seconds", "0.3")
    with psycopg.connect(where["dsn"], autocommit=True) as conn:
        for question, query in QUESTIONS.items():
            _show(console, conn, question, query)
    _limit_hit_and_raised(console, where["dsn"])
    _rebuild(console, where)
    console.print("Look around yourself:")
    console.print(f"  {where['connect']}", soft_wrap=True)
    console.print("Stop the server, and remove all that the demo made:")
    console.print("  make clean")


def _rebuild(console: Console, where: dict[str, str]) -> None:
    """Change one line of a model, and rebuild under a running client."""
    console.print("\nA Django project's databases, made from its migrations and fixtures:")
    parts = {name: str(value) for name, value in conninfo_to_dict(where["dsn"]).items()}
    for name, variable in _LIBPQ.items():
        if name in parts:
            os.environ[variable] = parts[name]
    with psycopg.connect(where["dsn"], autocommit=True) as conn:
        conn.execute("DROP DATABASE IF EXISTS depot WITH (FORCE)")
        conn.execute("CREATE DATABASE depot")
    project = ROOT / ".server" / "project"
    shutil.rmtree(project, ignore_errors=True)
    shutil.copytree(ROOT / "project", project)
    os.chdir(project)
    settings = ("--settings", "depot.settings.embedded")
    _run("rebuild", *settings)
    stop, statements, errors = threading.Event(), [0], []

    def client() -> None:
        with psycopg.connect(where["dsn"], dbname="depot", autocommit=True) as conn:
            while not stop.is_set():
                try:
                    conn.execute("SELECT name FROM catalog.vendor ORDER BY id").fetchall()
                    conn.execute("UPDATE catalog.vendor SET homepage = 'x' WHERE id = 1")
                    statements[0] += 2
                except psycopg.Error as exc:
                    errors.append(exc)

    thread = threading.Thread(target=client)
    thread.start()
    console.print("\nOne line of a model is changed, while a client reads and writes all the time:")
    models = project / "catalog" / "models.py"
    old = "country = models.CharField(max_length=2, db_index=True)"
    models.write_text(models.read_text().replace(old, old.replace("max_length=2", "max_length=3")))
    console.print("  Vendor.country: max_length=2 -> max_length=3")
    _run("rebuild", "--remake-migrations", *settings)
    stop.set()
    thread.join()
    console.print(f"The client ran {statements[0]:,} statements and saw {len(errors)} errors.\n")
    os.chdir(ROOT.parent)
    if errors:
        sys.exit(1)


_TUNED = ("--workload", "single", "--allow", "lose-last-moments")
_LIBPQ = {
    "host": "PGHOST",
    "port": "PGPORT",
    "user": "PGUSER",
    "password": "PGPASSWORD",
    "passfile": "PGPASSFILE",
}
_ELSEWHERE = ("HOWDAH_DSN", "DATABASE_URL", "DJANGO_SETTINGS_MODULE")


def _limit_hit_and_raised(console: Console, dsn: str) -> None:
    """Hit the connection limit as a web application would, see why, raise it, take it back."""
    console.print("\nAn application opens more connections than there are:")
    held = []
    with psycopg.connect(dsn, autocommit=True) as conn:
        limit = int(conn.execute("SHOW max_connections").fetchone()[0])  # type: ignore[index]
    try:
        while len(held) <= limit:
            held.append(psycopg.connect(dsn, application_name="shop"))
    except psycopg.OperationalError as exc:
        console.print(f"  {exc}", style="red", markup=False)
    # One goes, so that the superuser's command gets in over the reserved slots.
    held.pop().close()
    _run("connections")
    for conn in held:
        conn.close()
    _run("connections", "limit", str(limit + 50), "--apply", "--restart")
    _run("config", "undo", "--restart")


def _run(*arguments: str, quiet: bool = False) -> str:
    if not quiet:
        Console().print(f"[bold]$ howdah {shlex.join(arguments)}[/bold]")
    done = subprocess.run(
        [*HOWDAH, *arguments], check=False, text=True, stdout=subprocess.PIPE if quiet else None
    )
    if done.returncode not in (0, REJECTS):
        sys.exit(done.returncode)
    return done.stdout or ""


def _show(
    console: Console, conn: psycopg.Connection[tuple[object, ...]], question: str, query: str
) -> None:
    cursor = conn.execute(query)
    table = Table(title=question, title_justify="left", title_style="bold")
    for column in cursor.description or ():
        table.add_column(column.name, overflow="fold")
    for row in cursor:
        table.add_row(*("" if value is None else str(value) for value in row))
    console.print()
    console.print(table)


if __name__ == "__main__":
    main()
