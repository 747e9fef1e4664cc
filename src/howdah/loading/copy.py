"""Records -> binary COPY -> server.

jsonb's binary form is a version byte and the JSON text, so the text of a
record goes to the server as it stands: one header before it, no parsing and no
escaping here. The attributes are the last column, so that all that comes before
a record's text is one packed header.

Source: https://www.postgresql.org/docs/current/sql-copy.html ("Binary Format"),
and jsonb_recv in PostgreSQL's src/backend/utils/adt/jsonb.c.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import chain
from struct import Struct, pack
from typing import Any

import psycopg
from psycopg import Connection, pq, sql

from howdah.loading.readers import Batch
from howdah.loading.target import COLUMNS, Target

__all__ = ["copy_blocks", "copy_in", "framer"]

_SIGNATURE = b"PGCOPY\n\xff\r\n\0" + pack(">ii", 0, 0)
_TRAILER = pack(">h", -1)
_JSONB_VERSION = 1
_ONE = Struct(">qiB")  # a record's number, its length, the version
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
"""Where PostgreSQL's timestamps count from, in microseconds."""

_COPY = "COPY {table} ({columns}) FROM STDIN (FORMAT binary)"


def framer(source: str, loaded_at: datetime) -> Callable[[Batch], bytes]:
    """Return what turns a batch of a source's records into COPY data.

    Args:
        source: The source's name.
        loaded_at: The value of the rows' `loaded_at`; aware.
    """
    name = source.encode()
    microseconds = (loaded_at - _EPOCH) // timedelta(microseconds=1)
    prefix = pack(">hi", len(COLUMNS), len(name)) + name + pack(">iqi", 8, microseconds, 8)

    def frame(batch: Batch) -> bytes:
        texts, numbers = batch.padded_texts, batch.numbers
        if len(texts) == 1:  # a document
            [text] = texts
            return prefix + _ONE.pack(numbers[0], len(text) + 1, _JSONB_VERSION) + text
        if isinstance(numbers, range):
            with suppress(IndexError):  # a text is longer than `_LENGTHS` knows
                return _joined(prefix, numbers.start, texts)
        header = Struct(f">{len(prefix)}sqiB").pack
        parts = [b""] * (2 * len(texts))
        parts[1::2] = texts
        parts[::2] = [
            header(prefix, number, len(text) + 1, _JSONB_VERSION)
            for number, text in zip(numbers, texts, strict=True)
        ]
        return b"".join(parts)

    return frame


_LAST_BYTES = [bytes([value]) for value in range(256)]
_LENGTHS = [pack(">iB", length + 1, _JSONB_VERSION) for length in range(4096)]
"""What stands between a record's number and its text, by the text's length."""


def _joined(prefix: bytes, first: int, texts: list[bytes]) -> bytes:
    """Return rows that are numbered from `first`, without a step of Python for each.

    That takes a fifth less. A row is what up to 256 of them share, the last byte of the
    number, the length, the text.
    """
    count, low = len(texts), first & 255
    parts = [prefix + pack(">q", first)[:-1]] * (4 * count)
    for place in range(256 - low, count, 256):
        shared = prefix + pack(">q", first + place)[:-1]
        parts[4 * place : 4 * (place + 256) : 4] = [shared] * min(256, count - place)
    parts[1::4] = (_LAST_BYTES * (1 + (low + count) // 256))[low : low + count]
    parts[2::4] = map(_LENGTHS.__getitem__, map(len, texts))
    parts[3::4] = texts
    return b"".join(parts)


def copy_blocks(conn: Connection[Any], target: Target, blocks: Iterable[bytes]) -> None:
    """Copy framed records into a table, in the transaction that the connection is in.

    Raises:
        psycopg.Error: As the server refuses it; the transaction is then aborted.
    """
    columns = sql.SQL(", ").join(map(sql.Identifier, COLUMNS))
    command = sql.SQL(_COPY).format(table=target.identifier, columns=columns)
    copy_in(conn, command, chain((_SIGNATURE,), blocks, (_TRAILER,)))


def copy_in(conn: Connection[Any], command: sql.Composed, blocks: Iterable[bytes]) -> int:
    """Run a COPY FROM STDIN and return how many rows the server took.

    Args:
        conn: A connection in a transaction.
        command: The COPY.
        blocks: Its data; what they raise ends the COPY and is raised on.

    Raises:
        psycopg.Error: As the server refuses it; the transaction is then aborted.
    """
    pgconn = conn.pgconn
    # psycopg's own COPY lets libpq buffer what the server has not taken yet,
    # without limit; a blocking connection sends each block before the next.
    pgconn.nonblocking = 0
    try:
        _expect(pgconn.exec_(command.as_bytes(conn)), pq.ExecStatus.COPY_IN)
        put = pgconn.put_copy_data
        try:
            for block in blocks:
                put(block)
        except BaseException:
            with suppress(psycopg.OperationalError):  # the first error is the cause
                _end(pgconn, b"the loader gave up")
            raise
        done = _end(pgconn, None)
        _expect(done, pq.ExecStatus.COMMAND_OK)
        return done.command_tuples or 0
    finally:
        if pgconn.status == pq.ConnStatus.OK:
            pgconn.nonblocking = 1


def _end(pgconn: pq.abc.PGconn, error: bytes | None) -> pq.abc.PGresult:
    """End a COPY and return its result: the first failure, where there is one."""
    pgconn.put_copy_end(error)
    found = pgconn.get_result()
    assert found is not None  # noqa: S101 - a COPY that began has a result
    while result := pgconn.get_result():
        if found.status == pq.ExecStatus.COMMAND_OK:
            found = result
    return found


def _expect(result: pq.abc.PGresult, status: pq.ExecStatus) -> None:
    if result.status != status:
        error = psycopg.errors.error_from_result(result, encoding="utf-8")
        if error.sqlstate is None:  # libpq's own: the connection is lost
            raise psycopg.OperationalError(str(error))
        raise error
