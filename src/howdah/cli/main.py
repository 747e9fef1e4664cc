"""The command `howdah`: its parts are imported when they are called, its errors end here."""

from __future__ import annotations

import gc
import io
import os
import sys
from contextlib import suppress
from importlib import import_module
from typing import NoReturn

import click

from howdah import __version__
from howdah.cli.render import INTERRUPTED
from howdah.errors import HowdahError

__all__ = ["cli", "main"]

_COMMANDS = {
    "budget": ("howdah.cli.budget", "Share connections: a number that a fleet never exceeds."),
    "config": ("howdah.cli.config", "Show and change the server's settings, safely."),
    "connections": ("howdah.cli.connections", "See who holds the connection slots; size them."),
    "doctor": ("howdah.cli.doctor", "Look a server over; each finding with what mends it."),
    "load": ("howdah.cli.load", "Load files of any kind into a table, each record once."),
    "rebuild": (
        "howdah.cli.rebuild",
        "Re-create a Django project's databases; the running app does not notice.",
    ),
    "rejects": ("howdah.cli.rejects", "Show, mend and retry what could not be loaded."),
    "server": ("howdah.cli.server", "Run a PostgreSQL of our own: start, stop, restart, status."),
    "tune": ("howdah.cli.tune", "Make inserts fast: a plan, a proof by measurement, a way back."),
    "where": ("howdah.cli.where", "Say which database is used, and why."),
}


class _LazyGroup(click.Group):
    """A group that imports a command when it is called, so that `--help` costs nothing."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        module, _ = _COMMANDS[cmd_name]
        command: click.Command = getattr(import_module(module), cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in sorted(_COMMANDS.items())])


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "--version", "-V", message="howdah %(version)s")
@click.option("--debug", is_flag=True, help="Show a traceback when something fails.")
def cli(debug: bool) -> None:
    """PostgreSQL operations for Python and Django teams.

    Exit codes: 0 done, 1 failed, 2 wrong usage or refused, 3 done with
    rejects, 4 needs a person.
    """


def main() -> None:
    """Run the command line, and turn errors into a sentence and an exit code."""
    # Imports make many objects that stay: to look for garbage among them takes 30 ms.
    gc.set_threshold(100_000)
    debug = "--debug" in sys.argv  # errors end here, where click's context is gone
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")  # a name that the terminal cannot show
    try:
        code = cli.main(prog_name="howdah", standalone_mode=False)
    except (click.exceptions.Abort, KeyboardInterrupt):
        click.echo("Stopped.", err=True)
        code = INTERRUPTED
    except click.ClickException as exc:
        exc.show()
        code = exc.exit_code
    except HowdahError as exc:
        if debug:
            raise
        click.echo(f"howdah: {exc.message}", err=True)
        if exc.next_step:
            click.echo(f"        {exc.next_step}", err=True)
        code = exc.exit_code
    except BrokenPipeError:
        # The reader of our output is gone (`howdah ... | head`): no traceback at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except Exception as exc:
        if debug:
            raise
        click.echo(f"howdah: unexpected {type(exc).__name__}: {exc}", err=True)
        click.echo("        Run the command again with --debug to see where.", err=True)
        code = 1
    _exit(code if isinstance(code, int) else 0)


def _exit(code: int) -> NoReturn:
    """End the process without taking it apart: that takes Python 50 ms, and all is closed."""
    with suppress(OSError, ValueError):
        for stream in filter(None, (sys.stdout, sys.stderr)):  # None: it was closed
            stream.flush()
    if "multiprocessing.forkserver" in sys.modules:
        sys.exit(code)  # it has a socket in the folder for temporary files, which Python removes
    os._exit(code)
