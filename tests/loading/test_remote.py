"""Sources at URLs: named without secrets, read by ranges or as streams, each record once."""

from __future__ import annotations

import base64
import gzip
import subprocess
import sys
from pathlib import Path

import pytest

import howdah as api
from howdah.errors import MissingExtra, UsageError
from howdah.loading import remote, stores
from howdah.loading.sources import find
from howdah.loading.urls import public_name
from tests.fixtures.commands import Howdah
from tests.loading import scripted
from tests.loading.records import PAIRS, digest, write_ndjson
from tests.loading.test_opening import CSV, zipped
from tests.loading.web import Web, serving

DOCUMENTS = Path(__file__).parents[1] / "data" / "documents"
RECORDS = 60_000  # 20 MB: several chunks
EVERY_RECORD = digest([(n + 1, n) for n in range(RECORDS)])
SECRET = "c0ffee5ecretc0ffee"


@pytest.fixture(scope="module")
def large(tmp_path_factory) -> bytes:
    return write_ndjson(tmp_path_factory.mktemp("records") / "large.ndjson", RECORDS).read_bytes()


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("s3://bucket/in/may.csv", "s3://bucket/in/may.csv"),
        ("https://example.org/a/b.csv#part", "https://example.org/a/b.csv"),
        ("ftp://ada:pass@example.org/a.csv", "ftp://example.org/a.csv"),
        ("ftp://ada:p@ss@example.org/a.csv", "ftp://example.org/a.csv"),
        ("ftp://ada:p/ss@example.org/a.csv", "ftp://example.org/a.csv"),
        ("https://example.org:8080/a@b.csv", "https://example.org:8080/a@b.csv"),
        ("https://b.org/a.csv?X-Amz-Signature=1&X-Amz-Date=2", "https://b.org/a.csv"),
        ("https://b.org/a.csv?sv=1&sig=2&se=3", "https://b.org/a.csv"),
        ("https://b.org/a.csv?Expires=1&Signature=2", "https://b.org/a.csv"),
        ("abfs://in@ada.dfs.core.windows.net/a.csv", "abfs://in@ada.dfs.core.windows.net/a.csv"),
        ("abfs://ada:pass@example.org/a.csv", "abfs://example.org/a.csv"),
        ("s3://bucket/what?/a.csv", "s3://bucket/what?/a.csv"),
        ("/in/a.csv", "/in/a.csv"),
        ("HTTPS://b.org", "https://b.org"),
    ],
)
def test_name_of_a_url_is_the_url_without_secrets(url, name):
    assert public_name(url) == name


def test_query_that_says_which_object_is_kept_as_a_digest():
    names = {public_name(f"https://b.org/x/a.csv?id={n}&X-Amz-Signature={n}") for n in (5, 5, 6)}

    assert len(names) == 2
    assert all(name.endswith("/a.csv") and name.startswith("https://b.org/x/?") for name in names)
    assert "secret" not in public_name("https://b.org/x/a.csv?key=secret")


def test_a_source_is_shown_without_what_its_path_may_hold():
    with serving(files={"/a.csv": CSV}) as web:
        [file] = find([f"{web.url}/a.csv?sig={SECRET}"])

    assert SECRET in file.path
    assert SECRET not in repr(file) + repr([file])


def test_file_at_a_url_is_loaded_once_and_anew_when_it_changes(dsn, ask):
    pdf = (DOCUMENTS / "test.pdf").read_bytes()
    with serving(files={"/a.csv": CSV, "/b/test.pdf": pdf}) as web:
        urls = [f"{web.url}/a.csv", f"{web.url}/b/test.pdf"]

        first = api.load(urls, dsn=dsn)
        second = api.load(urls, dsn=dsn)
        web.files["/a.csv"] = CSV + b"Joan,1917\n"
        third = api.load(urls, dsn=dsn)

    assert [r.records for r in (first, second, third)] == [3, 0, 3]
    assert [r.skipped for r in (first, second, third)] == [0, 2, 1]
    assert ask("SELECT source, count(*) FROM documents GROUP BY 1 ORDER BY 1") == [
        (urls[0], 3),
        (urls[1], 1),
    ]


def test_large_file_at_a_url_is_read_by_ranges_and_shared(dsn, ask, large):
    with serving(files={"/large.ndjson": large}) as web:
        report = api.load([f"{web.url}/large.ndjson"], dsn=dsn, workers=2)

    assert report.records == RECORDS
    assert report.chunks > 1
    assert report.bytes == len(large)
    assert digest(ask(PAIRS)) == EVERY_RECORD
    ranges = {asked for method, _, asked in web.asked if method == "GET"}
    assert None not in ranges
    assert len(ranges) > len(large) // stores.RANGE_BYTES


