from __future__ import annotations

import io
import random
import struct
import subprocess
import sys
import zipfile

import pytest

from howdah.loading.readers import Head, Match, UnreadableSource
from howdah.loading.readers.documents import Document
from howdah.loading.readers.encode import encode
from howdah.loading.readers.tables import Spreadsheet

from .reading import DOCUMENTS, head_of, items

MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
RELATIONS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
PACKAGE = "http://schemas.openxmlformats.org/package/2006"


def relations(kind, target):
    return (
        f'<Relationships xmlns="{PACKAGE}/relationships">'
        f'<Relationship Id="rId1" Type="{RELATIONS}/{kind}" Target="{target}"/></Relationships>'
    )


PARTS = {
    "[Content_Types].xml": f'<Types xmlns="{PACKAGE}/content-types"/>',
    "_rels/.rels": relations("officeDocument", "xl/workbook.xml"),
    "xl/workbook.xml": f'<workbook xmlns="{MAIN}" xmlns:r="{RELATIONS}"><sheets>'
    '<sheet name="One" sheetId="1" r:id="rId1"/></sheets></workbook>',
    "xl/_rels/workbook.xml.rels": relations("worksheet", "worksheets/s.xml"),
    "xl/styles.xml": f'<styleSheet xmlns="{MAIN}"><cellXfs><xf numFmtId="0"/><xf numFmtId="14"/>'
    '<xf numFmtId="22"/></cellXfs></styleSheet>',
}


def text(value):
    return f'<c t="inlineStr"><is><t>{value}</t></is></c>'


def number(value, style=0):
    return f'<c s="{style}"><v>{value}</v></c>'


def workbook(*rows):
    file = io.BytesIO()
    sheet = "".join(f"<row>{''.join(cells)}</row>" for cells in rows)
    with zipfile.ZipFile(file, "w") as package:
        for name, part in PARTS.items():
            package.writestr(name, part)
        package.writestr(
            "xl/worksheets/s.xml",
            f'<worksheet xmlns="{MAIN}"><sheetData>{sheet}</sheetData></worksheet>',
        )
    return file.getvalue()


def ole(*streams):
    """Return an OLE2 file that has streams of these names, as far as its directory shows."""
    header = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1".ljust(30, b"\0") + struct.pack("<H", 9)
    header = header.ljust(48, b"\0") + struct.pack("<I", 0)
    entries = [
        name.encode("utf-16-le").ljust(64, b"\0")
        + struct.pack("<H", 2 * len(name) + 2).ljust(64, b"\0")
        for name in ("Root Entry", *streams)
    ]
    return header.ljust(512, b"\0") + b"".join(entries).ljust(512, b"\0")


@pytest.mark.parametrize("name", ["test.xlsx", "test.xls"])
def test_each_row_of_each_sheet_is_a_record_with_the_sheets_name(name):
    found = items(Spreadsheet(), (DOCUMENTS / name).read_bytes())
    assert len(found) == 27
    assert found[0] == {"sheet": "Sheet1", "Alpha": 89, "Beta": 82, "Gamma": 100, "Delta": 12}
    assert found[-1]["sheet"] == "09060124-b5e7-4717-9d07-3c046eb"


def test_cells_keep_their_types_and_empty_ones_are_left_out():
    found = items(
        Spreadsheet(),
        workbook(
            [text("day"), text("at"), text("n"), text("yes"), text("n"), text("")],
            [number(45351, 1), number(45351.5, 2), number(1.5), '<c t="b"><v>1</v></c>', number(3)],
            [],
            [text(""), text("x"), number(7), text(""), text(""), text("last")],
        ),
    )
    assert encode(found[0])[0] == (
        b'{"day":"2024-02-29","at":"2024-02-29T12:00:00","n":1.5,"yes":true,"n_2":3}'
    )
    assert found[1:] == [{"at": "x", "n": 7, "column_6": "last"}]


def test_a_column_named_sheet_keeps_its_name_in_a_workbook_of_one_sheet():
    assert items(Spreadsheet(), workbook([text("sheet")], [text("a")])) == [{"sheet": "a"}]


def test_a_workbook_of_column_names_alone_has_no_records():
    assert items(Spreadsheet(), workbook([text("a"), text("b")])) == []


