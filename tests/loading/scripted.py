"""A load in a process of its own, which a test can set up: limits lowered, a reader more.

Its workers are forked, since it has one thread, and so have the same set-up; those
of a test's own process are not.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Done:
    """What a load said.

    Attributes:
        report: Its report; {} where it failed.
        errors: Its standard error.
        exit_code: 0, or 3 with rejects.
    """

    report: dict[str, Any]
    errors: str
    exit_code: int


def load(
    site: Path,
    dsn: str,
    *paths: object,
    reader: str = "",
    setup: str = "pass",
    timeout_s: float = 120.0,
) -> Done:
    """Run `howdah load PATHS` with a third party's reader, installed as such.

    Args:
        site: An empty folder.
        dsn: The database.
        paths: What to load, and options.
        reader: The source of a module with one class, a reader.
        setup: Python that runs first.
        timeout_s: After how many seconds it is a hang, and the test fails.
    """
    site.mkdir(parents=True, exist_ok=True)
    if reader:
        source = textwrap.dedent(reader)
        (site / "third_party.py").write_text(source)
        info = site / "third_party-1.0.dist-info"
        info.mkdir()
        name = source.partition("class ")[2].partition("(")[0]
        (info / "entry_points.txt").write_text(f"[howdah.readers]\nthird = third_party:{name}\n")
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: third-party\nVersion: 1.0\n")
    start = site / "start.py"
    start.write_text(
        f"{setup}\nfrom howdah.cli.main import main\nif __name__ == '__main__':\n    main()\n"
    )
    done = subprocess.run(
        [sys.executable, start, "load", "--json", "--dsn", dsn, *map(str, paths)],
        env=os.environ | {"PYTHONPATH": f"{site}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    report = json.loads(done.stdout) if done.returncode in {0, 3} else {}
    return Done(report, done.stderr, done.returncode)
