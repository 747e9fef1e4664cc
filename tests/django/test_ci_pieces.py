"""examples/ci: the files are valid, and their commands do what they say in a project."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.long

CI = Path(__file__).parents[2] / "examples" / "ci"
BIN = Path(sys.executable).parent
SCHEMAS = {
    "github-actions.yml": "vendor.github-workflows",
    "gitlab-ci.yml": "vendor.gitlab-ci",
    "bamboo.yml": "vendor.bamboo-spec",
    "compose.yaml": "vendor.compose-spec",
}
# What only a fresh machine needs: the tests' own has it.
INSTALLS = re.compile(r"(sudo )?apt-get |pip install ")
TEST = """
from django.test import TestCase
from shop.models import Shelf


class One(TestCase):
    def test_empty(self):
        assert not Shelf.objects.exists()
"""


@pytest.fixture
def tested(small):
    (small.folder / "shop" / "tests.py").write_text(TEST)
    (small.folder / "pytest.ini").write_text("[pytest]\npython_files = tests.py\n")
    with (small.folder / "settings.py").open("a") as settings:
        settings.write('TEST_RUNNER = "howdah.django.test.Runner"\n')
    return small


def commands(name):
    """Return the shell commands of a piece, in their order."""
    text = (CI / name).read_text()
    if name == "Jenkinsfile":
        return re.findall(r"sh '([^']+)'", text)
    piece = yaml.safe_load(text)
    if name == "github-actions.yml":
        return [step["run"] for step in piece["jobs"]["test"]["steps"] if "run" in step]
    if name == "gitlab-ci.yml":
        return piece["test"]["script"]
    if name == "compose.yaml":
        return [piece["services"]["rebuild"]["command"]]
    return [task["script"] for task in piece["databases"]["tasks"] if "script" in task]


def shell(project, command, **more):
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["sh", "-ec", command],
        cwd=project.folder,
        env=project.environment(PATH=path, **more),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("name", SCHEMAS)
def test_piece_is_what_its_service_reads(name):
    command = [BIN / "check-jsonschema", "--builtin-schema", SCHEMAS[name], CI / name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", [*SCHEMAS, "Jenkinsfile"])
def test_commands_of_a_piece_rebuild_and_test(tested, name):
    ran = [one for one in commands(name) if not INSTALLS.match(one)]
    assert any(one.startswith("howdah rebuild") for one in ran)
    for command in ran:
        done = shell(tested, command)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"

    assert tested.ask("SELECT name FROM shop.shop_item ORDER BY id") == ["cup", "plate"]


def test_databases_follow_the_branch(small):
    def git(words):
        done = shell(small, f"git -c user.name=x -c user.email=x@example.com {words}")
        assert done.returncode == 0, done.stderr
        return done.stderr

    def items():
        return small.ask("SELECT name FROM shop.shop_item ORDER BY id")

    git("init -q -b main")
    git("add .")
    git("commit -qm first")
    for hook in ("post-checkout", "post-merge"):
        shutil.copy(CI / "post-checkout", small.folder / ".git" / "hooks" / hook)
    assert shell(small, "howdah rebuild").returncode == 0
    git("checkout -qb bowls")
    small.write("rows.json", "plate", "bowl")
    git("commit -qam bowls")

    assert "done" not in git("checkout -q -b same")
    git("checkout -q bowls")
    assert items() == ["cup", "plate"]  # nothing was checked out yet that differs
    git("checkout -q main")
    git("checkout -q bowls")
    assert items() == ["cup", "bowl"]
    git("checkout -q main")
    assert items() == ["cup", "plate"]
    git("checkout -q main -- rows.json")  # files, and no branch
    git("merge -q bowls")
    assert items() == ["cup", "bowl"]

    small.ask("UPDATE shop.shop_item SET name = 'typed' WHERE id = 1")
    git("checkout -qb views")
    (small.folder / "shop" / "views.py").write_text("# a view\n")
    git("add .")
    git("commit -qm views")
    git("checkout -q main")
    assert items() == ["typed", "bowl"]
