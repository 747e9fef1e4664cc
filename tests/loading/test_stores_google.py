"""Google Cloud Storage, of which gcp-storage-emulator has a server, with keys that are checked."""

from __future__ import annotations

import base64
import gzip
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from http.server import ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit
from urllib.request import Request, urlopen

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from gcp_storage_emulator.server import RequestHandler
from gcp_storage_emulator.storage import Storage
from google.auth import jwt

from howdah.errors import UsageError
from howdah.loading import stores
from howdah.loading.sources import find
from tests.fixtures.commands import Howdah
from tests.loading import scripted
from tests.loading.records import PAIRS, digest, write_ndjson
from tests.loading.test_opening import CSV, zipped
from tests.loading.test_stores import each_object_is_loaded_once, loads

RECORDS = 60_000  # 20 MB: several chunks
EVERY_RECORD = digest([(n + 1, n) for n in range(RECORDS)])
TOKEN = "c0ffee5ecretc0ffee"
AUDIENCE = "https://oauth2.googleapis.com/token"  # whom claims are signed for, wherever they go


@dataclass
class Store:
    """A server of Google's JSON API with one bucket, `inbox`, and of tokens.

    Attributes:
        public_key: Of those who may have a token.
        url: Where it is.
        allowed: What a token may do: nothing, or all.
        faults: What to do with the next requests for a content: seconds after which to break off.
        asked: Each request for a content: the object's name and the Range header.
        tokens: Each answer to a request for a token.
    """

    public_key: bytes
    url: str = ""
    allowed: bool = True
    faults: list[float] = field(default_factory=list)
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)

    def put(self, **objects: bytes) -> None:
        for name, content in objects.items():
            path = f"/upload/storage/v1/b/inbox/o?uploadType=media&name={quote(name)}"
            self.post(path, content, "text/plain")

    def put_encoded(self, name: str, content: bytes) -> None:
        facts = json.dumps({"name": name, "contentEncoding": "gzip"}).encode()
        parts = b"--x\r\nContent-Type: application/json\r\n\r\n%b\r\n"
        parts += (
            b"--x\r\nContent-Type: text/csv\r\nContent-Transfer-Encoding: base64\r\n\r\n%b\r\n--x--"
        )
        self.post(
            "/upload/storage/v1/b/inbox/o?uploadType=multipart",
            parts % (facts, base64.b64encode(content)),
            "multipart/related; boundary=x",
        )

    def post(self, path: str, content: bytes, kind: str = "application/json") -> None:
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": kind}
        urlopen(Request(f"{self.url}{path}", content, headers)).close()


class _Handler(RequestHandler):
    def __init__(self, store: Store, *args):
        self.store = store
        super().__init__(*args)

    def do_GET(self):  # noqa: N802 - the standard's name
        path = urlsplit(self.path).path
        if path.startswith("/download/"):
            self.store.asked.append((path.rpartition("/")[2], self.headers["Range"]))
        if self.headers["Authorization"] != f"Bearer {TOKEN}" or not self.store.allowed:
            self.answer(403, {"error": {"code": 403, "message": f"no access for {TOKEN}"}})
        elif path.startswith("/download/") and self.store.faults:
            self.send_response(206)
            self.send_header("Content-Length", "1000000")
            self.end_headers()
            self.wfile.write(b"{")
            self.wfile.flush()
            time.sleep(self.store.faults.pop())
            self.close_connection = True
        else:
            super().do_GET()

    def do_POST(self):  # noqa: N802
        if self.path != "/token":
            super().do_POST()
            return
        body = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        try:
            jwt.decode(body["assertion"][0], self.store.public_key, audience=AUDIENCE)
        except ValueError:
            self.answer(400, {"error": "invalid_grant", "error_description": body["assertion"][0]})
        else:
            self.answer(200, {"access_token": TOKEN, "expires_in": 3600, "token_type": "Bearer"})

    def answer(self, status: int, content: object):
        if self.path == "/token":
            self.store.tokens.append(status)
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture(scope="module")
def large(tmp_path_factory) -> bytes:
    return write_ndjson(tmp_path_factory.mktemp("records") / "large.ndjson", RECORDS).read_bytes()


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture
def gs(key, tmp_path, monkeypatch) -> Iterator[Store]:
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    store = Store(public)
    storage = Storage(use_memory_fs=True)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, store, storage))
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # the loader may go away in the middle
    store.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", store.url)
    monkeypatch.setenv("NO_GCE_CHECK", "true")  # no other address than this one is asked
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(key_file(tmp_path, store.url, key)))
    try:
        store.post("/storage/v1/b", b'{"name": "inbox"}')
        yield store
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def key_file(folder: Path, url: str, key: rsa.RSAPrivateKey) -> Path:
    """Write the key of a service account, as Google hands it out."""
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    account = {
        "type": "service_account",
        "project_id": "howdah",
        "private_key_id": "1",
        "private_key": pem.decode(),
        "client_email": "ada@example.org",
        "token_uri": f"{url}/token",
    }
    path = folder / "key.json"
    path.write_text(json.dumps(account))
    return path


