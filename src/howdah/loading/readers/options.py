"""How sources are to be read, where they do not say it themselves.

The options belong to one load and hold for each of its sources. A reader says
which of them it takes (`Reader.takes`); a source whose reader does not take
one that is given is a reject, for to leave it out silently would load
something else than was asked for.
"""

from __future__ import annotations

import codecs
import csv
import json
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Literal, TypeAlias

from howdah.errors import UsageError
from howdah.loading.readers.jsonpath import parse_path

__all__ = ["Header", "ReaderOptions", "Widths"]

Header: TypeAlias = bool | tuple[str, ...]
Widths: TypeAlias = tuple[int, ...] | Literal["auto"]

_SYNTAX = "See howdah load --help, and docs/reference/loading.md for what each reader takes."


@dataclass(frozen=True, slots=True)
class ReaderOptions:
    r"""What a reader is told about its sources; None: it finds out, or takes its default.

    Attributes:
        format: The name of the reader that reads every source but archives: "csv", "yaml".
        delimiter: What stands between cells, one character.
        quote: What cells may stand in, one character; "": nothing quotes. Default: `"`.
        escape: What takes the meaning from the character behind it, one character;
            None: nothing does, and a quote in quotes is doubled.
        header: Whether the first line names the columns (default: it does), or the
            names of the columns of a text that does not name them.
        encoding: The name of one of Python's text encodings.
        null: The cells that are null: those with exactly this text, quoted or not.
        at: Which values of a JSON text are its records: a path such as `$.items[*]`.
        element: Which elements of an XML text are its records, by name.
        widths: The columns' widths in characters; "auto": by the spaces in the first lines.

    Raises:
        UsageError: An option that no source could be read with.
    """

    format: str | None = None
    delimiter: str | None = None
    quote: str | None = None
    escape: str | None = None
    header: Header | None = None
    encoding: str | None = None
    null: str | None = None
    at: str | None = None
    element: str | None = None
    widths: Widths | None = None

    def __post_init__(self) -> None:
        for name in ("delimiter", "quote", "escape"):
            _check_character(name, getattr(self, name))
        if self.encoding is not None:
            # One name for each; readers look for a mark themselves.
            known = _text_encoding(self.encoding).removesuffix("-sig")
            object.__setattr__(self, "encoding", known)
        if self.at is not None:
            parse_path(self.at)
        if self.header == () or self.element == "":
            raise _wrong("header" if self.header == () else "element", "", "is empty")
        if isinstance(self.widths, tuple) and not (self.widths and min(self.widths) > 0):
            raise _wrong("widths", str(self.widths), "is not a list of widths above 0")

    @classmethod
    def of_texts(cls, **texts: str | None) -> ReaderOptions:
        r"""Return the options that a command's arguments say.

        Args:
            texts: By the name of the attribute; None and what is missing: not given.
                Characters may be written as `tab`, `\t` or `\x01`; the header as
                `yes`, `no` or `a,b,c`; widths as `auto` or `10,5,20`.

        Raises:
            UsageError: One that cannot be understood.
        """
        given: dict[str, str | None] = {**texts}
        characters = {
            name: _character(text)
            for name in ("delimiter", "quote", "escape")
            if (text := given.pop(name, None)) is not None
        }
        header, widths = given.pop("header", None), given.pop("widths", None)
        return cls(
            header=None if header is None else _header(header),
            widths=None if widths is None else _widths(widths),
            **characters,
            **given,
        )

    def given(self) -> frozenset[str]:
        """Return the names of the options that are given, the format apart."""
        return _given(self)

    def __str__(self) -> str:
        """Return what is given, as JSON that tells it from other options; "" for nothing."""
        given = {name: value for name, value in asdict(self).items() if value is not None}
        return json.dumps(given, sort_keys=True) if given else ""


@lru_cache(maxsize=4)  # asked for each source
def _given(options: ReaderOptions) -> frozenset[str]:
    return frozenset(
        name for name, value in asdict(options).items() if value is not None and name != "format"
    )


def _wrong(name: str, text: str, why: str) -> UsageError:
    return UsageError(f"The value {text!r} of --{name} {why}.", next_step=_SYNTAX)


def _check_character(name: str, text: str | None) -> None:
    if text is None or (name == "quote" and not text):
        return
    if len(text) != 1 or text in "\r\n\0":
        raise _wrong(name, text, "is not one character that can stand in a line")


def _text_encoding(name: str) -> str:
    try:
        known = codecs.lookup(name).name
        "\n".encode(known)  # base64 and its kin are codecs, and none of text
    except (LookupError, ValueError) as exc:
        raise _wrong("encoding", name, "is no text encoding that Python knows") from exc
    return known


def _character(text: str) -> str:
    if text == "tab":
        return "\t"
    if len(text) > 1 and text.startswith("\\"):
        try:
            return codecs.decode(text, "unicode_escape")
        except UnicodeDecodeError:
            return text
    return text


def _header(text: str) -> Header:
    if text.lower() in {"yes", "no"}:
        return text.lower() == "yes"
    return tuple(next(csv.reader([text]), []))


def _widths(text: str) -> Widths:
    if text == "auto":
        return "auto"
    try:
        return tuple(int(width) for width in text.split(","))
    except ValueError as exc:
        raise _wrong("widths", text, "is neither 'auto' nor a list such as 10,5,20") from exc
