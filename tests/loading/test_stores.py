"""Stores as they are: S3, of which moto has a server, and HTTPS with an authority of its own."""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.request import Request, urlopen

import boto3
import pytest
import trustme
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

from howdah.loading import stores
from tests.fixtures.commands import Howdah
from tests.loading.records import PAIRS, digest, write_ndjson
from tests.loading.test_opening import CSV
from tests.loading.web import serving

RECORDS = 60_000  # 20 MB: several chunks
EVERY_RECORD = digest([(n + 1, n) for n in range(RECORDS)])
KEYS = {"AWS_ACCESS_KEY_ID": "ada", "AWS_SECRET_ACCESS_KEY": "c0ffee", "AWS_REGION": "us-east-1"}


@pytest.fixture(scope="module")
def large(tmp_path_factory) -> bytes:
    return write_ndjson(tmp_path_factory.mktemp("records") / "large.ndjson", RECORDS).read_bytes()


class _Silent(WSGIRequestHandler):
    def log(self, *_: object) -> None:
        pass


@dataclass
class Store:
    """A server of S3 with one bucket, `inbox`.

    Attributes:
        url: Where it is.
        asked: Each request: its method, its path and its Range header.
    """

    url: str
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)

    def put(self, **objects: bytes) -> None:
        client = boto3.client(
            "s3",
            endpoint_url=self.url,
            aws_access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
            region_name=KEYS["AWS_REGION"],
        )
        client.create_bucket(Bucket="inbox")
        for name, content in objects.items():
            client.put_object(Bucket="inbox", Key=name, Body=content)


@pytest.fixture
def s3(monkeypatch) -> Iterator[Store]:
    moto, store = DomainDispatcherApplication(create_backend_app), Store("")

    def noted(environ: dict[str, Any], start_response: Any) -> Any:
        asked = environ["REQUEST_METHOD"], environ["PATH_INFO"], environ.get("HTTP_RANGE")
        store.asked.append(asked)
        return moto(environ, start_response)

    server = make_server("127.0.0.1", 0, noted, threaded=True, request_handler=_Silent)
    store.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    try:
        urlopen(Request(f"{store.url}/moto-api/reset", method="POST")).close()
        store.asked.clear()
        yield store
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def loaded(done) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


PROGRAM = """
import json, sys
import howdah
for url in sys.argv[1:]:
    report = howdah.load([url], workers=2)
    names = ("sources", "skipped", "rejects", "chunks")
    print(json.dumps({name: getattr(report, name) for name in names}))
"""


