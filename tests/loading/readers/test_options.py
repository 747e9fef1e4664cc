"""Reader options: what they mean, and that they are part of what makes a source unchanged."""

from __future__ import annotations

import io
import json
import pickle

import pytest

import howdah as package
from howdah.errors import UsageError
from howdah.loading import ReaderOptions
from howdah.loading.chunks import CHUNK_BYTES
from howdah.loading.readers import Head, Match, UnreadableSource, reader_for
from howdah.loading.readers.lines import CSV

from .reading import by_ranges, items, numbered


def csv(data, **texts):
    return items(CSV().with_options(ReaderOptions.of_texts(**texts)), data)


@pytest.mark.parametrize(
    ("texts", "options"),
    [
        ({}, ReaderOptions()),
        ({"delimiter": "tab"}, ReaderOptions(delimiter="\t")),
        ({"delimiter": "\\t"}, ReaderOptions(delimiter="\t")),
        ({"delimiter": "\\x01"}, ReaderOptions(delimiter="\x01")),
        ({"escape": "\\"}, ReaderOptions(escape="\\")),
        ({"quote": ""}, ReaderOptions(quote="")),
        ({"header": "no"}, ReaderOptions(header=False)),
        ({"header": "YES"}, ReaderOptions(header=True)),
        ({"header": 'a,"b,c",d'}, ReaderOptions(header=("a", "b,c", "d"))),
        ({"widths": "auto"}, ReaderOptions(widths="auto")),
        ({"widths": "10, 5,20"}, ReaderOptions(widths=(10, 5, 20))),
        ({"encoding": "Latin1"}, ReaderOptions(encoding="iso8859-1")),
        ({"null": "", "at": "$.a", "element": "x"}, ReaderOptions(null="", at="$.a", element="x")),
    ],
)
def test_options_are_read_as_a_user_writes_them(texts, options):
    assert ReaderOptions.of_texts(**texts) == options
    assert pickle.loads(pickle.dumps(options)) == options


@pytest.mark.parametrize(
    "texts",
    [
        {"delimiter": ""},
        {"delimiter": "ab"},
        {"quote": "\n"},
        {"escape": "\0"},
        {"encoding": "latin-99"},
        {"encoding": "base64"},
        {"header": ""},
        {"element": ""},
        {"widths": "10,x"},
        {"widths": "10,0"},
        {"at": "items"},
        {"at": "$..x"},
    ],
    ids=str,
)
def test_an_option_that_makes_no_sense_is_a_usage_error_that_names_it(texts):
    (name,) = texts
    with pytest.raises(UsageError, match=f"--{name}"):
        ReaderOptions.of_texts(**texts)


