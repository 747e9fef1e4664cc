"""What the tests of columns share."""

from __future__ import annotations

import json

import howdah

TYPES = """
    SELECT attname::text, format_type(atttypid, NULL)
      FROM pg_attribute
     WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped
     ORDER BY attnum
"""


INTO_COLUMNS = howdah.Columns()


def write(path, *records):
    """Write records as NDJSON; a text stands for itself."""
    lines = (r if isinstance(r, str) else json.dumps(r, ensure_ascii=False) for r in records)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path
