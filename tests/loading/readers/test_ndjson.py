from __future__ import annotations

import io
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from howdah.loading.readers import BadRecord, Head, Match
from howdah.loading.readers import lines as module
from howdah.loading.readers.jsontext import JSON
from howdah.loading.readers.lines import NDJSON

from .reading import DOCUMENTS, by_ranges, items, numbered

LINES = st.lists(st.sampled_from([b'{"a":1}', b"", b"  ", b"\t", b'"\xc3\xa4"', b"x" * 50]))


@given(LINES, st.sampled_from([b"\n", b"\r\n"]), st.booleans(), st.booleans())
def test_each_line_that_is_not_blank_is_a_record_with_the_number_of_its_line(
    lines, newline, ended, marked
):
    data = newline.join(lines) + (newline if ended else b"")
    found = numbered(items(NDJSON(), (b"\xef\xbb\xbf" if marked else b"") + data))
    expected = [(n, line) for n, line in enumerate(data.split(b"\n"), 1) if line.strip()]
    assert found == expected


@given(LINES, st.integers(1, 80))
def test_ranges_that_cut_finds_give_what_the_whole_file_gives(lines, size):
    data = b"\xef\xbb\xbf" + b"\n".join(lines)
    assert by_ranges(NDJSON(), data, size) == numbered(items(NDJSON(), data))


def test_a_line_longer_than_jsonb_can_hold_is_one_bad_record_and_the_rest_is_read():
    data = b'{"a":1}\n' + b"x" * 5000 + b'\n{"a":2}\n'
    blocks = [data[at : at + 100] for at in range(0, len(data), 100)]
    found = list(module.batches_of_lines(blocks, 1, 1000))  # the limit is 256 MiB
    good = [
        (number, text)
        for b in found
        if not isinstance(b, BadRecord)
        for number, text in zip(b.numbers, b.texts, strict=True)
    ]
    (bad,) = [item for item in found if isinstance(item, BadRecord)]
    assert good == [(1, b'{"a":1}'), (3, b'{"a":2}')]
    assert (bad.number, bad.place) == (2, "line 2")
    assert len(bad.content) < 2000


def test_a_million_lines_cost_little():
    line = json.dumps({f"attribute {n}": f"value {n}" for n in range(11)}).encode() + b"\n"
    file = io.BytesIO(line * 200_000)
    began = time.process_time()
    count = sum(len(batch.texts) for batch in NDJSON().read(file, ""))
    assert count == 200_000
    assert time.process_time() - began < 0.5  # about 0.07; 5 times as many need 0.35


@pytest.mark.parametrize(
    ("name", "data", "reader"),
    [
        ("a.json", b'{"a":1}\n{"a":2}\n', NDJSON),
        ("a.json", b'\n{"a":1}\n\n{"a": broken}\n', NDJSON),
        ("a", b"[1]\r\n[2]\r\n", NDJSON),
        ("a.ndjson", b'broken\n{"a":2}\n', NDJSON),
        ("a.jsonl", b'{"a":1}', NDJSON),
        ("a.json", b'{"a":1}\n', JSON),
        ("a.json", b'{\n"a":1}\n{\n"a":2}\n', JSON),
        ("a.json", b'[\n{"a":1},\n{"a":2}]\n', JSON),
    ],
)
def test_ndjson_and_json_are_told_apart_by_their_lines(name, data, reader):
    matches = {kind: kind().recognise(Head(name, data)) for kind in (NDJSON, JSON)}
    assert matches[reader] is Match.CERTAIN
    assert max(matches, key=matches.get) is reader


def test_text_and_utf16_are_no_ndjson():
    for data in (b"[link] to\n[another]\n", '{"a":1}\n{"a":2}\n'.encode("utf-16"), b"1\n2\n", b""):
        assert NDJSON().recognise(Head("a.txt", data)) is Match.NO


def test_real_ndjson_files_have_the_records_they_should():
    counts = {
        name: len(numbered(items(NDJSON(), (DOCUMENTS / name).read_bytes())))
        for name in ("simple.ndjson", "arbitrary-records.ndjson")
    }
    assert counts == {"simple.ndjson": 8, "arbitrary-records.ndjson": 3}
