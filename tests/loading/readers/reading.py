"""Real files for the tests of readers, and short ways to read them."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

from howdah.loading.readers import HEAD_BYTES, BadRecord, Batch, Head
from howdah.loading.readers.encode import as_batches

DATA = Path(__file__).parents[2] / "data"
DOCUMENTS = DATA / "documents"


def head_of(path):
    """Return what the pipeline would show of a file."""
    members = zipfile.ZipFile(path).namelist() if zipfile.is_zipfile(path) else []
    return Head(path.name, path.read_bytes()[:HEAD_BYTES], members)


def items(reader, data, name="source"):
    """Return what a reader yields for bytes."""
    return list(reader.read(io.BytesIO(data), name))


def texts(found):
    """Return the JSON texts of what was read, with each bad record in its place."""
    flat = []
    for item in as_batches(found):
        flat += item.texts if isinstance(item, Batch) else [item]
    return flat


def numbered(found, first=1):
    """Return (number, text) of the good records and (number, None) of the bad ones."""
    pairs = []
    for item in as_batches(found, first=first):
        if isinstance(item, BadRecord):
            pairs.append((item.number, None))
        else:
            pairs += zip(item.numbers, item.texts, strict=True)
    return pairs


def by_ranges(reader, data, size):
    """Return what a file gives when it is cut into ranges of about `size` bytes."""
    file, pairs, wanted = io.BytesIO(data), [], size
    offset, first = reader.start(file), 1
    while offset < len(data):
        block = data[offset : offset + wanted]
        cut = reader.cut(block)
        last = offset + len(block) == len(data)
        if not cut.end and not last:
            wanted *= 2
            continue
        length = len(block) if last else cut.end
        pairs += numbered(reader.read_range(file, offset, length, first), first)
        offset, first, wanted = offset + length, first + cut.records, size
    return pairs
