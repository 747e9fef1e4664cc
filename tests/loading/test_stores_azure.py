"""Azure Blob Storage, of which Azurite is Microsoft's own server; `tools/azurite` installs it."""

from __future__ import annotations

import base64
import gzip
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs

import pytest
import trustme
from azure.storage.blob import (
    BlobServiceClient,
    ContainerSasPermissions,
    ContentSettings,
    generate_container_sas,
)

from howdah.errors import UsageError
from howdah.loading import stores
from howdah.loading.sources import find
from tests.fixtures.commands import Howdah
from tests.loading.records import PAIRS, digest, write_ndjson
from tests.loading.test_opening import CSV, zipped
from tests.loading.test_remote import everything
from tests.loading.test_stores import each_object_is_loaded_once, loaded, loads

AZURITE = Path(__file__).parents[2] / ".matrix/azurite/node_modules/azurite/dist/src/blob/main.js"
RECORDS = 60_000  # 20 MB: several chunks
EVERY_RECORD = digest([(n + 1, n) for n in range(RECORDS)])
KEY = base64.b64encode(b"c0ffee5ecretc0ffee").decode()

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(
        not AZURITE.exists() or shutil.which("node") is None,
        reason="Azurite is not installed: tools/azurite does it, with Node.js and npm",
    ),
]


@dataclass
class Store:
    """Azurite, with the account `ada`.

    Attributes:
        url: Where it is.
        log: Azurite's own, of each request with its headers.
    """

    url: str
    log: Path

    @property
    def connection(self) -> str:
        place = f"BlobEndpoint={self.url}/ada"
        return f"DefaultEndpointsProtocol=http;AccountName=ada;AccountKey={KEY};{place}"

    def client(self) -> BlobServiceClient:
        return BlobServiceClient.from_connection_string(self.connection)

    def put(self, encoding: str | None = None, container: str = "inbox", **objects: bytes) -> None:
        settings = ContentSettings(content_encoding=encoding)
        with self.client() as client:
            for name, content in objects.items():
                blob = client.get_blob_client(container, name)
                blob.upload_blob(content, overwrite=True, content_settings=settings)

    def ranges(self, name: str) -> list[str | None]:
        """Return the range that each request for a content has asked for."""
        asked = [
            line
            for line in self.log.read_text().splitlines()
            if "RequestMethod=GET" in line and f"/inbox/{name} " in line
        ]
        found = (re.search(r'"x-ms-range":"([^"]+)"', line) for line in asked)
        return [one and one[1] for one in found]


@contextmanager
def serving(folder: Path, *more: object) -> Iterator[str]:
    """Run Azurite on a free port of this machine, and say where."""
    options = ["--inMemoryPersistence", "--disableTelemetry", "--skipApiVersionCheck", "--silent"]
    server = subprocess.Popen(
        ["node", AZURITE, *options, "--blobPort", "0", "--debug", folder / "log", *more],
        env={"PATH": os.environ["PATH"], "AZURITE_ACCOUNTS": f"ada:{KEY}"},
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
    )
    with server:
        try:
            lines = (re.search("successfully listens on (.*)", line) for line in server.stdout)
            yield next(line[1] for line in lines if line)
        finally:
            server.kill()


@pytest.fixture(scope="module")
def azurite(tmp_path_factory) -> Iterator[Store]:
    folder = tmp_path_factory.mktemp("azurite")
    with serving(folder) as url:
        yield Store(url, folder / "log")


@pytest.fixture
def az(azurite: Store, monkeypatch) -> Store:
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", azurite.connection)
    with azurite.client() as client:
        for container in client.list_containers():
            client.delete_container(container)
        client.create_container("inbox")
    return azurite


@pytest.fixture(scope="module")
def large(tmp_path_factory) -> bytes:
    return write_ndjson(tmp_path_factory.mktemp("records") / "large.ndjson", RECORDS).read_bytes()


def test_objects_folders_and_patterns_of_az_are_loaded_once(howdah: Howdah, ask, az):
    each_object_is_loaded_once(howdah, ask, az, "az")


def test_large_objects_and_archives_of_az_are_read_by_ranges(howdah: Howdah, ask, az, large):
    az.put(
        **{"in.zip": zipped(**{"a.csv": CSV, "b.csv": CSV}), "packed.csv.gz": gzip.compress(CSV)}
    )
    az.put(**{"large.ndjson": large})
    az.put("gzip", **{"encoded.csv": gzip.compress(CSV)})

    first, second = loads(howdah, "az://inbox/*.*[pvz]", "az://inbox/large.ndjson")

    assert (first["sources"], first["rejects"], second["rejects"]) == (4, 1, 0)
    assert "Content-Encoding" in ask("SELECT reason FROM howdah.rejects")[0]
    assert ask("SELECT count(*) FROM documents WHERE source LIKE 'az://inbox/in.zip!/%'") == [4]
    assert ask("SELECT count(*) FROM documents WHERE source LIKE '%/packed.csv.gz'") == [2]
    assert second["chunks"] > 1
    assert digest(ask(PAIRS + " WHERE source LIKE '%/large.ndjson'")) == EVERY_RECORD
    ranges = set(az.ranges("large.ndjson"))
    assert None not in ranges
    assert len(ranges) > len(large) // stores.RANGE_BYTES


