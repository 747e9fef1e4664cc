"""Documents that crash or hang their reader cost themselves: not their archive, not the load."""

from __future__ import annotations

import io
import zipfile

from howdah.loading.chunks import CHUNK_BYTES
from tests.loading import scripted
from tests.loading.test_opening import CSV, tarred, zipped

ODT = b"""<office:document-content
 xmlns:office="urn:oasis:names:tc:opendocument:xmlns:office:1.0"
 xmlns:text="urn:oasis:names:tc:opendocument:xmlns:text:1.0">
<office:body><office:text>%s</office:text></office:body></office:document-content>"""
LIMIT = "import howdah.loading.rounds as rounds; rounds.TIME_LIMIT_S = 2.0"
READER = """
    import os, time
    from howdah.loading import Match, Reader

    class Trying(Reader):
        name = "trying"

        def recognise(self, head):
            return Match.CERTAIN if head.data.startswith(b"try ") else Match.NO

        def read(self, file, name):
            what = file.read(9)
            if what == b"try abort":
                os.abort()
            if what == b"try hangs":
                time.sleep(3600)
            for number in range(10):
                time.sleep(0.3)
                yield {"n": number}
"""
SPLITTING = """
    import time
    from howdah.loading import Match
    from howdah.loading.readers.lines import NDJSON

    class Splitting(NDJSON):
        name = "splitting"

        def recognise(self, head):
            return Match.CERTAIN if head.data.startswith(b"split") else Match.NO

        def read_range(self, file, offset, length, first):
            file.seek(offset)
            data = file.read(length)
            if b"hangs" in data:
                time.sleep(3600)
            for number in range(data.count(b"\\n")):
                yield {"n": first + number}
"""


def deep_odt() -> bytes:
    """Return an ODT file nested so deep that kreuzberg 4's stack overflows."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as package:
        kind = "application/vnd.oasis.opendocument.text"
        package.writestr("mimetype", kind, zipfile.ZIP_STORED)
        sections = b"<text:section>" * 300_000 + b"</text:section>" * 300_000
        package.writestr("content.xml", ODT % sections)
    return buffer.getvalue()


def slow_bib() -> bytes:
    """Return a bibliography that takes kreuzberg 4 the square of its length."""
    return b"@a{x, t=" + b"{" * 1_000_000 + b"}" * 1_000_000 + b"}"


def test_document_that_crashes_its_reader_is_one_reject(dsn, ask, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "crash.opml").write_bytes(b"<opml><body>" + b"<outline text='a'>" * 300_000)
    for number in range(5):
        (folder / f"{number}.txt").write_text("a text")

    done = scripted.load(tmp_path / "site", dsn, folder)

    assert (done.report["records"], done.report["rejects"]) == (5, 1)
    assert "Traceback" not in done.errors
    [(source, reason)] = ask("SELECT source, reason FROM howdah.rejects")
    assert source == str(folder / "crash.opml")
    assert "SIGSEGV" in reason


def test_member_that_crashes_its_reader_is_one_reject(dsn, ask, tmp_path):
    path = tmp_path / "in.tar.gz"
    inner = zipped(**{"b.csv": CSV, "deep.odt": deep_odt(), "c.csv": CSV})
    path.write_bytes(
        tarred("w:gz", **{"a.csv": CSV, "in.zip": inner, "abort": b"try abort", "d.csv": CSV})
    )

    done = scripted.load(tmp_path / "site", dsn, path, reader=READER)

    assert (done.report["records"], done.report["rejects"]) == (8, 2)
    assert "Traceback" not in done.errors
    reasons = dict(ask("SELECT source, reason FROM howdah.rejects"))
    assert reasons.keys() == {f"{path}!/in.zip!/deep.odt", f"{path}!/abort"}
    assert "SIGABRT" in reasons[f"{path}!/abort"]
    assert sorted(ask("SELECT DISTINCT source FROM documents")) == [
        f"{path}!/a.csv",
        f"{path}!/d.csv",
        f"{path}!/in.zip!/b.csv",
        f"{path}!/in.zip!/c.csv",
    ]
    assert scripted.load(tmp_path / "again", dsn, path).report["skipped"] == 6


def test_large_document_that_hangs_its_reader_is_one_reject(dsn, ask, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "large").write_bytes(b"try hangs" + bytes(CHUNK_BYTES))
    (folder / "a.csv").write_bytes(CSV)

    done = scripted.load(tmp_path / "site", dsn, folder, reader=READER, setup=LIMIT)

    assert (done.report["records"], done.report["rejects"]) == (2, 1)
    assert ask("SELECT source, reason FROM howdah.rejects") == [
        (str(folder / "large"), "its reader gave nothing for 2 s")
    ]


def test_member_that_hangs_its_reader_is_one_reject(dsn, ask, tmp_path):
    path = tmp_path / "in.zip"
    path.write_bytes(zipped(**{"a.csv": CSV, "slow.bib": slow_bib(), "z.csv": CSV}))

    done = scripted.load(tmp_path / "site", dsn, path, setup=LIMIT)

    assert (done.report["records"], done.report["rejects"]) == (4, 1)
    assert ask("SELECT source, reason FROM howdah.rejects") == [
        (f"{path}!/slow.bib", "its reader gave nothing for 2 s")
    ]


def test_reader_that_is_slow_and_goes_on_is_left_alone(dsn, ask, tmp_path):
    path = tmp_path / "in.zip"
    path.write_bytes(zipped(**{"slow": b"try slowly", "a.csv": CSV}))

    done = scripted.load(tmp_path / "site", dsn, path, reader=READER, setup=LIMIT)

    assert (done.report["records"], done.report["rejects"]) == (12, 0)
    assert ask("SELECT count(*) FROM documents") == [12]


def test_chunk_that_hangs_its_reader_is_one_reject_and_the_others_are_loaded(dsn, ask, tmp_path):
    path = tmp_path / "large.split"
    lines = 4 * CHUNK_BYTES // 1000
    with path.open("wb") as file:
        for number in range(lines):
            file.write(b"split%s\n" % (b" hangs" if number == lines // 2 else b" " * 994))

    done = scripted.load(tmp_path / "site", dsn, path, reader=SPLITTING, setup=LIMIT)

    assert done.report["rejects"] == 1
    [(source, reason, place)] = ask("SELECT source, reason, place FROM howdah.rejects")
    assert (source, reason) == (str(path), "its reader gave nothing for 2 s")
    assert place.startswith("bytes ")
    assert ask("SELECT count(*) > %s FROM documents", lines // 2) == [True]
    assert ask("SELECT count(*) FROM howdah.sources WHERE finished") == [1]
