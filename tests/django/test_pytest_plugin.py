"""pytest with pytest-django and pytest-xdist, in a project whose TEST_RUNNER is ours."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.long

TESTS = """
import pytest
from django.db import connection
from shop.models import Shelf


@pytest.mark.django_db
@pytest.mark.parametrize("number", range(8))
def test_copy(number, request):
    name = getattr(request.config, "workerinput", {}).get("workerid")
    wanted = "test_DATABASE" + (f"_{name}" if name else "")
    assert connection.settings_dict["NAME"] == wanted
    assert not Shelf.objects.exists()
    Shelf.objects.create(name="mine")
"""
# Notes that it has run: a migration that is not run leaves no line.
NOTED = """
from django.db import migrations


def note(apps, editor):
    with open("ran.txt", "a") as file:
        file.write("x")
    NOTED


class Migration(migrations.Migration):
    dependencies = [("shop", "0001_initial")]
    operations = [migrations.RunPython(note, lambda *_: None)]
"""
STAYS = """
import pytest
from shop.models import Shelf


@pytest.fixture(scope="session")
def before(django_db_setup, django_db_blocker):
    with django_db_blocker.unblock():
        count = Shelf.objects.count()
        Shelf.objects.create(name=f"shelf {count}")
    return count


@pytest.mark.django_db
def test_count(before):
    with open("count.txt", "w") as file:
        file.write(str(before))
"""
SLEEPS = """
import time
import pytest


@pytest.mark.django_db
@pytest.mark.parametrize("number", range(2))
def test_sleeps(number):
    open(f"asleep{number}", "w").close()
    time.sleep(60)
