"""A file -> chunks at record boundaries, for formats whose records can be found without parsing.

A chunk is what one task loads and one transaction commits, or a group of small
files. Chunks of the same bytes are always cut at the same places, so that a load
that was killed finds the ones it has committed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedReader
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # readers stand above chunks
    from howdah.loading.readers import SplittingReader
    from howdah.loading.sources import SourceFile

__all__ = [
    "BLOCK_BYTES",
    "CHUNK_BYTES",
    "FILES_PER_JOB",
    "HOW_CUT",
    "LEAST_CHUNK_BYTES",
    "LONGEST_RECORD_BYTES",
    "Chunk",
    "cut",
    "groups",
]

CHUNK_BYTES = int(os.environ.get("HOWDAH_CHUNK_BYTES", "0")) or 16 << 20
"""About how much one transaction commits, in bytes. Tests make it small by the variable.

Source: bench/load.py with other values here: 8 MiB took 3% longer, 32 MiB as long.
"""

LEAST_CHUNK_BYTES = 1 << 20
"""How small chunks become towards a file's end, in bytes."""

_SHARE = 8
"""Which part of what is left of a file is the next chunk, if that is less than `CHUNK_BYTES`.

So that the workers end at about the same time, and none waits for another's last
16 MiB.

Source: C. Polychronopoulos and D. Kuck, "Guided Self-Scheduling", IEEE Transactions
on Computers C-36 (1987). Theirs divides by the workers; ours must not know them,
since a load that is gone on with may have others.
"""

FILES_PER_JOB = 64
"""How many small files may share a task and a transaction."""

LEAST_FILES_PER_JOB = 8
"""How many of them it is towards the end of the files."""

BLOCK_BYTES = 256 << 10
"""How much is looked at at once, in bytes: what stays in a core's cache."""

HOW_CUT = f"{CHUNK_BYTES} to {LEAST_CHUNK_BYTES} bytes, 1/{_SHARE} of the rest"
"""What the places of a file's cuts depend on, beside its bytes and its reader."""

LONGEST_RECORD_BYTES = 64 << 20
"""How far to look for the end of a record, in bytes."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A range of a file that holds whole records.

    Attributes:
        number: Its place among the file's chunks, from 0.
        offset: Where it starts, in bytes.
        length: Its length in bytes.
        first: The number of its first record.
    """

    number: int
    offset: int
    length: int
    first: int


def cut(
    file: BufferedReader,
    reader: SplittingReader,
    chunk_bytes: int = CHUNK_BYTES,
    *,
    as_rows: bool = False,
) -> Iterator[Chunk]:
    """Yield the chunks of a file, reading it as it goes.

    A record longer than `chunk_bytes` makes a chunk longer. Where no record
    ends within `LONGEST_RECORD_BYTES`, the rest of the file is one chunk, and
    its reader says what is wrong with it.

    Args:
        file: Can seek; buffered, so that a read is short only at the end.
        reader: Knows where records end.
        chunk_bytes: About how long a chunk is.
        as_rows: Whether its rows are passed on as they are, see `SplittingReader.cut_rows`.
    """
    ends_in = reader.cut_rows if as_rows else reader.cut
    size = file.seek(0, os.SEEK_END)
    number, offset, first = 0, reader.start(file), 1
    length = records = 0  # of the chunk that is being cut
    buffer = bytearray(BLOCK_BYTES)
    while True:
        file.seek(offset + length)
        filled = file.readinto(buffer)
        at_end = filled < len(buffer)
        found = None if at_end else ends_in(buffer)
        if found is None:
            length += filled
        elif found.end:
            length, records = length + found.end, records + found.records
            if len(buffer) > BLOCK_BYTES:
                buffer = bytearray(BLOCK_BYTES)
        elif len(buffer) < LONGEST_RECORD_BYTES:
            buffer = bytearray(2 * len(buffer))
        else:
            at_end, length = True, size - offset
        if length and (at_end or length >= _wanted(size - offset, chunk_bytes)):
            yield Chunk(number, offset, length, first)
            number, offset, first = number + 1, offset + length, first + records
            length = records = 0
        if at_end:
            return


def _wanted(left: int, chunk_bytes: int) -> int:
    """Return how long the next chunk should be, where so many bytes are left."""
    return min(chunk_bytes, max(left // _SHARE, LEAST_CHUNK_BYTES))


def groups(files: list[SourceFile]) -> Iterator[tuple[SourceFile, ...]]:
    """Yield small files in groups that fit one transaction, smaller ones towards the end.

    So that no worker waits long for another's last group, as with chunks.
    """
    group: list[SourceFile] = []
    size, most = 0, FILES_PER_JOB
    for number, file in enumerate(files):
        if group and (size + file.size_bytes > CHUNK_BYTES or len(group) >= most):
            yield tuple(group)
            group, size = [], 0
            most = min(FILES_PER_JOB, max(LEAST_FILES_PER_JOB, (len(files) - number) // 8))
        group.append(file)
        size += file.size_bytes
    if group:
        yield tuple(group)