@pytest.mark.parametrize(
    ("data", "texts", "records"),
    [
        (b"a:b\n1,5:2\n", {"delimiter": ":"}, [{"a": "1,5", "b": "2"}]),
        ("a§b\né§日\n".encode(), {"delimiter": "§"}, [{"a": "é", "b": "日"}]),
        (
            "a§b\né§1\n".encode("latin-1"),
            {"delimiter": "§", "encoding": "latin-1"},
            [{"a": "é", "b": "1"}],
        ),
        (b"a,b\n'x\ny,''z''',2\n", {"quote": "'"}, [{"a": "x\ny,'z'", "b": "2"}]),
        (b'a,b\n"x,2\n', {"quote": ""}, [{"a": '"x', "b": "2"}]),
        (
            b'a,b\nx\\,y,"q\\"r\n2"\nu\\\nv,2\n',
            {"escape": "\\"},
            [{"a": "x,y", "b": 'q"r\n2'}, {"a": "u\nv", "b": "2"}],
        ),
        (
            b"1,2\n3,4\n",
            {"header": "no"},
            [
                {"column_1": "1", "column_2": "2"},
                {"column_1": "3", "column_2": "4"},
            ],
        ),
        (b"1,2\n", {"header": "x,y"}, [{"x": "1", "y": "2"}]),
        (b"a,b\nNULL,\n", {"null": "NULL"}, [{"a": None, "b": ""}]),
        (b'a,b\n"",x\n', {"null": ""}, [{"a": None, "b": "x"}]),
        ("a|b\né|x\n".encode("cp500"), {"encoding": "cp500"}, [{"a": "é", "b": "x"}]),
        ("a,b\né,x\n".encode("utf-16-le"), {"encoding": "utf-16-le"}, [{"a": "é", "b": "x"}]),
        (b"\xef\xbb\xbfa,b\n1,2\n", {"encoding": "utf-8"}, [{"a": "1", "b": "2"}]),
        (b"a\x01b\n1\x012\n3\x014\n", {}, [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}]),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_a_table_of_text_is_read_as_the_options_say(data, texts, records):
    assert csv(data, **texts) == records


@pytest.mark.parametrize(
    "texts",
    [
        {"header": "no"},
        {"header": "x,y"},
        {"escape": "\\", "quote": "'"},
        {"delimiter": "§", "encoding": "utf-8"},
        {"quote": "§"},
    ],
    ids=str,
)
def test_ranges_are_cut_by_the_same_options(texts):
    options = ReaderOptions.of_texts(**texts)
    delimiter, quote, escape = options.delimiter or ",", options.quote or '"', options.escape
    inner = f"x{escape}{quote}\ny" if escape else f"x{quote}{quote}\ny"
    data = f"a{delimiter}b\n{quote}{inner}{quote}{delimiter}2\nplain{delimiter}é\n".encode() * 20
    reader = CSV().with_options(options).splitter(Head("a.csv", data))
    whole = numbered(reader.read(io.BytesIO(data), ""))
    assert len(whole) > 55
    assert None not in [text for _, text in whole]
    for size in (10, 33, 200):
        assert by_ranges(reader, data, size) == whole


def test_a_cell_in_ten_thousand_columns_keeps_its_place():
    header = ",".join(f"c{n}" for n in range(10_000)).encode()
    row = ",".join(map(str, range(10_000))).encode()
    found = csv(header + b"\n" + row + b"\n" + row + b"\n")
    assert found == [{f"c{n}": str(n) for n in range(10_000)}] * 2


@pytest.mark.parametrize(
    ("name", "data", "options", "reader"),
    [
        ("a.txt", b"a;b\n1;2\n", {"delimiter": ";"}, "csv"),
        ("a.json", b'{"items": [1]}', {"at": "$.items[*]"}, "json"),
        ("a.ndjson", b'{"a": [1]}\n{"a": [2]}\n', {"at": "$.a[*]"}, "json"),
        ("a.xml", b"<r><i/></r>", {"element": "i"}, "xml"),
        ("a.txt", b"ab cd\n", {"widths": (3, 2)}, "fixedwidth"),
    ],
)
def test_an_option_helps_to_recognise_a_source(name, data, options, reader):
    assert reader_for(Head(name, data), ReaderOptions(**options)).name == reader


@pytest.mark.parametrize(
    ("name", "data", "options", "reason"),
    [
        ("a.csv", b"a,b\n1,2\n", {"element": "i"}, "'csv' reads it, which has no option --element"),
        ("a.ndjson", b'{"a":1}\n', {"delimiter": ";"}, "no option --delimiter"),
        ("a.md", b"# Title\n", {"at": "$"}, "no option --at"),
    ],
)
def test_a_source_whose_reader_does_not_take_an_option_cannot_be_read(name, data, options, reason):
    with pytest.raises(UnreadableSource, match=reason):
        reader_for(Head(name, data), ReaderOptions(**options))


def test_options_that_no_reader_needs_leave_recognition_as_it_was():
    assert CSV().recognise(Head("a.txt", b"a,b,c\n1,2,3\n")) is Match.NO


# ---- through the whole loader


def test_a_file_is_loaded_anew_with_other_options_and_skipped_with_the_same(dsn, ask, tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("a;b\n1;NULL\n")
    options = ReaderOptions(delimiter=";", null="NULL")

    first = package.load([path], dsn=dsn)
    second = package.load([path], dsn=dsn, options=options)
    third = package.load([path], dsn=dsn, options=options)

    assert [(r.records, r.skipped) for r in (first, second, third)] == [(1, 0), (1, 0), (0, 1)]
    assert ask("SELECT attributes FROM documents") == [{"a": "1", "b": None}]


def test_options_reach_the_workers_that_share_a_large_file(dsn, ask, tmp_path):
    path = tmp_path / "a.csv"
    rows = CHUNK_BYTES * 5 // 2 // 104
    path.write_text("".join(f"{n:06}|'{'x' * 94}'\n" for n in range(rows)))

    options = ReaderOptions(delimiter="|", quote="'", header=("n", "x"))
    report = package.load([path], dsn=dsn, options=options, workers=2)

    assert report.chunks > 2
    assert (report.records, report.rejects) == (rows, 0)
    counted = ask(
        "SELECT count(DISTINCT attributes->>'n'), max(length(attributes->>'x')) FROM documents"
    )
    assert counted == [(rows, 94)]


def test_an_archive_is_entered_whatever_the_format_is(dsn, ask, tmp_path):
    import zipfile

    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("one.txt", "a,b\n1,2\n")
        archive.writestr("two.txt", "a,b\n3,4\n")

    report = package.load([tmp_path / "a.zip"], dsn=dsn, options=ReaderOptions(format="csv"))

    assert (report.sources, report.records, report.rejects) == (2, 2, 0)
    assert ask("SELECT attributes->>'a' FROM documents ORDER BY source") == ["1", "3"]


def test_the_command_takes_them(howdah, ask, tmp_path):
    (tmp_path / "a.json").write_text(json.dumps({"data": {"items": [{"n": 1}, {"n": 2}]}}))
    done = howdah("load", tmp_path / "a.json", "--at", "$.data.items[*]", "--json")
    assert (done.returncode, json.loads(done.stdout)["records"]) == (0, 2), done.stderr
    assert ask("SELECT attributes->>'n' FROM documents ORDER BY record") == ["1", "2"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--at", "data.items"], "cannot be understood from character 1"),
        (["--format", "cvs"], "Name one of: accesslog, arrow,"),
        (["--delimiter", "ab"], "is not one character"),
    ],
)
def test_the_command_refuses_a_wrong_option_before_it_loads_anything(
    howdah, ask, tmp_path, arguments, said
):
    (tmp_path / "a.csv").write_text("a,b\n1,2\n")
    done = howdah("load", tmp_path / "a.csv", *arguments)
    assert done.returncode == 2
    assert said in " ".join(done.stderr.split())
    assert ask("SELECT to_regclass('documents') IS NULL") == [True]


def test_an_option_of_another_format_is_a_reject_and_its_neighbours_are_loaded(
    howdah, ask, tmp_path
):
    (tmp_path / "a.csv").write_text("a,b\n1,2\n")
    (tmp_path / "b.xml").write_text("<r><i>1</i></r>")
    done = howdah("load", tmp_path, "--element", "i")
    assert done.returncode == 3
    assert ask("SELECT attributes FROM documents") == [{"#text": "1"}]
    (reason,) = ask("SELECT reason FROM howdah.rejects")
    assert reason == "the reader 'csv' reads it, which has no option --element"
