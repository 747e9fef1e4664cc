"""The way of records into a table's own columns: COPY, at once or by way of a merge."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING, Any, LiteralString

from psycopg import Connection, sql

from howdah.loading import typed
from howdah.loading.columns import Column, Columns, columns_of, matched, writable
from howdah.loading.copy import copy_in
from howdah.loading.inference import kind_of_type
from howdah.loading.passing import passed
from howdah.loading.readers import Batch, Rows
from howdah.loading.records import Unfit
from howdah.loading.rows import Encoder, Row, Unknown
from howdah.loading.target import Target
from howdah.loading.ways import Sent, Sourced

if TYPE_CHECKING:
    from howdah.loading.merge import Stage

__all__ = ["IntoColumns"]


@dataclass(frozen=True, slots=True)
class _Format:
    """What one COPY command is for.

    Attributes:
        source: The source's name, for counting.
        columns: The columns that are written.
        delimiter: That of a file's rows; None: rows of our own making, in the text format.
        csv: Whether they are to be read as CSV, not in the text format.
    """

    source: str
    columns: tuple[str, ...]
    delimiter: str | None = None
    csv: bool = False


_LOCK = "LOCK TABLE {} IN ROW EXCLUSIVE MODE"
_COPY = "COPY {table} ({columns}) FROM STDIN (FORMAT {format}{options})"
# Empty cells: NULL, but in columns that hold texts, where they are empty texts.
_CSV = "{force_null}{force_not_null}"
_AS_IN_FILE = ", ENCODING 'UTF8', DELIMITER {delimiter}"


class IntoColumns:
    """COPY into a table's own columns, at once or by way of a merge."""

    def __init__(self, conn: Connection[Any], target: Target, into: Columns) -> None:
        self._conn = conn
        self._target = target
        self._into = into
        self._columns: dict[str, Column] = {}
        self._fit: set[int] = set()
        """The id() of batches that the columns hold, for sure: no need to look for wider ones."""

    def send(self, batches: Iterable[Sourced]) -> Sent:
        """See `Way.send`."""
        if self._into.grows:
            # What another worker makes of a column until we commit, a text of it may not be.
            self._conn.execute(sql.SQL(_LOCK).format(self._target.identifier))
        self._columns = columns_of(self._conn, self._target.oid)
        staged = self._into.merges or self._into.staged
        stage = self._stage() if staged else None
        sent = Sent()
        for form, parts in groupby(self._blocks(batches, stage), key=itemgetter(0)):
            blocks = (block for _, block in parts)
            if stage is not None:
                stage.make()
                count = self._copy(stage.name, form, blocks)
                sent.rows += stage.merge(None if form.delimiter is None else form.columns)
            else:
                count = self._copy(self._target.identifier, form, blocks)
                sent.rows += count
            sent.records[form.source] += count
        # At the COMMIT it could not be told which of the records was refused.
        self._conn.execute("SET CONSTRAINTS ALL IMMEDIATE")
        return sent

    def adapt(self, batches: Sequence[Sourced]) -> bool:
        """See `Way.adapt`: widens the columns of a table that was made for the records."""
        if not self._into.grows:
            return False
        # Made of the columns as they are now, where this transaction has merged before.
        self._stage().drop()
        looked_at = [batch for _, batch in batches if id(batch) not in self._fit]
        changed = typed.widen(self._conn, self._target, self._into.extra, looked_at)
        return changed or columns_of(self._conn, self._target.oid) != self._columns

    def _stage(self) -> Stage:
        from howdah.loading.merge import Stage  # which most loads do not need

        return Stage(self._conn, self._target, self._into, self._columns)

    def _copy(self, table: sql.Identifier, form: _Format, blocks: Iterable[bytes]) -> int:
        options: sql.Composable = sql.SQL("")
        if form.delimiter is not None:
            options = sql.SQL(_AS_IN_FILE).format(delimiter=form.delimiter)
        if form.csv:
            options += sql.SQL(_CSV).format(
                force_null=self._force("FORCE_NULL", form.columns, is_text=False),
                force_not_null=self._force("FORCE_NOT_NULL", form.columns, is_text=True),
            )
        command = sql.SQL(_COPY).format(
            table=table,
            columns=_listed(form.columns),
            format=sql.SQL("csv" if form.csv else "text"),
            options=options,
        )
        return copy_in(self._conn, command, blocks)

    def _force(
        self, option: LiteralString, names: Iterable[str], *, is_text: bool
    ) -> sql.Composable:
        those = [name for name in names if self._columns[name].is_text == is_text]
        if not those:
            return sql.SQL("")
        return sql.SQL(", {} ({})").format(sql.SQL(option), _listed(those))

    def _blocks(
        self, batches: Iterable[Sourced], stage: Stage | None
    ) -> Iterator[tuple[_Format, bytes]]:
        encoder = Encoder(self._columns, self._into, whole=stage is not None)
        for source, batch in batches:
            passed = self._passed(batch) if isinstance(batch, Rows) else None
            if passed is not None:
                yield from self._in_formats(source, *passed, staged=stage is not None)
                continue
            for part in _parts(batch):
                rows: Iterable[Row] = (encoder.row(t, texts=part.untyped) for t in part.texts)
                if stage is not None:
                    yield from self._staged(source, rows, stage)
                    continue
                ordered = sorted(rows, key=attrgetter("written"))
                for columns, same in groupby(ordered, key=attrgetter("written")):
                    lines = [row.line for row in same]
                    yield _Format(source, columns), b"\n".join(lines) + b"\n"
            if not isinstance(batch, Rows):
                self._fit.add(id(batch))

    def _staged(
        self, source: str, rows: Iterable[Row], stage: Stage
    ) -> Iterator[tuple[_Format, bytes]]:
        """Yield rows of all columns, each with the number of the set of those it brings."""
        from howdah.loading.merge import SET

        lines = [b"%b\t%d\n" % (row.line, stage.number_of(row.brought)) for row in rows]
        if lines:
            yield _Format(source, (*writable(self._columns), SET)), b"".join(lines)

    def _in_formats(
        self,
        source: str,
        columns: tuple[str, ...],
        delimiter: str,
        blocks: Iterable[tuple[bytes, bool]],
        *,
        staged: bool,
    ) -> Iterator[tuple[_Format, bytes]]:
        """Yield rows in the text format, as long as it does, and then as CSV.

        A merge takes all rows of a source at once, so in one format.
        """
        csv = False
        if staged:
            blocks = list(blocks)
            csv = not all(plain for _, plain in blocks)
        for block, plain in blocks:
            csv = csv or not plain
            yield _Format(source, columns, delimiter, csv), block

    def _passed(
        self, batch: Rows
    ) -> tuple[tuple[str, ...], str, Iterator[tuple[bytes, bool]]] | None:
        """Return how rows are passed on; None: not all of their columns can be written.

        Raises:
            Unknown: The table has no column for one of them, nor for the rest.
        """
        found = matched(batch.names, [name for name in self._columns if name != self._into.extra])
        unknown = [name for name in batch.names if name not in found]
        if unknown and self._into.extra is None:
            raise Unknown(unknown)
        columns = [self._columns[found[name]] for name in batch.names if name in found]
        lacks_key = self._into.updates_only and not set(self._into.key) <= set(found.values())
        if unknown or lacks_key or any(column.is_generated for column in columns):
            return None
        kinds = tuple(kind_of_type(c.type) if self._into.grows else None for c in columns)
        names = tuple(column.name for column in columns)
        all_texts = all(column.is_text for column in columns)
        blocks = passed(batch.blocks(), kinds, batch.delimiter, all_texts=all_texts)
        return names, batch.delimiter, blocks


def _parts(batch: Batch) -> Iterator[Batch]:
    """Yield a batch, or those that rows are read as."""
    if not isinstance(batch, Rows):
        yield batch
        return
    for piece in batch.pieces():
        if not isinstance(piece, Batch):
            raise Unfit(piece.reason)  # it becomes a reject when the records are looked through
        yield piece


def _listed(names: Iterable[str]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, names))
