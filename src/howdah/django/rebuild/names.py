"""Names of what a rebuild makes: schemas set aside, databases to build in, and their marks.

A schema of ours has both the suffix and the mark in its comment. A database has
a name that nobody else would give, and the mark as soon as it is there: one
that was being created when we were killed has only the name. What has less is
somebody else's, and is never touched.
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
COPYING = "howdah_copy_"
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


def building(of: str) -> str:
    """Return a new name for a database to build in, for the live one of that name."""
    return f"{BUILDING}{_short(of)}_{secrets.token_hex(6)}"


def copying(of: str, name: str) -> str:
    """Return the name that a copy of a live database has until it is there and marked."""
    return f"{COPYING}{_short(of)}_{_short(name)}"


def is_unmarked(name: str, of: str) -> bool:
    """Say whether a database without a mark is one that was being created for a live one."""
    return name.startswith((f"{BUILDING}{_short(of)}_", f"{COPYING}{_short(of)}_"))


def kept(digest: str) -> str:
    """Return the name of the database that keeps a result."""
    return KEPT + digest[:_DIGEST]


def _short(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:10]


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