def test_containers_of_an_account_in_the_url_are_told_apart(howdah: Howdah, ask, az):
    with az.client() as client:
        client.create_container("outbox")
    for container in ("inbox", "outbox"):
        az.put(container=container, **{"in/may.csv": CSV})
    account = "ada.dfs.core.windows.net"

    one = loads(howdah, f"abfss://inbox@{account}/in/may.csv", "abfs://inbox/in/may.csv")
    folders = loads(howdah, *[f"abfss://{name}@{account}/in/" for name in ("inbox", "outbox")])

    assert [report["sources"] for report in one + folders] == [1, 1, 0, 1]
    assert ask("SELECT name FROM howdah.sources ORDER BY 1") == [
        "abfs://inbox/in/may.csv",
        f"abfss://inbox@{account}/in/may.csv",
        f"abfss://outbox@{account}/in/may.csv",
    ]


def test_shared_access_signature_opens_az_and_is_nowhere_else(howdah: Howdah, ask, az, monkeypatch):
    az.put(**{"may.csv": CSV, "june.csv": CSV})
    soon = datetime.now(UTC) + timedelta(hours=1)
    rights = ContainerSasPermissions(read=True, list=True)
    signature = generate_container_sas("ada", "inbox", KEY, permission=rights, expiry=soon)
    place = f"BlobEndpoint={az.url}/ada;SharedAccessSignature={signature}"
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", place)

    done = howdah("load", "az://inbox/", "--json")
    refused = howdah("load", "az://outbox/may.csv")

    assert loaded(done)["sources"] == 2
    assert "az://outbox/may.csv cannot be reached: the server answers 403." in refused.stderr
    secret = parse_qs(signature)["sig"][0]
    for text in (done.stdout, done.stderr, refused.stderr, everything(ask)):
        assert secret not in text


@pytest.mark.parametrize("path", ["inbox/june.csv", "outbox/may.csv", "inbox/none/"])
def test_object_and_container_of_az_that_are_not_there_are_told(az, path):
    az.put(**{"may.csv": CSV})

    with pytest.raises(UsageError, match=f"There is no object or folder 'az://{path}'"):
        find([f"az://{path}"])


def test_credentials_that_az_refuses_or_lacks_are_told(howdah: Howdah, az, monkeypatch):
    az.put(**{"may.csv": CSV})
    other = base64.b64encode(b"another5ecret").decode()
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", az.connection.replace(KEY, other))
    refused = howdah("load", "az://inbox/may.csv")
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", KEY)
    malformed = howdah("load", "az://inbox/may.csv")
    monkeypatch.delenv("AZURE_STORAGE_CONNECTION_STRING")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", KEY)
    missing = howdah("load", "az://inbox/may.csv")

    assert "az://inbox/may.csv cannot be reached: the server answers 403." in refused.stderr
    assert "its credentials are missing or malformed." in malformed.stderr
    assert "its credentials are missing or malformed." in missing.stderr
    for done in (refused, malformed, missing):
        assert done.returncode == 1
        assert "AZURE_STORAGE_ACCOUNT_NAME" in done.stderr
        assert "Traceback" not in done.stderr
        assert not any(secret in done.stderr for secret in (KEY, other, "Signature"))


def test_account_and_key_open_az_by_https_with_an_authority_of_ones_own(
    howdah: Howdah, ask, tmp_path, monkeypatch
):
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    certificate.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    certificate.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    options = ("--cert", tmp_path / "cert.pem", "--key", tmp_path / "key.pem")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "ada")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", KEY)
    with serving(tmp_path, *options) as url:
        place = f"localhost:{url.rpartition(':')[2]}/ada"
        monkeypatch.setenv("FSSPEC_ABFS_ACCOUNT_HOST", place)  # else ada.blob.core.windows.net
        account = {"account_name": "ada", "account_key": KEY}
        trusted = {"connection_verify": str(tmp_path / "ca.pem")}
        with BlobServiceClient(f"https://{place}", account, **trusted) as client:
            client.create_container("inbox")
            client.get_blob_client("inbox", "may.csv").upload_blob(CSV)
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        report = loaded(howdah("load", "az://inbox/", "--json"))

    assert report["records"] == 2
    assert ask("SELECT DISTINCT source FROM documents") == ["az://inbox/may.csv"]
