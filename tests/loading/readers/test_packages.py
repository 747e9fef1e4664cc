"""ZIP files that are documents: read as zipfile reads them, whatever their directory is like."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zipfile

import pytest

from howdah.loading.readers.markup import package_properties
from howdah.loading.readers.packages import Package, package_at, package_of
from tests.loading.readers.test_documents import DOCUMENTS

CORE = b"""<?xml version="1.0" encoding="UTF-8"?>
<cp:coreProperties xmlns:cp="http://schemas.openxmlformats.org/package/2006/metadata/core-properties"
 xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title> A  title </dc:title>
<dc:creator>Ann</dc:creator><dc:creator>Bob &amp; Co</dc:creator><dc:subject/></cp:coreProperties>
"""
MEMBERS = {"docProps/core.xml": CORE, "word/document.xml": b"<w/>" * 500, "empty": b""}


def zipped(members=MEMBERS, compression=zipfile.ZIP_DEFLATED, **more):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as package:
        for name, data in members.items():
            package.writestr(name, data)
        package.comment = more.get("comment", b"")
    return file.getvalue()


def streamed():
    class Pipe(io.BytesIO):
        def seekable(self):
            return False

        def seek(self, *_):
            raise OSError

        def tell(self):
            raise OSError

    file = Pipe()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as package:
        for name, data in MEMBERS.items():
            package.writestr(name, data)
    return file.getvalue()


def one_of_two_names():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as package:
        package.writestr("twice", b"first")
        with pytest.warns(UserWarning, match="Duplicate"):
            package.writestr("twice", b"second")
    return file.getvalue()


def as_zipfile_sees_it(data):
    with zipfile.ZipFile(io.BytesIO(data)) as package:
        names = package.namelist()
        size = sum(info.file_size for info in package.infolist())
        return names, size, [package.read(name) for name in names]


ODD = {
    "deflated": zipped(),
    "stored": zipped(compression=zipfile.ZIP_STORED),
    "lzma": zipped(compression=zipfile.ZIP_LZMA),
    "sizes behind the members": streamed(),
    "with a comment": zipped(comment=b"of the archive"),
    "behind other bytes": b"PK\3\4" + b"#" * 100 + zipped(),
    "names in other letters": zipped({"naïve.xml": b"1", "文書.xml": b"2"}),
    "one name twice": one_of_two_names(),
    "no members": zipped({}),
}


@pytest.mark.parametrize("data", ODD.values(), ids=ODD)
def test_it_is_read_as_zipfile_reads_it(data):
    """Names, sizes and contents are the same."""
    package = package_at(io.BytesIO(data))
    names, size, contents = as_zipfile_sees_it(data)
    assert (list(package.names), package.unpacked_bytes) == (names, size)
    assert [package.read(name) for name in names] == contents


@pytest.mark.parametrize("name", ["rlink.docx", "simple.pptx", "fake.odt", "test.epub"])
def test_what_office_programs_write_needs_no_zipfile(name, monkeypatch):
    """The directory is walked and the properties are read without zipfile's objects."""
    data = (DOCUMENTS / name).read_bytes()
    _, _, contents = as_zipfile_sees_it(data)
    monkeypatch.delattr(zipfile, "ZipFile")
    package = package_at(io.BytesIO(data))
    assert [package.read(name) for name in package.names] == contents


def test_a_damaged_member_is_refused():
    """A flipped byte of a member's content, or of its name, is told as zipfile tells it."""
    stored = zipped({"core.xml": CORE}, zipfile.ZIP_STORED)
    for damaged in (stored.replace(b"Ann", b"Anm"), stored.replace(b"core.xml", b"cove.xml", 1)):
        package = package_at(io.BytesIO(damaged))
        with pytest.raises(zipfile.BadZipFile):
            package.read("core.xml")


def test_a_member_that_lies_about_its_size_is_refused():
    """What unpacks to more than the directory says is no member of it."""
    data = bytearray(zipped({"a": b"x" * 10_000}))
    entry = data.rfind(b"PK\1\2")
    struct.pack_into("<I", data, entry + 24, 10)
    package = package_at(io.BytesIO(bytes(data)))
    assert package.unpacked_bytes == 10
    with pytest.raises(zipfile.BadZipFile):
        package.read("a")


@pytest.mark.parametrize("cut", [1, 21, 22, 60, 200])
def test_a_file_that_is_cut_off_is_none(cut):
    """Without a whole directory there is no package, and no other error."""
    assert package_of(zipped()[:-cut]) is None


def test_the_same_package_while_somebody_holds_it():
    """The directory of a file is read once for who chooses its reader and for the reader."""
    file = io.BytesIO(zipped())
    first = package_at(file)
    assert package_at(file) is first
    assert package_at(io.BytesIO(zipped())) is not first


@pytest.mark.parametrize(
    "core",
    [
        CORE,
        CORE.replace(b"UTF-8", b"ISO-8859-1"),
        CORE.decode().replace("UTF-8", "UTF-16").encode("utf-16"),
        CORE.replace(b"?>\n", b"?>\n<!DOCTYPE a>\n", 1),
    ],
    ids=["utf-8", "latin-1", "utf-16", "with a doctype"],
)
def test_properties(core):
    """Elements may repeat, white space is joined, and what is empty is left out."""
    package = Package.__new__(Package)
    package.names, package.read = ("docProps/core.xml",), lambda _: core
    assert package_properties(package) == {"title": ["A title"], "creator": ["Ann", "Bob & Co"]}


def test_properties_of_many_elements_take_little_memory():
    """A tree of them would take many times as much as they."""
    core = CORE.replace(b"<dc:subject/>", b"<dc:subject/>" + b"<a/>" * 500_000)
    package = package_of(zipped({"docProps/core.xml": core}))
    tracemalloc.start()
    try:
        found = package_properties(package)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found["title"] == ["A title"]
    assert peak < 12 * len(core)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_an_entity_in_properties_is_not_expanded(encoding):
    """It stays as it is written."""
    declared = f'<?xml version="1.0" encoding="{encoding}"?><!DOCTYPE a [<!ENTITY e "no">]>'
    text = declared + CORE.decode().partition("?>")[2].replace("Ann", "&e;")
    package = package_of(zipped({"docProps/core.xml": text.encode(encoding)}))
    assert package_properties(package)["creator"] == ["&e;", "Bob & Co"]