@pytest.mark.parametrize("behaviour", [{"ranges": False}, {"identity": False}])
def test_server_without_ranges_or_sizes_is_read_as_a_stream(dsn, ask, large, capfd, behaviour):
    files = {
        "/large.ndjson": large,
        "/large.ndjson.gz": gzip.compress(large, 1),
        "/in.zip": zipped(**{"a.csv": CSV, "b.csv": CSV}),
        "/test.xlsx": (DOCUMENTS / "test.xlsx").read_bytes(),
    }
    with serving(files=files, **behaviour) as web:
        report = api.load([f"{web.url}{path}" for path in files], dsn=dsn, workers=2)
        again = api.load([f"{web.url}{path}" for path in files], dsn=dsn, workers=2)

    assert not capfd.readouterr().err  # where aiohttp would say that we read behind the end
    assert report.rejects == again.rejects == 0
    for name in ("large.ndjson", "large.ndjson.gz"):
        assert digest(ask(PAIRS + " WHERE source LIKE %s", f"%/{name}")) == EVERY_RECORD
    assert ask("SELECT count(*) FROM documents WHERE source LIKE %s", "%/in.zip!/%") == [4]
    assert ask("SELECT count(*) > 0 FROM documents WHERE source LIKE %s", "%.xlsx") == [True]
    # What has no identity cannot be known to be unchanged: its rows are replaced.
    assert (again.records == 0) == web.identity


SOON = "import howdah.loading.remote as remote; remote.WAITS_S = (0.05, 0.1, 0.2)"


def test_connection_that_is_cut_is_read_on_from_there(dsn, ask, large, tmp_path):
    files = {"/large.ndjson": large, "/large.ndjson.gz": gzip.compress(large, 1), "/a.csv": CSV}
    with serving(files=files, cuts=3) as web:
        urls = [f"{web.url}{path}" for path in files]
        done = scripted.load(tmp_path / "site", dsn, *urls, "--workers", 2, setup=SOON)

    assert (web.cuts, done.report["rejects"]) == (0, 0)
    for name in ("large.ndjson", "large.ndjson.gz"):
        assert digest(ask(PAIRS + " WHERE source LIKE %s", f"%/{name}")) == EVERY_RECORD


def everything(ask) -> str:
    """Return all that a load keeps, as text."""
    tables = ("documents", "howdah.sources", "howdah.chunks", "howdah.rejects", "howdah.loads")
    return "\n".join(str(ask(f"SELECT t::text FROM {table} t")) for table in tables)


def signed(web: Web, path: str, signature: str = SECRET) -> str:
    return f"{web.url}{path}?X-Amz-Signature={signature}&X-Amz-Expires=60"


def test_signature_is_nowhere_but_in_the_request(howdah: Howdah, ask, large):
    files = {"/a.csv": CSV, "/large.ndjson": large, "/bad.pdf": b"%PDF-1.4", "/x.zip": b"PK\3\4"}
    with serving(files=files, signature=SECRET) as web:
        done = howdah("load", *[signed(web, path) for path in files], "--json")
        shown = howdah("load", signed(web, "/a.csv"), "--again")

    assert done.returncode == 3, done.stderr
    assert ask("SELECT count(*) FROM documents WHERE source = %s", f"{web.url}/large.ndjson") == [
        RECORDS
    ]
    for text in (done.stdout, done.stderr, shown.stdout, shown.stderr, everything(ask)):
        assert SECRET not in text
    assert f"{web.url}/bad.pdf" in everything(ask)


def test_signature_is_in_no_error(howdah: Howdah, ask, large):
    with serving(files={"/large.ndjson": large}, signature=SECRET) as web:
        wrong = howdah("load", signed(web, "/large.ndjson", f"{SECRET}x"))
        missing = howdah("load", signed(web, "/missing.csv"))
        url = signed(web, "/large.ndjson")
    gone = howdah("load", url)

    for done, words in [
        (wrong, "the server answers 403"),
        (missing, "There is no object or folder"),
        (gone, "there is no connection"),
    ]:
        assert words in done.stderr, done.stderr
        assert "Traceback" not in done.stderr
        assert SECRET not in done.stdout + done.stderr
    assert [wrong.returncode, missing.returncode, gone.returncode] == [1, 2, 1]


