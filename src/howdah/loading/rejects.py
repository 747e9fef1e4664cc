"""Records that cannot be loaded: found among good ones, and kept with their reason.

A COPY that the server refuses is looked through in two steps. First each JSON
text is checked here, which is cheap and gives the better reasons. What then is
still refused (a trigger, a constraint, a number that numeric cannot hold) is
found by halving: O(k log N) COPYs for k bad records among N. The line number
in the server's message is no help: its text is translated, and a constraint's
has none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson
import psycopg
from psycopg import Connection

from howdah import pg
from howdah.loading.copy import copy_blocks, framer
from howdah.loading.readers import Batch
from howdah.loading.readers.encode import TooDeep, repair
from howdah.loading.target import Load

__all__ = ["Delivered", "Part", "Reject", "deliver", "keep", "latest"]

CONTENT_BYTES = 16 << 20
"""How much of a rejected record is kept, in bytes."""

_DATA_CLASSES = {"21", "22", "23", "27", "44", "54", "P0"}
"""Classes of SQLSTATE that blame the data, not the server or the session.

Source: https://www.postgresql.org/docs/current/errcodes-appendix.html
"""


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
        records: Rows in the table, by source.
        repaired: How many of them differ from what the source held.
        rejects: Those that are not in the table.
    """

    records: dict[str, int] = field(default_factory=dict)
    repaired: int = 0
    rejects: list[Reject] = field(default_factory=list)

    def add(self, source: str, batch: Batch) -> None:
        """Count a batch as delivered."""
        self.records[source] = self.records.get(source, 0) + len(batch.numbers)
        self.repaired += batch.repaired


def deliver(conn: Connection[Any], load: Load, parts: Iterable[Part]) -> Delivered:
    """Copy records into the target, in the transaction that the connection is in; all that can be.

    Args:
        conn: A connection in a transaction.
        load: Says the table and the rows' `loaded_at`.
        parts: Read once; kept in memory until the server has taken them.

    Raises:
        psycopg.Error: What is not the data's fault: a full disk, a lost connection.
    """
    sent: list[tuple[str, Batch]] = []

    def batches() -> Iterator[tuple[str, Batch]]:
        for part in parts:
            for batch in part.batches:
                sent.append((part.source, batch))
                yield sent[-1]

    delivered = Delivered()
    if _copied(conn, load, batches()) is None:
        for source, batch in sent:
            delivered.add(source, batch)
    else:
        rows = [row for source, batch in sent for row in _sound_rows(source, batch, delivered)]
        _halve(conn, load, rows, delivered)
    return delivered


def _copied(
    conn: Connection[Any], load: Load, batches: Iterable[tuple[str, Batch]]
) -> psycopg.Error | None:
    """Copy batches in a savepoint; return the server's error where it blames the data."""

    def blocks() -> Iterator[bytes]:
        frame, framed = None, None
        for source, batch in batches:
            if frame is None or source != framed:
                frame, framed = framer(source, load.loaded_at), source
            yield frame(batch)

    try:
        with conn.transaction():
            copy_blocks(conn, load.target, blocks())
    except psycopg.Error as exc:
        if (exc.sqlstate or "")[:2] not in _DATA_CLASSES:
            raise
        return exc
    return None


def _sound_rows(source: str, batch: Batch, delivered: Delivered) -> Iterator[tuple[str, Batch]]:
    """Yield each record that may be loadable as a batch of its own; reject the others."""
    texts = batch.texts
    for number, text in zip(batch.numbers, texts, strict=True):
        if not text.strip():
            continue  # a blank line is no record
        try:
            sound = _sound(text)
        except ValueError as exc:
            delivered.rejects.append(_reject(source, number, text, str(exc)))
        else:
            yield source, Batch([number], [sound], int(sound is not text))


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
    conn: Connection[Any], load: Load, rows: list[tuple[str, Batch]], delivered: Delivered
) -> None:
    if not rows:
        return
    refused = _copied(conn, load, rows)
    if refused is None:
        for source, batch in rows:
            delivered.add(source, batch)
    elif len(rows) == 1:
        source, batch = rows[0]
        reason = refused.diag.message_primary or str(refused)
        delivered.rejects.append(_reject(source, batch.numbers[0], batch.texts[0], reason))
    else:
        middle = len(rows) // 2
        _halve(conn, load, rows[:middle], delivered)
        _halve(conn, load, rows[middle:], delivered)


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
