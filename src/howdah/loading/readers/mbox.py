"""mbox files: one record a message, with the attributes of mail; cut where messages begin.

A message begins with a line "From ... YEAR" behind a blank line or at the
start; what a writer has quoted as ">From " is read as "From ".
Source: https://www.rfc-editor.org/rfc/rfc4155
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from howdah.loading.readers import (
    BadRecord,
    Cut,
    Head,
    Item,
    Match,
    SplittingReader,
    UnreadableSource,
)
from howdah.loading.readers.documents import mail_record
from howdah.loading.readers.lines import RECORD_LIMIT_BYTES, blocks_of
from howdah.loading.readers.mediatypes import MBOX, media_type

__all__ = ["Mbox"]

_BEGINNING = re.compile(rb"(?:\A|\n\r?\n)(?=From [^\r\n]*\d{4}\r?\n)")
_QUOTED = re.compile(rb"(?m)^>(>*From )")
_SHOWN_BYTES = 64 << 10


class Mbox(SplittingReader):
    """Reads mailboxes of the mboxrd and mboxo kind."""

    name = "mbox"
    text = True

    def recognise(self, head: Head) -> Match:
        """See `Reader.recognise`: by a "From " line and a header below it."""
        if not head.data.startswith(b"From "):
            return Match.NO
        return Match.CERTAIN if media_type(head)[0] == MBOX else Match.NO

    def read(self, file: BinaryIO, name: str) -> Iterator[Item]:  # noqa: ARG002
        """See `Reader.read`."""
        yield from _records(blocks_of(file), 1)

    def start(self, file: BinaryIO) -> int:
        """See `SplittingReader.start`."""
        file.seek(0)
        return 0

    def cut(self, block: bytes | bytearray) -> Cut:
        """See `SplittingReader.cut`: before the last message that begins in the block."""
        beginnings = [found.end() for found in _BEGINNING.finditer(block)]
        later = [place for place in beginnings if place]
        return Cut(later[-1], len(beginnings) - 1) if later else Cut(0, 0)

    def read_range(self, file: BinaryIO, offset: int, length: int, first: int) -> Iterator[Item]:
        """See `SplittingReader.read_range`."""
        file.seek(offset)
        yield from _records(blocks_of(file, length), first)


def _records(blocks: Iterable[bytes], first: int) -> Iterator[Item]:
    for number, message in enumerate(_messages(blocks), first):
        place = f"message {number}"
        if len(message) > RECORD_LIMIT_BYTES:
            reason = f"The message is longer than {RECORD_LIMIT_BYTES} bytes."
            yield BadRecord(place, reason, message[:_SHOWN_BYTES], number)
            continue
        try:
            yield mail_record(_unquoted(message))
        except UnreadableSource as exc:
            yield BadRecord(place, str(exc), message[:_SHOWN_BYTES], number)


def _unquoted(message: bytes) -> bytes:
    """Return a message without its "From " line and the quoting of others."""
    _, _, rest = message.partition(b"\n")
    return _QUOTED.sub(rb"\1", rest)


def _messages(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield each message with its "From " line; of one beyond the limit, only its start."""
    kept, looked = bytearray(), 0
    for block in blocks:
        kept += block
        start = 0
        for found in _BEGINNING.finditer(kept, looked):
            if found.end() > start:
                yield bytes(kept[start : found.end()])
                start = found.end()
        if start:
            del kept[:start]
        elif len(kept) > RECORD_LIMIT_BYTES + _SHOWN_BYTES:
            del kept[RECORD_LIMIT_BYTES + 1 : -_SHOWN_BYTES]
        # A "From " line may reach into the next block.
        looked = max(0, len(kept) - 1024)
    if kept:
        yield bytes(kept)
