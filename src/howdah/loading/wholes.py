"""Sources that are read to their end, and share a transaction."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from psycopg import Connection

from howdah.loading import ledger, rejects
from howdah.loading.pieces import Failure, Piece, batches
from howdah.loading.readers import BadRecord, Batch
from howdah.loading.rejects import Part, Reject
from howdah.loading.report import Outcome
from howdah.loading.target import Load

__all__ = ["ReadSource", "commit_whole", "expected"]


@dataclass(frozen=True, slots=True)
class ReadSource:
    """A source that is read to its end and waits for others to share its transaction.

    Attributes:
        entry: What the ledger is to say of it.
        pieces: What its reader gave.
    """

    entry: ledger.Whole
    pieces: list[Piece]


def commit_whole(conn: Connection[Any], load: Load, waiting: dict[str, ReadSource]) -> Outcome:
    """Commit sources, by their names, in the transaction that the connection is in."""
    claimed = ledger.claim_whole(conn, load, [source.entry for source in waiting.values()])
    bad: list[Reject] = []
    ours = [(name, source) for name, source in waiting.items() if name in claimed]  # in their order
    parts = (Part(name, batches(name, source.pieces, bad)) for name, source in ours)
    delivered = rejects.deliver(conn, load, parts)
    bad += delivered.rejects
    rejects.keep(conn, load, bad)
    bad_by_source = Counter(reject.source for reject in bad)
    counts = [
        ledger.Counts(name, delivered.records.get(name, 0), bad_by_source[name]) for name in claimed
    ]
    # Most are as expected, so that their row in the ledger need not be written twice.
    others_than_expected = [
        found for found in counts if not _is_as_expected(found, waiting[found.name].entry)
    ]
    ledger.count_whole(conn, load, others_than_expected)
    # What this load's own worker committed before it died counts as loaded.
    others = waiting.keys() - claimed
    before = ledger.ours(conn, load, others) if others else []
    counts += before
    return Outcome(
        sources=len(counts),
        skipped=len(waiting) - len(counts),
        records=sum(source.records for source in counts),
        rows=delivered.rows + sum(source.records for source in before),
        rejects=sum(source.rejects for source in counts),
        repaired=delivered.repaired,
        chunks=1,
    )


def expected(pieces: list[Piece]) -> tuple[int, int]:
    """Return how many records and rejects pieces are, where that costs nothing to tell."""
    records = sum(len(piece.numbers) for piece in pieces if type(piece) is Batch)
    return records, sum(isinstance(piece, Failure | BadRecord) for piece in pieces)


def _is_as_expected(found: ledger.Counts, entry: ledger.Whole) -> bool:
    return (found.records, found.rejects) == (entry.records, entry.rejects)
