"""Run Django's runtests.py on one part, in one mode, and read what each test gave."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from howdah.server import Running
from tests.djangosuite.groups import Part

INSIDE = Path(__file__).parent / "inside"
PROCESSES = 2
TIMEOUT_S = 3600

MODES = ("stock", "as is", "schemas")
# "*" is every app that is not named; the schema has the app's label for its name.
EVERY_APP_A_SCHEMA = {"SCHEMAS": {"*": "{app_label}"}}


@dataclass(frozen=True)
class Outcome:
    """What one test gave: "passed", "skipped", "failed", "error", ...; and its traceback."""

    outcome: str
    detail: str = ""


class DidNotRun(Exception):
    """Raised where runtests.py ended without telling the outcomes."""


def run(part: Part, mode: str, *, tree: Path, server: Running, out: Path) -> dict[str, Outcome]:
    """Run a part in a mode; its outcomes and its log are left in the folder `out`."""
    outcomes = told_in(part, mode, tree=tree, out=out)
    log = outcomes.with_suffix(".log")
    outcomes.unlink(missing_ok=True)
    command = [sys.executable, "-Wd", "runtests.py", *part.labels, "--settings=judge_settings"]
    command += [f"--parallel={PROCESSES}", "--noinput"]
    with log.open("w") as stream:
        subprocess.run(
            command,
            cwd=tree / "tests",
            env=_environment(part, mode, tree, server, outcomes),
            stdout=stream,
            stderr=subprocess.STDOUT,
            timeout=TIMEOUT_S,
            check=False,
        )
    if not outcomes.exists():
        tail = "\n".join(log.read_text().splitlines()[-20:])
        raise DidNotRun(f"{part.name}, {mode}: no outcomes. The end of {log}:\n{tail}")
    return read(outcomes)


def told_in(part: Part, mode: str, *, tree: Path, out: Path) -> Path:
    """Return the file in which a run leaves its outcomes."""
    return out / f"{tree.name}-{part.name}-{mode.replace(' ', '-')}.json"


def read(outcomes: Path) -> dict[str, Outcome]:
    """Return the outcomes in a file, by the names of the tests."""
    told = json.loads(outcomes.read_text())
    return {name: Outcome(outcome, "\n".join(details)) for name, (outcome, details) in told.items()}


def _environment(
    part: Part, mode: str, tree: Path, server: Running, outcomes: Path
) -> dict[str, str]:
    judge: dict[str, Any] = {
        "database": {
            "ENGINE": part.stock_engine if mode == "stock" else part.our_engine,
            "HOST": str(server.socket_dir),
            "PORT": str(server.port),
            "USER": "postgres",
        },
        "howdah": EVERY_APP_A_SCHEMA if mode == "schemas" else None,
        "outcomes": str(outcomes),
    }
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "DJANGO", "HOWDAH"))}
    paths = os.pathsep.join(map(str, (tree, INSIDE)))
    return kept | {
        "PYTHONPATH": paths,
        "PGPASSFILE": str(server.passfile),
        "JUDGE": json.dumps(judge),
        "LC_ALL": "C.UTF-8",
    }
