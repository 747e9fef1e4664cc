"""How a table's name is read and quoted."""

from __future__ import annotations

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from howdah.django.names import Name, parse, quote


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("product", Name(None, "product")),
        ("licensing.product", Name("licensing", "product")),
        ('licensing"."product', Name("licensing", "product")),
        ('"licensing"."product"', Name("licensing", "product")),
        ('"price.list"', Name(None, "price.list")),
        ('licensing."price.list"', Name("licensing", "price.list")),
        ('"my schema"."Größe"', Name("my schema", "Größe")),
        ("Größe.Maß", Name("Größe", "Maß")),
        ('"a""b"."c"', Name('a"b', "c")),
        ("a.b.c", Name(None, "a.b.c")),
        ("two words", Name(None, "two words")),
        ("old table.x y", Name(None, "old table.x y")),
        (".x", Name(None, ".x")),
        ('x"; DROP TABLE y; --', Name(None, 'x"; DROP TABLE y; --')),
    ],
)
def test_a_name_is_read_as_the_reference_says(text, name):
    assert parse(text) == name


@given(st.text(min_size=1).filter(lambda t: "\x00" not in t), st.none() | st.text(min_size=1))
def test_every_name_comes_back_from_its_own_spelling(table, schema):
    if schema is not None and "\x00" in schema:
        return
    name = Name(schema, table)
    if schema is not None or '"' not in table:
        assert parse(name.db_table) == name
    assert quote(name.quoted) == name.quoted


@pytest.mark.parametrize(
    "text",
    [
        'x"; DROP TABLE precious; --',
        '"x"; DROP TABLE precious; --"',
        'a"."b"; DROP TABLE precious; --',
        '"a"."b"; DROP TABLE precious; --"',
        "x'; DROP TABLE precious; --",
        '"',
        '""',
        'a""; DROP TABLE precious; --',
    ],
)
def test_no_name_breaks_out_of_its_quotes(dsn, text):
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("CREATE TABLE precious (a int)")
        with pytest.raises(psycopg.Error) as raised:
            conn.execute(("SELECT * FROM " + quote(text)).encode())
        assert raised.value.sqlstate in {"42P01", "3F000", "42601"}  # no such table, schema; syntax
        assert conn.execute("SELECT count(*) FROM precious").fetchone() == (0,)
