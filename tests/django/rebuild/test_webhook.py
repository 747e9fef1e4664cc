"""A push that rebuilds: examples/ci/webhook, with the real daemon and the real git."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

PIECES = Path(__file__).parents[3] / "examples" / "ci" / "webhook"
SECRET = "between the forge and us"
DAEMON = shutil.which("webhook")

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(DAEMON is None, reason="Debian's package webhook is not installed"),
]


@pytest.fixture
def forge(small):
    """The project as a clone of another repository, which its developers push to."""
    upstream = small.folder.with_name("upstream")
    git(small.folder, "init", "-q", "-b", "main")
    (small.folder / ".git/info/exclude").write_text("__pycache__/\n.howdah/\ndeploy/\n")
    commit(small.folder, "Begin")
    git(small.folder, "clone", "-q", ".", str(upstream))
    git(small.folder, "remote", "add", "origin", str(upstream))
    git(small.folder, "fetch", "-q")
    git(small.folder, "branch", "-q", "--set-upstream-to=origin/main")
    return upstream


@pytest.fixture
def address(small, tmp_path):
    """The daemon's address."""
    deploy = small.folder / "deploy"
    deploy.mkdir()
    shutil.copy(PIECES / "rebuild", deploy)
    hooks = tmp_path / "hooks.yml"
    hooks.write_text((PIECES / "hooks.yml").read_text().replace("/srv/project", str(small.folder)))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = small.environment(WEBHOOK_SECRET=SECRET, PATH=path)
    command = [DAEMON, "-template", "-hooks", str(hooks), "-ip", "127.0.0.1", "-port", str(port)]
    with (tmp_path / "webhook.log").open("w") as log:
        daemon = subprocess.Popen([*command, "-verbose"], env=environment, stdout=log, stderr=log)
    try:
        address = f"http://127.0.0.1:{port}"
        until(lambda: answers(address))
        yield f"{address}/hooks/rebuild"
    finally:
        daemon.kill()
        daemon.wait()


def test_push_to_main_rebuilds_and_nothing_else_does(small, forge, address):
    small.rebuild()
    models = next(forge.glob("shop/models.py"))
    field = "    origin = models.TextField(default='here')\n"
    models.write_text(models.read_text().replace("    name = ", f"{field}    name = ", 1))
    subprocess.run(
        [sys.executable, "manage.py", "makemigrations", "-v0"],
        cwd=forge,
        env=small.environment(),
        check=True,
    )
    commit(forge, "Say where things come from")

    assert post(address, "refs/heads/main", secret="guessed")[0] != 200
    assert post(address, "refs/heads/other")[0] == 403
    assert columns(small) == 0

    assert post(address, "refs/heads/main") == (200, "The rebuild has begun.")
    until(lambda: columns(small) == 1)


def post(address: str, ref: str, secret: str = SECRET) -> tuple[int, str]:
    payload = json.dumps({"ref": ref}).encode()
    signature = hmac.new(secret.encode(), payload, hashlib.sha256).hexdigest()
    headers = {"X-Hub-Signature-256": f"sha256={signature}", "Content-Type": "application/json"}
    try:
        request = urllib.request.Request(address, payload, headers)
        with urllib.request.urlopen(request) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def columns(project) -> int:
    query = "SELECT count(*) FROM information_schema.columns WHERE column_name = 'origin'"
    [count] = project.ask(f"{query} AND table_schema = 'store'")
    return count


def answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address) as answer:
            return answer.status == 200
    except urllib.error.URLError:
        return False


def until(holds) -> None:
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end, "it does not come to be"
        time.sleep(0.1)


def commit(folder: Path, message: str) -> None:
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", message)


def git(folder: Path, *arguments: str) -> None:
    who = ["-c", "user.name=Dev", "-c", "user.email=dev@example.org"]
    subprocess.run(["git", *who, *arguments], cwd=folder, check=True)
