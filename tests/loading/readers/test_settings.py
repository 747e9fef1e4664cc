"""TOML and INI: one record a file."""

from __future__ import annotations

import pytest

from howdah.loading.readers import Head, UnreadableSource, reader_for
from howdah.loading.readers.settings import INI, TOML

from .reading import items, texts


def test_a_toml_file_is_one_record_with_every_digit():
    data = """
        big = 12345678901234567890123
        exact = 1.10
        odd = [inf, -inf, nan]
        when = 2024-02-29T12:00:00.123456+01:00
        day = 2024-02-29
        time = 07:32:00
        text = "é\\u0000"
        [a.b]
        c = true
        [[list]]
        n = 1
        [[list]]
        n = 2
    """
    assert texts(items(TOML(), data.encode())) == [
        '{"big":12345678901234567890123,"exact":1.10,"odd":["Infinity","-Infinity","NaN"],'
        '"when":"2024-02-29T12:00:00.123456+01:00","day":"2024-02-29","time":"07:32:00",'
        '"text":"é\ufffd","a":{"b":{"c":true}},"list":[{"n":1},{"n":2}]}'.encode()
    ]


def test_an_ini_file_is_one_record_of_sections():
    data = (
        "; é\n[A b]\nKey = v ; w\nother: x\nalone\nlong = 1\n  2\n[DEFAULT]\nz = %(x)s\n[empty]\n"
    )
    assert items(INI(), data.encode("cp1252")) == [
        {
            "A b": {"Key": "v ; w", "other": "x", "alone": None, "long": "1\n2"},
            "DEFAULT": {"z": "%(x)s"},
            "empty": {},
        }
    ]


@pytest.mark.parametrize(
    ("reader", "data", "reason"),
    [
        (TOML, b"a = \n", "line 1"),
        (TOML, b"a = 1\na = 2\n", "line 2"),
        (TOML, b"x = " + b"[" * 50_000, "nested too deeply"),
        (TOML, b" \n", "empty"),
        (INI, b"a = 1\n", "no section headers"),
        (INI, b"[a]\nx=1\nx=2\n", "'x' in section 'a' already exists"),
        (INI, b"[a]\nx=1\n[a]\ny=2\n", "section 'a' already exists"),
        (INI, b"", "empty"),
    ],
    ids=range(8),
)
def test_what_cannot_be_read_says_where_in_one_sentence(reader, data, reason):
    with pytest.raises(UnreadableSource, match=reason):
        items(reader(), data)


@pytest.mark.parametrize(
    ("name", "data", "reader"),
    [
        ("a.toml", b"x", "toml"),
        ("a", b'key = "v"\n[x]\nb = 2\n', "toml"),
        ("a.txt", b"[t]\na = 1\n", "toml"),
        ("a", b"[t]\na = b c\n", "ini"),
        ("a.ini", b"[t]\na = b c\n", "ini"),
        ("a.txt", b"[1] see the note\n", "document"),
        ("a.txt", b"[Intro]\nHello: world\nand this is text\n", "document"),
        ("a.txt", b"a = 1\n", "document"),
        ("a.md", b"[t]\na = 1\n", "document"),
    ],
    ids=range(9),
)
def test_settings_are_told_from_each_other_and_from_text(name, data, reader):
    assert reader_for(Head(name, data)).name == reader
