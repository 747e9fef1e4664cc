"""`howdah server`: a PostgreSQL of our own, started and stopped."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from howdah.server import Binaries, Running, Status

_data = click.option(
    "--data",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="The data directory.  [default: $HOWDAH_DATA, or the platform's data folder]",
)
_version_of = click.option(
    "--version-of",
    type=click.Path(path_type=Path),
    metavar="BIN",
    help="The bin folder, or the postgres program, of the PostgreSQL to run.",
)
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def server() -> None:
    """Run a PostgreSQL server of Howdah's own."""


@server.command()
@_data
@_version_of
@click.option("--port", type=int, metavar="N", help="Move it to this port; 0 for any free one.")
@click.option(
    "--disposable",
    is_flag=True,
    help="For tests: a new server that flushes nothing, and that a crash may take whole.",
)
@_json
def start(
    data: Path | None,
    version_of: Path | None,
    port: int | None,
    *,
    disposable: bool,
    as_json: bool,
) -> None:
    """Start the server, and make it first where there is none."""
    from howdah.server import start as start_cluster

    binaries = _binaries(version_of)
    running = start_cluster(data, binaries=binaries, port=port, disposable=disposable)
    _show_running(running, as_json=as_json)


@server.command()
@_data
@_json
def stop(data: Path | None, *, as_json: bool) -> None:
    """Stop the server; sessions are ended, nothing committed is lost."""
    from howdah.server import stop as stop_cluster

    _show_status(stop_cluster(data), as_json=as_json)


@server.command()
@_data
@_version_of
@_json
def restart(data: Path | None, version_of: Path | None, *, as_json: bool) -> None:
    """Stop the server and start it again, with the settings as they are now."""
    from howdah.server import restart as restart_cluster

    _show_running(restart_cluster(data, binaries=_binaries(version_of)), as_json=as_json)


@server.command()
@_data
@_json
def status(data: Path | None, *, as_json: bool) -> None:
    """Say whether the server runs, and how to connect to it."""
    from howdah.server import status as cluster_status

    _show_status(cluster_status(data), as_json=as_json)


def _binaries(version_of: Path | None) -> Binaries | None:
    from howdah.server import find

    return find(explicit=version_of) if version_of else None


def _show_status(found: Status, *, as_json: bool) -> None:
    if as_json:
        running = found.running and _as_dict(found.running)
        click.echo(json.dumps(asdict(found) | {"running": running}, default=str))
    elif found.running:
        _show_running(found.running, as_json=False)
    elif found.state == "stopped":
        click.echo(f"PostgreSQL {found.major} is stopped, data in {found.data_dir}")
    else:
        click.echo(f"There is no server yet; `howdah server start` makes one in {found.data_dir}")


def _show_running(running: Running, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(_as_dict(running), default=str))
        return
    import shlex

    from howdah.server import psql

    click.echo(
        f"PostgreSQL {running.version} runs on port {running.port} as {running.account}, "
        f"data in {running.data_dir}"
    )
    click.echo(f"connect: {psql()} {shlex.quote(running.conninfo())}")


def _as_dict(running: Running) -> dict[str, Any]:
    return asdict(running) | {"conninfo": running.conninfo()}
