"""Cutting a file: every byte in one chunk, at the same places each time, the last ones small."""

from itertools import pairwise

from howdah.loading.chunks import BLOCK_BYTES, CHUNK_BYTES, LEAST_CHUNK_BYTES, cut
from howdah.loading.readers.lines import NDJSON

LINE = b'{"a": "' + b"x" * 1000 + b'"}\n'


def cuts(path):
    with path.open("rb") as file:
        return list(cut(file, NDJSON()))


def test_chunks_follow_each_other_and_end_with_the_file(tmp_path):
    path = tmp_path / "a.ndjson"
    path.write_bytes(LINE * 200_000)

    chunks = cuts(path)

    assert [chunk.number for chunk in chunks] == list(range(len(chunks)))
    offset, first = 0, 1
    for chunk in chunks:
        assert (chunk.offset, chunk.first) == (offset, first)
        assert chunk.length % len(LINE) == 0
        offset += chunk.length
        first += chunk.length // len(LINE)
    assert (offset, first) == (path.stat().st_size, 200_001)
    assert cuts(path) == chunks


def test_chunks_become_smaller_towards_the_end(tmp_path):
    path = tmp_path / "a.ndjson"
    path.write_bytes(LINE * 200_000)

    lengths = [chunk.length for chunk in cuts(path)]

    assert CHUNK_BYTES <= lengths[0] <= CHUNK_BYTES + BLOCK_BYTES
    # A cut is at the end of a block of BLOCK_BYTES, so two lengths may differ by less than that.
    assert all(after < before + BLOCK_BYTES for before, after in pairwise(lengths))
    assert lengths[-1] <= LEAST_CHUNK_BYTES + BLOCK_BYTES


def test_small_file_is_one_chunk(tmp_path):
    path = tmp_path / "a.ndjson"
    path.write_bytes(LINE)

    assert [(chunk.offset, chunk.length) for chunk in cuts(path)] == [(0, len(LINE))]
