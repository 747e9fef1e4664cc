"""Parquet, ORC, and Arrow's files (Feather) and streams: one record a row, by pyarrow.

They are read batch by batch: of Parquet some thousand rows of a row group, of
ORC a stripe, of Arrow what its writer has made a batch of.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, BinaryIO

from howdah.errors import MissingExtra
from howdah.loading.readers import Head, Item, Match, Reader, UnreadableSource
from howdah.loading.readers.arrowvalues import Batch, rows_of
from howdah.loading.readers.characters import looks_like_text
from howdah.loading.readers.layout import column_names

__all__ = ["ORC", "ArrowFile", "ArrowStream", "Parquet"]

_BATCH_BYTES = 4 << 20
_MOST_ROWS = 65_536
_CONTINUATION = b"\xff\xff\xff\xff"


class _Columnar(Reader):
    """What the formats have in common: pyarrow, its errors, and rows out of batches."""

    def read(self, file: BinaryIO, name: str) -> Iterator[Item]:  # noqa: ARG002
        """See `Reader.read`: a mapping of column name to value for each row."""
        try:
            import pyarrow as pa
        except ModuleNotFoundError as exc:
            raise MissingExtra(f"reading {self.name} files", "tables") from exc
        try:
            for batch in self._batches(file):
                names = column_names(batch.schema.names, ())
                rows = _rows_for(batch)
                for start in range(0, len(batch), rows):
                    yield from rows_of(batch.slice(start, rows), names)
        except (pa.ArrowException, OSError, ValueError) as exc:
            reason = str(exc).strip().splitlines()[0] if str(exc).strip() else type(exc).__name__
            raise UnreadableSource(
                f"The {self.name} file is broken or cut off: {reason[:300]}"
            ) from exc

    @abstractmethod
    def _batches(self, file: Any) -> Iterator[Batch]:
        """Yield what the file holds, a part at a time."""


def _rows_for(batch: Batch) -> int:
    rows: int = min(_MOST_ROWS, max(1, len(batch) * _BATCH_BYTES // max(1, batch.nbytes)))
    return rows


class Parquet(_Columnar):
    """Reads Parquet."""

    name = "parquet"
    seeks = True

    def recognise(self, head: Head) -> Match:
        """See `Reader.recognise`: by its magic number."""
        return Match.CERTAIN if head.data.startswith((b"PAR1", b"PARE")) else Match.NO

    def _batches(self, file: Any) -> Iterator[Batch]:
        from pyarrow.parquet import ParquetFile

        if file.read(4) == b"PARE":
            raise UnreadableSource("The Parquet file is encrypted.")
        file.seek(0)
        # A buffer: else each column of a row group is read as a whole.
        with ParquetFile(file, buffer_size=1 << 20, pre_buffer=False) as parquet:
            for group in range(parquet.num_row_groups):
                facts = parquet.metadata.row_group(group)
                width = facts.total_byte_size // max(1, facts.num_rows) + 1
                rows = min(_MOST_ROWS, max(1, _BATCH_BYTES // width))
                yield from parquet.iter_batches(rows, row_groups=[group], use_threads=False)


class ORC(_Columnar):
    """Reads ORC."""

    name = "orc"
    seeks = True

    def recognise(self, head: Head) -> Match:
        """See `Reader.recognise`: by its magic number."""
        # Three letters alone may begin a text.
        magic = head.data.startswith(b"ORC") and not looks_like_text(head.data)
        return Match.CERTAIN if magic else Match.NO

    def _batches(self, file: Any) -> Iterator[Batch]:
        from pyarrow.orc import ORCFile

        orc: Any = ORCFile(file)
        for stripe in range(orc.nstripes):
            yield orc.read_stripe(stripe)


class ArrowFile(_Columnar):
    """Reads Arrow's file format, which is Feather's version 2."""

    name = "arrow"
    seeks = True

    def recognise(self, head: Head) -> Match:
        """See `Reader.recognise`: by its magic number."""
        return Match.CERTAIN if head.data.startswith((b"ARROW1\0\0", b"FEA1")) else Match.NO

    def _batches(self, file: Any) -> Iterator[Batch]:
        import pyarrow as pa

        if file.read(4) == b"FEA1":
            raise UnreadableSource("The file is Feather version 1; write it as version 2.")
        file.seek(0)
        with pa.ipc.open_file(file) as opened:
            for number in range(opened.num_record_batches):
                yield _valid(opened.get_batch(number))


class ArrowStream(_Columnar):
    """Reads Arrow's stream format."""

    name = "arrowstream"

    def recognise(self, head: Head) -> Match:
        """See `Reader.recognise`: by the length of a schema behind the continuation marker."""
        if not head.data.startswith(_CONTINUATION) or len(head.data) < 16:  # noqa: PLR2004
            return Match.NO
        length = int.from_bytes(head.data[4:8], "little")
        root = int.from_bytes(head.data[8:12], "little")  # a flatbuffer's offset
        plausible = length % 8 == 0 and 16 <= length < 1 << 26 and root < length  # noqa: PLR2004
        return Match.CERTAIN if plausible else Match.NO

    def _batches(self, file: Any) -> Iterator[Batch]:
        import pyarrow as pa

        with pa.ipc.open_stream(file) as opened:
            for batch in opened:
                yield _valid(batch)


def _valid(batch: Batch) -> Batch:
    """Return a batch whose offsets lead nowhere outside; raises pyarrow's error."""
    batch.validate(full=True)
    return batch
