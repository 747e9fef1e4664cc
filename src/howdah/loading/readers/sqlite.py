"""SQLite databases: one record per row, table by table, by the standard library.

The database is opened read-only and as immutable: nothing is written beside
it, no lock is taken, and what a write-ahead log beside it holds is not seen.
Views, virtual tables and SQLite's own tables are left out.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from howdah.loading.readers import Head, Item, Match, Reader, UnreadableSource
from howdah.loading.readers.layout import column_names
from howdah.loading.temporary import temporary_folder

if TYPE_CHECKING:
    import sqlite3

__all__ = ["TABLE", "SQLite"]

TABLE = "table"
"""The attribute that holds the table's name, in databases of several tables."""

_ROWS_AT_ONCE = 1000
_TABLES = """
    SELECT name FROM pragma_table_list
     WHERE schema = 'main' AND type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'
     ORDER BY name
"""
_SELECT = "SELECT * FROM {}"


class SQLite(Reader):
    """Reads SQLite 3 databases."""

    name = "sqlite"
    seeks = True

    def recognise(self, head: Head) -> Match:
        """See `Reader.recognise`: by its magic number."""
        return Match.CERTAIN if head.data.startswith(b"SQLite format 3\0") else Match.NO

    def read(self, file: BinaryIO, name: str) -> Iterator[Item]:  # noqa: ARG002
        """See `Reader.read`: the columns by name; a BLOB is bytes, so base64."""
        import sqlite3

        try:
            with _path(file) as path, closing(_opened(path)) as conn:
                yield from _rows(conn)
        except sqlite3.Error as exc:
            raise UnreadableSource(f"The database is broken or cut off: {exc}.") from exc


@contextmanager
def _path(file: BinaryIO) -> Generator[Path]:
    """Yield a path that leads to the file: SQLite opens nothing else."""
    try:
        number = file.fileno()
        path = Path(os.readlink(f"/proc/self/fd/{number}"))  # noqa: PTH115  the link says it all
        known = os.path.samestat(path.stat(), os.fstat(number))
    except OSError:  # in memory, without a name, or no Linux
        known = False
    if known:
        yield path
        return
    with temporary_folder() as folder:
        path = Path(folder, "database")
        with path.open("wb") as copy:
            shutil.copyfileobj(file, copy, 1 << 20)
        yield path


def _opened(path: Path) -> sqlite3.Connection:
    import sqlite3

    conn = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)
    conn.text_factory = _text
    # Nothing that the file defines is run, and its pages are checked as they are read.
    conn.execute("PRAGMA trusted_schema = off")
    conn.execute("PRAGMA cell_size_check = on")
    return conn


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _identifier(name: str) -> str:
    """Return a name in quotes, where only the quote is special: SQLite has no parameter for it."""
    return '"{}"'.format(name.replace('"', '""'))


def _rows(conn: sqlite3.Connection) -> Iterator[dict[str, Any]]:
    tables = [name for (name,) in conn.execute(_TABLES)]
    leading = [TABLE] if len(tables) > 1 else []
    for table in tables:
        cursor = conn.execute(_SELECT.format(_identifier(table)))
        names = column_names((column for column, *_ in cursor.description), leading)
        while rows := cursor.fetchmany(_ROWS_AT_ONCE):
            for row in rows:
                attributes: dict[str, Any] = dict.fromkeys(leading, table)
                attributes.update(zip(names, row, strict=True))
                yield attributes