"""
COPIES = "SELECT datname FROM pg_database WHERE starts_with(datname, %s) ORDER BY 1"


@pytest.fixture
def tested(small):
    """The small project with our runner, and a migration that notes when it runs."""
    with (small.folder / "settings.py").open("a") as settings:
        settings.write('TEST_RUNNER = "howdah.django.test.Runner"\n')
    (small.folder / "test_copy.py").write_text(TESTS.replace("DATABASE", small.main))
    (small.folder / "shop/migrations/0002_note.py").write_text(NOTED.replace("NOTED", "pass"))
    return small


def run(project, *arguments, code=0):
    return project.run("-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments, code=code)


def migrated(project):
    """How many times the migrations have run."""
    file = project.folder / "ran.txt"
    return len(file.read_text()) if file.exists() else 0


def copies(project):
    return project.ask(COPIES, f"test_{project.main}")


@pytest.mark.parametrize("workers", [[], ["-n", "2"], ["-n", "4"]], ids=["one", "n2", "n4"])
def test_each_worker_has_a_copy_and_the_second_run_migrates_nothing(tested, workers):
    before = tested.digest()

    assert "8 passed" in run(tested, *workers)
    assert migrated(tested) == 1
    assert "8 passed" in run(tested, *workers)

    assert migrated(tested) == 1
    assert copies(tested) == []
    assert tested.digest() == before


def test_changed_migration_is_run_and_seen(tested):
    run(tested)
    (tested.folder / "shop/migrations/0002_note.py").write_text(
        NOTED.replace("NOTED", 'apps.get_model("shop", "shelf").objects.create(name="by it")')
    )

    assert "8 failed" in run(tested, "-n", "2", code=1)  # they want no shelf
    assert migrated(tested) == 2


def test_reuse_db_keeps_rows_until_inputs_change_or_create_db_is_said(tested):
    (tested.folder / "test_copy.py").write_text(STAYS)

    def count(*arguments):
        assert "1 passed" in run(tested, *arguments)
        return int((tested.folder / "count.txt").read_text())

    assert count("--reuse-db") == 0
    assert count("--reuse-db") == 1
    assert count("--reuse-db") == 2
    assert migrated(tested) == 1
    assert count("--reuse-db", "--create-db") == 0  # and what is kept is built anew
    assert migrated(tested) == 2
    assert count("--reuse-db") == 1
    with (tested.folder / "shop/migrations/0002_note.py").open("a") as migration:
        migration.write("# changed\n")
    assert count("--reuse-db") == 0
    assert copies(tested) == [f"test_{tested.main}"]
    assert count() == 0  # neither kept before nor after
    assert copies(tested) == []


def test_create_db_builds_once_for_all_workers(tested):
    run(tested, "-n", "2")

    assert "8 passed" in run(tested, "-n", "4", "--create-db")

    assert migrated(tested) == 2


def test_no_migrations_makes_tables_from_the_models_and_reads_no_migration(tested):
    (tested.folder / "shop/migrations/0002_note.py").write_text("raise RuntimeError('read')\n")

    assert "8 passed" in run(tested, "--no-migrations", "-n", "2")
    assert "RuntimeError: read" in run(tested, code=1)


def test_killed_run_leaves_what_the_next_one_and_clean_remove(tested):
    (tested.folder / "test_copy.py").rename(tested.folder / "test_later.py")
    (tested.folder / "test_sleep.py").write_text(SLEEPS)
    command = ["-m", "pytest", "-p", "no:cacheprovider", "-n", "2", "test_sleep.py"]

    def both_sleep():
        return all((tested.folder / f"asleep{number}").exists() for number in (0, 1))

    kill(tested, command, both_sleep)
    left = copies(tested)
    assert left == [f"test_{tested.main}_gw0", f"test_{tested.main}_gw1"]
    assert "8 passed" in run(tested, "-n", "2", "test_later.py")

    for number in (0, 1):
        (tested.folder / f"asleep{number}").unlink()
    kill(tested, command, both_sleep)
    listed = tested.rebuild("--clean", "--plan")
    assert all(name in listed for name in copies(tested))
    tested.rebuild("--clean")
    assert copies(tested) == []


def test_run_killed_while_it_builds_leaves_nothing_to_the_next_one(tested):
    note = tested.folder / "shop/migrations/0002_note.py"
    note.write_text(NOTED.replace("NOTED", "__import__('time').sleep(60)"))

    kill(tested, ["-m", "pytest", "-n", "2", "test_copy.py"], (tested.folder / "ran.txt").exists)
    assert len(tested.leftovers()) == 1
    note.write_text(NOTED.replace("NOTED", "pass"))

    assert "8 passed" in run(tested, "-n", "2")
    assert tested.leftovers() == []


def test_ctrl_c_drops_the_copies(tested):
    (tested.folder / "test_copy.py").write_text(SLEEPS)
    process = tested.start("-m", "pytest", "-p", "no:cacheprovider", "test_copy.py")
    wait_for((tested.folder / "asleep0").exists)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)

    assert process.returncode == 2  # pytest's own, for an interrupt
    assert copies(tested) == []


def test_copy_in_use_is_told_in_a_sentence(tested):
    run(tested, "--reuse-db")
    with tested.connect(f"test_{tested.main}", application_name="psql of a colleague"):
        said = run(tested, "--create-db", code=1)

    assert f"The database 'test_{tested.main}' is in use, by psql of a colleague." in said
    assert "Traceback" not in said


def test_failing_migration_is_told_in_a_sentence(tested):
    (tested.folder / "shop/migrations/0002_note.py").write_text(NOTED.replace("NOTED", "1 / 0"))

    said = run(tested, "-n", "2", code=1)

    assert "The migration shop.0002_note failed: ZeroDivisionError" in said
    assert copies(tested) == []
    assert tested.leftovers() == []


def test_django_db_setup_of_the_project_wins(tested):
    (tested.folder / "conftest.py").write_text(
        "import pytest\n\n@pytest.fixture(scope='session')\ndef django_db_setup():\n"
        "    raise RuntimeError('the project')\n"
    )

    assert "RuntimeError: the project" in run(tested, code=1)


def test_without_our_runner_pytest_django_does_its_own(tested):
    tested.write("settings.py", 'TEST_RUNNER = "howdah.django.test.Runner"', "")
    # Django's own way, as pytest-django goes it, knows no schema: the project needs ours.
    assert 'schema "shop" does not exist' in run(tested, code=1) or migrated(tested) == 0
    kept = tested.ask("SELECT count(*) FROM pg_database WHERE starts_with(datname, 'howdah_kept')")
    assert kept == [0]


def test_project_without_django_pays_nothing(tmp_path):
    (tmp_path / "test_plain.py").write_text(
        "import sys\n\ndef test_modules():\n"
        "    assert 'howdah.pytest_plugin' in sys.modules\n"
        "    assert not {'django', 'psycopg', 'howdah.django'} & set(sys.modules)\n"
    )
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:django"]
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("DJANGO", "HOWDAH"))}
    done = subprocess.run(
        words, cwd=tmp_path, env=kept, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout


def kill(project, command, is_ready):
    """Start pytest, and end it and its workers by SIGKILL when it is ready."""
    process = subprocess.Popen(
        [sys.executable, *command],
        cwd=project.folder,
        env=project.environment(),
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(is_ready)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_for(condition):
    deadline = time.monotonic() + 90
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
