"""Archives made to do harm: what they unpack to is limited, and their names lead nowhere."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import stat
import struct
import tarfile
import zipfile
from pathlib import Path

import pytest
import zstandard

import howdah
from howdah.loading import expansion
from howdah.loading.opening import Unopened, open_sources
from howdah.loading.readers import UnreadableSource
from tests.loading import scripted
from tests.loading.quine import quine
from tests.loading.test_opening import CSV, opened, tarred, zipped

MiB = 1 << 20
LINE = b'{"text": "%s"}\n' % (b"ha" * 500)


def lines(size_bytes: int) -> bytes:
    return LINE * (size_bytes // len(LINE))


def unpacked(content: bytes) -> tuple[int, list[str]]:
    """Return how many bytes come out of a file, and why no more."""
    count, reasons = 0, []
    for source in open_sources(io.BytesIO(content), "/in/file"):
        if isinstance(source, Unopened):
            reasons.append(source.reason)
            continue
        try:
            while block := source.file.read(MiB):
                count += len(block)
        except UnreadableSource as exc:
            reasons.append(str(exc))
    return count, reasons


@pytest.mark.parametrize(
    "wrap",
    [
        lambda data: gzip.compress(data, 9),
        bz2.compress,
        lzma.compress,
        lambda data: zstandard.ZstdCompressor().compress(data),
        lambda data: zipped(a=data),
    ],
    ids=["gzip", "bzip2", "xz", "zstd", "zip"],
)
def test_wrapper_that_unpacks_to_a_multiple_of_itself_is_stopped(wrap):
    large = wrap(b"a" * (96 * MiB))
    small = wrap(b"a" * (32 * MiB))

    count, reasons = unpacked(large)
    assert reasons == ["it unpacks to more than 250 times its size"]
    assert count <= expansion.FLOOR_BYTES + MiB
    assert unpacked(small) == (32 * MiB, [])


def test_bomb_in_an_archive_costs_only_its_own_records(dsn, ask, tmp_path):
    archive = tmp_path / "in.zip"
    bomb = gzip.compress(lines(100 * MiB), 9)
    archive.write_bytes(zipped(**{"a.csv": CSV, "b.ndjson.gz": bomb, "c.csv": CSV}))

    report = howdah.load([archive], dsn=dsn)

    assert report.rejects == 1
    [(source, place, reason)] = ask("SELECT source, place, reason FROM howdah.rejects")
    assert source == f"{archive}!/b.ndjson.gz"
    assert place.startswith("after record ")
    assert reason == "it unpacks to more than 250 times its size"
    assert ask("SELECT count(*) FROM documents WHERE source LIKE %s", "%.csv") == [4]


def test_archive_of_archives_is_stopped_as_a_whole(dsn, ask, tmp_path):
    inner = zipped(**{f"{n}.ndjson": lines(MiB) for n in range(8)})
    path = tmp_path / "42.zip"
    path.write_bytes(zipped(**{f"{n}.zip": inner for n in range(8)}))
    assert path.stat().st_size * 20 < 4 * MiB

    done = scripted.load(
        tmp_path / "site",
        dsn,
        path,
        setup="import howdah.loading.expansion as limits\n"
        f"limits.TOTAL_FLOOR_BYTES, limits.RATIO = {4 * MiB}, 20",
    )

    reasons = dict(ask("SELECT source, reason FROM howdah.rejects"))
    assert reasons == {
        f"{path}!/0.zip!/3.ndjson": "the whole file unpacks to more than 20 times its size",
        str(path): "the whole file unpacks to more than 20 times its size;"
        " what lies behind that is not read",
    }
    assert 3 * MiB < done.report["records"] * len(LINE) <= 4 * MiB
    assert ask("SELECT count(*) FROM documents") == [done.report["records"]]


def test_members_that_share_their_bytes_are_counted_each(monkeypatch):
    monkeypatch.setattr(expansion, "TOTAL_FLOOR_BYTES", 4 * MiB)
    one = zipped(a=lines(MiB))
    directory = one.index(b"PK\1\2")
    end = one.index(b"PK\5\6")
    entry = one[directory:end]
    overlapping = one[:directory] + entry * 1000
    overlapping += one[end : end + 8] + struct.pack(
        "<HHII", 1000, 1000, len(entry) * 1000, directory
    )
    overlapping += b"\0\0"

    count, reasons = unpacked(overlapping)

    # From Python 3.12 on zipfile refuses them by itself.
    assert count <= max(4 * MiB, expansion.RATIO * len(overlapping)) + MiB
    assert reasons


def test_archive_within_itself_ends_at_the_depth():
    content = quine()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.read(archive.namelist()[0]) == content

    assert unpacked(content) == (0, ["more than 8 archives lie inside each other"])


def test_members_are_counted(monkeypatch):
    monkeypatch.setattr(expansion, "MOST_MEMBERS", 5)
    archive = tarred(**{"in.zip": zipped(**{f"{n}.csv": CSV for n in range(20)}), "b.csv": CSV})

    found = opened(archive)

    assert [reader for _, reader in found] == ["csv"] * 4 + [
        "its archives have more than 5 members",
        "its archives have more than 5 members; what lies behind that is not read",
    ]


def test_directory_that_would_fill_the_memory_is_not_read(tmp_path):
    path = tmp_path / "a.zip"
    with path.open("wb") as file:
        file.write(b"PK\3\4")
        file.truncate(expansion.DIRECTORY_BYTES + 2 * MiB)
        file.seek(0, io.SEEK_END)
        length = expansion.DIRECTORY_BYTES + MiB
        file.write(b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 9, 9, length, 0, 0))

    with path.open("rb") as file:
        [found] = open_sources(file, "a.zip")

    assert isinstance(found, Unopened)
    assert found.reason == "its directory is larger than 134,217,728 bytes"


@pytest.mark.parametrize("part", ["word/document.xml", "xl/workbook.xml"])
def test_office_file_that_is_a_bomb_is_not_unpacked(part):
    [(_, reason)] = opened(zipped(**{part: b" " * (100 * MiB)}), "/in/file")

    assert reason == "it unpacks to more than 250 times its size"


NAMES = ["../../../../tmp/climbed.csv", "/tmp/climbed.csv", "C:\\climbed.csv", "x\\..\\climbed.csv"]


@pytest.mark.parametrize("archive", [zipped, tarred], ids=["zip", "tar"])
def test_names_that_climb_out_are_only_names(dsn, ask, tmp_path, monkeypatch, archive):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "in.archive"
    path.write_bytes(archive(**dict.fromkeys(NAMES, CSV)))

    howdah.load([path], dsn=dsn)

    assert set(ask("SELECT DISTINCT source FROM documents")) == {f"{path}!/{n}" for n in NAMES}
    assert list(tmp_path.iterdir()) == [path]
    assert not Path("/tmp/climbed.csv").exists()


def test_links_and_devices_in_archives_are_left_out(tmp_path):
    secret = tmp_path / "secret.csv"
    secret.write_bytes(CSV)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, kind in [
            ("link", tarfile.SYMTYPE),
            ("hard", tarfile.LNKTYPE),
            ("pipe", tarfile.FIFOTYPE),
            ("disk", tarfile.BLKTYPE),
            ("zero", tarfile.CHRTYPE),
        ]:
            info = tarfile.TarInfo(f"{name}.csv")
            info.type, info.linkname = kind, str(secret)
            archive.addfile(info)
        info = tarfile.TarInfo("good.csv")
        info.size = len(CSV)
        archive.addfile(info, io.BytesIO(CSV))
    link = zipfile.ZipInfo("link.csv")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    zip_buffer = io.BytesIO()
    with zipfile.ZipFile(zip_buffer, "w") as zip_archive:
        zip_archive.writestr(link, str(secret))
        zip_archive.writestr("good.csv", CSV)

    assert opened(buffer.getvalue()) == [("/in/file!/good.csv", "csv")]
    assert opened(zip_buffer.getvalue()) == [("/in/file!/good.csv", "csv")]


def test_sparse_file_in_a_tar_archive_is_a_reason():
    header = bytearray(tarfile.TarInfo("hole.csv").tobuf(tarfile.GNU_FORMAT))
    header[156:157] = tarfile.GNUTYPE_SPARSE
    header[483:495] = b"77777777777\0"  # its size with the zeros: 8 GiB
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)

    assert opened(bytes(header) + bytes(1024) + tarred(**{"b.csv": CSV})) == [
        ("/in/file!/hole.csv", "it is a sparse file, which is not unpacked")
    ]


def encrypted(archive: bytes) -> bytes:
    """Return a ZIP archive whose first member says that it is encrypted."""
    changed = bytearray(archive)
    changed[6] |= 1
    changed[archive.index(b"PK\1\2") + 8] |= 1
    return bytes(changed)


def test_encrypted_member_is_a_reject_and_its_neighbour_a_source(dsn, ask, tmp_path):
    path = tmp_path / "in.zip"
    path.write_bytes(encrypted(zipped(**{"a.csv": CSV, "b.csv": CSV})))

    report = howdah.load([path], dsn=dsn)

    assert (report.records, report.rejects) == (2, 1)
    [(source, reason)] = ask("SELECT source, reason FROM howdah.rejects")
    assert source == f"{path}!/a.csv"
    assert reason == "it is encrypted"


def test_csv_in_zip_in_a_compressed_tar_is_loaded(dsn, ask, tmp_path):
    path = tmp_path / "in.tar.xz"
    path.write_bytes(tarred("w:xz", **{"x/deep.zip": zipped(**{"people.csv": CSV})}))

    assert howdah.load([path], dsn=dsn).records == 2
    assert ask("SELECT DISTINCT source FROM documents") == [f"{path}!/x/deep.zip!/people.csv"]


def test_bomb_from_a_pipe_is_stopped(dsn, ask, tmp_path):
    import threading

    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    bomb = gzip.compress(lines(100 * MiB), 9)
    writer = threading.Thread(target=pipe.write_bytes, args=(bomb,))
    writer.start()

    report = howdah.load([pipe], dsn=dsn)

    writer.join()
    assert report.rejects == 1
    assert ask("SELECT reason FROM howdah.rejects") == [
        "it unpacks to more than 250 times its size"
    ]
