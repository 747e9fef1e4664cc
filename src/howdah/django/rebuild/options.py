"""What the command is asked for, whichever way it is called."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Migrations = Literal["as they are", "remade", "from models"]


@dataclass(frozen=True, slots=True)
class Options:
    """The options of `howdah rebuild` and of `manage.py rebuild`.

    Attributes:
        databases: Aliases; empty: all.
        apps: Only databases that hold one of these; with "remade": only their migrations are
            written anew. Empty: all.
        allow: Databases named as disposable, in full.
        migrations: Where the tables come from.
        drop_migrations: With "remade": labels of apps whose hand-written migrations may go.
        keep_old: How many replaced generations stay; None: what the settings say.
        fresh: Build anew even where the result is kept.
        wait_s: How long to wait for another rebuild, in seconds.
        in_place: Build in the live database, in one transaction.
    """

    databases: tuple[str, ...] = ()
    apps: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()
    migrations: Migrations = "as they are"
    drop_migrations: tuple[str, ...] = ()
    keep_old: int | None = None
    fresh: bool = False
    wait_s: float = 0.0
    in_place: bool = False


@dataclass(frozen=True, slots=True)
class Flag:
    """One option of the command line, for click and for argparse.

    Attributes:
        name: As typed, "--keep-old".
        help: One sentence.
        metavar: Of its value; empty: it takes none.
        of: The type of its value.
        many: It may be given several times.
    """

    name: str
    help: str
    metavar: str = ""
    of: type = str
    many: bool = False


FLAGS = (
    Flag("--plan", "Print what would be done, and stop."),
    Flag("--database", "Only the database of this alias.", "ALIAS", many=True),
    Flag(
        "--app",
        "Only the databases of this app; with --remake-migrations: only its migrations.",
        "LABEL",
        many=True,
    ),
    Flag("--allow", "Name a database that may be rebuilt, in full.", "NAME", many=True),
    Flag("--remake-migrations", "Write the project's own migrations anew, as one for each app."),
    Flag(
        "--drop-migrations",
        "With --remake-migrations: this app's hand-written operations may go.",
        "LABEL",
        many=True,
    ),
    Flag("--from-models", "Make the tables from the models, without migration files."),
    Flag("--keep-old", "Keep N replaced generations for --undo.", "N", int),
    Flag("--undo", "Bring the schemas of before the last rebuild back."),
    Flag("--clean", "Remove what rebuilds have left; with --plan, list it."),
    Flag("--fresh", "Build anew, even where the same inputs have been built before."),
    Flag("--in-place", "Build in the live database, in one transaction."),
    Flag("--wait", "Wait so many seconds for another rebuild to end.", "SECONDS", float),
    Flag("--watch", "Rebuild whenever models, migrations or fixtures change."),
    Flag("--json", "Print one JSON object."),
)
