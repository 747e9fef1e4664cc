"""What readers yield besides mappings: records whose text is at hand, and records that are bad."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Protocol

__all__ = ["RECORD_LIMIT_BYTES", "SHOWN_BYTES", "BadRecord", "Batch", "Lines", "RowReader", "Rows"]

RECORD_LIMIT_BYTES = 256 << 20
"""How long a record may be: jsonb holds at most 256 MiB of strings, in bytes."""

SHOWN_BYTES = 64 << 10
"""How much is kept of a record that is too long, in bytes."""


@dataclass(frozen=True)
class Batch:
    """Records whose JSON text is known.

    Attributes:
        numbers: Each record's number in the source; as long as `texts`.
        texts: One JSON text a record, UTF-8, without a check that it is valid.
        repaired: How many of the texts differ from what the source held, since
            jsonb cannot store that (see docs/reference/loading.md).
        untyped: That of the reader.
    """

    numbers: Sequence[int]
    texts: list[bytes]
    repaired: int = 0
    untyped: bool = False

    @property
    def padded_texts(self) -> list[bytes]:
        """The texts, perhaps with white space behind them, which JSON allows."""
        return self.texts

    @property
    def size_bytes(self) -> int:
        """About how much memory it holds."""
        return sum(map(len, self.texts))


_LONGEST_BLANK_BYTES = len(b"\r\n")
"""How long lines are that are looked at for being blank; a longer one the server refuses."""


class Lines(Batch):
    """Records that are lines, split anew each time they are looked at.

    To keep the lines, until the server has taken a chunk of them, costs more
    than to split them twice in the rare case: a fresh object a line, in fresh
    memory, is what a loader that passes bytes on spends most of its time on.

    Args:
        first: The number of the first line; blank lines have numbers and are no records.
        data: The lines; a newline at the end or none.
    """

    def __init__(self, first: int, data: bytes) -> None:
        self.__dict__.update(first=first, data=data, known=None)

    @property
    def texts(self) -> list[bytes]:
        """See `Batch`."""
        first: int = self.__dict__["first"]
        data: bytes = self.__dict__["data"]
        lines = data.split(b"\n")
        if not lines[-1]:
            lines.pop()
        numbers: Sequence[int] = range(first, first + len(lines))
        after = first + len(lines)
        if b"" in lines or any(map(bytes.isspace, lines)):
            kept = [(n, line) for n, line in zip(numbers, lines, strict=True) if line.strip()]
            numbers, lines = [n for n, _ in kept], [line for _, line in kept]
        self.__dict__["known"] = numbers, after
        return lines

    @property
    def padded_texts(self) -> list[bytes]:
        """See `Batch`: with their newlines, since `readlines` is three times as fast as `split`."""
        first: int = self.__dict__["first"]
        lines = BytesIO(self.__dict__["data"]).readlines()
        if min(map(len, lines), default=0) <= _LONGEST_BLANK_BYTES:
            return self.texts
        after = first + len(lines)
        self.__dict__["known"] = range(first, after), after
        return lines

    @property
    def numbers(self) -> Sequence[int]:
        """See `Batch`."""
        return self._known()[0]

    @property
    def after(self) -> int:
        """The number of the line behind the last one."""
        return self._known()[1]

    @property
    def size_bytes(self) -> int:
        """See `Batch`."""
        return len(self.__dict__["data"])

    def _known(self) -> tuple[Sequence[int], int]:
        if self.__dict__["known"] is None:
            _ = self.texts
        known: tuple[Sequence[int], int] = self.__dict__["known"]
        return known


class RowReader(Protocol):
    """Reads rows that are not passed on; what it is given is their text."""

    def pieces(self, blocks: Iterator[bytes]) -> Iterator[Batch | BadRecord]:
        """See `Rows.pieces`."""
        ...

    def cells(self, blocks: Iterator[bytes]) -> Iterator[list[list[str]]]:
        """See `Rows.cells`."""
        ...

    def parts(self, blocks: Iterator[bytes]) -> Iterator[Rows | BadRecord]:
        """See `Rows.parts`."""
        ...


class Rows(Batch):
    """Rows of a delimited text that COPY can take as they are, in its csv format.

    Args:
        names: What the header calls the columns.
        delimiter: One ASCII character.
        blocks: The text, in UTF-8, its rows complete; read once and kept.
        how: Reads the text, where COPY refuses it.
        first: The number of the first row.
        size_bytes: How long the text is, in bytes.
    """

    def __init__(
        self,
        names: Sequence[str],
        delimiter: str,
        blocks: Iterator[bytes],
        how: RowReader,
        *,
        first: int,
        size_bytes: int,
    ) -> None:
        self.__dict__.update(
            names=names, delimiter=delimiter, first=first, repaired=0, _size_bytes=size_bytes
        )
        self.__dict__.update(_blocks=blocks, _kept=[], _read_by=how)

    if TYPE_CHECKING:
        names: Sequence[str]
        delimiter: str
        first: int

    def blocks(self) -> Iterator[bytes]:
        """Yield the text."""
        kept: list[bytes] = self.__dict__["_kept"]
        yield from kept
        for block in self.__dict__["_blocks"]:
            kept.append(block)
            yield block

    def watch(self, watched: Callable[[Iterator[bytes]], Iterator[bytes]]) -> None:
        """Have what is still to be read pass through `watched`."""
        self.__dict__["_blocks"] = watched(self.__dict__["_blocks"])

    def pieces(self) -> Iterator[Batch | BadRecord]:
        """Yield the records, as the reader reads them where it does not pass them on."""
        return self._how().pieces(self.blocks())

    def cells(self) -> Iterator[list[list[str]]]:
        """Yield the cells of the rows that can be read, many rows at a time."""
        return self._how().cells(self.blocks())

    def parts(self) -> Iterator[Rows | BadRecord]:
        """Yield the rows, a block of them at a time, and those that cannot be read."""
        return self._how().parts(self.blocks())

    def _how(self) -> RowReader:
        how: RowReader = self.__dict__["_read_by"]
        return how

    @property
    def size_bytes(self) -> int:
        """See `Batch`."""
        size: int = self.__dict__["_size_bytes"]
        return size


@dataclass(frozen=True, slots=True)
class BadRecord:
    """A record that cannot be read.

    Attributes:
        place: Where it stands, for a person: "line 17", "sheet Q1, row 3".
        reason: Why it cannot be read, one sentence.
        content: Its bytes as far as they are known.
        number: Its number in the source; None: the one behind the record before.
    """

    place: str
    reason: str
    content: bytes = b""
    number: int | None = None
