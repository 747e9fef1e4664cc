"""Rejects that are tried again, in place: `howdah rejects retry`.

A record gets the source's name, number and `loaded_at` that it would have had;
its row, the end of its reject and the counts of its source commit together. The
contract of the ledger holds: the row of the source in howdah.sources is locked
first, so that a load which replaces the source comes before or after, and sees
the row or makes the reject vanish. The reject's own row is locked too, so of two
that try the same reject the second finds it gone. Killed anywhere, a record is
in the table, or its reject is there, never both and never neither.

A whole source is marked in the ledger as one to be loaded again and then loaded
from its path, which replaces what could be read of it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import Any, TypeAlias

from psycopg import Connection

from howdah import pg
from howdah.loading.columns import Columns
from howdah.loading.limits import Limits
from howdah.loading.pieces import Failure
from howdah.loading.readers import BadRecord, Batch, ReaderOptions, reader_named
from howdah.loading.rejectfiles import header_of, mended_records, read_record
from howdah.loading.rejects import Part, deliver
from howdah.loading.rejectstore import Chosen, KeptReject, chosen_rejects
from howdah.loading.report import Event
from howdah.loading.run import load
from howdah.loading.session import Session
from howdah.loading.sources import path_of, source_name
from howdah.loading.target import Load, Target, prepare
from howdah.loading.told import retold
from howdah.loading.urls import is_url

__all__ = ["Refusal", "RetryReport", "retry_rejects"]

AT_ONCE = 500
"""How many records of one source share a transaction."""

_Read: TypeAlias = bytes | BadRecord | Failure
_How: TypeAlias = tuple[str, ReaderOptions, Columns | None]


@dataclass(frozen=True, slots=True)
class Refusal:
    """A reject that is still one.

    Attributes:
        id: Its id.
        reason: Why.
    """

    id: int
    reason: str


@dataclass(frozen=True, slots=True)
class RetryReport:
    """What trying rejects again has done.

    Attributes:
        records: Rejected records that are in their tables now.
        sources: Files that were loaded again as a whole.
        rejects: New rejects that these gave.
        refused: Rejects that stay.
        gone: Mended records without a reject: they were loaded before, or their source anew.
    """

    records: int
    sources: int
    rejects: int
    refused: tuple[Refusal, ...]
    gone: int = 0


def retry_rejects(
    dsn: str,
    chosen: Chosen | None = None,
    *,
    mended: Path | None = None,
    limits: Limits | None = None,
    on_event: Callable[[Event], None] | None = None,
) -> RetryReport:
    """Try rejects again, in place: their records as they are kept, or as a person has mended them.

    Args:
        dsn: The database.
        chosen: Which rejects; None: all of them.
        mended: A file of `export_rejects`, edited: it says what the records are
            now, and with its `.ids` which rejects are meant, unless `chosen` does.
        limits: As for `load`.
        on_event: Called with what happens.

    Raises:
        UsageError: A reject that is named is not there, or the file does not fit.
        HowdahError: The server failed; what is committed stays.
    """
    chosen, limits, say = chosen or Chosen(), limits or Limits(), on_event or (lambda _: None)
    fixed = mended_records(mended, chosen.ids) if mended is not None else None
    named = fixed is None or chosen.ids is not None
    if fixed is not None:
        chosen = Chosen(ids=list(fixed))
    records, refused = 0, []
    doing = "try rejects again"
    with Session(dsn, limits, say) as session, pg.explained(doing):
        found = session.call(doing, lambda conn: chosen_rejects(conn, chosen, all_there=named))
        gone = 0 if fixed is None else len(fixed) - len(found)
        whole = [reject for reject in found if reject.record is None]
        single = [reject for reject in found if reject.record is not None]
        for (target, source), group in groupby(single, key=lambda r: (r.target, r.source)):
            session.table = target
            header = None
            while part := list(islice(group, AT_ONCE)):
                if header is None and fixed is None:
                    header = header_of(source, retold(part[0].options)[0])
                texts = fixed or {r.id: read_record(r.content or b"", header) for r in part}
                still = session.call(doing, lambda conn: _retry(conn, part, texts, limits))  # noqa: B023 - called at once
                records += len(part) - len(still)
                refused += still
        paths = session.call(doing, lambda conn: _forget(conn, whole, refused))
    rejects = 0
    for (table, options, columns), files in paths.items():
        rejects += load(
            files,
            dsn=dsn,
            table=table,
            options=options,
            columns=columns,
            limits=limits,
            on_event=on_event,
        ).rejects
    return RetryReport(records, sum(map(len, paths.values())), rejects, tuple(refused), gone)


# FOR UPDATE: a load that replaces the source waits for us, or we for it.
_SOURCE = """
    SELECT cut FROM howdah.sources
     WHERE target = %(target)s AND name = %(source)s AND loaded_at = %(loaded_at)s AND finished
       FOR UPDATE
