from __future__ import annotations

import io

import pytest

from howdah.loading.readers import BadRecord, Cut, Head, Match, reader_for
from howdah.loading.readers.documents import Document
from howdah.loading.readers.mbox import Mbox

from .reading import by_ranges, items, numbered

FROM = b"From a@b Thu Jan  1 00:00:00 2026\n"
MAIL = (
    b"From: Ada <a@b>\nTo: c@d\nSubject: =?utf-8?q?caf=C3=A9?=\n"
    b"Date: Thu, 1 Jan 2026 00:00:00 +0100\n\n"
)


def test_each_message_has_the_attributes_of_a_file_that_holds_it_alone():
    first, second = MAIL + b"one\n\n", MAIL + b"two\n"
    assert items(Mbox(), FROM + first + FROM + second) == [
        *items(Document(), first, "a.eml"),
        *items(Document(), second, "a.eml"),
    ]


def test_a_quoted_from_is_unquoted_and_a_from_in_the_text_begins_no_message():
    text = MAIL + b">From me\n>>From you\nFrom a line in the text of 2024\nend\n"
    (found,) = items(Mbox(), FROM + text)
    assert found["text"] == "From me\n>From you\nFrom a line in the text of 2024\nend\n"


def test_an_empty_message_is_a_bad_record_between_good_ones():
    data = FROM + MAIL + b"one\n\n" + FROM + b"\n" + FROM + MAIL + b"two\n"
    found = items(Mbox(), data)
    assert [isinstance(item, BadRecord) for item in found] == [False, True, False]
    assert (found[1].place, found[1].number) == ("message 2", 2)


@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
@pytest.mark.parametrize("size", [50, 333, 70_000])
def test_ranges_give_what_the_whole_file_gives(newline, size):
    messages = [MAIL + b"%d " % n + b"x" * (n * 7 % 300) + b"\n\n" for n in range(300)]
    data = b"".join(FROM + message for message in messages).replace(b"\n", newline)
    whole = numbered(items(Mbox(), data))
    assert [number for number, _ in whole] == list(range(1, 301))
    assert by_ranges(Mbox(), data, size) == whole


def test_a_block_without_a_second_message_cannot_be_cut():
    assert Mbox().cut(FROM + MAIL) == Cut(0, 0)


@pytest.mark.parametrize(
    ("name", "data", "reader"),
    [
        ("a", FROM + MAIL, "mbox"),
        ("a.txt", FROM + MAIL, "mbox"),
        ("a.eml", MAIL, "document"),
        ("a.txt", b"From time to time in 2024\nI write.\n", "document"),
    ],
)
def test_a_mailbox_is_told_by_its_first_lines(name, data, reader):
    assert reader_for(Head(name, data)).name == reader
    assert Mbox().recognise(Head(name, data)) is (Match.CERTAIN if reader == "mbox" else Match.NO)


def test_messages_that_reach_over_many_blocks_are_whole():
    body = b"y" * 200 + b"\n"
    data = b"".join(FROM + MAIL + body * 2000 + b"\n" for _ in range(3))
    found = list(Mbox().read(io.BytesIO(data), ""))
    assert [len(item["text"]) for item in found] == [len(body) * 2000 + 1] * 3
