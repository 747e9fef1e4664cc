"""Chunks of an object in a store: kept while it is cut, read from the store where they are not."""

from __future__ import annotations

import tempfile
from pathlib import Path

import psycopg
import pytest

from howdah.loading.chunks import cut
from howdah.loading.near import handed_over, near_folder, open_chunk, open_to_cut
from howdah.loading.opening import open_file, splitter_of
from howdah.loading.sources import find
from tests.loading.test_faults import wait_until
from tests.loading.web import serving

LINE = '{},"a\nquoted, field",{}\r\n'
LARGE = ("id,text,pad\r\n" + "".join(LINE.format(n, "x" * 300) for n in range(60_000))).encode()


@pytest.fixture
def web():
    with serving(files={"/large.csv": LARGE, "/small.csv": LARGE[:1000]}) as server:
        yield server


def chunks(url: str, folder: str):
    """Yield the object, each chunk of it, and where that is kept."""
    [file] = find([url])
    with open_file(url) as opened:
        reader = splitter_of(opened, file.name)
    with open_to_cut(url, folder) as opened:
        for chunk in cut(opened, reader, 4 << 20):
            yield file, chunk, handed_over(opened)


def test_chunk_that_is_kept_is_read_from_there_and_then_gone(web, tmp_path):
    found = list(chunks(f"{web.url}/large.csv", str(tmp_path)))
    web.asked.clear()

    for file, chunk, kept in found:
        with open_chunk(file, chunk, kept) as opened:
            assert opened.readline() == b"id,text,pad\r\n"
            opened.seek(chunk.offset)
            assert opened.read(chunk.length) == LARGE[chunk.offset : chunk.offset + chunk.length]

    assert len(found) > 3
    assert sum(chunk.length for _, chunk, _ in found) == LARGE.count(b"") - 1 - len(
        b"id,text,pad\r\n"
    )
    assert web.asked == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fault", ["elsewhere", "gone", "no folder"])
def test_what_is_not_near_is_read_from_the_store(web, tmp_path, fault):
    folder = tmp_path / "none" if fault == "no folder" else tmp_path
    for file, chunk, kept in chunks(f"{web.url}/large.csv", str(folder)):
        assert bool(kept) == (fault != "no folder")
        if fault == "gone":
            Path(kept).unlink()
        start, end = chunk.offset, chunk.offset + chunk.length
        if fault == "elsewhere":
            start, end = start - 10, end + 10

        with open_chunk(file, chunk, kept) as opened:
            opened.seek(start)
            assert opened.read(end - start) == LARGE[start:end]


def test_folder_is_made_for_objects_that_can_be_split_and_removed_with_what_is_left(web, tmp_path):
    local = tmp_path / "large.csv"
    local.write_bytes(LARGE)

    with near_folder(find([local, f"{web.url}/small.csv"])) as folder:
        assert folder == ""
    with near_folder(find([f"{web.url}/large.csv"])) as folder:
        kept = [kept for *_, kept in chunks(f"{web.url}/large.csv", folder)]
        assert all(Path(path).parent == Path(folder) for path in kept)
    assert not Path(folder).exists()


def test_killed_load_leaves_chunks_that_the_next_one_removes(
    howdah, ask, web, tmp_path, monkeypatch
):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    arguments = ("load", f"{web.url}/large.csv", "--table", "t", "--workers", "2")
    ask("CREATE TABLE t (id int, text text, pad text)")
    with psycopg.connect(howdah.dsn) as other:
        other.execute("LOCK TABLE t IN SHARE MODE")
        loading = howdah.start(*arguments)
        wait_until(lambda: list(tmp_path.glob("howdah-load-*/*")))
        loading.kill()
        loading.wait()
        wait_until(lambda: ask("SELECT count(*) FROM pg_locks WHERE NOT granted") == [0])
    assert list(tmp_path.glob("howdah-load-*/*"))
    left = {path.name for path in tmp_path.iterdir()}
    kept = {path.name for path in tmp_path.glob("howdah-load-*")}

    done = howdah(*arguments)

    assert done.returncode == 0, done.stderr
    assert ask("SELECT count(*), count(DISTINCT id) FROM t") == [(60_000, 60_000)]
    assert {path.name for path in tmp_path.iterdir()} == left - kept


def test_object_is_loaded_where_no_folder_can_be_made(web, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    monkeypatch.chdir(tmp_path)

    with near_folder(find([f"{web.url}/large.csv"])) as folder:
        kept = [kept for *_, kept in chunks(f"{web.url}/large.csv", folder)]

    assert set(kept) == {""}
    assert list(tmp_path.iterdir()) == []
