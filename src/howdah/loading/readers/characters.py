"""Which encoding a text is in, and its bytes as UTF-8.

A byte order mark or valid UTF-8 is proof. What is left is a guess from the
head of the text: the double-byte encodings of East Asia by how many of their
frequent characters come out, then Cyrillic, Greek and Hebrew by which letters
stand in rows, else Windows-1252, the superset of Latin-1 that the web assumes.
Source: https://encoding.spec.whatwg.org/#names-and-labels
"""

from __future__ import annotations

import codecs
import re
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["decoded", "encoding_of", "is_wide", "looks_like_text", "to_utf8"]

# UTF-32 first: its little-endian mark starts with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

# The characters that fill nearly all of a real text: punctuation, syllables
# and the first level of ideographs. The narrower set stands first and wins a tie.
_DOUBLE_BYTE = (
    ("cp932", rb"[\x81-\x83\x88-\x97][\x40-\xfc]"),
    ("euc_kr", rb"[\xa1\xa3\xb0-\xc8][\xa1-\xfe]"),
    ("euc_jp", rb"[\xa1\xa3-\xa5\xb0-\xcf][\xa1-\xfe]"),
    ("gb18030", rb"[\xa1\xa3\xb0-\xd7][\xa1-\xfe]"),
    ("big5", rb"[\xa1\xa4-\xc6][\x40-\x7e\xa1-\xfe]"),
)
_SHIFTING = ("utf-16", "utf-32", "utf-7", "iso2022", "hz")
_SAMPLE_BYTES = 8192
_ENOUGH = 0.8
_FEW_CONTROLS = 20  # one character in so many may be a control character in a text

_HIGH = re.compile(rb"[\x80-\xff]")
_ROWS = re.compile(rb"[\xc0-\xff]{2,}")
# Superscripts, an inverted question mark and "oe" inside a word: Polish in Windows-1250.
_CENTRAL_EUROPE = re.compile(rb"[a-z\xe0-\xff][\xb3\xb9\xbf\x9c\x9f][a-z\xe0-\xff]")
_CONTROLS = bytes({*range(32)} - {*b"\t\n\x0b\x0c\r\x1b"})


@lru_cache(maxsize=4)  # each reader asks it of the same head
def encoding_of(head: bytes) -> str:
    """Return the name of the codec that a text is in.

    Args:
        head: The text's first bytes; a character may be cut off at their end.
    """
    if (marked := _marked(head)) is not None:
        return marked
    if (wide := _wide_without_mark(head)) is not None:
        return wide
    if head.isascii() or _is_nearly_utf8(head):
        return "utf-8"
    return _legacy(head)


@lru_cache(maxsize=64)
def is_wide(encoding: str) -> bool:
    """Say whether a newline or comma may be parts of other characters, or other bytes.

    So it is in UTF-16 and UTF-32, in codes that shift to another alphabet, and in EBCDIC.
    """
    name = codecs.lookup(encoding).name.removesuffix("-sig")
    return name.startswith(_SHIFTING) or "\n,".encode(name) != b"\n,"


def decoded(data: bytes) -> tuple[str, str]:
    """Return a whole text and the encoding it was in; bytes that fit nowhere become U+FFFD."""
    encoding = encoding_of(data[: 1 << 16])
    if encoding == "utf-8" and not _decodes(data, "utf-8"):
        encoding = encoding_of(data)
    return data.decode(encoding, "replace"), encoding.removesuffix("-sig")


@lru_cache(maxsize=4)
def looks_like_text(head: bytes) -> bool:
    """Say whether bytes are text in some encoding, not the content of a binary file."""
    encoding = _marked(head) or _wide_without_mark(head)
    if encoding is not None and is_wide(encoding):
        return _decodes(head, encoding) is not None
    return not _controls(head)


def _controls(data: bytes) -> int:
    return len(data) - len(data.translate(None, _CONTROLS))


def _marked(head: bytes) -> str | None:
    return next((encoding for mark, encoding in _MARKS if head.startswith(mark)), None)


