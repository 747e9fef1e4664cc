"""The examples of the how-to for web applications, run as they stand there."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from importlib import import_module
from pathlib import Path
from wsgiref.simple_server import WSGIRequestHandler, make_server

import pytest
from psycopg.conninfo import conninfo_to_dict

from tests.fixtures.commands import Howdah

PAGE = Path(__file__).parents[3] / "docs/how-to/load-single-rows-from-a-web-app.md"
TABLE = "CREATE TABLE page_view (path text NOT NULL, visitor int, data jsonb)"


@pytest.fixture
def examples(tmp_path, monkeypatch, dsn, ask) -> Path:
    """The folder of the page's examples, importable; the environment names the database."""
    ask(TABLE)
    for block in re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE):
        first = block.partition("\n")[0].removeprefix("# ")
        (tmp_path / (first if first.endswith(".py") else "first.py")).write_text(block)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("HOWDAH_DSN", dsn)
    for name in ("wsgiapp", "asgiapp"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


def test_first_example_commits_its_row(examples, dsn, ask):
    script = (examples / "first.py").read_text().replace("postgresql:///shop", dsn)
    exec(compile(script, "first.py", "exec"), {})  # the page's own code

    assert ask("SELECT path, visitor, data FROM page_view") == [("/", 7, {"ms": 12})]


class Quiet(WSGIRequestHandler):
    def log_message(self, *_):
        pass


def test_wsgi_example_answers_when_the_row_is_committed(examples, ask):
    module = import_module("wsgiapp")
    with make_server("127.0.0.1", 0, module.app, handler_class=Quiet) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            statuses = [
                http_status(server.server_port, data)
                for data in (b'{"path": "/a"}', b'{"path": null}', b"no JSON")
            ]
        finally:
            server.shutdown()
            serving.join()
            module.writer().close()

    assert statuses == [201, 422, 422]
    assert ask("SELECT path FROM page_view") == ["/a"]


def http_status(port, data) -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", data=data, timeout=30) as answer:
            return answer.status
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code


def test_asgi_example_answers_when_the_row_is_committed(examples, ask):
    app = import_module("asgiapp").app

    async def status(data):
        sent = []
        parts = [
            {"type": "http.request", "body": data[:5], "more_body": True},
            {"type": "http.request", "body": data[5:]},
        ]

        async def receive():
            return parts.pop(0)

        async def send(message):
            sent.append(message)

        await app({"type": "http"}, receive, send)
        return sent[0]["status"]

    async def main():
        told: asyncio.Queue[dict[str, str]] = asyncio.Queue()
        said: asyncio.Queue[dict[str, str]] = asyncio.Queue()
        life = asyncio.create_task(app({"type": "lifespan"}, told.get, said.put))
        await told.put({"type": "lifespan.startup"})
        assert (await said.get())["type"] == "lifespan.startup.complete"
        statuses = await asyncio.gather(
            *(status(json.dumps({"path": f"/{n}"}).encode()) for n in range(50)),
            status(b'{"path": null}'),
            status(b"no JSON"),
        )
        await told.put({"type": "lifespan.shutdown"})
        assert (await said.get())["type"] == "lifespan.shutdown.complete"
        await life
        return statuses

    assert asyncio.run(main()) == [201] * 50 + [422, 422]
    assert ask("SELECT count(DISTINCT path) FROM page_view") == [50]


DJANGO = """
import django
from django.conf import settings
from django.urls import path

settings.configure(
    ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, DATABASES={"default": %r}, USE_TZ=True
)
django.setup()
from django.test import Client
from views import page_view, writer

urlpatterns = [path("view", page_view)]

def status(where, data):
    return Client().post("/view?path=" + where, data, "application/json").status_code

print(status("/a", '{"ms": 3}'), status("%%00", "{}"), status("/b", '["list"]'))
print(status("/d", "no JSON"), Client().post("/view", "{}", "application/json").status_code)
writer().close()
print(status("/c", "{}"))
"""


def test_django_example_answers_when_the_row_is_committed(examples, howdah: Howdah, dsn, ask):
    parts = conninfo_to_dict(dsn)
    database = {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": parts["dbname"],
        "USER": parts["user"],
        "PASSWORD": Path(str(parts["passfile"])).read_text().strip().rpartition(":")[2],
        "HOST": parts["host"],
        "PORT": parts["port"],
    }
    (examples / "project.py").write_text(DJANGO % database)
    done = subprocess.run(
        [sys.executable, "project.py"],
        cwd=examples,
        env=howdah.environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.stdout == "201 422 201\n422 422\n503\n", done.stderr
    assert ask("SELECT path, data FROM page_view ORDER BY path") == [
        ("/a", {"ms": 3}),
        ("/b", ["list"]),
    ]
