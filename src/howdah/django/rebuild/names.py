"""Names of what a rebuild makes: schemas set aside, databases to build in, and their marks.

A schema of ours has both the suffix and the mark in its comment, a database
both the prefix and the mark. What has one without the other is somebody
else's, and is never touched.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from typing import Any

NEXT = "__next"
OLD = "__old"
UNDONE = "__undone"
MARK = "howdah rebuild: "
BUILDING = "howdah_build_"
KEPT = "howdah_kept_"

_LONGEST = 63
_DIGEST = 20


def beside(schema: str, suffix: str) -> str:
    """Return the schema's name with a suffix, in at most 63 bytes; two names stay two."""
    if len((schema + suffix).encode()) <= _LONGEST:
        return schema + suffix
    short = hashlib.sha256(schema.encode()).hexdigest()[:8]
    room = _LONGEST - len(suffix) - len(short) - 1
    return f"{schema.encode()[:room].decode(errors='ignore')}_{short}{suffix}"


def old(schema: str, generation: int) -> str:
    """Return where a replaced schema stands: 1 is the last one replaced."""
    return beside(schema, f"{OLD}{generation}")


def building() -> str:
    """Return a new name for a database to build in."""
    return BUILDING + secrets.token_hex(6)


def kept(digest: str) -> str:
    """Return the name of the database that keeps a result."""
    return KEPT + digest[:_DIGEST]


def mark(**facts: Any) -> str:
    """Return a comment that says what made the object, and why."""
    return MARK + json.dumps(facts, sort_keys=True, default=str)


def facts_of(comment: str | None) -> dict[str, Any] | None:
    """Return what a mark says; None where the comment is not a mark of ours."""
    if not comment or not comment.startswith(MARK):
        return None
    try:
        facts: dict[str, Any] = json.loads(comment.removeprefix(MARK))
    except ValueError:
        return None
    return facts
