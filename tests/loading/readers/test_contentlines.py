"""vCard and iCalendar."""

from __future__ import annotations

import io
import json

import pytest

from howdah.loading.pieces import Failure, read_pieces
from howdah.loading.readers import BadRecord, Head, ReaderOptions, reader_for
from howdah.loading.readers.contentlines import ICalendar, VCard

from .reading import items, texts


def cards(text, options=None):
    data = text if isinstance(text, bytes) else text.replace("\n", "\r\n").encode()
    return [json.loads(found) for found in texts(items(VCard(options), data))]


def card(*lines):
    (found,) = cards("\n".join(["BEGIN:VCARD", *lines, "END:VCARD", ""]))
    return found


@pytest.mark.parametrize(
    ("line", "attributes"),
    [
        ("FN:John Doe", {"fn": "John Doe"}),
        ("N:Doe;John;;Dr.;", {"n": ["Doe", "John", "", "Dr.", ""]}),
        (r"NOTE:a\, b\; c\\d\ne", {"note": "a, b; c\\d\ne"}),
        (r"CATEGORIES:x,y\,z", {"categories": ["x", "y,z"]}),
        ("BDAY:19850412", {"bday": "1985-04-12"}),
        ("BDAY:--0412", {"bday": "--0412"}),
        ("REV:20240229T120000Z", {"rev": "2024-02-29T12:00:00Z"}),
        ("TEL:19850412", {"tel": "19850412"}),
        ("URL:http://x/?a=1;b=2", {"url": "http://x/?a=1;b=2"}),
        (
            "item1.TEL;TYPE=work,voice;PREF=1:+1",
            {
                "tel": "+1",
                "parameters": {"tel": {"type": ["work", "voice"], "pref": "1", "group": "item1"}},
            },
        ),
        ("TEL;HOME;CELL:+2", {"tel": "+2", "parameters": {"tel": {"type": ["HOME", "CELL"]}}}),
        (
            'X-A;LABEL="a;b:c^n^\'d^^":v',
            {"x-a": "v", "parameters": {"x-a": {"label": 'a;b:c\n"d^'}}},
        ),
        ("NOTE:" + "x" * 50 + "\n  y\n\tz", {"note": "x" * 50 + " yz"}),
        ("NOTE;ENCODING=QUOTED-PRINTABLE;CHARSET=ISO-8859-1:caf=E9=\nx=3D1", {"note": "caféx=1"}),
        ("NOTE;QUOTED-PRINTABLE:=C3=A9", {"note": "é"}),
        ("PHOTO;ENCODING=b:AP8=", {"photo": "AP8=", "parameters": {"photo": {"encoding": "b"}}}),
        ("NOTE:\0", {"note": "\ufffd"}),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else "",
)
def test_a_property_is_an_attribute(line, attributes):
    assert card(line) == attributes


def test_a_repeated_property_is_an_array_and_so_are_its_parameters():
    assert card("TEL:1", "TEL;TYPE=home:2") == {
        "tel": ["1", "2"],
        "parameters": {"tel": [{}, {"type": "home"}]},
    }


def test_each_card_is_a_record_in_any_encoding():
    text = "BEGIN:VCARD\nFN:é\nEND:VCARD\n\nbegin:vcard\nFN:日\nend:vcard"
    assert cards(text) == cards(text.encode("utf-16")) == [{"fn": "é"}, {"fn": "日"}]
    latin = ReaderOptions(encoding="latin-1")
    assert cards("BEGIN:VCARD\nFN:é\nEND:VCARD".encode("latin-1"), latin) == [{"fn": "é"}]


CALENDAR = """BEGIN:VCALENDAR
VERSION:2.0
PRODID:-//x
BEGIN:VTIMEZONE
TZID:Europe/Berlin
BEGIN:STANDARD
DTSTART:19701025T030000
END:STANDARD
END:VTIMEZONE
BEGIN:VEVENT
UID:1
DTSTART;TZID=Europe/Berlin:20240229T120000
DTEND:20240229T130000Z
EXDATE:20240301T120000,20240302T120000
SUMMARY:20240229
BEGIN:VALARM
TRIGGER:-PT15M
END:VALARM
BEGIN:VALARM
TRIGGER:-PT5M
END:VALARM
END:VEVENT
BEGIN:VTODO
DUE;VALUE=DATE:20240301
END:VTODO
BEGIN:VJOURNAL
DESCRIPTION:x
END:VJOURNAL
END:VCALENDAR
"""


def test_each_event_to_do_and_journal_entry_is_a_record():
    found = [json.loads(text) for text in texts(items(ICalendar(), CALENDAR.encode()))]
    assert found == [
        {
            "component": "VEVENT",
            "uid": "1",
            "dtstart": "2024-02-29T12:00:00",
            "dtend": "2024-02-29T13:00:00Z",
            "exdate": ["2024-03-01T12:00:00", "2024-03-02T12:00:00"],
            "summary": "20240229",
            "valarm": [{"trigger": "-PT15M"}, {"trigger": "-PT5M"}],
            "parameters": {"dtstart": {"tzid": "Europe/Berlin"}},
        },
        {
            "component": "VTODO",
            "due": "2024-03-01",
            "parameters": {"due": {"value": "DATE"}},
        },
        {"component": "VJOURNAL", "description": "x"},
    ]


def test_a_bad_line_costs_its_card_and_what_is_open_at_the_end_is_a_failure():
    text = "BEGIN:VCARD\nFN:a\nno colon\nEND:VCARD\nBEGIN:VCARD\nFN:b\nEND:VCARD\nBEGIN:VCARD\nFN:c"
    pieces = list(read_pieces(VCard().read(io.BytesIO(text.encode()), "")))
    assert isinstance(pieces[0], BadRecord)
    assert (pieces[0].place, pieces[0].content) == ("line 3", b"no colon")
    assert pieces[1].texts == [b'{"fn":"b"}']
    assert isinstance(pieces[2], Failure)
    assert "inside of a VCARD" in pieces[2].reason


def test_components_that_are_not_closed_in_order_are_bad():
    found = texts(items(ICalendar(), b"BEGIN:VEVENT\nBEGIN:VALARM\nEND:VEVENT\n"))
    assert [type(item) for item in found] == [BadRecord]


@pytest.mark.parametrize(
    ("data", "reader"),
    [
        (b"BEGIN:VCARD\r\nFN:x\r\n", "vcard"),
        (b"\xef\xbb\xbfbegin:vcard\n", "vcard"),
        ("BEGIN:VCALENDAR\n".encode("utf-16"), "icalendar"),
        (b"BEGIN: the story\n", "document"),
    ],
)
def test_they_are_recognised_by_their_first_line(data, reader):
    assert reader_for(Head("a.txt", data)).name == reader
