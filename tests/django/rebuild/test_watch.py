"""`--watch`: a process that rebuilds when files change, as a developer's editor changes them."""

from __future__ import annotations

import signal
import threading
import time

import pytest

pytestmark = pytest.mark.long

COLUMN = (
    "SELECT character_maximum_length FROM information_schema.columns WHERE table_name = 'shop_item'"
)
ITEMS = "SELECT name FROM shop.shop_item ORDER BY id"
WATCHING = "watching models"
REBUILT = "done in "


class Watch:
    """A running watch, and the lines that it has said."""

    def __init__(self, project, *command):
        self.process = project.start(*command, PYTHONUNBUFFERED="1")
        self.lines = []
        for pipe in (self.process.stdout, self.process.stderr):
            threading.Thread(target=self.read, args=(pipe,), daemon=True).start()

    def read(self, pipe):
        for line in pipe:
            self.lines.append(line.rstrip())

    def count(self, text):
        return sum(text in line for line in self.lines)

    def until(self, text, count=1):
        """Wait until so many lines have the text."""
        deadline = time.monotonic() + 90
        while self.count(text) < count:
            assert time.monotonic() < deadline, f"{text!r} never came: {self.lines}"
            time.sleep(0.05)


@pytest.mark.parametrize(
    "command", [("-m", "howdah", "rebuild", "--watch"), ("manage.py", "rebuild", "--watch")]
)
def test_watch_rebuilds_once_for_each_change_that_matters(small, command):
    small.write("settings.py", '"shop"]', '"shop", "howdah.django"]')
    watch = Watch(small, *command)
    watch.until(WATCHING)
    watch.until(REBUILT, 1)
    assert small.ask(ITEMS) == ["cup", "plate"]

    # A fixture, saved as editors do: a temporary file that takes the place of the other.
    rows = small.folder / "rows.json"
    (small.folder / ".rows.json.tmp").write_text(rows.read_text().replace("plate", "bowl"))
    (small.folder / ".rows.json.tmp").rename(rows)
    watch.until(REBUILT, 2)
    assert small.ask(ITEMS) == ["cup", "bowl"], "\n".join(watch.lines)

    # A burst, as of git or a formatter: model, migration and fixture, over some time.
    migration = small.folder / "shop/migrations/0001_initial.py"
    for length in (60, 70, 80):
        for path in (migration, small.folder / "shop/models.py"):
            path.write_text(path.read_text().replace("max_length=50", f"max_length={length}"))
            path.write_text(path.read_text().replace(f"={length - 10}", f"={length}"))
            time.sleep(0.05)
    rows.write_text(rows.read_text().replace("bowl", "jug"))
    watch.until(REBUILT, 3)
    assert (small.ask(COLUMN + " AND column_name = 'name'"), small.ask(ITEMS)) == (
        [80],
        ["cup", "jug"],
    )
    time.sleep(3)
    assert watch.count(REBUILT) == 3

    # What a rebuild is not made of: the rows that somebody has typed in stay.
    small.ask("UPDATE shop.shop_item SET name = 'typed' WHERE id = 1")
    (small.folder / "shop/views.py").write_text("# a view\n")
    watch.until("nothing that a rebuild is made of")
    assert small.ask(ITEMS) == ["typed", "jug"]

    # A mistake is told in a sentence, and the watch goes on.
    models = small.folder / "shop/models.py"
    right = models.read_text()
    models.write_text(right + "class Broken(\n")
    watch.until("models.py, line")
    assert watch.count("Traceback") == 0
    assert small.ask(ITEMS) == ["typed", "jug"]
    models.write_text(right.replace("max_length=80", "max_length=90"))
    migration.write_text(migration.read_text().replace("max_length=80", "max_length=90"))
    watch.until(REBUILT, 4)
    assert small.ask(COLUMN + " AND column_name = 'name'") == [90]

    watch.process.send_signal(signal.SIGINT)
    assert watch.process.wait(60) == 0
    assert small.leftovers() == []


def test_ctrl_c_during_a_rebuild_leaves_nothing(small):
    note = small.folder / "shop/migrations/0002_slow.py"
    note.write_text(
        "import time\nfrom django.db import migrations\n\n\n"
        "def slow(apps, editor):\n    open('begun', 'w').close()\n    time.sleep(60)\n\n\n"
        "class Migration(migrations.Migration):\n"
        "    dependencies = [('shop', '0001_initial')]\n"
        "    operations = [migrations.RunPython(slow)]\n"
    )
    before = small.digest()
    watch = Watch(small, "-m", "howdah", "rebuild", "--watch")
    deadline = time.monotonic() + 60
    while not (small.folder / "begun").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    watch.process.send_signal(signal.SIGINT)

    assert watch.process.wait(60) == 0
    assert small.leftovers() == []
    assert small.digest() == before
