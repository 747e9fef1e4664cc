"""Record files for tests, and what they must give in the table."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

PADDING = "x" * 300


def write_ndjson(path: Path, count: int, *, start: int = 0) -> Path:
    """Write `count` records of about 330 bytes: `{"n": start}` and so on."""
    lines = (f'{{"n": {n}, "pad": "{PADDING}"}}\n' for n in range(start, start + count))
    path.write_text("".join(lines))
    return path


def digest(numbers_and_values: list[tuple[int, int]]) -> str:
    """Return a digest of (record, n) pairs in any order; one that is doubled or lost changes it."""
    return hashlib.sha256(json.dumps(sorted(numbers_and_values)).encode()).hexdigest()


PAIRS = "SELECT record, (attributes->>'n')::int FROM documents"
