"""Files that change while they are loaded."""

from __future__ import annotations

from typing import Any

from psycopg import Connection

from howdah.loading import ledger
from howdah.loading.report import Outcome
from howdah.loading.sources import SourceFile, current_fingerprint
from howdah.loading.target import Load

__all__ = ["has_changed", "reject_changed"]


def has_changed(file: SourceFile) -> bool:
    """Return whether a file is another than when the load began."""
    try:
        # How it is read stands behind the file's own.
        return not (file.is_stream or file.fingerprint.startswith(current_fingerprint(file.path)))
    except OSError:  # it is gone: what was read of it is what it was
        return False


_KEEP = """
    INSERT INTO howdah.rejects (target, source, loaded_at, record, place, reason)
    SELECT %(target)s, %(source)s, %(loaded_at)s, NULL, 'the whole source', %(reason)s
     WHERE NOT EXISTS (SELECT FROM howdah.rejects
                        WHERE target = %(target)s AND source = %(source)s
                          AND loaded_at = %(loaded_at)s AND reason = %(reason)s)
"""
_COUNT = """
    UPDATE howdah.sources SET rejects = rejects + 1 WHERE target = %(target)s AND name = %(source)s
"""


def reject_changed(conn: Connection[Any], load: Load, file: SourceFile) -> Outcome:
    """Note, once, that a file changed while it was loaded; the next load will load it anew."""
    values = {"source": file.name, "reason": "it changed while it was loaded; load it again"}
    with conn.transaction():
        if conn.execute(_KEEP, ledger.parameters(load, **values)).rowcount:
            conn.execute(_COUNT, ledger.parameters(load, **values))
    return Outcome(rejects=1)
