"""The way of records into a table's own columns: COPY, at once or by way of a merge."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any

from psycopg import Connection, sql

from howdah.loading import typed
from howdah.loading.columns import Columns, columns_of, matched
from howdah.loading.copy import copy_in
from howdah.loading.merge import Stage
from howdah.loading.readers import Rows
from howdah.loading.rows import Encoder, Unfit, Unknown
from howdah.loading.target import Target
from howdah.loading.ways import Sent, Sourced

__all__ = ["IntoColumns"]


@dataclass(frozen=True, slots=True)
class _Format:
    """What one COPY command is for.

    Attributes:
        source: The source's name, for counting.
        columns: The columns that are written.
        delimiter: That of CSV rows; None: COPY's text format.
    """

    source: str
    columns: tuple[str, ...]
    delimiter: str | None


_COPY = "COPY {table} ({columns}) FROM STDIN (FORMAT {format}{options})"
# Empty cells: NULL, but in columns that hold texts, where they are empty texts.
_CSV = ", ENCODING 'UTF8', DELIMITER {delimiter}{force_null}{force_not_null}"


class IntoColumns:
    """COPY into a table's own columns, at once or by way of a merge."""

    def __init__(self, conn: Connection[Any], target: Target, into: Columns) -> None:
        self._conn = conn
        self._target = target
        self._into = into
        self._columns = columns_of(conn, target.oid)

    def send(self, batches: Iterable[Sourced]) -> Sent:
        """See `Way.send`."""
        sent = Sent()
        for form, parts in groupby(self._blocks(batches), key=itemgetter(0)):
            blocks = (block for _, block in parts)
            if self._into.merges:
                stage = Stage(self._conn, self._target, self._into, self._columns)
                count = self._copy(stage.name, form, blocks)
                sent.rows += stage.merge(form.columns)
            else:
                count = self._copy(self._target.identifier, form, blocks)
                sent.rows += count
            sent.records[form.source] += count
        return sent

    def adapt(self, batches: Sequence[Sourced]) -> bool:
        """See `Way.adapt`: widens the columns of a table that was made for the records."""
        if not self._into.grows:
            return False
        if self._into.merges:
            Stage(self._conn, self._target, self._into, self._columns).drop()
        changed = typed.widen(
            self._conn,
            self._target.identifier,
            self._target.oid,
            self._into.extra,
            (batch for _, batch in batches),
        )
        self._columns = columns_of(self._conn, self._target.oid)
        return changed

    def _copy(self, table: sql.Identifier, form: _Format, blocks: Iterable[bytes]) -> int:
        options: sql.Composable = sql.SQL("")
        if form.delimiter is not None:
            options = sql.SQL(_CSV).format(
                delimiter=form.delimiter,
                force_null=self._force("FORCE_NULL", form.columns, is_text=False),
                force_not_null=self._force("FORCE_NOT_NULL", form.columns, is_text=True),
            )
        command = sql.SQL(_COPY).format(
            table=table,
            columns=_listed(form.columns),
            format=sql.SQL("text" if form.delimiter is None else "csv"),
            options=options,
        )
        return copy_in(self._conn, command, blocks)

    def _force(self, option: str, names: Iterable[str], *, is_text: bool) -> sql.Composable:
        those = [name for name in names if self._columns[name].is_text == is_text]
        if not those:
            return sql.SQL("")
        return sql.SQL(", {} ({})").format(sql.SQL(option), _listed(those))

    def _blocks(self, batches: Iterable[Sourced]) -> Iterator[tuple[_Format, bytes]]:
        encoder = Encoder(self._columns, self._into.extra)
        for source, batch in batches:
            if isinstance(batch, Rows):
                form = _Format(source, self._columns_of(batch), batch.delimiter)
                for block in batch.blocks():
                    _check(block)
                    yield form, block
            else:
                encoded: Iterable[tuple[tuple[str, ...], bytes]] = map(encoder.row, batch.texts)
                if not self._into.merges:  # where of two rows the later one counts
                    encoded = sorted(encoded, key=itemgetter(0))
                for columns, rows in groupby(encoded, key=itemgetter(0)):
                    form = _Format(source, columns, None)
                    yield form, b"".join(row for _, row in rows)

    def _columns_of(self, batch: Rows) -> tuple[str, ...]:
        found = matched(batch.names, self._columns)
        if unknown := [name for name in batch.names if name not in found]:
            raise Unknown(unknown)
        return tuple(found[name] for name in batch.names)


def _check(block: bytes) -> None:
    r"""Refuse rows that COPY might read otherwise: before PostgreSQL 18 a line `\.` ends its data.

    Source: https://www.postgresql.org/docs/17/sql-copy.html ("CSV Format").
    """
    if b"\\" in block and (b"\n\\." in block or block.startswith(b"\\") or block.endswith(b"\\")):
        raise Unfit("A line starts with a backslash and a full stop.")


def _listed(names: Iterable[str]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, names))
