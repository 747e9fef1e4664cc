"""The house rules that a machine can keep."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import howdah
from howdah.cli.main import cli

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
PACKAGES = [
    "howdah",
    *(
        m.name
        for m in pkgutil.walk_packages(howdah.__path__, "howdah.")
        if "__main__" not in m.name
    ),
]
# Those of Django's are imported in a process that has settings; GeoDjango's need its libraries too.
DJANGO = [name for name in PACKAGES if name.startswith("howdah.django.")]
CHECK = """
import importlib, sys
import django
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
settings.configure(INSTALLED_APPS=["howdah.django"])
django.setup()
for name in sys.argv[1:]:
    try:
        module = importlib.import_module(name)
    except ImproperlyConfigured as exc:
        if "postgis" not in name or "GDAL" not in str(exc):
            raise
        continue
    for public in getattr(module, "__all__", []):
        assert hasattr(module, public), f"{name}.__all__ has {public}"
"""


def test_patterns_have_no_possessive_groups():
    """Python before 3.11.5 matches them wrongly (gh-106052), and Debian 12 has 3.11.2."""
    possessive = re.compile(r"\)(?:[*+?]|\{[\d,]+\})\+|\(\?>")
    known = {"jsonsource.py"}  # which says why it may

    found = {path.name for path in SOURCES if possessive.search(path.read_text())}

    assert found == known


def test_imports_go_in_one_direction():
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [linter, "--config", ROOT / "pyproject.toml"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout


def test_public_names_of_the_django_app_exist():
    done = subprocess.run(
        [sys.executable, "-c", CHECK, *DJANGO], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", sorted(set(PACKAGES) - set(DJANGO)))
def test_public_names_exist(name):
    module = importlib.import_module(name)

    for public in getattr(module, "__all__", []):
        assert hasattr(module, public), f"{name}.__all__ has {public}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT / "src")))
def test_sql_is_never_formatted_by_hand(path):
    """No f-string, % or + where a query is expected: `execute(...)` and `sql.SQL(...)`."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        if node.func.attr not in {"execute", "executemany", "SQL", "copy"} or not node.args:
            continue
        query = node.args[0]
        assert not isinstance(query, ast.JoinedStr | ast.BinOp), f"{path}:{node.lineno}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT / "src")))
def test_modules_are_of_a_size_to_be_read(path):
    assert len(path.read_text().splitlines()) <= 400


def test_only_the_command_prints():
    for path in SOURCES:
        if "cli" not in path.parts:
            calls = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)]
            names = {c.func.id for c in calls if isinstance(c.func, ast.Name)}
            assert "print" not in names, path


def test_each_command_is_in_the_docs():
    docs = "\n".join(path.read_text() for path in (ROOT / "docs").rglob("*.md"))
    readme = (ROOT / "README.md").read_text()

    for name in cli.list_commands(None):  # type: ignore[arg-type]
        assert f"howdah {name}" in docs, f"docs/ do not know howdah {name}"
        assert f"howdah {name}" in readme


def test_commands_page_is_what_the_commands_say():
    script = runpy.run_path(str(ROOT / "tools" / "commands-page"))

    assert script["PAGE"].read_text() == script["page"](), "run tools/commands-page"


def test_links_in_the_docs_lead_somewhere():
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.relative_to(ROOT)}: {target}"


def test_every_example_has_a_licence():
    manifest = (ROOT / "examples" / "MANIFEST.tsv").read_text().splitlines()[1:]
    named = {line.split("\t")[0] for line in manifest}
    there = {
        str(path.relative_to(ROOT / "examples"))
        for folder in ("documents", "records")
        for path in (ROOT / "examples" / folder).rglob("*")
        if path.is_file()
    }

    assert named == there
    assert all(len(line.split("\t")) == 3 for line in manifest)
