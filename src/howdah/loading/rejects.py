"""Records that cannot be loaded: found among good ones, and kept with their reason.

A COPY that the server refuses is looked through in two steps. First each JSON
text is checked here, which is cheap and gives the better reasons. What then is
still refused (a trigger, a constraint, a number that numeric cannot hold) is
found by halving: O(k log N) COPYs for k bad records among N. Rows that COPY
takes as they are become records only where their block is refused. The line number
in the server's message is no help: its text is translated, and a constraint's
has none.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson
import psycopg
from psycopg import Connection

from howdah import pg
from howdah.loading.readers import BadRecord, Batch, Rows
from howdah.loading.readers.encode import TooDeep, repair
from howdah.loading.records import Unfit
from howdah.loading.target import Load
from howdah.loading.ways import Sourced, Way, way_of

__all__ = ["Delivered", "Part", "Reject", "deliver", "keep", "latest"]

CONTENT_BYTES = 16 << 20
"""How much of a rejected record is kept, in bytes."""

_DATA_CLASSES = {"21", "22", "23", "27", "38", "39", "44", "54", "P0"}
"""Classes of SQLSTATE that blame the data, not the server or the session.

Source: https://www.postgresql.org/docs/current/errcodes-appendix.html
"""

_TYPES_STATES = {"42601", "XX000"}
"""What types of extensions say of a value that they cannot read: ltree, PostGIS."""


@dataclass(frozen=True, slots=True)
class Reject:
    """A record, or a whole source, that is not loaded.

    Attributes:
        source: The source's name.
        record: Its number in the source; None for the source as a whole.
        place: Where it stands, for a person.
        reason: Why it is not loaded, one sentence.
        content: Its bytes; None for the source as a whole.
    """

    source: str
    record: int | None
    place: str
    reason: str
    content: bytes | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """Records of one source on their way to the server.

    Attributes:
        source: The source's name.
        batches: Its records.
    """

    source: str
    batches: Iterable[Batch]


@dataclass(slots=True)
class Delivered:
    """What became of some records.

    Attributes:
        records: Records that the table has taken, by source.
        rows: Rows that they added or changed.
        repaired: How many of them differ from what the source held.
        rejects: Those that are not in the table.
    """

    records: Counter[str] = field(default_factory=Counter)
    rows: int = 0
    repaired: int = 0
    rejects: list[Reject] = field(default_factory=list)


def deliver(conn: Connection[Any], load: Load, parts: Iterable[Part]) -> Delivered:
    """Write records to the target, in the transaction that the connection is in; all that can be.

    Args:
        conn: A connection in a transaction.
        load: Says the table and the rows' `loaded_at`.
        parts: Read once; kept in memory until the server has taken them.

    Raises:
        psycopg.Error: What is not the data's fault: a full disk, a lost connection.
    """
    kept: list[Sourced] = []

    def batches() -> Iterator[Sourced]:
        for part in parts:
            for batch in part.batches:
                kept.append((part.source, batch))
                yield kept[-1]

    way, delivered = way_of(conn, load), Delivered()
    stream = batches()
    if _refused(conn, way, stream, delivered) is None:
        return delivered
    deque(stream, maxlen=0)  # what was not read yet when the server, or we, refused
    if way.adapt(kept) and _refused(conn, way, kept, delivered) is None:
        return delivered
    rows = [part for source, batch in kept for part in _parts(source, batch, delivered)]
    referring = _halve(conn, way, rows, delivered)
    before = 0
    while referring and (taken := delivered.records.total()) > before:
        if conn.execute(_REFERS_TO_ITSELF, [load.target.oid]).fetchone() is None:
            break
        before = taken
        referring = _halve(conn, way, [row for row, _ in referring], delivered)
    delivered.rejects += [_rejected(row, reason) for row, reason in referring]
    return delivered


# The row that another one refers to may stand behind it, in the other half.
_REFERS_TO_ITSELF = """
    SELECT 1 FROM pg_catalog.pg_constraint
     WHERE contype = 'f' AND conrelid = %s AND confrelid = conrelid
"""


def _refused(
    conn: Connection[Any], way: Way, batches: Iterable[Sourced], delivered: Delivered
) -> Unfit | psycopg.Error | None:
    """Send batches in a savepoint; return why not, where that is the data's fault."""
    repaired = 0

    def counted() -> Iterator[Sourced]:
        nonlocal repaired
        for source, batch in batches:
            yield source, batch
            repaired += batch.repaired

    try:
        with conn.transaction():
            sent = way.send(counted())
    except Unfit as exc:
        return exc
    except psycopg.Error as exc:
        if not _blames_the_data(exc):
            raise
        return exc
    delivered.records += sent.records
    delivered.rows += sent.rows
    delivered.repaired += repaired
    return None


