"""A ZIP file that holds itself: its one member is the file, byte by byte, at any depth.

DEFLATE as a language with two instructions: L(n) prints the n bytes behind it (a stored
block), R(n) prints the last n bytes printed once more (a back-reference). Each is five
bytes long, so that a program of them can print itself; its checksum is the solution of
a linear equation, since CRC-32 is affine.

Source: the idea is Russ Cox's, https://research.swtch.com/zip ("Zip Files All The Way Down").
"""

from __future__ import annotations

import struct
import zlib

NAME = b"r.zip"
UNIT = 5  # bytes of an instruction


def quine() -> bytes:
    """Return the file."""
    nothing = _file(0)
    # crc32(file with c in it) = nothing ^ the sum of columns[i] for each bit i of c
    fixed = zlib.crc32(nothing)
    columns = [zlib.crc32(_file(1 << bit)) ^ fixed for bit in range(32)]
    # One equation for each bit of c: (columns ^ identity) c = fixed.
    rows = [
        sum(((columns[bit] >> place & 1) ^ (bit == place)) << bit for bit in range(32))
        | (fixed >> place & 1) << 32
        for place in range(32)
    ]
    return _file(_solved(rows))


def _solved(rows: list[int]) -> int:
    """Solve 32 linear equations over two elements: 32 coefficients and, above them, the value."""
    for bit in range(32):
        pivot = next(n for n in range(bit, 32) if rows[n] >> bit & 1)
        rows[bit], rows[pivot] = rows[pivot], rows[bit]
        rows = [
            row ^ rows[bit] if n != bit and row >> bit & 1 else row for n, row in enumerate(rows)
        ]
    return sum((row >> 32 & 1) << bit for bit, row in enumerate(rows))


def _file(crc: int) -> bytes:
    size = packed = 0
    while True:  # once more, with the sizes that came out
        facts = struct.pack("<HHHHHIIIHH", 20, 0, 8, 0, 33, crc, packed, size, len(NAME), 0)
        first = b"PK\3\4" + facts + NAME
        entry = b"PK\1\2" + struct.pack("<H", 20) + facts + struct.pack("<HHHII", 0, 0, 0, 0, 0)
        entry += NAME
        place = len(first) + packed
        last = entry + b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 1, 1, len(entry), place, 0)
        program = _program(first, last)
        if (packed, size) == (len(program), len(first + program + last)):
            return first + program + last
        packed, size = len(program), len(first + program + last)


def _program(first: bytes, last: bytes) -> bytes:
    """Return what prints `first`, itself and `last`."""
    begin, once, four = _print(len(first) + UNIT), _print(UNIT), _print(4 * UNIT)
    again, again_four = _repeat(len(first) + UNIT), _repeat(4 * UNIT)
    rest = _repeat_last(4 + len(last)) + last
    end = _print(len(rest))
    return b"".join(
        (
            *(begin, first, begin, again),
            *(once, again, once, once),
            *(four, again, once, once, four, again_four),
            *(four, again_four, four, again_four, four, again_four),
            *(four, again_four, _print(0), _print(0), end, again_four),
            *(_print(0), _print(0), end, rest),
            rest[: -len(last)],
        )
    )


def _print(count: int) -> bytes:
    return struct.pack("<BHH", 0, count, count ^ 0xFFFF)


def _repeat(count: int) -> bytes:
    """Return a block of 38 to 40 bits: so the header of the next one is where it should be."""
    if count == 4 * UNIT:  # in halves: length 10 has symbol 264, distances from 17 have code 8
        half = _code(264 - 256, 7) + _code(8, 5) + _extra(count - 17, 3)
        bits = _extra(0b010, 3) + half + half + _code(0, 7)
    else:  # lengths from 35 have symbol 273, distances from 33 code 10; then an empty block
        match = _code(273 - 256, 7) + _extra(count - 35, 3) + _code(10, 5) + _extra(count - 33, 4)
        bits = _extra(0b010, 3) + match + _code(0, 7) + _extra(0b010, 3) + _code(0, 7)
    return _packed(bits, UNIT)


def _repeat_last(count: int) -> bytes:
    """Return the last block: lengths from 67 have symbol 277, distances from 65 code 12."""
    match = _code(277 - 256, 7) + _extra(count - 67, 4) + _code(12, 5) + _extra(count - 65, 5)
    return _packed(_extra(0b011, 3) + match + _code(0, 7), 4)


def _code(value: int, width: int) -> list[int]:
    """Return a Huffman code: most significant bit first, other than all else."""
    return _extra(value, width)[::-1]


def _extra(value: int, width: int) -> list[int]:
    assert 0 <= value < 1 << width
    return [value >> place & 1 for place in range(width)]


def _packed(bits: list[int], size: int) -> bytes:
    assert 8 * size - 8 < len(bits) <= 8 * size
    return sum(bit << place for place, bit in enumerate(bits)).to_bytes(size, "little")