def loads(howdah: Howdah, *urls: str) -> list[dict[str, int]]:
    """Load one URL after the other in one process, and return what each report counts.

    From the first one on fsspec's thread runs in it, so that workers must not be forked.
    """
    command = [sys.executable, "-c", PROGRAM, *urls]
    done = subprocess.run(
        command, env=howdah.environment(), capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return [json.loads(line) for line in done.stdout.splitlines()]


def each_object_is_loaded_once(howdah: Howdah, ask, store, scheme: str) -> None:
    """Check one object, a pattern and a folder, then the same with one of them changed."""
    objects = ("may.csv", "2026/june.csv", "2026/deep/july.csv", "2026/notes.txt", "2026/.hidden")
    inbox = f"{scheme}://inbox"
    store.put(**dict.fromkeys(objects, CSV))

    first = loads(howdah, f"{inbox}/may.csv", f"{inbox}/2026/**/*.csv", f"{inbox}/")
    store.put(**{"may.csv": CSV + b"Joan,1917\n"})
    second = loads(howdah, f"{inbox}/", f"{inbox}/may.csv")

    assert [report["sources"] for report in first + second] == [1, 2, 1, 1, 0]
    assert [report["skipped"] for report in first + second] == [0, 0, 3, 3, 1]
    assert ask("SELECT source, count(*) FROM documents GROUP BY 1 ORDER BY 1") == [
        (f"{inbox}/2026/deep/july.csv", 2),
        (f"{inbox}/2026/june.csv", 2),
        (f"{inbox}/2026/notes.txt", 1),
        (f"{inbox}/may.csv", 3),
    ]


def test_objects_folders_and_patterns_of_s3_are_loaded_once(howdah: Howdah, ask, s3, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.url)
    objects = ("may.csv", "2026/june.csv", "2026/deep/july.csv", "2026/notes.txt", "2026/.hidden")
    s3.put(**dict.fromkeys(objects, CSV))

    one = loaded(howdah("load", "s3://inbox/may.csv", "--json"))
    pattern = loaded(howdah("load", "s3://inbox/2026/**/*.csv", "--json"))
    folder = loaded(howdah("load", "s3://inbox/", "--json"))
    s3.put(**{"may.csv": CSV + b"Joan,1917\n"})
    changed = loaded(howdah("load", "s3://inbox/", "--json"))

    assert [report["sources"] for report in (one, pattern, folder, changed)] == [1, 2, 1, 1]
    assert [report["skipped"] for report in (one, pattern, folder, changed)] == [0, 0, 3, 3]
    assert ask("SELECT source, count(*) FROM documents GROUP BY 1 ORDER BY 1") == [
        ("s3://inbox/2026/deep/july.csv", 2),
        ("s3://inbox/2026/june.csv", 2),
        ("s3://inbox/2026/notes.txt", 1),
        ("s3://inbox/may.csv", 3),
    ]


def read(ranges: list[str]) -> int:
    """Return how many bytes ranges are long, together."""
    places = [one.removeprefix("bytes=").split("-") for one in ranges]
    return sum(int(last) - int(first) + 1 for first, last in places)


def test_large_object_of_s3_is_read_by_ranges_and_shared(
    howdah: Howdah, ask, s3, large, monkeypatch
):
    monkeypatch.setenv("FSSPEC_S3_ENDPOINT_URL", s3.url)  # as fsspec has it
    s3.put(**{"large.ndjson": large})

    report = loaded(howdah("load", "s3://inbox/large.ndjson", "--workers", 2, "--json"))

    assert report["chunks"] > 1
    assert digest(ask(PAIRS)) == EVERY_RECORD
    path = "/inbox/large.ndjson"
    ranges = [asked for *what, asked in s3.asked if what == ["GET", path]]
    assert None not in ranges
    assert len(ranges) > len(large) // stores.RANGE_BYTES
    assert read(ranges) < 1.5 * len(large)  # once, and some of it to find out what it is


def test_objects_of_a_folder_in_s3_are_asked_for_before_and_after_and_read_at_once(
    howdah: Howdah, s3, monkeypatch
):
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.url)
    s3.put(**{f"in/{n}.csv": CSV for n in range(5)})
    s3.asked.clear()

    loaded(howdah("load", "s3://inbox/in/", "--json"))

    for n in range(5):
        path = f"/inbox/in/{n}.csv"
        methods = [method for method, asked, _ in s3.asked if asked == path]
        assert methods == ["HEAD", "GET", "HEAD"]


def test_bucket_and_object_that_are_not_there_are_told(howdah: Howdah, s3, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.url)
    s3.put(**{"may.csv": CSV})

    missing = howdah("load", "s3://inbox/june.csv")
    nowhere = howdah("load", "s3://outbox/may.csv")

    assert "There is no object or folder 's3://inbox/june.csv'" in missing.stderr
    assert "s3://outbox/may.csv cannot be reached: NoSuchBucket." in nowhere.stderr
    assert [missing.returncode, nowhere.returncode] == [2, 1]


def test_store_that_does_not_answer_is_told(howdah: Howdah, s3, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")  # discard: nobody listens

    done = howdah("load", "s3://inbox/may.csv")

    assert done.returncode == 1, done.stderr
    assert "s3://inbox/may.csv cannot be reached: there is no connection." in done.stderr
    assert "Traceback" not in done.stderr


def test_https_is_read_with_an_authority_of_ones_own_and_refused_without(
    howdah: Howdah, ask, large, tmp_path, monkeypatch
):
    authority = trustme.CA()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(tls)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    with serving(files={"/a.csv": CSV, "/large.ndjson": large}, tls=tls) as web:
        refused = howdah("load", f"{web.url}/a.csv")
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        report = loaded(howdah("load", f"{web.url}/a.csv", f"{web.url}/large.ndjson", "--json"))

    assert refused.returncode == 1
    assert f"{web.url}/a.csv cannot be reached: its certificate is not trusted." in refused.stderr
    assert report["sources"] == 2
    assert digest(ask(f"{PAIRS} WHERE source LIKE %s", "%.ndjson")) == EVERY_RECORD
