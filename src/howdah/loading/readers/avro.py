"""Avro object files: one record per record, block by block, by fastavro.

Logical types are what they say: decimals exact, dates and times ISO 8601,
UUIDs text. A value that Python has no type for (a date beyond the year 9999)
costs the rest of its block, and no more.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO

from howdah.errors import MissingExtra
from howdah.loading.readers import BadRecord, Head, Item, Match, Reader, UnreadableSource

__all__ = ["Avro"]


class Avro(Reader):
    """Reads Avro object container files."""

    name = "avro"

    def recognise(self, head: Head) -> Match:
        """See `Reader.recognise`: by its magic number."""
        return Match.CERTAIN if head.data.startswith(b"Obj\x01") else Match.NO

    def read(self, file: BinaryIO, name: str) -> Iterator[Item]:  # noqa: ARG002
        """See `Reader.read`."""
        try:
            import fastavro  # noqa: F401
        except ModuleNotFoundError as exc:
            raise MissingExtra("reading Avro files", "tables") from exc
        number, blocks = 1, _blocks(file)
        for block in blocks:
            last = number + block.num_records - 1
            try:
                for record in block:
                    yield record
                    number += 1
            except Exception as exc:  # noqa: BLE001 - fastavro raises whatever it runs into
                reason = f"The rest of their block cannot be read: {type(exc).__name__}: {exc}"
                yield BadRecord(f"records {number} to {last}", reason)
                number = last + 1


def _blocks(file: BinaryIO) -> Iterator[Any]:
    from fastavro import block_reader

    try:
        yield from block_reader(file)
    except EOFError as exc:
        raise UnreadableSource("The Avro file is cut off.") from exc
    except Exception as exc:  # as above
        reason = f"{type(exc).__name__}: {exc}"
        raise UnreadableSource(f"The Avro file is broken or cut off: {reason}") from exc