def opendocument(rows):
    """Return an ODS file of text cells."""
    names = " ".join(
        f'xmlns:{part}="urn:oasis:names:tc:opendocument:xmlns:{part}:1.0"'
        for part in ("office", "table", "text")
    )
    cell = '<table:table-cell office:value-type="string"><text:p>{}</text:p></table:table-cell>'
    table = "".join(
        f"<table:table-row>{''.join(map(cell.format, row))}</table:table-row>" for row in rows
    )
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as package:
        package.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        package.writestr(
            "content.xml",
            f"<office:document-content {names}><office:body><office:spreadsheet>"
            f'<table:table table:name="One">{table}</table:table>'
            "</office:spreadsheet></office:body></office:document-content>",
        )
        package.writestr("META-INF/manifest.xml", "<manifest/>")
    return file.getvalue()


def test_an_opendocument_spreadsheet_is_rows_and_no_document():
    data = opendocument([["name", "city"], ["Ada", "London"]])
    assert Spreadsheet().recognise(Head("a.bin", data)) is Match.CERTAIN
    assert Document().recognise(Head("a.ods", data)) is Match.NO
    assert items(Spreadsheet(), data) == [{"name": "Ada", "city": "London"}]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"no spreadsheet", "broken or cut off"),
        ((DOCUMENTS / "test.xlsx").read_bytes()[:5000], "broken or cut off"),
        ((DOCUMENTS / "test.xls").read_bytes()[:5000], "broken or cut off"),
        (workbook(), "No sheet has a row"),
        (workbook([text("a")]).replace(b"</sheetData>", b"</sheetDat>>"), "broken or cut off"),
        (ole("EncryptionInfo", "EncryptedPackage"), "encrypted with a password"),
    ],
    ids=["empty", "text", "xlsx", "xls", "rows", "xml", "encrypted"],
)
def test_a_workbook_that_cannot_be_read_says_why_in_one_sentence(data, reason):
    with pytest.raises(UnreadableSource, match=reason):
        items(Spreadsheet(), data)


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("test.xlsx", Match.CERTAIN),
        ("test.xls", Match.CERTAIN),
        ("simple.zip", Match.NO),
        ("rlink.docx", Match.NO),
        ("fake.doc", Match.NO),
        ("fake.odt", Match.NO),
        ("random.bin", Match.NO),
    ],
)
def test_spreadsheets_are_recognised_by_what_is_inside(name, match):
    head = head_of(DOCUMENTS / name)
    assert Spreadsheet().recognise(head) is match
    assert Spreadsheet().recognise(Head("renamed", head.data, head.members)) is match


def test_an_encrypted_workbook_is_told_from_an_encrypted_document_by_its_name():
    data = ole("EncryptionInfo", "EncryptedPackage")
    assert Spreadsheet().recognise(Head("a.xlsx", data)) is Match.LIKELY
    assert Spreadsheet().recognise(Head("a.docx", data)) is Match.NO


