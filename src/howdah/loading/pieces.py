"""What a file holds, and what its reader yields, a chunk at a time, failures as the last piece.

Nothing that a reader or a library does to a bad file gets past this module.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import BinaryIO

from howdah.errors import MissingExtra
from howdah.loading.chunks import CHUNK_BYTES
from howdah.loading.opening import Opened, Unopened, open_sources
from howdah.loading.readers import BadRecord, Batch, Item, ReaderOptions, UnreadableSource
from howdah.loading.readers.encode import as_batches, encode
from howdah.loading.rejects import Reject
from howdah.loading.remote import SourceLost

__all__ = [
    "Failure",
    "Piece",
    "batches",
    "chunks_of",
    "properties_of",
    "read_pieces",
    "size_bytes",
    "sources_in",
]


def sources_in(file: BinaryIO, name: str, options: ReaderOptions) -> Iterator[Opened | Unopened]:
    """Yield the sources in a file, and as the last one what of it cannot be opened."""
    try:
        yield from open_sources(file, name, options)
    except SourceLost:
        raise
    except Exception as exc:  # noqa: BLE001 - whatever a library throws at a bad archive
        yield Unopened(name, f"it cannot be opened: {type(exc).__name__}: {exc}")


def properties_of(source: Opened) -> str | None:
    """Return what a source says of itself as a whole, as JSON text."""
    try:
        said = source.reader.properties(source.file)
        return encode(said)[0].decode() if said else None
    except SourceLost:
        raise
    except Exception:  # noqa: BLE001 - what is broken is said when the records are read
        return None


@dataclass(frozen=True, slots=True)
class Failure:
    """The end of a source that its reader could not reach.

    Attributes:
        reason: Why, one sentence.
        place: How far it came.
        retry: Whether the next load is to try again though the source is unchanged.
    """

    reason: str
    place: str = "the whole source"
    retry: bool = False


Piece = Batch | BadRecord | Failure


def read_pieces(items: Iterable[Item], first: int = 1, *, untyped: bool = False) -> Iterator[Piece]:
    """Yield what a reader reads, and its failure as the last piece."""
    last: Batch | BadRecord | None = None
    try:
        for piece in as_batches(items, first=first, untyped=untyped):
            yield piece
            last = piece
    except UnreadableSource as exc:
        yield Failure(str(exc), _behind(last))
    except SourceLost:
        raise  # it is not the source that is bad: the load goes on from here another time
    except MissingExtra as exc:
        yield Failure(str(exc), _behind(last), retry=True)
    except Exception as exc:  # noqa: BLE001 - whatever a library throws at a bad file
        yield Failure(f"its reader failed: {type(exc).__name__}: {exc}", _behind(last))


def _behind(last: Batch | BadRecord | None) -> str:
    if last is None:
        return "the whole source"
    return f"after record {last.numbers[-1] if isinstance(last, Batch) else last.number}"


def chunks_of(pieces: Iterator[Piece], chunk_bytes: int = CHUNK_BYTES) -> Iterator[Iterator[Piece]]:
    """Yield pieces a chunk at a time, as they come; each chunk is taken before the next."""
    for first in pieces:
        yield _one_chunk(chain([first], pieces), chunk_bytes)


def _one_chunk(pieces: Iterable[Piece], chunk_bytes: int) -> Iterator[Piece]:
    taken = 0
    for piece in pieces:
        yield piece
        taken += size_bytes(piece)
        if taken >= chunk_bytes:
            return


def size_bytes(piece: Piece) -> int:
    """Return about how much memory a piece holds."""
    if isinstance(piece, Batch):
        return piece.size_bytes
    return 0 if isinstance(piece, Failure) else len(piece.content)


def batches(source: str, pieces: Iterable[Piece], bad: list[Reject]) -> Iterator[Batch]:
    """Yield the batches among pieces, and add the others to `bad`."""
    for piece in pieces:
        if isinstance(piece, Batch):
            yield piece
        elif isinstance(piece, Failure):
            bad.append(Reject(source, None, piece.place, piece.reason))
        else:
            bad.append(Reject(source, piece.number, piece.place, piece.reason, piece.content))
