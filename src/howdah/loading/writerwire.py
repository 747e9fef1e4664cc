"""Several statements and their COPY data in one round trip each.

A batch is `BEGIN; ...; COPY ...; COMMIT` sent as one string: the server answers
once when it wants the data and once at the end. What psycopg's own COPY offers
takes five round trips for it, and libpq's blocking calls hold the GIL while
they wait, so that no other thread could post.

Source: https://www.postgresql.org/docs/current/protocol-flow.html
("Multiple Statements in a Simple Query", "COPY Operations").
"""

from __future__ import annotations

import select
from collections.abc import Iterable

import psycopg
from psycopg.pq import ConnStatus, ExecStatus
from psycopg.pq.abc import PGconn, PGresult

__all__ = ["converse"]

_PIECE_BYTES = 1 << 20  # psycopg sends no more than 4 MiB at once, or libpq may loop (its #255)
_GOOD = {ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK}


def converse(pgconn: PGconn, script: bytes, data: Iterable[bytes] = ()) -> list[bytes]:
    """Run a script of statements, and give each COPY in it its data.

    Args:
        pgconn: A connection in non-blocking mode, as psycopg's are.
        script: Statements, with semicolons between them.
        data: The data of each COPY in the script, in order; each is asked for when
            the server waits for it.

    Returns:
        The command tags of the statements, as in b"INSERT 0 1".

    Raises:
        psycopg.Error: As the server refuses a statement; it has run none of those behind it.
    """
    feeds = iter(data)
    pgconn.send_query(script)
    _flush(pgconn)
    tags: list[bytes] = []
    failed: PGresult | None = None
    while (result := _result(pgconn)) is not None:
        if result.status == ExecStatus.COPY_IN:
            _put(pgconn, next(feeds))
        elif result.status in _GOOD:
            tags.append(result.command_status or b"")
        else:
            failed = result
            if pgconn.status != ConnStatus.OK:
                break
    if failed is not None:
        raise psycopg.errors.error_from_result(failed, encoding="utf-8")
    return tags


def _put(pgconn: PGconn, data: bytes) -> None:
    view = memoryview(data)
    for start in range(0, len(view), _PIECE_BYTES):
        pgconn.put_copy_data(view[start : start + _PIECE_BYTES])
        _flush(pgconn)
    pgconn.put_copy_end()
    _flush(pgconn)


def _result(pgconn: PGconn) -> PGresult | None:
    while pgconn.is_busy():
        _wait(pgconn, select.POLLIN)
        pgconn.consume_input()
    return pgconn.get_result()


def _flush(pgconn: PGconn) -> None:
    while pgconn.flush():
        # Read, too: a server that waits for us to take its notices takes no data.
        if _wait(pgconn, select.POLLIN | select.POLLOUT) & select.POLLIN:
            pgconn.consume_input()


def _wait(pgconn: PGconn, events: int) -> int:
    poll = select.poll()
    poll.register(pgconn.socket, events)
    return poll.poll()[0][1]
