"""Wrappers and archives: taken off and entered by content, whatever the name says."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile

import pytest
import zstandard

import howdah
from howdah.loading.opening import Opened, Unopened, open_sources
from tests.loading.records import PAIRS, digest, write_ndjson

CSV = b"name,year\nAda,1815\nGrace,1906\n"


def zipped(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def tarred(mode: str = "w", **members: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def opened(content: bytes, name: str = "/in/file") -> list[tuple[str, str]]:
    """Return the names and readers, or reasons, of the sources in a file."""
    found = []
    for source in open_sources(io.BytesIO(content), name):
        if isinstance(source, Opened):
            list(source.reader.read(source.file, source.name))
        found.append(
            (source.name, source.reader.name if isinstance(source, Opened) else source.reason)
        )
    return found


@pytest.mark.parametrize(
    "wrap",
    [gzip.compress, bz2.compress, lzma.compress, zstandard.compress],
    ids=["gzip", "bzip2", "xz", "zstd"],
)
def test_wrappers_are_taken_off_by_content(wrap):
    assert opened(wrap(CSV), "/in/people.csv") == [("/in/people.csv", "csv")]
    assert opened(wrap(wrap(CSV)), "/in/people.csv") == [("/in/people.csv", "csv")]


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz", ".zst"])
def test_name_within_a_wrapper_counts(suffix):
    wrap = {".gz": gzip, ".bz2": bz2, ".xz": lzma, ".zst": zstandard}[suffix].compress
    text = b"# Title\n\nwith, a, comma\n"

    assert opened(wrap(CSV), f"/in/people.csv{suffix}")[0][1] == "csv"
    assert opened(wrap(text), f"/in/people.md{suffix}")[0][1] == "document"


@pytest.mark.parametrize(
    "archive",
    [zipped, tarred, lambda **m: tarred("w:gz", **m), lambda **m: tarred("w:xz", **m)],
    ids=["zip", "tar", "tar.gz", "tar.xz"],
)
def test_each_member_of_an_archive_is_a_source(archive):
    content = archive(**{"a.csv": CSV, "deep/b.csv": CSV, "../../etc/c.csv": CSV, ".hidden": CSV})

    assert opened(content) == [
        ("/in/file!/a.csv", "csv"),
        ("/in/file!/deep/b.csv", "csv"),
        ("/in/file!/../../etc/c.csv", "csv"),
    ]


@pytest.mark.parametrize("archive", [zipped, tarred])
def test_archive_of_hidden_members_alone_is_a_reason(archive):
    # As a document is whose directory is damaged: nothing else would be left of it.
    content = archive(**{"_rels/.rels": b"<x/>", ".hidden/a.csv": CSV})

    [(name, reason)] = opened(content)

    assert (name, reason[:35]) == ("/in/file", "it is an archive with nothing to lo")


def test_archives_nest():
    inner = zipped(**{"people.csv.gz": gzip.compress(CSV)})

    assert opened(tarred("w:gz", **{"x/inner.zip": inner, "b.csv": CSV})) == [
        ("/in/file!/x/inner.zip!/people.csv.gz", "csv"),
        ("/in/file!/b.csv", "csv"),
    ]


def test_depth_is_limited():
    content = CSV
    for _ in range(12):
        content = zipped(x=content)

    [(name, reason)] = opened(content)

    assert name.count("!/") == 9
    assert reason == "more than 8 archives lie inside each other"


def test_member_that_comes_twice_is_two_sources():
    content = tarred(a=CSV)[:1024] + tarred(a=CSV)

    assert [name for name, _ in opened(content)] == ["/in/file!/a", "/in/file!/a (2)"]


def test_member_that_is_called_as_a_second_one_is_still_a_source():
    content = tarred(a=CSV)[:1024] + tarred(**{"a (2)": CSV})[:1024] + tarred(a=CSV)

    assert len({name for name, _ in opened(content)}) == 3


def test_damaged_archives_are_reasons():
    good = zipped(**{"a.csv": CSV * 1000, "b.csv": CSV})
    damaged = bytearray(good)
    damaged[40:60] = b"\0" * 20

    assert opened(good[: len(good) // 2])[0][1].endswith("cut off")
    names = [source.name for source in open_sources(io.BytesIO(damaged), "x")]
    assert names == ["x!/a.csv", "x!/b.csv"]
    assert isinstance(next(open_sources(io.BytesIO(b""), "x")), Unopened)


def test_documents_in_zip_files_are_no_archives(tmp_path):
    from pathlib import Path

    examples = Path(__file__).parents[2] / "examples" / "documents"
    for name, reader in [
        ("office/autogen.docx", "document"),
        ("office/autogen.pptx", "document"),
        ("office/favourites.odt", "document"),
        ("books/test.epub", "document"),
        ("office/numbers.xlsx", "spreadsheet"),
    ]:
        assert opened((examples / name).read_bytes(), f"/in/{name}") == [(f"/in/{name}", reader)]


def test_changed_archive_loses_the_rows_of_members_that_are_gone(dsn, ask, tmp_path):
    path = tmp_path / "in.zip"
    path.write_bytes(zipped(**{"a.csv": CSV, "b.csv": CSV}))
    first = howdah.load([path], dsn=dsn)
    assert howdah.load([path], dsn=dsn).skipped == 2
    path.write_bytes(zipped(**{"b.csv": CSV + b"Joan,1917\n", "c.csv": CSV}))

    second = howdah.load([path], dsn=dsn)

    assert (first.sources, first.records, second.sources, second.records) == (2, 4, 2, 5)
    counts = ask("SELECT regexp_replace(source, '.*!/', ''), count(*) FROM documents GROUP BY 1")
    assert sorted(counts) == [("b.csv", 3), ("c.csv", 2)]


def test_large_stream_is_committed_in_chunks(dsn, ask, tmp_path):
    plain = write_ndjson(tmp_path / "plain", 60_000)
    path = tmp_path / "large.ndjson.gz"
    path.write_bytes(gzip.compress(plain.read_bytes(), 1))

    report = howdah.load([path], dsn=dsn)

    assert (report.sources, report.records, report.chunks) == (1, 60_000, 2)
    assert report.bytes == path.stat().st_size
    assert digest(ask(PAIRS)) == digest([(n + 1, n) for n in range(60_000)])
