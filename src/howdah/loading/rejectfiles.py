"""Rejects as files that a person mends with an editor.

A folder takes `records.ndjson` with a line for each record, as its bytes are, a
CSV file with its header for each CSV source that still lies where it lay, and
`sources.txt` with the paths of whole sources. Beside a file of records lies one
with the suffix `.ids`: its line N says which reject the file's record N is. So
a mended record is known by its place, and its file is an ordinary one, which
any tool reads.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from howdah import pg
from howdah.errors import UsageError
from howdah.loading.opening import Opened, open_file, open_sources
from howdah.loading.pieces import Failure, read_pieces
from howdah.loading.readers import BadRecord, Batch, Item, ReaderOptions, SplittingReader
from howdah.loading.rejectstore import Chosen, KeptReject, chosen_rejects
from howdah.loading.report import one_line
from howdah.loading.sources import path_of, source_name
from howdah.loading.told import retold

__all__ = [
    "Exported",
    "Header",
    "export_rejects",
    "header_of",
    "is_json",
    "mended_records",
    "read_record",
    "record_lines",
    "reject_content",
]

_HEAD_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export has written.

    Attributes:
        records: How many records.
        sources: How many whole sources.
        files: The files, without those of ids.
    """

    records: int
    sources: int
    files: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Header:
    """What stands before the first record of a source, and who reads it.

    Attributes:
        reader: Its reader.
        data: The bytes before its first record.
    """

    reader: SplittingReader
    data: bytes


def header_of(source: str, options: ReaderOptions) -> Header | None:
    """Return what a record of a source needs to be read alone; None: it cannot be found any more.

    Only sources with a header have one: the records of others are read as JSON.

    Args:
        source: Its name.
        options: What its reader was told.
    """
    path = path_of(source)
    if not os.path.isfile(path):
        return None
    try:
        with open_file(path) as file:
            for opened in open_sources(file, source_name(path), options):
                if isinstance(opened, Opened) and opened.name == source:
                    return _header_in(opened)
    except (OSError, ValueError):
        return None
    return None


def _header_in(opened: Opened) -> Header | None:
    if not isinstance(opened.reader, SplittingReader):
        return None
    head = opened.file.read(_HEAD_BYTES)
    data = head[: opened.reader.start(io.BytesIO(head))]
    # A table may have no row of names, or be told them.
    return Header(opened.reader, data) if b"\n" in data or opened.reader.name == "csv" else None


def is_json(content: bytes) -> bool:
    """Return whether a reject's bytes are the JSON text of an object, not a line of a CSV file."""
    if not content.lstrip().startswith(b"{"):
        return False
    try:
        return isinstance(json.loads(content), dict)
    except (ValueError, RecursionError):
        return False


def read_record(content: bytes, header: Header | None) -> bytes | BadRecord | Failure:
    """Return a record's JSON text, read as its source's reader reads it."""
    if header is None or is_json(content):
        return content
    file = io.BytesIO(header.data + content + b"\n")
    found = list(_texts(header.reader.read(file, "")).values())
    if len(found) != 1:
        return BadRecord("", f"It is {len(found)} records and not one.")
    return found[0]


def export_rejects(dsn: str, folder: Path, chosen: Chosen | None = None) -> Exported:
    """Write rejects into a folder, which is made where it is missing.

    Raises:
        UsageError: The folder holds an export already, or cannot be written to.
    """
    with pg.connect(dsn) as conn, pg.explained("read howdah.rejects"):
        found = chosen_rejects(conn, chosen or Chosen())
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise _no_folder(folder, exc) from exc
    records = [reject for reject in found if reject.record is not None]
    sources = sorted({reject.source for reject in found if reject.record is None})
    files: list[str] = []
    plain: list[KeptReject] = []
    for source, group in groupby(records, key=lambda reject: reject.source):
        rejects = list(group)
        options, _ = retold(rejects[0].options)
        some = any(not is_json(r.content or b"") for r in rejects)
        header = header_of(source, options) if some else None
        if header is not None and not header.data:  # a file of such rows would not say their names
            header = None
        raw = [r for r in rejects if header is not None and not is_json(r.content or b"")]
        plain += [reject for reject in rejects if reject not in raw]
        if header is not None:
            name = f"{len(files) + 1}-{Path(source.rpartition('/')[2]).stem}.csv"
            lines = [(r.content or b"").rstrip(b"\n") for r in raw]
            files.append(_write(folder / name, header.data, lines, raw))
    if plain:
        files.append(_write(folder / "records.ndjson", b"", record_lines(plain), plain))
    if sources:
        path = folder / "sources.txt"
        _create(path, "".join(f"{source}\n" for source in sources).encode())
        files.append(str(path))
    return Exported(len(records), len(sources), tuple(files))


