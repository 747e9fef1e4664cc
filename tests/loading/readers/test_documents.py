from __future__ import annotations

import csv
import hashlib
import io
import os
import re
import subprocess
import sys
import zipfile

import pytest

from howdah.loading.readers import Head, Match, UnreadableSource, reader_for
from howdah.loading.readers.documents import Document
from howdah.loading.readers.encode import encode

from .reading import DOCUMENTS, head_of, items
from .test_tables import ole

with (DOCUMENTS / "MANIFEST.tsv").open(newline="") as manifest:
    FACTS = [r for r in csv.DictReader(manifest, delimiter="\t") if r["fact"] not in {"", "rows"}]
FACTS = [row for row in FACTS if not row["file"].endswith(".xlsx")]  # its own are no record's

MAIL = b"""From: =?utf-8?q?J=C3=BCrgen_M=C3=BCller?= <j@example.org>, "B, C" <b@example.org>
To: all@example.org
Subject: =?iso-8859-1?q?Gr=FC=DFe?= and
 more
Date: Thu, 29 Feb 2024 12:00:00 +0100
Message-ID: <1@example.org>
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary=b

--b
Content-Type: text/html; charset=iso-8859-1
Content-Transfer-Encoding: quoted-printable

<style>p {}</style><p>Sch=F6ne &amp; gute</p><p>Zeit</p>
--b
Content-Type: application/pdf
Content-Disposition: attachment; filename="=?utf-8?q?M=C3=A4rz=2Epdf?="

x
--b--
"""
BOMB = b'<!DOCTYPE r [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;"><!ENTITY c SYSTEM "file:///etc/hostname">]><r>x&b;&c;y</r>'


def read(data, name="source"):
    (record,) = items(Document(), data, name)
    return record


def words(text):
    return " ".join(re.findall(r"\w+", text))


@pytest.mark.parametrize("row", FACTS, ids=lambda row: f"{row['file']}-{row['fact']}")
def test_facts_that_other_tools_found_in_real_files(row):
    data = (DOCUMENTS / row["file"]).read_bytes()
    record = read(data, row["file"])
    fact, expected = row["fact"], row["expected"]
    if fact == "contains":
        assert words(expected) in words(record["text"])
    elif fact in {"subject", "from"}:
        assert record["metadata"][fact] == expected
    else:
        assert str(record[fact]) == expected
    assert record["sha256"] == hashlib.sha256(data).hexdigest()
    assert record["bytes"] == len(data)
    assert encode(record)[0]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("test.pdf", "application/pdf"),
        ("test_outlook_msg.msg", "application/vnd.ms-outlook"),
        ("fake.doc", "application/msword"),
        ("fake-doc.rtf", "application/rtf"),
        ("fake.odt", "application/vnd.oasis.opendocument.text"),
        ("test.epub", "application/epub+zip"),
        ("test_blog.html", "text/html"),
        ("factbook-utf-16.xml", "application/xml"),
        ("eml__test-rfc2822-date.eml", "message/rfc822"),
        ("img__example.jpg", "image/jpeg"),
        ("img__table-multi-row-column-cells.png", "image/png"),
        (
            "language-docs__eng_spa_mult.doc",
            "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        ),
    ],
)
def test_a_documents_type_is_told_by_its_content_whatever_its_name(name, kind):
    head = head_of(DOCUMENTS / name)
    for other in (name, "renamed.txt", "renamed.pdf", "no suffix"):
        assert Document().recognise(Head(other, head.data, head.members)) is Match.CERTAIN
        assert read((DOCUMENTS / name).read_bytes(), other)["format"] == kind


@pytest.mark.parametrize(
    ("name", "reader"),
    [
        ("simple.zip", None),
        ("random.bin", None),
        ("test.xlsx", "spreadsheet"),
        ("test_notebook.ipynb", "document"),
        ("test_mskanji.csv", "csv"),
        ("simple.ndjson", "ndjson"),
        ("arbitrary-records.json", "json"),
        ("README.rst", "document"),
        ("umlauts-non-utf8.md", "document"),
    ],
)
def test_the_registry_gives_each_real_file_to_the_reader_that_knows_it(name, reader):
    found = reader_for(head_of(DOCUMENTS / name))
    assert (found and found.name) == reader