def to_utf8(blocks: Iterable[bytes], encoding: str) -> Iterator[bytes]:
    """Yield the blocks of a text in UTF-8 and without a mark; raise UnicodeDecodeError."""
    decoder = codecs.getincrementaldecoder(encoding)()
    for block in blocks:
        yield decoder.decode(block).encode("utf-8", "surrogatepass")
    yield decoder.decode(b"", final=True).encode("utf-8", "surrogatepass")


def _decodes(head: bytes, encoding: str) -> str | None:
    try:
        return codecs.getincrementaldecoder(encoding)().decode(head)
    except UnicodeDecodeError:
        return None


def _wide_without_mark(head: bytes) -> str | None:
    """Tell UTF-16 and UTF-32 without a mark by the zeros of their ASCII characters."""
    sample = head[: _SAMPLE_BYTES // 4 * 4]
    if b"\0" not in sample:
        return None
    zeros = [sample[place::4].count(0) * 4 >= len(sample) * 0.7 for place in range(4)]
    names = {
        (False, True, True, True): "utf-32-le",
        (True, True, True, False): "utf-32-be",
        (False, True, False, True): "utf-16-le",
        (True, False, True, False): "utf-16-be",
    }
    name = names.get((zeros[0], zeros[1], zeros[2], zeros[3]))
    return name if name and _decodes(sample, name) is not None else None


def _is_nearly_utf8(head: bytes) -> bool:
    """Say whether a text is UTF-8, but perhaps for a few characters.

    One stray byte must not turn every other character of a file into two.
    """
    if _decodes(head, "utf-8") is not None:
        return True
    text = head.decode("utf-8", "surrogateescape")  # a stray byte becomes a surrogate
    foreign = len(text) - len(text.encode("ascii", "ignore"))
    strays = len(text) - len(text.encode("utf-8", "ignore").decode())
    return foreign - strays >= 10 * strays


def _legacy(head: bytes) -> str:
    first = _HIGH.search(head)
    sample = head[first.start() :][:_SAMPLE_BYTES] if first else head
    if _controls(sample) > len(sample) // _FEW_CONTROLS:
        return "latin-1"  # no text in any encoding
    best, most = "", 0.0
    for encoding, frequent in _DOUBLE_BYTE:
        if (share := _share_of_frequent(sample, encoding, re.compile(frequent))) > most:
            best, most = encoding, share
    return best if most >= _ENOUGH else _single_byte(sample)


def _share_of_frequent(sample: bytes, encoding: str, frequent: re.Pattern[bytes]) -> float:
    """Return which share of a sample's foreign characters are frequent ones that stand in rows.

    In a text of Western Europe that is taken for double-byte, each umlaut
    swallows a letter and becomes one foreign character between ASCII ones.
    """
    text = _decodes(sample, encoding)
    if not text:
        return 0.0
    foreign = len(re.findall(r"[^\x00-\x7f]", text))
    in_rows = "".join(re.findall(r"[^\x00-\x7f]{2,}", text))
    known = sum(frequent.fullmatch(c.encode(encoding)) is not None for c in in_rows)
    return known / foreign if foreign else 0.0


def _single_byte(sample: bytes) -> str:
    letters = re.findall(rb"[\xc0-\xff]", sample)
    in_rows = b"".join(_ROWS.findall(sample))
    if letters and len(in_rows) >= _ENOUGH * len(letters):
        return _alphabet(in_rows)
    if _CENTRAL_EUROPE.search(sample):
        return "cp1250"
    return "cp1252" if _decodes(sample, "cp1252") is not None else "latin-1"


def _alphabet(letters: bytes) -> str:
    """Tell Hebrew, Greek and Cyrillic apart by where their small letters lie."""
    if all(0xE0 <= letter <= 0xFA for letter in letters):  # noqa: PLR2004  alef to tav
        return "cp1255"
    upper = sum(letter < 0xE0 for letter in letters)  # noqa: PLR2004  the row of capitals
    if upper > len(letters) / 2:
        return "koi8_r"
    accented = sum(0xDC <= letter <= 0xDF for letter in letters)  # noqa: PLR2004  Greek vowels
    return "cp1253" if accented > len(letters) / 20 else "cp1251"