def _blames_the_data(exc: psycopg.Error) -> bool:
    state = exc.sqlstate
    if state is None:
        return False
    if state in _TYPES_STATES:
        return exc.diag.context is not None  # where in the COPY
    try:
        psycopg.errors.lookup(f"{state[:2]}000")
    except KeyError:
        return True  # a class that PostgreSQL does not have: raised by a trigger of theirs
    return state[:2] in _DATA_CLASSES


_COLUMN = re.compile(r"COPY .*, column (.+?): ")


def _reason(exc: Unfit | psycopg.Error) -> str:
    """Return the server's message, with the column where its context names it in English."""
    if isinstance(exc, Unfit):
        return str(exc)
    message = exc.diag.message_primary or str(exc)
    column = _COLUMN.search(exc.diag.context or "")
    return f"column {column[1]}: {message}" if column else message


def _parts(source: str, batch: Batch, delivered: Delivered) -> Iterator[Sourced]:
    """Yield blocks of rows that COPY may take as they are, and of others each record."""
    if not isinstance(batch, Rows):
        yield from _sound_rows(source, batch, delivered)
        return
    for part in batch.parts():
        if isinstance(part, BadRecord):
            delivered.rejects.append(_unread(source, part))
        else:
            yield source, part


def _sound_rows(source: str, batch: Batch, delivered: Delivered) -> Iterator[Sourced]:
    """Yield each record that may be loadable as a batch of its own; reject the others."""
    if isinstance(batch, Rows):
        for piece in batch.pieces():
            if isinstance(piece, Batch):
                yield from _sound_rows(source, piece, delivered)
            else:
                delivered.rejects.append(_unread(source, piece))
        return
    texts = batch.texts
    for number, text in zip(batch.numbers, texts, strict=True):
        if not text.strip():
            continue  # a blank line is no record
        try:
            sound = _sound(text)
        except ValueError as exc:
            delivered.rejects.append(_reject(source, number, text, str(exc)))
        else:
            yield source, Batch([number], [sound], int(sound is not text), batch.untyped)


def _sound(text: bytes) -> bytes:
    """Return a JSON text as jsonb may take it; raises ValueError where it is none."""
    if b"\\u" not in text:  # no escape that jsonb cannot hold
        try:
            orjson.loads(text)
        except orjson.JSONDecodeError:
            pass  # or only too deep, or too large a number: the slow way tells
        else:
            return text
    try:
        return repair(text) or text
    except TooDeep:
        return text  # for us: the server may take it


def _halve(
    conn: Connection[Any], way: Way, rows: list[Sourced], delivered: Delivered
) -> list[tuple[Sourced, str]]:
    """Write rows, or reject them; return those with the reason that refer to rows not there."""
    refusal = _refused(conn, way, rows, delivered) if rows else None
    if refusal is None:
        return []
    if len(rows) > 1:
        middle = len(rows) // 2
        left = _halve(conn, way, rows[:middle], delivered)
        return left + _halve(conn, way, rows[middle:], delivered)
    [row] = rows
    if isinstance(row[1], Rows):
        return _halve(conn, way, list(_sound_rows(*row, delivered)), delivered)
    if isinstance(refusal, psycopg.errors.ForeignKeyViolation):
        return [(row, _reason(refusal))]
    delivered.rejects.append(_rejected(row, _reason(refusal)))
    return []


def _unread(source: str, bad: BadRecord) -> Reject:
    return Reject(source, bad.number, bad.place, bad.reason, bad.content)


def _rejected(row: Sourced, reason: str) -> Reject:
    source, batch = row
    return _reject(source, batch.numbers[0], batch.texts[0], reason)


def _reject(source: str, number: int, text: bytes, reason: str) -> Reject:
    return Reject(source, number, f"record {number}", reason, text)


_KEEP = """
    INSERT INTO howdah.rejects (target, source, loaded_at, record, place, reason, content)
    VALUES (%(target)s, %(source)s, %(loaded_at)s, %(record)s, %(place)s, %(reason)s, %(content)s)
"""


def keep(conn: Connection[Any], load: Load, rejects: Iterable[Reject]) -> None:
    """Store rejects beside the rows, in the transaction that the connection is in."""
    rows = [
        {
            "target": load.target.oid,
            "source": reject.source,
            "loaded_at": load.loaded_at,
            "record": reject.record,
            "place": _storable(reject.place),
            "reason": _storable(reject.reason),
            "content": reject.content and reject.content[:CONTENT_BYTES],
        }
        for reject in rejects
    ]
    if rows:
        with conn.cursor() as cursor:
            cursor.executemany(_KEEP, rows)


_LATEST = """
    SELECT source, record, place, reason
      FROM howdah.rejects
     ORDER BY id DESC
     LIMIT %s
"""


def latest(conn: Connection[Any], most: int) -> list[Reject]:
    """Return the rejects that were kept last, without their bytes, newest first."""
    return pg.fetch_all(conn, Reject, _LATEST, [most])


def _storable(text: str) -> str:
    """Return a text that PostgreSQL's text can hold."""
    return text.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode()