def test_load_that_lost_its_source_is_gone_on_with(howdah: Howdah, ask, large, tmp_path):
    with serving(files={"/a.ndjson.gz": gzip.compress(large, 1)}, cuts=1000) as web:
        url = signed(web, "/a.ndjson.gz")
        lost = scripted.load(tmp_path, howdah.dsn, url, "--workers", 1, setup=SOON)
        web.cuts = 0
        found = howdah("load", signed(web, "/a.ndjson.gz"), "--workers", 1)

    assert lost.exit_code == 1
    assert f"{web.url}/a.ndjson.gz cannot be read any more" in lost.errors
    assert "Run the same command again" in lost.errors
    assert SECRET not in lost.errors
    assert found.returncode == 0
    assert digest(ask(PAIRS)) == EVERY_RECORD
    assert ask("SELECT count(*) FROM howdah.rejects") == [0]


def test_password_in_a_url_is_used_and_not_kept(dsn, ask):
    password = "Basic " + base64.b64encode(f"ada:{SECRET}".encode()).decode()
    with serving(files={"/a.csv": CSV}, password=password) as web:
        url = web.url.replace("//", f"//ada:{SECRET}@")

        report = api.load([f"{url}/a.csv"], dsn=dsn)

    assert report.records == 2
    assert ask("SELECT DISTINCT source FROM documents") == [f"{web.url}/a.csv"]
    assert SECRET not in everything(ask)


def test_folders_and_patterns_of_a_store_are_listed():
    import fsspec

    store = fsspec.filesystem("memory")
    for name in ("a.csv", "deep/b.csv", "deep/c.txt", ".hidden.csv", ".git/d.csv"):
        store.pipe(f"/listed/{name}", CSV)

    def names(url: str) -> list[str]:
        return [file.name.removeprefix("memory://listed/") for file in find([url])]

    assert names("memory://listed") == ["a.csv", "deep/b.csv", "deep/c.txt"]
    assert names("memory://listed/deep/") == ["deep/b.csv", "deep/c.txt"]
    assert names("memory://listed/**/*.csv") == ["a.csv", "deep/b.csv"]
    assert names("memory://listed/a.csv") == ["a.csv"]
    assert all(file.fingerprint for file in find(["memory://listed"]))
    with pytest.raises(UsageError, match="There is no object or folder 'memory://listed/none'"):
        find(["memory://listed/none"])


def test_url_of_a_file_is_its_path(dsn, tmp_path):
    path = write_ndjson(tmp_path / "a b.ndjson", 3)

    assert [file.path for file in find([path.as_uri()])] == [str(path)]
    assert api.load([path.as_uri(), path], dsn=dsn).records == 3


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nosuch://bucket/a", "No store is known for nosuch://"),
        ("oci://bucket/a", "pip install ocifs"),
        ("zip://a.csv::s3://bucket/a.zip", "Name the archive itself"),
    ],
)
def test_store_that_cannot_be_read_is_told_what_to_do(url, message):
    with pytest.raises(UsageError, match=message):
        find([url])


@pytest.mark.parametrize(
    ("package", "url", "extra"),
    [
        ("fsspec", "s3://bucket/a", "remote"),
        ("aiohttp", "https://example.org/a", "remote"),
        ("s3fs", "s3://bucket/a", "s3"),
        ("gcsfs", "gs://bucket/a", "gs"),
        ("adlfs", "az://bucket/a", "az"),
        ("adlfs", "abfss://bucket@account.dfs.core.windows.net/a", "az"),
    ],
)
def test_without_the_extra_a_url_names_it(monkeypatch, package, url, extra):
    monkeypatch.setitem(sys.modules, package, None)

    with pytest.raises(MissingExtra) as missing:
        find([url])

    assert missing.value.next_step == f"Run: pip install 'howdah[{extra}]'"


def test_local_load_imports_no_store():
    program = (
        "import sys, howdah.loading.run\n"
        "print({'fsspec', 'aiohttp', 'asyncio'} & sys.modules.keys())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert "fsspec" not in done.stdout
    assert "aiohttp" not in done.stdout


def test_file_in_a_store_can_seek_where_it_gives_ranges():
    content = bytes(range(256)) * 100_000
    with serving(files={"/a.bin": content}) as web:
        with remote.open_url(f"{web.url}/a.bin") as file:
            assert file.seekable()
            for place in (20_000_000, 5, 25_599_990, 0):
                file.seek(place)
                assert file.read(300) == content[place : place + 300]
        web.ranges = False
        with remote.open_url(f"{web.url}/a.bin?other") as file:
            assert not file.seekable()
            assert file.read() == content
