"""What the user names -> files: links, files that go, and names that stay apart."""

from __future__ import annotations

import os

import pytest

import howdah
from howdah.loading.sources import find, path_of, source_name
from tests.loading.records import write_ndjson


def test_link_in_a_circle_is_a_reject_and_no_end_of_the_load(dsn, ask, tmp_path):
    write_ndjson(tmp_path / "a.ndjson", 1)
    (tmp_path / "circle").symlink_to("circle")

    report = howdah.load([tmp_path], dsn=dsn)

    assert (report.records, report.rejects) == (1, 1)
    [(source, reason)] = ask("SELECT source, reason FROM howdah.rejects")
    assert source == f"{tmp_path}/circle"
    assert reason.startswith("it cannot be opened: ")


def test_link_to_nothing_that_a_pattern_finds_is_left_out(tmp_path):
    """As in a folder; so is a file that goes while the folder is listed."""
    path = write_ndjson(tmp_path / "a.ndjson", 1)
    (tmp_path / "b.ndjson").symlink_to("gone")

    assert [file.path for file in find([tmp_path / "*.ndjson"])] == [str(path)]


def test_pattern_finds_no_pipe_which_would_be_waited_for(tmp_path):
    path = write_ndjson(tmp_path / "a.ndjson", 1)
    os.mkfifo(tmp_path / "b.ndjson")

    assert [file.path for file in find([tmp_path / "*"])] == [str(path)]


def test_names_that_look_alike_are_two_sources(dsn, ask, tmp_path):
    write_ndjson(tmp_path / os.fsdecode(b"caf\xe9.ndjson"), 1)
    write_ndjson(tmp_path / r"caf\xe9.ndjson", 1)

    assert howdah.load([tmp_path], dsn=dsn).records == 2
    assert len(ask("SELECT DISTINCT source FROM documents")) == 2


@pytest.mark.parametrize(
    "name",
    [
        b"caf\xe9",
        rb"caf\xe9",
        rb"\x5cxe9",
        rb"\x" + b"\xe9",
        b"\\\xe9\xff",
        "ünï".encode(),
        b"a\nb",
    ],
)
def test_path_is_told_from_the_name(name):
    path = os.fsdecode(b"/in/" + name)

    assert path_of(source_name(path)) == path


def test_file_of_a_member_is_found_below_a_folder_that_ends_in_the_separator(tmp_path):
    folder = tmp_path / "now!"
    folder.mkdir()
    path = write_ndjson(folder / "a.zip", 1)

    assert path_of(f"{path}!/b!/c.ndjson") == str(path)
