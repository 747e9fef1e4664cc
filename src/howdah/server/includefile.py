"""Our include file: where settings are written when ALTER SYSTEM is not allowed.

It lies beside the main configuration file, which includes it as its last line;
only postgresql.auto.conf and the command line win over it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from howdah.server.configuration import read, replace_file
from howdah.server.runner import LocalServer
from howdah.server.settings import INCLUDE_NAME

__all__ = ["INCLUDE_NAME", "conf_line", "set_values", "touched", "written_values"]

_HEADER = "# Written by howdah config, and read last of the files but postgresql.auto.conf.\n"
_INCLUDE = f"\n# Settings changed by `howdah config`.\ninclude_if_exists = '{INCLUDE_NAME}'\n"
_HAS_INCLUDE = re.compile(
    rf"^\s*include_if_exists\s*=?\s*'{re.escape(INCLUDE_NAME)}'", re.MULTILINE
)
_LINE = re.compile(r"^([\w.]+) = '((?:[^']|'')*)'$", re.MULTILINE)


def touched(server: LocalServer) -> tuple[Path, Path]:
    """Return the files that `set_values` writes: ours, and the main one for its include line."""
    # Through links: some keep the true file elsewhere.
    main = Path(os.path.realpath(server.config_file))
    return main.parent / INCLUDE_NAME, main


def written_values(server: LocalServer) -> dict[str, str]:
    """Return what our include file says, by the setting's name in lower case."""
    ours, _ = touched(server)
    if not ours.exists():
        return {}
    found = _LINE.findall(read(ours))
    return {name.lower(): _undoubled(text) for name, text in found}


def set_values(server: LocalServer, values: dict[str, str | None]) -> None:
    """Write values into our include file; None takes one out.

    Raises:
        OSError: A file may not be written; the one that holds the values goes first.
    """
    ours, main = touched(server)
    merged = {**written_values(server), **{name.lower(): v for name, v in values.items()}}
    lines = [conf_line(name, value) for name, value in sorted(merged.items()) if value is not None]
    replace_file(ours, _HEADER + "".join(lines), like=main)
    text = read(main)
    if not _HAS_INCLUDE.search(text):
        replace_file(main, text + _INCLUDE, like=main)


def conf_line(name: str, value: str) -> str:
    """Return a line of a configuration file; backslashes and quotes are doubled."""
    doubled = value.replace("\\", "\\\\").replace("'", "''")
    return f"{name} = '{doubled}'\n"


def _undoubled(text: str) -> str:
    return text.replace("''", "'").replace("\\\\", "\\")
