from __future__ import annotations

import io
import tracemalloc

import pytest

from howdah.loading.pieces import Failure, read_pieces
from howdah.loading.readers import Head, Match, UnreadableSource
from howdah.loading.readers.yamltext import YAML

from .reading import items, texts


@pytest.mark.parametrize(
    ("text", "records"),
    [
        ("a: 1\nb: x\n", ['{"a":1,"b":"x"}']),
        ("- a: 1\n- [1, x]\n- y\n", ['{"a":1}', '[1,"x"]', '"y"']),
        ("a: 1\n---\na: 2\n...\n---\n- 3\n- 4\n", ['{"a":1}', '{"a":2}', "3", "4"]),
        ("a: {b: [1, {c: 2}], d: }\n", ['{"a":{"b":[1,{"c":2}],"d":null}}']),
        ("a: &x {y: 1}\nb: *x\nc: [*x, *x]\n",
         ['{"a":{"y":1},"b":{"y":1},"c":[{"y":1},{"y":1}]}']),
        ("a: &x {y: 1, z: 1}\nb:\n  <<: *x\n  z: 2\n", ['{"a":{"y":1,"z":1},"b":{"y":1,"z":2}}']),
        ("a: &x {y: 1}\nb:\n  y: 2\n  <<: [*x, {w: 3}]\n", ['{"a":{"y":1},"b":{"y":2,"w":3}}']),
        ("1: a\n1.5: b\ntrue: c\n? [1, 2]\n: d\n", ['{"1":"a","1.5":"b","true":"c","[1,2]":"d"}']),
        ("a: |\n  x\n  y\nb: >\n  x\n  y\n", ['{"a":"x\\ny\\n","b":"x y\\n"}']),
        ('a: "\\0é"\n', ['{"a":"\ufffdé"}']),
        ("# nothing but this\n", []),
        ("[]\n", []),
    ],
    ids=range(12),
)  # fmt: skip
def test_each_document_is_a_record_or_each_item_of_a_list(text, records):
    assert texts(items(YAML(), text.encode())) == [record.encode() for record in records]


@pytest.mark.parametrize(
    ("scalar", "text"),
    [
        ("12345678901234567890123", "12345678901234567890123"),
        ("9" * 5000, "9" * 5000),
        ("1.10", "1.10"),
        ("-0.5", "-0.5"),
        (".5", "0.5"),
        ("1e3", "1E+3"),
        ("1e99999999999999999999", '"1e99999999999999999999"'),
        ("0x1F", "31"),
        ("0o17", "15"),
        ("017", "17"),
        (".inf", '"Infinity"'),
        ("-.Inf", '"-Infinity"'),
        (".nan", '"NaN"'),
        ("~", "null"),
        ("", "null"),
        ("True", "true"),
        ("no", '"no"'),
        ("22:22", '"22:22"'),
        ("1_000", '"1_000"'),
        ("2024-02-29", '"2024-02-29"'),
        ("2024-02-29T12:00:00Z", '"2024-02-29T12:00:00Z"'),
        ("'12'", '"12"'),
        ("!!str 12", '"12"'),
        ("!!int '12'", "12"),
        ("!!binary |\n  AP8=\n  AA==", '"AP8=AA=="'),
        ("!ruby/object:Gem {x: 1}", '{"x":1}'),
        ("!!python/object/apply:os.system ['false']", '["false"]'),
    ],
)
def test_a_value_is_what_the_core_schema_says_with_every_digit(scalar, text):
    assert texts(items(YAML(), f"a: {scalar}\n".encode())) == [f'{{"a":{text}}}'.encode()]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_marks_are_understood(encoding):
    assert texts(items(YAML(), "a: é\n".encode(encoding))) == ['{"a":"é"}'.encode()]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: [1\nb: 2", "line 2"),
        ("a: &a [*a]\n", r"\*a stands for itself"),
        ("a: *b\n", r"\*b stands for itself, or for nothing"),
        ("a: b: c\n", "line 1"),
        ("a: \x01\n", "control characters"),
    ],
)
def test_what_is_no_yaml_says_where_in_one_sentence(text, reason):
    with pytest.raises(UnreadableSource, match=reason):
        items(YAML(), text.encode())


def test_records_before_the_place_of_an_error_are_kept():
    pieces = list(read_pieces(YAML().read(_file("- a: 1\n- a: 2\n- [\n"), "")))
    assert pieces[0].texts == [b'{"a":1}', b'{"a":2}']
    assert isinstance(pieces[1], Failure)


def test_billion_laughs_are_refused_before_they_take_memory():
    lines = ["a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    tracemalloc.start()
    try:
        with pytest.raises(UnreadableSource, match="aliases of one record stand for more than"):
            texts(items(YAML(), "\n".join(lines).encode()))
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


def test_one_long_text_under_many_aliases_is_refused_too():
    text = f"a: &a {'x' * 100_000}\nb: [{', '.join(['*a'] * 1000)}]\n"
    with pytest.raises(UnreadableSource, match="aliases of one record"):
        items(YAML(), text.encode())


def test_what_is_nested_too_deeply_is_a_reject():
    pieces = list(read_pieces(YAML().read(_file("[" * 5000 + "]" * 5000), "")))
    assert all(piece.reason for piece in pieces)
    assert pieces


@pytest.mark.parametrize(
    ("name", "text", "match"),
    [
        ("a.yml", "anything", Match.LIKELY),
        ("a", "---\na: 1\n", Match.LIKELY),
        ("a.txt", "# comment\n%YAML 1.2\n---\n- 1\n", Match.LIKELY),
        ("a", "---\na: 1\n" * 10_000, Match.LIKELY),
        ("a.md", "---\ntitle: x\n---\ntext\n", Match.NO),
        ("a", "---\ntitle: x\n---\nand the text of it\n\nin two paragraphs\n", Match.NO),
        ("a", "--- a/file\n+++ b/file\n", Match.NO),
        ("a", "a: 1\n", Match.NO),
        ("a.yaml", "\x00\x01\x02", Match.NO),
    ],
    ids=range(9),
)
def test_yaml_is_recognised_by_name_or_by_its_mark(name, text, match):
    assert YAML().recognise(Head(name, text.encode()[:65536])) is match


def _file(text):
    return io.BytesIO(text.encode())
