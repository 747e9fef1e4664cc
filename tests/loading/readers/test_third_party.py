"""A reader of a third party: installed by pip, found by the command."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from .reading import DATA

PACKAGE = DATA / "reader-package"
PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "write-a-reader.md"
SAYINGS = "One.\n%\nTwo,\nand é.\n%\nThree.\n"
BACKEND = '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'


def install(source, folder):
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
            *("--no-index", "--no-deps", "--no-build-isolation", "--target", folder, source),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Return what makes a folder's package known to the commands that the test runs."""

    def use(source):
        install(source, tmp_path / "site")
        path = os.environ.get("PYTHONPATH")
        monkeypatch.setenv(
            "PYTHONPATH", os.pathsep.join([str(tmp_path / "site"), *([path] if path else [])])
        )

    return use


def test_an_installed_reader_loads_its_format_by_the_real_command(howdah, ask, tmp_path, installed):
    installed(PACKAGE)
    source = tmp_path / "sayings.txt"
    source.write_text(SAYINGS)

    done = howdah("load", source)

    assert done.returncode == 0, done.stderr
    assert ask("SELECT attributes->>'saying' FROM documents ORDER BY record") == [
        "One.",
        "Two,\nand é.",
        "Three.",
    ]


def test_a_reader_in_an_egg_is_found_as_well(howdah, ask, tmp_path, monkeypatch):
    install(PACKAGE, tmp_path / "site")
    egg = (tmp_path / "site").rename(tmp_path / "fortune.egg")
    [info] = egg.glob("*.dist-info")
    info = info.rename(egg / "EGG-INFO")
    (info / "METADATA").rename(info / "PKG-INFO")
    monkeypatch.setenv("PYTHONPATH", str(egg))
    source = tmp_path / "sayings.txt"
    source.write_text(SAYINGS)

    done = howdah("load", source)

    assert done.returncode == 0, done.stderr
    assert ask("SELECT count(*) FROM documents WHERE attributes ? 'saying'") == [3]


def test_it_gets_the_options_that_it_takes_and_no_others(howdah, ask, tmp_path, installed):
    installed(PACKAGE)
    source = tmp_path / "sayings.txt"
    source.write_bytes(SAYINGS.encode("cp1252"))

    plain = howdah("load", source)
    told = howdah("load", source, "--encoding", "cp1252", "--format", "fortune")
    wrong = howdah("load", source, "--delimiter", ";", "--format", "fortune")

    assert [done.returncode for done in (plain, told, wrong)] == [3, 0, 3]
    assert "'fortune' reads it, which has no option --delimiter" in " ".join(wrong.stdout.split())


def test_the_reader_in_the_docs_works_as_it_is_shown(howdah, ask, tmp_path, installed):
    blocks = dict(re.findall(r"```\w+\n# ([\w.]+)\n(.*?)```", PAGE.read_text(), re.DOTALL))
    package = tmp_path / "package"
    package.mkdir()
    (package / "fortune.py").write_text(blocks["fortune.py"])
    only = '[tool.hatch.build.targets.wheel]\nonly-include = ["fortune.py"]\n'
    (package / "pyproject.toml").write_text(BACKEND + blocks["pyproject.toml"] + only)
    assert len(blocks["fortune.py"].splitlines()) <= 20
    installed(package)
    (tmp_path / "sayings.txt").write_text(SAYINGS)

    done = howdah("load", tmp_path / "sayings.txt")

    assert done.returncode == 0, done.stderr
    assert ask("SELECT count(*) FROM documents") == [3]
