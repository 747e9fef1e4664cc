from __future__ import annotations

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from howdah.loading.readers import BadRecord, Head, Match, UnreadableSource
from howdah.loading.readers.lines import CSV

from .reading import DATA, DOCUMENTS, by_ranges, items, numbered

SPECTRUM = DATA / "csv-spectrum"
CELLS = st.text(st.sampled_from('ab1,;\t|"\n\r é日 '), max_size=8)
RAGGED = st.sampled_from(
    [
        "a",
        "",
        "x;y",
        '"q"',
        '"l1\nl2"',
        '"a,b"',
        '"he said ""hi"""',
        '"\n\n"',
        '5" pipe',
        '6"',
        'a;"b',
        'x"y"z',
    ]
)


@pytest.mark.parametrize("name", sorted(path.stem for path in (SPECTRUM / "csvs").iterdir()))
def test_csv_spectrum_reads_as_its_json(name):
    data = (SPECTRUM / "csvs" / f"{name}.csv").read_bytes()
    if name.endswith("_crlf"):
        data = data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")  # git may have taken it away
    assert items(CSV(), data) == json.loads((SPECTRUM / "json" / f"{name}.json").read_text())


@given(st.lists(st.lists(CELLS, min_size=3, max_size=3), min_size=1), st.sampled_from(",;\t|"))
def test_what_the_csv_module_writes_is_read_back(rows, delimiter):
    file = io.StringIO(newline="")
    writer = csv.writer(file, delimiter=delimiter, quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerows([["one", "two", "three"], *rows])
    expected = [dict(zip(("one", "two", "three"), row, strict=True)) for row in rows]
    assert items(CSV(), file.getvalue().encode()) == expected


@given(
    st.lists(st.tuples(RAGGED, RAGGED, st.sampled_from(["\n", "\r\n", "\n\n"])), min_size=1),
    st.integers(8, 200),
)
def test_ranges_that_cut_finds_give_what_the_whole_file_gives(rows, size):
    data = ("c1,c2\n" + "".join(f"{a},{b}{end}" for a, b, end in rows)).encode()
    splitter = CSV().splitter(Head("a.csv", data))
    assert by_ranges(splitter, data, size) == numbered(items(CSV(), data))


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("test_mskanji.csv", {"名前": "佐藤太郎", "年齢": "30", "住所": "東京"}),
        (
            "table-semicolon-delimiter.csv",
            {"Year": "2022", "Month": "1", "Revenue": "123", "Costs": "-123", "column_5": ""},
        ),
        (
            "stanley-cups.tsv",
            {"Stanley Cups": "Team", "column_2": "Location", "column_3": "Stanley Cups"},
        ),
    ],
)
def test_encoding_and_delimiter_of_real_files_are_found(name, first):
    assert items(CSV(), (DOCUMENTS / name).read_bytes())[0] == first


@pytest.mark.parametrize(
    ("data", "records"),
    [
        (b"id,zip\n007,01234\n", [{"id": "007", "zip": "01234"}]),
        (b"a,,a,a\n1,2,3,4", [{"a": "1", "column_2": "2", "a_2": "3", "a_3": "4"}]),
        (b"a,b\n1\n1,2,3,4\n", [{"a": "1"}, {"a": "1", "b": "2", "extra_columns": ["3", "4"]}]),
        (b"a,extra_columns\n1,2,3", [{"a": "1", "extra_columns_2": "2", "extra_columns": ["3"]}]),
        (b"\xef\xbb\xbfa;b\r\n1,5;2\r\n", [{"a": "1,5", "b": "2"}]),
        (b"a\n1\n\n2\n", [{"a": "1"}, {"a": "2"}]),
        (b"a,b\r1,2\r3,4", [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}]),
        (b'a,b\n5" pipe,6"\n', [{"a": '5" pipe', "b": '6"'}]),
        ("a\tb\nä\t日\n".encode("utf-16"), [{"a": "ä", "b": "日"}]),
        (b"a,b\n", []),
        (b'a,b\n"' + b"x" * 300_000 + b'",2\n', [{"a": "x" * 300_000, "b": "2"}]),
    ],
    ids=lambda value: value[:20] if isinstance(value, bytes) else "",
)
def test_a_row_is_a_mapping_of_column_name_to_text(data, records):
    assert items(CSV(), data) == records


@pytest.mark.parametrize(
    ("data", "bad", "reason"),
    [
        (b"a,b\n1,2\n3,\0\n5,6\n", 2, "NUL"),
        (b'a,b\n1,2\n3,"x\n5,6\n', 2, "never closed"),
        (b'a,b\n1,2\n3,"x"y\n5,6\n', 2, "not well-formed"),
        ("a,b\né,2\n".encode() * 20 + b"3,\xff\n5,6\n", 40, "not valid utf-8"),
    ],
)
def test_a_bad_row_is_one_bad_record_and_its_neighbours_are_read(data, bad, reason):
    found = items(CSV(), data)
    (place,) = [at for at, item in enumerate(found, 1) if isinstance(item, BadRecord)]
    assert (place, found[place - 1].number) == (bad, bad)
    assert reason in found[place - 1].reason
    assert found[place - 1].content.startswith(b"3,")
    assert found[-1] == {"a": "5", "b": "6"} or found[-1]["é"] == "5"


@pytest.mark.parametrize(("data", "reason"), [(b"", "empty"), (b'"a\n1', "does not end")])
def test_a_source_without_column_names_cannot_be_read(data, reason):
    with pytest.raises(UnreadableSource, match=reason):
        items(CSV(), data)


def test_wide_encodings_and_old_newlines_are_not_split():
    for data in ("a,b\n1,2\n".encode("utf-16"), b"a,b\r1,2\r"):
        assert CSV().splitter(Head("a.csv", data)) is None
    assert CSV().splitter(Head("a.csv", b"a,b\n1,2\n")) is not None


@pytest.mark.parametrize(
    ("name", "data", "match"),
    [
        ("a.csv", b"anything", Match.LIKELY),
        ("a.csv", b"%PDF-1.4", Match.NO),
        ("export", b"a|b|c\n1|2|3\n4|5|6\n7|8|9\n", Match.LIKELY),
        ("export", b"Dear Sir, dear Madam, all,\nthis is a letter.\n", Match.NO),
        ("a.txt", b"a,b,c\n1,2,3\n4,5,6\n7,8,9\n", Match.NO),
        ("export", bytes(range(256)), Match.NO),
    ],
)
def test_csv_is_recognised_by_name_or_by_rows_that_are_alike(name, data, match):
    assert CSV().recognise(Head(name, data)) is match
