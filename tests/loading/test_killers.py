"""Documents that crash or hang their reader cost themselves: not their archive, not the load."""

from __future__ import annotations

import io
import zipfile

import pytest

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


PASSING = """
    import io, time
    from howdah.loading import Match
    from howdah.loading.readers.lines import CSV

    class Passing(CSV):
        name = "passing"

        def with_options(self, options):
            return Passing(options)

        def recognise(self, head):
            return Match.CERTAIN if head.data.startswith(b"passing,") else Match.NO

        def splitter(self, head):
            return self

        def rows(self, file, offset, length, first):
            file.seek(0)
            return super().rows(Slow(file.read()), offset, length, first)

    class Slow(io.BytesIO):
        def read(self, size):
            data = super().read(size)
            if b"hangs" in data:
                time.sleep(3600)
            return data
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


def pdf(*objects: bytes) -> bytes:
    """Return a PDF file whose first object is the catalog, and its cross-reference table."""
    content, places = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, start=1):
        places.append(len(content))
        content += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    count, start = len(objects) + 1, len(content)
    content += b"xref\n0 %d\n0000000000 65535 f \n%s" % (count, table)
    return content + b"trailer <</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF" % (count, start)


def hostile_pdfs() -> dict[str, bytes]:
    """Return PDF files that lead a reader in circles, or deep down."""
    catalog, pages = b"<</Type/Catalog/Pages 2 0 R>>", b"<</Type/Pages/Kids[3 0 R]/Count 1>>"
    arrays = b"[" * 100_000 + b"]" * 100_000
    page = b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 99 99]/Contents 4 0 R%s>>"

    def shows(content: bytes, more: bytes = b"") -> bytes:
        return pdf(catalog, pages, page % more, stream(content), form)

    def stream(content: bytes, more: bytes = b"") -> bytes:
        return b"<<%s/Length %d>>\nstream\n%s\nendstream" % (more, len(content), content)

    itself = b"/Resources<</XObject<</F 5 0 R>>>>"
    form = stream(b"/F Do", b"/Type/XObject/Subtype/Form/BBox[0 0 9 9]" + itself)
    return {
        "arrays in the page": shows(b"", b"/X " + arrays),
        "arrays in the content": shows(arrays + b" TJ"),
        "states": shows(b"q " * 1_000_000),
        "parentheses": shows(b"(" * 1_000_000),
        "a form in itself": shows(b"/F Do", itself),
        "pages in themselves": pdf(catalog, b"<</Type/Pages/Kids[2 0 R]/Count 1>>"),
        "pages in pages": pdf(
            catalog, *(b"<</Type/Pages/Kids[%d 0 R]/Count 1>>" % (n + 3) for n in range(50_000))
        ),
    }


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


@pytest.mark.long
def test_pdf_files_that_are_made_to_crash_a_reader_are_records_or_rejects(dsn, ask, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for name, content in hostile_pdfs().items():
        (folder / f"{name}.pdf").write_bytes(content)
    (folder / "crash.pdf").write_bytes(b"try abort %PDF-1.4")  # kreuzberg 4.10 crashes on none
    (folder / "b.txt").write_text("a text")

    done = scripted.load(tmp_path / "site", dsn, folder, reader=READER)

    assert "Traceback" not in done.errors
    finished = ask("SELECT name FROM howdah.sources WHERE finished AND records + rejects = 1")
    assert sorted(finished) == sorted(map(str, folder.iterdir()))
    reasons = dict(ask("SELECT source, reason FROM howdah.rejects"))
    assert "SIGABRT" in reasons[str(folder / "crash.pdf")]


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


@pytest.mark.long
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


@pytest.mark.long
def test_rows_that_are_passed_on_and_hang_are_one_reject(dsn, ask, tmp_path):
    path = tmp_path / "large.csv"
    lines = 4 * CHUNK_BYTES // 1000
    with path.open("wb") as file:
        file.write(b"passing,on\n")
        for number in range(lines):
            file.write(b"%d,%s\n" % (number, b"hangs" if number == lines // 2 else b"x" * 990))

    done = scripted.load(
        *(tmp_path / "site", dsn, path, "--as", "columns", "--table", "t"),
        reader=PASSING,
        setup=LIMIT,
    )

    assert done.report.get("rejects") == 1, done.errors
    assert ask("SELECT reason FROM howdah.rejects") == ["its reader gave nothing for 2 s"]
    assert ask("SELECT count(*) > %s FROM t", lines // 2) == [True]
    assert ask("SELECT count(*) FROM howdah.sources WHERE finished") == [1]
