from __future__ import annotations

import base64
import io
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from howdah.loading.readers import BadRecord, Head, Match, UnreadableSource
from howdah.loading.readers import jsontext as module
from howdah.loading.readers.jsontext import JSON

from .reading import DATA, DOCUMENTS, items, numbered, texts

CASES = {
    name: base64.b64decode(data)
    for name, data in json.loads((DATA / "json-test-suite" / "cases.json").read_text()).items()
}
# The two large ones of the suite, whose bytes are a pattern.
CASES["n_structure_100000_opening_arrays.json"] = b"[" * 100_000
CASES["n_structure_open_array_object.json"] = b'[{"":' * 50_000 + b"\n"
JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=30,
)


@pytest.mark.parametrize("name", sorted(CASES))
def test_json_test_suite(name):
    began = time.monotonic()
    try:
        found = texts(items(JSON(), CASES[name]))
    except UnreadableSource:
        refused = True
    else:
        refused = any(isinstance(item, BadRecord) for item in found)
    if name.startswith("y_"):
        assert not refused
    if name.startswith("n_"):
        assert refused
    assert time.monotonic() - began < 5


@given(st.lists(JSON_VALUES), st.sampled_from([None, 2]), st.integers(1, 60))
def test_an_array_gives_its_elements_however_the_file_falls_into_blocks(values, indent, size):
    data = json.dumps(values, indent=indent).encode()
    blocks = (data[at : at + size] for at in range(0, len(data), size))
    found = texts(module.in_batches(module._texts(blocks)))  # noqa: SLF001  blocks are of 1 MiB
    assert [json.loads(text) for text in found] == values


@pytest.mark.parametrize(
    ("data", "records"),
    [
        (b'[{"a": 1.10}, 1e400 , "],"]', [b'{"a": 1.10}', b"1e400", b'"],"']),
        (b'{"a":1} {"b":2}\n{"c":\n3}', [b'{"a":1}', b'{"b":2}', b'{"c":\n3}']),
        (b" 12 ", [b"12"]),
        (b"[]", []),
        (b"[[[[[[[[[[1]]]]]]]]],2]", [b"[[[[[[[[[1]]]]]]]]]", b"2"]),
        ('[{"ä": "日"}]'.encode("utf-16"), ['{"ä": "日"}'.encode()]),
        (b'\xef\xbb\xbf{"a":1}', [b'{"a":1}']),
    ],
)
def test_the_bytes_of_each_element_are_passed_through(data, records):
    assert texts(items(JSON(), data)) == records


@pytest.mark.parametrize(
    ("data", "numbers", "place"),
    [
        (b'[{"a":1}, {"a":tru}, {"a":3}]', [(1, True), (2, False), (3, True)], "element 2"),
        (b'[{"a":1}, {"a":2}', [(1, True), (2, True), (3, False)], "end of the source"),
        (b"[1, 23", [(1, True), (2, False)], "end of the source"),
        (b"[1, 2 3]", [(1, True), (2, True), (3, False)], "byte 6"),
        (b"[1,, 3]", [(1, True), (2, False), (3, True)], "byte 3"),
        (b"[1] x", [(1, True), (2, False)], "byte 4"),
        (b'{"a":1} [2]', [(1, True), (2, False)], "byte 8"),
    ],
)
def test_what_is_wrong_is_one_bad_record_with_its_place(data, numbers, place):
    found = items(JSON(), data)
    assert [(number, text is not None) for number, text in numbered(found)] == numbers
    assert [item.place for item in found if isinstance(item, BadRecord)] == [place]


def test_a_file_without_a_value_cannot_be_read():
    for data in (b"", b" \n", b"\xef\xbb\xbf"):
        with pytest.raises(UnreadableSource):
            items(JSON(), data)


def test_an_array_is_read_in_little_memory():
    class Counted(io.RawIOBase):
        left = 64

        def read(self, _size=-1):
            self.left -= 1
            if self.left < 0:
                return b""
            return b"[" + ELEMENTS if self.left == 63 else b"," + ELEMENTS if self.left else b"]"

    sizes = [len(b"".join(batch.texts)) for batch in JSON().read(Counted(), "")]
    assert sum(sizes) > 40 << 20
    assert max(sizes) < 3 << 20


ELEMENTS = b",".join([b'{"a": "%s"}' % (b"x" * 1000)] * 700)


@pytest.mark.parametrize(
    ("name", "data", "match"),
    [
        ("a.json", b"", Match.LIKELY),
        ("a.json", b"not json", Match.LIKELY),
        ("a", b'{"a": [1, 2]}', Match.CERTAIN),
        ("a", b'[{"a": 1}', Match.NO),
        ("a", b'[{"a": 1}, ' + b'{"a": 1}, ' * 10_000, Match.CERTAIN),
        ("a.md", b"[1] A footnote", Match.NO),
        ("a.txt", b"[link](target)", Match.NO),
        ("a.ipynb", b'{"nbformat": 4}', Match.POSSIBLE),
        ("a", '{"a": 1}'.encode("utf-16"), Match.CERTAIN),
    ],
    ids=range(9),
)
def test_json_is_recognised_by_its_content(name, data, match):
    assert JSON().recognise(Head(name, data[:65536])) is match


def test_a_real_file_has_its_records():
    assert len(texts(items(JSON(), (DOCUMENTS / "arbitrary-records.json").read_bytes()))) == 3
