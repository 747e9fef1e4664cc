"""Which files many workers can share, each a range of it."""

from __future__ import annotations

from howdah.loading.opening import open_file, splitter_of
from howdah.loading.readers import ReaderOptions, SplittingReader, UnreadableSource
from howdah.loading.readers.lines import CSV, NDJSON
from howdah.loading.sources import SourceFile

__all__ = ["is_safe", "splitter_for"]


def is_safe(file: SourceFile, options: ReaderOptions) -> bool:
    """Say whether a file can be read in this process: its reader is ours, and all Python."""
    return isinstance(splitter_for(file, options), NDJSON | CSV)


def splitter_for(file: SourceFile, options: ReaderOptions) -> SplittingReader | None:
    """Return the reader of a file that many workers can share; None: one must read it."""
    try:
        with open_file(file.path) as opened:
            reader = splitter_of(opened, file.name, options)
            if reader is not None:
                reader.start(opened)
            return reader
    except (OSError, UnreadableSource):
        return None  # its worker will say what is wrong