def reject_content(dsn: str, chosen: Chosen | None = None) -> list[bytes]:
    """Return the bytes of rejected records, each as one line without its end."""
    with pg.connect(dsn) as conn, pg.explained("read howdah.rejects"):
        return list(record_lines(chosen_rejects(conn, chosen or Chosen())))


def record_lines(rejects: Sequence[KeptReject]) -> Iterator[bytes]:
    """Yield the bytes of records, each as one line without its end."""
    for reject in rejects:
        if reject.record is not None:
            yield (reject.content or b"").replace(b"\n", b" ").replace(b"\r", b" ")


def _write(path: Path, header: bytes, lines: Iterable[bytes], rejects: Iterable[KeptReject]) -> str:
    _create(path, header + b"".join(line + b"\n" for line in lines))
    ids = (f"{r.id}\t" + one_line(f"{r.source}, {r.place}: {r.reason}") for r in rejects)
    _create(Path(f"{path}.ids"), "".join(f"{line}\n" for line in ids).encode())
    return str(path)


def _create(path: Path, data: bytes) -> None:
    try:
        with path.open("xb") as file:
            file.write(data)
    except FileExistsError as exc:
        raise UsageError(
            f"{path} exists already.", next_step="Name another folder with --out."
        ) from exc
    except OSError as exc:
        raise _no_folder(path, exc) from exc


def _no_folder(path: Path, exc: OSError) -> UsageError:
    return UsageError(
        f"{path} cannot be written: {exc.strerror}.", next_step="Name another folder with --out."
    )


def mended_records(
    path: Path, ids: Sequence[int] | None = None
) -> dict[int, bytes | BadRecord | Failure]:
    """Return the records of a mended file, by the ids of their rejects; blank lines are left out.

    Args:
        path: A file that `export_rejects` has written, edited since.
        ids: The reject of each of its records; None: what the file beside it says.

    Raises:
        UsageError: The file, or that of its ids, is not there or does not fit.
    """
    try:
        if ids is None:
            beside = Path(f"{path}.ids").read_text(encoding="utf-8").splitlines()
            ids = [int(line.partition("\t")[0]) for line in beside]
        data = path.read_bytes()
    except (OSError, ValueError) as exc:
        raise UsageError(
            f"{path} cannot be read with its ids: {exc}.",
            next_step=f"Keep {path}.ids beside it, or name the id of each of its records.",
        ) from exc
    found = _records_in(path, data)
    lines = len(data.splitlines()) if path.suffix == ".ndjson" else len(found)
    if lines != len(ids):
        raise UsageError(
            f"{path} has {lines} records, and there are {len(ids)} ids for them.",
            next_step="Keep the order and the number of the records as they were exported; "
            "empty a line of an NDJSON file to leave its reject alone.",
        )
    return {ids[number - 1]: record for number, record in found.items()}


def _records_in(path: Path, data: bytes) -> dict[int, bytes | BadRecord | Failure]:
    for opened in open_sources(io.BytesIO(data), str(path)):
        if isinstance(opened, Opened):
            return _texts(opened.reader.read(opened.file, str(path)))
        raise UsageError(f"{path} cannot be read: {opened.reason}.", next_step="Check the path.")
    return {}


def _texts(items: Iterable[Item]) -> dict[int, bytes | BadRecord | Failure]:
    texts: dict[int, bytes | BadRecord | Failure] = {}
    for piece in read_pieces(items):
        if isinstance(piece, Batch):
            texts.update(zip(piece.numbers, piece.texts, strict=True))
        elif isinstance(piece, BadRecord):
            texts[piece.number or len(texts) + 1] = piece
        else:
            texts[len(texts) + 1] = piece
    return texts