def test_objects_folders_and_patterns_of_gs_are_loaded_once(howdah: Howdah, ask, gs):
    each_object_is_loaded_once(howdah, ask, gs, "gs")


def test_large_objects_and_archives_of_gs_are_read_by_ranges(howdah: Howdah, ask, gs, large):
    gs.put(
        **{"in.zip": zipped(**{"a.csv": CSV, "b.csv": CSV}), "packed.csv.gz": gzip.compress(CSV)}
    )
    gs.put(**{"large.ndjson": large})
    gs.put_encoded("encoded.csv", gzip.compress(CSV))

    first, second = loads(howdah, "gs://inbox/*.*[pvz]", "gs://inbox/large.ndjson")

    assert (first["sources"], first["rejects"], second["rejects"]) == (4, 1, 0)
    assert "Content-Encoding" in ask("SELECT reason FROM howdah.rejects")[0]
    assert ask("SELECT count(*) FROM documents WHERE source LIKE 'gs://inbox/in.zip!/%'") == [4]
    assert ask("SELECT count(*) FROM documents WHERE source LIKE '%/packed.csv.gz'") == [2]
    assert second["chunks"] > 1
    assert digest(ask(PAIRS + " WHERE source LIKE '%/large.ndjson'")) == EVERY_RECORD
    ranges = {asked for name, asked in gs.asked if name == "large.ndjson"}
    assert None not in ranges
    assert len(ranges) > len(large) // stores.RANGE_BYTES


SOON = "import howdah.loading.stores as stores; stores._TIMEOUT_S = 0.5"


def test_connection_to_gs_that_is_cut_or_falls_silent_is_read_on_from_there(
    dsn, ask, gs, large, tmp_path
):
    gs.put(**{"large.ndjson": large})
    gs.faults = [30.0, 0.0]

    url = "gs://inbox/large.ndjson"
    done = scripted.load(tmp_path / "site", dsn, url, "--workers", 2, setup=SOON, timeout_s=25)

    assert (gs.faults, done.report["rejects"], done.errors) == ([], 0, "")
    assert digest(ask(PAIRS)) == EVERY_RECORD


@pytest.mark.parametrize("path", ["inbox/june.csv", "outbox/may.csv", "inbox/none/"])
def test_object_and_bucket_of_gs_that_are_not_there_are_told(gs, path):
    gs.put(**{"may.csv": CSV})

    with pytest.raises(UsageError, match=f"There is no object or folder 'gs://{path}'"):
        find([f"gs://{path}"])


def test_credentials_that_gs_refuses_are_told_at_once(howdah: Howdah, gs, tmp_path):
    gs.put(**{"may.csv": CSV})
    gs.allowed = False
    forbidden = howdah("load", "gs://inbox/may.csv")
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    key_file(tmp_path, gs.url, other)
    refused = howdah("load", "gs://inbox/may.csv")

    assert "gs://inbox/may.csv cannot be reached: the access is denied." in forbidden.stderr
    assert "gs://inbox/may.csv cannot be reached: the server answers 401." in refused.stderr
    for done in (forbidden, refused):
        assert done.returncode == 1
        assert "GOOGLE_APPLICATION_CREDENTIALS" in done.stderr
        assert "Traceback" not in done.stderr
        assert TOKEN not in done.stderr
        assert "eyJ" not in done.stderr  # how a signed claim begins
    assert gs.tokens == [200, 400]  # nor was it tried again
