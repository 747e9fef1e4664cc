"""What holds for the reader of each record format: recognition, damage, order, ranges."""

from __future__ import annotations

import io
import random

import pytest

from howdah.loading.pieces import Failure, read_pieces
from howdah.loading.readers import (
    BadRecord,
    Batch,
    Head,
    ReaderOptions,
    SplittingReader,
    reader_for,
    reader_named,
)

from .reading import by_ranges, numbered
from .samples import OPTIONS, samples

NAMES = sorted(samples())
BINARY = ["arrow", "arrowstream", "avro", "orc", "parquet", "sqlite"]
STREAMED = sorted({*NAMES} - {"parquet", "orc", "arrow", "sqlite", "toml", "ini"})
SPLIT = ["accesslog", "csv", "fixedwidth", "mbox", "ndjson"]
# Text that looks like other text is told from it by names that do not contradict.
NAMELESS = {"csv": [""], "toml": ["", ".txt"], "ini": ["", ".txt"], "yaml": ["", ".txt"]}


def options_of(name):
    return OPTIONS.get(name, ReaderOptions())


@pytest.mark.parametrize("name", NAMES)
def test_each_format_is_recognised_by_its_content_without_a_name_and_with_a_wrong_one(name):
    data, _ = samples()[name]
    for suffix in NAMELESS.get(name, ["", ".txt", ".dat"]):
        reader = reader_for(Head(f"source{suffix}", data[:65536]), options_of(name))
        assert reader.name == name, suffix


@pytest.mark.parametrize("name", NAMES)
def test_a_format_that_is_named_reads_whatever_the_source_is_called(name):
    data, count = samples()[name]
    options = ReaderOptions(
        **{
            **{key: getattr(options_of(name), key) for key in ("element", "widths")},
            "format": name,
        }
    )
    reader = reader_for(Head("source.pdf", data[:65536]), options)
    assert len(numbered(reader.read(io.BytesIO(data), "source"))) == count


@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_is_cut_off_or_damaged_gives_records_and_a_reason_and_never_an_exception(name):
    data, count = samples()[name]
    generator = random.Random(name)
    reader = reader_named(name, options_of(name))
    for _ in range(60):
        cut = bytearray(data[: generator.randrange(1, len(data))])
        for _ in range(generator.choice([0, 0, 3])):
            cut[generator.randrange(len(cut))] = generator.randrange(256)
        pieces = list(read_pieces(reader.read(io.BytesIO(bytes(cut)), "source")))
        found = sum(len(piece.texts) for piece in pieces if isinstance(piece, Batch))
        assert found <= 2 * count
        for piece in pieces:
            if isinstance(piece, Failure | BadRecord):
                assert piece.reason
                assert "\n" not in piece.reason


@pytest.mark.parametrize("name", BINARY)
def test_garbage_behind_a_magic_number_is_one_reject_and_no_record(name):
    garbage = samples()[name][0][:16] + random.Random(1).randbytes(5000)
    pieces = list(read_pieces(reader_named(name).read(io.BytesIO(garbage), "source")))
    assert [type(piece) for piece in pieces] == [Failure]


@pytest.mark.parametrize("name", STREAMED)
def test_a_truncated_file_loses_no_record_before_the_cut_but_what_shares_its_block(name):
    data, count = samples()[name]
    if name in {"avro", "arrowstream"}:
        count = 0  # fifty records are one block
    reader = reader_named(name, options_of(name))
    pieces = list(read_pieces(reader.read(io.BytesIO(data[: len(data) * 3 // 4]), "source")))
    found = sum(len(piece.texts) for piece in pieces if isinstance(piece, Batch))
    assert count * 0.7 <= found <= 50


def test_the_readers_that_share_a_file_are_these():
    splitters = {name for name in NAMES if isinstance(reader_named(name), SplittingReader)}
    assert splitters == {*SPLIT, "geojsonseq"}


@pytest.mark.parametrize("size", [100, 1000])
@pytest.mark.parametrize("name", SPLIT)
def test_ranges_give_what_the_whole_file_gives(name, size):
    data, _ = samples()[name]
    reader = reader_named(name, options_of(name)).splitter(Head("source", data))
    assert by_ranges(reader, data, size) == numbered(reader.read(io.BytesIO(data), "source"))
