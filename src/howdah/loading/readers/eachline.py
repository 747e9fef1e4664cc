"""What readers have in common whose records are lines of text: cutting, decoding, numbering."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from typing import Any, BinaryIO

from howdah.loading.readers import (
    HEAD_BYTES,
    BadRecord,
    Batch,
    Cut,
    Head,
    Item,
    Lines,
    SplittingReader,
)
from howdah.loading.readers.characters import encoding_of, is_wide, to_utf8
from howdah.loading.readers.encode import encode
from howdah.loading.readers.lines import RECORD_LIMIT_BYTES, batches_of_lines, blocks_of

__all__ = ["LineReader"]

_SHOWN_BYTES = 64 << 10
_MARK = b"\xef\xbb\xbf"


class LineReader(SplittingReader):
    """A reader of one record a line; a record's number is that of its line.

    Args:
        encoding: What the text is in; None: what its head says.
    """

    def __init__(self, encoding: str | None = None) -> None:
        self._encoding = encoding

    @abstractmethod
    def parser(self, head: str) -> tuple[Callable[[str], Mapping[str, Any]], int]:
        """Return what makes a line a record, and how many lines at the start are none.

        What it returns raises ValueError, with the reason, for a line that is no record.

        Args:
            head: The first `HEAD_BYTES` of the source.
        """

    def splitter(self, head: Head) -> SplittingReader | None:
        """See `SplittingReader.splitter`: UTF-16 and its kin cannot be cut."""
        return None if is_wide(self._encoding or encoding_of(head.data)) else self

    def read(self, file: BinaryIO, name: str) -> Iterator[Item]:  # noqa: ARG002
        """See `Reader.read`."""
        blocks = blocks_of(file)
        head = next(blocks, b"")
        encoding = self._encoding or encoding_of(head)
        blocks = chain([head], blocks)
        if is_wide(encoding):
            blocks, encoding = to_utf8(blocks, encoding), "utf-8"
            head = next(blocks, b"")
            blocks = chain([head], blocks)
        parse, skipped = self.parser(_head(head, encoding))
        blocks = chain([next(blocks, b"").removeprefix(_MARK)], blocks)
        yield from _records(blocks, encoding, parse, first=1, skipped=skipped, untyped=self.untyped)

    def start(self, file: BinaryIO) -> int:
        """See `SplittingReader.start`: lines that are no records keep their numbers."""
        file.seek(0)
        return len(_MARK) if file.read(len(_MARK)) == _MARK else 0

    def cut(self, block: bytes | bytearray) -> Cut:
        """See `SplittingReader.cut`."""
        return Cut(block.rfind(b"\n") + 1, block.count(b"\n"))

    def read_range(self, file: BinaryIO, offset: int, length: int, first: int) -> Iterator[Item]:
        """See `SplittingReader.read_range`."""
        file.seek(0)
        head = next(blocks_of(file), b"")
        encoding = self._encoding or encoding_of(head)
        parse, skipped = self.parser(_head(head, encoding))
        file.seek(offset)
        blocks = blocks_of(file, length)
        yield from _records(
            blocks, encoding, parse, first=first, skipped=skipped, untyped=self.untyped
        )


def _head(head: bytes, encoding: str) -> str:
    return head[:HEAD_BYTES].removeprefix(_MARK).decode(encoding, "replace")


def _records(
    blocks: Iterable[bytes],
    encoding: str,
    parse: Callable[[str], Mapping[str, Any]],
    *,
    first: int,
    skipped: int,
    untyped: bool,
) -> Iterator[Item]:
    for item in batches_of_lines(blocks, first, RECORD_LIMIT_BYTES):
        if isinstance(item, Lines):
            yield from _parsed(item, encoding, parse, skipped, untyped=untyped)
        else:
            yield item


def _parsed(
    lines: Lines,
    encoding: str,
    parse: Callable[[str], Mapping[str, Any]],
    skipped: int,
    *,
    untyped: bool,
) -> Iterator[Item]:
    """Yield a batch for the lines, in parts where bad ones stand between."""
    numbers: list[int] = []
    texts: list[bytes] = []
    repaired = 0
    found = lines.texts
    for number, line in zip(lines.numbers, found, strict=True):
        if number <= skipped:
            continue
        try:
            text, changed = encode(parse(line.decode(encoding).rstrip("\r")))
        except UnicodeDecodeError as exc:
            bad = f"The line is not valid {encoding}: byte {exc.object[exc.start]:#x}."
        except ValueError as exc:
            bad = str(exc)
        else:
            numbers.append(number)
            texts.append(text)
            repaired += changed
            continue
        if numbers:
            yield Batch(numbers, texts, repaired, untyped)
            numbers, texts, repaired = [], [], 0
        yield BadRecord(f"line {number}", bad, line[:_SHOWN_BYTES], number)
    if numbers:
        yield Batch(numbers, texts, repaired, untyped)