"""
_LOCK = "SELECT id FROM howdah.rejects WHERE id = ANY(%(ids)s) FOR UPDATE"
_END = "DELETE FROM howdah.rejects WHERE id = ANY(%(ids)s)"
_COUNT = """
    UPDATE howdah.sources SET records = records + %(records)s, rejects = rejects - %(records)s
     WHERE target = %(target)s AND name = %(source)s
"""
_STALE = "its source is being loaded anew, or its load was killed: run that load again"
_GONE = "it is gone: tried by another at the same time, or its source was loaded anew"


def _retry(
    conn: Connection[Any], part: list[KeptReject], texts: Mapping[int, _Read], limits: Limits
) -> list[Refusal]:
    """Try records of one source of one table, in one transaction; return those that stay."""
    first = part[0]
    values: dict[str, object] = {"target": first.target, "source": first.source}
    values |= {"loaded_at": first.loaded_at, "ids": [reject.id for reject in part]}
    with conn.transaction():
        known = conn.execute(_SOURCE, values).fetchone()
        if known is None:
            return [Refusal(reject.id, _STALE) for reject in part]
        there = {number for (number,) in conn.execute(_LOCK, values)}
        refused = [Refusal(reject.id, _GONE) for reject in part if reject.id not in there]
        options, columns = retold(first.options)
        target = _target(conn, first.target, columns)
        current = Load(target, first.loaded_at, options=options, limits=limits)
        tried = [reject for reject in part if reject.id in there]
        refused += _deliver(conn, current, tried, texts, untyped=_is_untyped(known[0]))
        ids = [r.id for r in part if r.id not in {refusal.id for refusal in refused}]
        conn.execute(_END, {"ids": ids})
        conn.execute(_COUNT, values | {"records": len(ids)})
    return refused


def _is_untyped(cut: str) -> bool:
    """Say whether a text of a source may stand for a number, by how the ledger says it was cut."""
    try:
        return reader_named(cut.partition(",")[0]).untyped
    except KeyError:  # none, or a third party's that is gone
        return False


def _deliver(
    conn: Connection[Any],
    current: Load,
    tried: list[KeptReject],
    texts: Mapping[int, _Read],
    *,
    untyped: bool,
) -> list[Refusal]:
    refused, numbers, sound = [], [], []
    by_number = {reject.record: reject.id for reject in tried}
    for reject in tried:
        text = texts[reject.id]
        if not isinstance(text, bytes):
            refused.append(Refusal(reject.id, text.reason))
        elif not text.strip() or reject.record is None:
            refused.append(Refusal(reject.id, "it is blank"))
        else:
            numbers.append(reject.record)
            sound.append(text)
    if sound:
        batch = Batch(numbers, sound, untyped=untyped)
        delivered = deliver(conn, current, [Part(tried[0].source, [batch])])
        refused += [Refusal(by_number[bad.record], bad.reason) for bad in delivered.rejects]
    return refused


_TABLE = """
    SELECT nspname, relname
      FROM pg_catalog.pg_class
      JOIN pg_catalog.pg_namespace ON pg_namespace.oid = relnamespace
     WHERE pg_class.oid = %s
"""


def _table(conn: Connection[Any], target: int) -> pg.TableName | None:
    row = conn.execute(_TABLE, [target]).fetchone()
    return row and pg.TableName(row[0], row[1])


def _target(conn: Connection[Any], target: int, columns: Columns | None) -> Target:
    table = _table(conn, target)
    assert table is not None  # noqa: S101 - its source's row is swept with it
    return prepare(conn, table, columns)


_LOAD_AGAIN = """
    UPDATE howdah.sources SET fingerprint = ''
     WHERE target = %(target)s AND name = ANY(%(names)s) AND finished
"""


def _forget(
    conn: Connection[Any], whole: list[KeptReject], refused: list[Refusal]
) -> dict[_How, set[str]]:
    """Mark sources as ones to be loaded again; return their files by how to load them."""
    paths: dict[_How, set[str]] = {}
    for reject in whole:
        path = path_of(reject.source)
        table = _table(conn, reject.target)
        if table is None or not (os.path.isfile(path) or is_url(path)):
            refused.append(Refusal(reject.id, f"there is no file {path!r} to load again"))
            continue
        names = [reject.source, source_name(path)]
        conn.execute(_LOAD_AGAIN, {"target": reject.target, "names": names})
        how = table.identifier.as_string(conn), *retold(reject.options)
        paths.setdefault(how, set()).add(path)
    return paths