def test_without_the_extra_the_error_names_it():
    program = (
        "import sys, io; sys.modules['python_calamine'] = None\n"
        "from howdah.loading.readers.tables import Spreadsheet\n"
        "list(Spreadsheet().read(io.BytesIO(b'x'), ''))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert "pip install 'howdah[tables]'" in ran.stderr


STYLES = (0, 14, 22, 20, 46, 170, 171, 172, 173, 174, 18, 45, 47, 27, 36, 50)
FORMATS = ("[h]:mm:ss", r"yyyy\-mm\-dd", "&quot;day&quot; 0", "[Red]0.0", "0.0E+00;[$-409]d")
NUMBERS = (45351.75, 0.5, 45351, 1.5, 0, -1, 99999999, 60, 59.5, 61, 45351.123456789)
CELLS = (
    *(number(value, style) for style in range(len(STYLES)) for value in NUMBERS),
    '<c t="e"><v>#DIV/0!</v></c>',
    '<c t="d"><v>2024-02-29T12:00:00</v></c>',
    '<c t="d"><v>2024-02-29</v></c>',
    '<c t="str"><v> a </v></c>',
    '<c t="inlineStr"><is><r><t>a_x000D_b</t></r><rPh sb="0" eb="1"><t>sound</t></rPh></is></c>',
    '<c t="inlineStr"><is><r><t>a</t></r><r><t xml:space="preserve"> c </t></r></is></c>',
    '<c t="inlineStr"><is><t>x&#10;y&#13;&#10;z</t></is></c>',
    "<c><v></v></c>",
    "<c><f>1+1</f></c>",
    '<c t="b"><v>0</v></c>',
)


def whole_and_streamed(monkeypatch, data):
    """Return what reading sheets as a whole gives, and reading them row by row."""
    found = []
    for whole_bytes in (1 << 40, -1):
        monkeypatch.setattr("howdah.loading.readers.tables.WHOLE_BYTES", whole_bytes)
        found.append(items(Spreadsheet(), data))
    return found


def test_large_sheet_is_read_row_by_row_with_the_same_values(monkeypatch):
    formats = "".join(
        f'<numFmt numFmtId="{170 + n}" formatCode="{code}"/>' for n, code in enumerate(FORMATS)
    )
    styles = "".join(f'<xf numFmtId="{style}"/>' for style in STYLES)
    part = f'<styleSheet xmlns="{MAIN}"><numFmts>{formats}</numFmts><cellXfs>{styles}</cellXfs>'
    monkeypatch.setitem(PARTS, "xl/styles.xml", f"{part}</styleSheet>")
    rows = [[cell] for cell in CELLS]

    whole, streamed = whole_and_streamed(monkeypatch, workbook([text("value")], *rows))

    assert len(whole) > 150
    assert [repr(record) for record in streamed] == [repr(record) for record in whole]


@pytest.mark.parametrize("name", ["test.xlsx", "stanley-cups.xlsx"])
def test_large_workbook_of_others_is_read_row_by_row_with_the_same_values(monkeypatch, name):
    whole, streamed = whole_and_streamed(monkeypatch, (DOCUMENTS / name).read_bytes())

    assert whole
    assert streamed == whole


def test_row_that_is_wider_than_the_row_of_names_is_named_alike_either_way(monkeypatch):
    data = workbook(
        [text("a"), text(""), text("c")],
        [number(n) for n in range(5)],
        ['<c r="C4"><v>1</v></c>', '<c r="G4"><v>2</v></c>'],
    )
    whole, streamed = whole_and_streamed(monkeypatch, data)

    assert streamed == whole
    assert streamed[1] == {"c": 1, "column_7": 2}


def test_damaged_workbook_that_is_read_row_by_row_ends_as_records_or_unreadable(monkeypatch):
    monkeypatch.setattr("howdah.loading.readers.tables.WHOLE_BYTES", -1)
    data = (DOCUMENTS / "stanley-cups.xlsx").read_bytes()
    chance = random.Random(5)
    refused = 0
    for _ in range(150):
        changed = bytearray(data)
        changed[chance.randrange(len(data))] ^= chance.randrange(1, 256)
        try:
            items(Spreadsheet(), bytes(changed))
        except UnreadableSource:
            refused += 1

    assert refused


def test_sheet_of_a_format_that_is_read_as_a_whole_is_refused_when_it_is_too_large(monkeypatch):
    monkeypatch.setattr("howdah.loading.readers.tables.WHOLE_BYTES", 100)
    monkeypatch.setattr("howdah.loading.readers.tables.LIMIT_BYTES", 100)

    with pytest.raises(UnreadableSource, match=r"too much to be held in memory.*as XLSX"):
        items(Spreadsheet(), opendocument([["name", "city"], ["Ada", "London"]]))


MEASURE = """
import io, sys
from howdah.loading.readers import tables

def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith("VmHWM"))

tables.WHOLE_BYTES = 0
count = []
for path in sys.argv[1:]:
    before = peak()
    with open(path, "rb") as file:
        count.append(sum(1 for _ in tables.Spreadsheet().read(file, path)))
print(*count, peak() - before)
"""


def test_large_sheet_takes_little_memory(tmp_path):
    names = [text(f"c{n}") for n in range(10)]
    for name, rows in (("small", 10), ("large", 30_000)):
        cells = [number(1234.5678) if n % 2 else text("some words in a cell") for n in range(10)]
        (tmp_path / name).write_bytes(workbook(names, *[cells] * rows))
    size = (tmp_path / "large").stat().st_size
    paths = [str(tmp_path / "small"), str(tmp_path / "large")]

    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *paths], capture_output=True, text=True, check=True
    )

    small, large, added = map(int, done.stdout.split())
    assert (small, large) == (10, 30_000)
    assert added < size / 4
