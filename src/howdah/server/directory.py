"""What a data directory holds, seen from outside: nothing, a cluster of ours, or something else."""

from __future__ import annotations

import shlex
import stat

from howdah.errors import Refused, ServerFailed
from howdah.server import configuration
from howdah.server.layout import Layout


def is_cluster(layout: Layout) -> bool:
    """Say whether the data directory is a cluster; refuse what is neither that nor empty."""
    data = layout.data
    elsewhere = "Choose another folder with --data."
    if not data.exists():
        return False
    if not data.is_dir():
        raise Refused(
            f"{data} is a file, and a data directory should be there.", next_step=elsewhere
        )
    names = {path.name for path in data.iterdir()}
    if names.isdisjoint({"PG_VERSION", configuration.NAME}):
        if names:
            raise Refused(f"{data} is not empty and is no cluster.", next_step=elsewhere)
        return False
    if not names.issuperset({"PG_VERSION", configuration.NAME}):
        raise Refused(
            f"{data} is a PostgreSQL cluster that Howdah did not make: "
            f"{'PG_VERSION' if 'PG_VERSION' not in names else configuration.NAME} is missing.",
            next_step=f"Start it by its own means and connect with --dsn. {elsewhere}",
        )
    return True


def major_of(layout: Layout) -> int:
    """Return the major that made the cluster.

    Raises:
        Refused: PG_VERSION holds no such number.
    """
    text = (layout.data / "PG_VERSION").read_text(errors="replace").strip()
    if not text.isdecimal():
        raise Refused(
            f"{layout.data / 'PG_VERSION'} says {text!r}, which is no PostgreSQL that Howdah runs.",
            next_step="Choose another folder with --data.",
        )
    return int(text)


def check_usable(layout: Layout) -> None:
    """Make sure that PostgreSQL would accept the data directory, and we could connect.

    Raises:
        Refused: Other users may enter it.
        ServerFailed: The password file is lost.
    """
    mode = stat.S_IMODE(layout.data.stat().st_mode)
    if mode & 0o077:
        raise Refused(
            f"The data directory {layout.data} is open to other users (mode {mode:04o}).",
            next_step=f"Run: chmod 0700 {shlex.quote(str(layout.data))}",
        )
    if not layout.passfile.exists():
        raise ServerFailed(
            f"The password file {layout.passfile} is missing, so nobody could connect.",
            next_step=f"Put it back. Without it, only a new cluster helps: remove {layout.data} "
            "and all data in it.",
        )
