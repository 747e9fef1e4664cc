"""How records reach their table: as documents, as typed rows, or merged into what is there.

A way runs in the transaction and savepoint that its caller has opened, and
says what of it the server refused by raising; `adapt` may then change the table
so that the same records fit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from psycopg import Connection

from howdah.loading.copy import copy_blocks, framer
from howdah.loading.readers import Batch
from howdah.loading.target import Load

__all__ = ["Sent", "Sourced", "Way", "way_of"]

Sourced = tuple[str, Batch]
"""A source's name, and records of it."""


@dataclass(slots=True)
class Sent:
    """What the server took.

    Attributes:
        records: Records, by source.
        rows: Rows that were inserted or changed.
    """

    records: Counter[str] = field(default_factory=Counter)
    rows: int = 0


class Way(Protocol):
    """How the records of one transaction reach their table."""

    def send(self, batches: Iterable[Sourced]) -> Sent:
        """Write records.

        Raises:
            psycopg.Error: As the server refuses them.
            Unfit: A record has no place in the table.
        """

    def adapt(self, batches: Sequence[Sourced]) -> bool:
        """Change the table so that refused records fit; False where there is nothing to change."""


def way_of(conn: Connection[Any], load: Load) -> Way:
    """Return the way that a load's records take."""
    if load.target.columns is None:
        return _Documents(conn, load)
    from howdah.loading.columnsway import IntoColumns  # which a load of documents does not need

    return IntoColumns(conn, load.target, load.target.columns)


@dataclass(slots=True)
class _Documents:
    """Binary COPY into howdah's own kind of table."""

    conn: Connection[Any]
    load: Load

    def send(self, batches: Iterable[Sourced]) -> Sent:
        """See `Way.send`."""
        sent = Sent()
        copy_blocks(self.conn, self.load.target, self._blocks(batches, sent))
        sent.rows = sent.records.total()
        return sent

    def adapt(self, batches: Sequence[Sourced]) -> bool:  # noqa: ARG002 - Way's signature
        """See `Way.adapt`: jsonb takes all there is."""
        return False

    def _blocks(self, batches: Iterable[Sourced], sent: Sent) -> Iterator[bytes]:
        frame, framed = None, None
        for source, batch in batches:
            if frame is None or source != framed:
                frame, framed = framer(source, self.load.loaded_at), source
            yield frame(batch)
            sent.records[source] += len(batch.numbers)