def test_text_named_as_a_pdf_file_is_text():
    assert read(b"Just a note.\n", "a.pdf")["format"] == "text/plain"


def test_a_symbolic_link_checked_out_as_text_is_no_document():
    with pytest.raises(UnreadableSource, match="symbolic link"):
        read(b"../pdfs/tables.pdf", "simple.pdf")
    assert read(b"../pdfs/tables.pdf", "list.txt")["text"] == "../pdfs/tables.pdf"


def test_text_that_is_not_utf8_is_decoded_and_says_so():
    record = read((DOCUMENTS / "umlauts-non-utf8.md").read_bytes(), "umlauts-non-utf8.md")
    assert record["text"] == "## können\n\nkönnen\n\näöüß\n"
    assert record["metadata"] == {"encoding": "cp1252"}


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("# First *one* #\n\ntext", "First *one*"),
        ("A Title\n=======\n", "A Title"),
        ("---\ntitle: 'In front'\nx: 1\n---\n# Heading\n", "In front"),
        ("no heading\n## second level\n", None),
    ],
)
def test_the_title_of_markdown_is_its_front_matters_or_its_first_heading(text, title):
    record = read(text.encode(), "a.md")
    assert record.get("title") == title
    assert record["text"] == text


def test_mail_gives_its_fields_decoded_and_its_text():
    record = read(MAIL)
    assert record["title"] == "Grüße and more"
    assert record["creator"] == ["Jürgen Müller <j@example.org>", '"B, C" <b@example.org>']
    assert record["created"] == "2024-02-29T12:00:00+01:00"
    assert record["identifier"] == "<1@example.org>"
    assert record["text"] == "Schöne & gute\nZeit"
    assert record["metadata"]["attachments"] == ["März.pdf"]
    assert record["metadata"]["to"] == ["all@example.org"]


def test_each_message_of_an_mbox_file_is_a_record():
    line = b"From j@example.org Thu Feb 29 12:00:00 2024\n"
    mailbox = line + MAIL + b"\n" + line + b"From: c@example.org\nSubject: two\n\n>From here\n"
    assert Document().recognise(Head("mail", mailbox)) is Match.CERTAIN
    found = items(Document(), mailbox)
    assert [record["title"] for record in found] == ["Grüße and more", "two"]
    assert found[1]["text"] == "From here\n"


def test_the_text_of_a_message_file_is_without_its_header():
    record = read((DOCUMENTS / "test_outlook_msg.msg").read_bytes())
    assert record["text"] == "This is the body of the test email message"
    assert record["creator"] == "M. C. Kurtuluş <test.sender@example.com>"


def test_entities_in_xml_are_neither_expanded_nor_fetched():
    assert read(BOMB, "a.xml")["text"] == "x&b;&c;y"


def test_the_text_of_xml_is_its_character_data():
    record = read((DOCUMENTS / "factbook-utf-16.xml").read_bytes(), "factbook-utf-16.xml")
    assert record["text"].splitlines()[:2] == ["United States", "Washington, DC"]
    assert record["metadata"] == {"root": "factbook", "elements": 21}


@pytest.mark.parametrize("encoding", ["utf-8", "iso-8859-1"])
def test_html_is_read_in_the_encoding_that_it_names(encoding):
    page = f'<html><head><meta charset="{encoding}"><title>Grüße</title></head><body>größer</body>'
    record = read(page.encode(encoding))
    assert (record["title"], record["text"].strip()) == ("Grüße", "größer")


def test_html_that_is_nested_very_deeply_keeps_its_text():
    record = read(b"<html><body>" + b"<div>" * 5000 + b"deep" + b"</div>" * 5000)
    assert record["text"].strip() == "deep"


