"""Access logs and columns of fixed widths: one record a line."""

from __future__ import annotations

import json

import pytest

from howdah.loading.readers import BadRecord, Head, ReaderOptions, UnreadableSource, reader_for
from howdah.loading.readers.accesslog import AccessLog
from howdah.loading.readers.fixedwidth import FixedWidth, guess_widths

from .reading import items, numbered, texts

COMMON = '127.0.0.1 - frank [10/Oct/2000:13:55:36 -0700] "GET /a.gif?x=1 HTTP/1.0" 200 2326'
COMBINED = COMMON + ' "http://example.com/s" "Mozilla/4.08 \\"x\\" \\xc3\\xa9"'
FIELDS = {
    "host": "127.0.0.1",
    "ident": None,
    "user": "frank",
    "time": "2000-10-10T13:55:36-07:00",
    "method": "GET",
    "path": "/a.gif?x=1",
    "protocol": "HTTP/1.0",
    "status": 200,
    "bytes": 2326,
}


def log(*lines):
    return [
        item if isinstance(item, BadRecord) else json.loads(item)
        for item in texts(items(AccessLog(), "\n".join(lines).encode()))
    ]


def test_both_formats_give_the_documented_fields():
    extra = {"referrer": "http://example.com/s", "user_agent": 'Mozilla/4.08 "x" é'}
    assert log(COMMON, COMBINED) == [FIELDS, FIELDS | extra]


@pytest.mark.parametrize(
    ("request_line", "method", "path", "protocol"),
    [
        ("GET / HTTP/1.1", "GET", "/", "HTTP/1.1"),
        ("GET /a b c HTTP/2.0", "GET", "/a b c", "HTTP/2.0"),
        ("GET /old", "GET", "/old", None),
        ("-", None, None, None),
        ("", None, None, None),
        ("\\x16\\x03", None, "\x16\x03", None),
        ("\\x00", None, "\ufffd", None),
    ],
)
def test_a_request_is_taken_apart_or_kept_as_the_path(request_line, method, path, protocol):
    line = f'::1 - - [01/Jan/2024:00:00:00 +0000] "{request_line}" 404 -'
    (found,) = log(line)
    assert (found["method"], found["path"], found["protocol"]) == (method, path, protocol)
    assert (found["bytes"], found["user"], found["time"]) == (
        None,
        None,
        "2024-01-01T00:00:00+00:00",
    )


def test_a_line_that_does_not_fit_is_a_bad_record_with_its_number_and_bytes():
    found = items(
        AccessLog(), f"{COMMON}\n\n{COMMON} more\n{COMMON.replace('Oct', 'Okt')}\n".encode()
    )
    assert [number for number, _ in numbered(found)] == [1, 3, 4]
    bad = [item for item in found if isinstance(item, BadRecord)]
    assert [(item.place, item.content.decode()) for item in bad] == [
        ("line 3", f"{COMMON} more"),
        ("line 4", COMMON.replace("Oct", "Okt")),
    ]


def test_a_log_is_known_by_most_of_its_lines():
    data = f"{COMMON}\ngarbage\n{COMBINED}\n".encode()
    assert reader_for(Head("a.txt", data)).name == "accesslog"
    assert reader_for(Head("a.log", b'{"a": "x"}\n{"a": "y"}\n')).name == "ndjson"
    assert reader_for(Head("a.log", b'He said "no".\n' * 3)).name == "document"


# ---- fixed width

TABLE = "name   age city\nAda     36 London\n\nJosé     7 Köln am Rhein\n"


def fixed(text, **options):
    return [
        item if isinstance(item, BadRecord) else json.loads(item)
        for item in texts(items(FixedWidth(ReaderOptions.of_texts(**options)), text.encode()))
    ]


@pytest.mark.parametrize(
    ("options", "records"),
    [
        (
            {"widths": "7,4,20"},
            [
                {"name": "Ada", "age": "36", "city": "London"},
                {"name": "José", "age": "7", "city": "Köln am Rhein"},
            ],
        ),
        (
            {"widths": "7,4,20", "header": "a,b,c", "null": "36"},
            [
                {"a": "name", "b": "age", "c": "city"},
                {"a": "Ada", "b": None, "c": "London"},
                {"a": "José", "b": "7", "c": "Köln am Rhein"},
            ],
        ),
        (
            {"widths": "7,24", "header": "no"},
            [
                {"column_1": "name", "column_2": "age city"},
                {"column_1": "Ada", "column_2": "36 London"},
                {"column_1": "José", "column_2": "7 Köln am Rhein"},
            ],
        ),
    ],
    ids=["header", "names", "none"],
)
def test_columns_are_cut_by_characters(options, records):
    assert fixed(TABLE, **options) == records


def test_a_missing_value_is_left_out_and_a_line_that_is_too_long_is_bad():
    found = fixed("a  b\n1\n1  2 x\n", widths="3,2")
    assert found[0] == {"a": "1"}
    assert (found[1].place, found[1].content) == ("line 3", b"1  2 x")


def test_widths_are_guessed_from_columns_of_spaces_only_when_asked():
    lines = ["id  name  n", "1   Ada   1", "22  Bob  22"]
    assert guess_widths(lines)[:2] == (4, 5)
    assert fixed("\n".join(lines), widths="auto")[1] == {"id": "22", "name": "Bob", "n": "22"}
    assert reader_for(Head("a.txt", "\n".join(lines).encode())).name == "document"
    with pytest.raises(UnreadableSource, match="give the widths"):
        fixed("nospaces\nhere\n", widths="auto")


def test_names_and_widths_must_be_alike():
    with pytest.raises(UnreadableSource, match="names 2 columns, and the widths are those of 3"):
        fixed(TABLE, widths="1,2,3", header="a,b")


def test_other_encodings_are_read_by_the_option():
    found = items(
        FixedWidth(ReaderOptions(widths=(5, 4), encoding="utf-16")),
        "née  x\né    日\n".encode("utf-16"),
    )
    assert json.loads(texts(found)[0]) == {"née": "é", "x": "日"}