def test_creators_that_a_book_repeats_are_all_there():
    opf = (
        '<package xmlns:dc="http://purl.org/dc/elements/1.1/"><metadata><dc:title>T</dc:title>'
        "<dc:creator>A</dc:creator><dc:creator>B</dc:creator></metadata><manifest/><spine/></package>"
    )
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as package:
        package.writestr("mimetype", "application/epub+zip")
        package.writestr(
            "META-INF/container.xml", '<c><rootfiles><rootfile full-path="b.opf"/></rootfiles></c>'
        )
        package.writestr("b.opf", opf)
    assert read(file.getvalue())["creator"] == ["A", "B"]


@pytest.mark.parametrize(
    ("data", "name", "reason"),
    [
        (b"", "a.txt", "The file is empty"),
        ((DOCUMENTS / "test.pdf").read_bytes()[:50_000], "a.pdf", "broken or cut off"),
        ((DOCUMENTS / "fake.odt").read_bytes()[:9000], "a.odt", "ZIP file"),
        ((DOCUMENTS / "simple.pptx").read_bytes()[:20_000], "a.pptx", "ZIP file"),
        ((DOCUMENTS / "fake.doc").read_bytes()[:5000], "a.doc", "broken or cut off"),
        ((DOCUMENTS / "random.bin").read_bytes(), "a.doc", "no format that is known"),
        ((DOCUMENTS / "eml__empty.eml").read_bytes(), "a.eml", "mail is empty"),
        (b"<?xml version='1.0'?><a><b></a>", "a.xml", "not well-formed"),
        (ole("EncryptionInfo", "EncryptedPackage"), "a.docx", "encrypted with a password"),
        (b"%PDF-1.7\ntrailer << /Encrypt 1 0 R >>", "a.pdf", "encrypted with a password"),
    ],
    ids=[
        "empty",
        "pdf",
        "odt",
        "pptx",
        "doc",
        "random",
        "eml",
        "xml",
        "encrypted",
        "encrypted-pdf",
    ],
)
def test_a_document_that_cannot_be_read_says_why_in_one_sentence(data, name, reason):
    with pytest.raises(UnreadableSource, match=reason) as caught:
        read(data, name)
    assert re.fullmatch(r"[A-Z][^\n]{10,150}\.", str(caught.value))


def run(program, home):
    """Run a program that has `home` for everything that it might write."""
    return subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        cwd=home,
        env={"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1"},
    )


def test_reading_writes_nothing_into_the_working_directory_or_the_home(tmp_path):
    program = (
        "from howdah.loading.readers.documents import Document\n"
        f"list(Document().read(open({str(DOCUMENTS / 'test.pdf')!r}, 'rb'), 'test.pdf'))"
    )
    assert run(program, tmp_path).returncode == 0
    assert not list(tmp_path.iterdir())


def test_without_the_extra_text_mail_and_xml_are_read_and_pdf_names_it(tmp_path):
    program = (
        "import sys, io; sys.modules['kreuzberg'] = None\n"
        "from howdah.loading.readers.documents import Document\n"
        "for data in (b't', b'From: a@b.c\\nTo: d@e.f\\n\\nx', b'<?xml version=\"1.0\"?><a/>'):\n"
        "    print(*[r['format'] for r in Document().read(io.BytesIO(data), 'x')])\n"
        "list(Document().read(io.BytesIO(b'%PDF-1.4'), 'x'))"
    )
    ran = run(program, tmp_path)
    assert ran.stdout.split() == ["text/plain", "message/rfc822", "application/xml"]
    assert "pip install 'howdah[documents]'" in ran.stderr


def test_to_choose_a_reader_no_heavy_library_is_imported(tmp_path):
    program = (
        "import sys\nfrom howdah.loading.readers import Head, reader_for\n"
        "reader_for(Head('a.pdf', b'%PDF-1.4'))\n"
        "heavy = {'kreuzberg', 'python_calamine', 'pyarrow', 'fastavro', 'yaml', 'sqlite3'}\n"
        "print((heavy | {'xml.parsers.expat'}) & sys.modules.keys())"
    )
    assert run(program, tmp_path).stdout.strip() == "set()"
