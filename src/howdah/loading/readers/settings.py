"""TOML and INI files: one record each, tables and sections as objects, by the standard library."""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, BinaryIO

from howdah.loading.readers import HEAD_BYTES, Head, Item, Match, Reader, UnreadableSource
from howdah.loading.readers.characters import decoded, encoding_of, looks_like_text

__all__ = ["INI", "TOML"]

_LIMIT_BYTES = 64 << 20  # a file is held in memory, several times over
_SECTION = re.compile(r"\[[^\[\]\r\n]+\]\s*(?:[#;].*)?")
_PAIR = re.compile(r"[^\s\[#;=:][^=:]*[=:].*")
_TOML_PAIR = re.compile(r"""[\w."'-]+(?:\s*\.\s*[\w"'-]+)*\s*=\s*["'\[{\d+\-tfin].*""")
_TOML_TABLE = re.compile(r"\[{1,2}[^\[\]\r\n]+\]{1,2}\s*(?:#.*)?")
_NAMELESS = {"", ".txt", ".conf", ".cfg", ".config", ".settings"}


class TOML(Reader):
    """Reads TOML 1.0: integers of any length and every digit of a number; dates ISO 8601."""

    name = "toml"
    text = True

    def recognise(self, head: Head) -> Match:
        """See `Reader.recognise`: by name, or by a text that parses and has a table."""
        if not looks_like_text(head.data):
            return Match.NO
        if head.suffix == ".toml":
            return Match.LIKELY
        if head.suffix not in _NAMELESS | {".ini"} or len(head.data) >= HEAD_BYTES:
            return Match.NO
        lines = _lines(head)
        fitting = all(_TOML_PAIR.match(line) or _TOML_TABLE.fullmatch(line) for line in lines[:2])
        return Match.LIKELY if lines and fitting and _parses_as_toml(head.data) else Match.NO

    def read(self, file: BinaryIO, name: str) -> Iterator[Item]:  # noqa: ARG002
        """See `Reader.read`: one record."""
        import tomllib

        try:
            yield tomllib.loads(_text(file), parse_float=_number)
        except tomllib.TOMLDecodeError as exc:
            raise UnreadableSource(f"The TOML cannot be read: {exc}.") from exc
        except RecursionError as exc:
            raise UnreadableSource("The TOML is nested too deeply.") from exc


class INI(Reader):
    """Reads INI files: sections as objects, values as text, null where a name stands alone."""

    name = "ini"
    text = True
    untyped = True

    def recognise(self, head: Head) -> Match:
        """See `Reader.recognise`: by name, or by a section's line with names and values below."""
        if not looks_like_text(head.data):
            return Match.NO
        if head.suffix in {".ini", ".desktop"}:
            return Match.LIKELY
        if head.suffix not in _NAMELESS:
            return Match.NO
        lines = _lines(head)
        if not lines or not _SECTION.fullmatch(lines[0]):
            return Match.NO
        fits = all(_SECTION.fullmatch(line) or _PAIR.fullmatch(line) for line in lines[:50])
        return Match.LIKELY if fits and any(map(_PAIR.fullmatch, lines)) else Match.NO

    def read(self, file: BinaryIO, name: str) -> Iterator[Item]:  # noqa: ARG002
        """See `Reader.read`: one record."""
        from configparser import Error, RawConfigParser

        parser = RawConfigParser(
            allow_no_value=True,
            empty_lines_in_values=False,
            default_section="\0",  # none is special
            inline_comment_prefixes=None,
        )
        # Names keep their case.
        parser.optionxform = lambda optionstr: optionstr  # type: ignore[method-assign]
        try:
            parser.read_string(_text(file))
        except Error as exc:
            reason = " ".join(str(exc).replace("'<string>'", "the file").split())
            raise UnreadableSource(f"The INI file cannot be read: {reason}") from exc
        yield {section: dict(parser.items(section)) for section in parser.sections()}


def _text(file: BinaryIO) -> str:
    data = file.read(_LIMIT_BYTES + 1)
    if len(data) > _LIMIT_BYTES:
        raise UnreadableSource(f"The file is larger than {_LIMIT_BYTES} bytes.")
    if not data.strip():
        raise UnreadableSource("The file is empty.")
    return decoded(data)[0].removeprefix("\ufeff")


def _lines(head: Head) -> list[str]:
    """Return the lines of a head that say something."""
    text = head.data.decode(encoding_of(head.data), "replace").removeprefix("\ufeff")
    lines = [line.strip() for line in text.splitlines()[:200]]
    return [line for line in lines if line and line[0] not in "#;"]


def _parses_as_toml(data: bytes) -> bool:
    import tomllib

    try:
        return any(isinstance(v, dict | list) for v in tomllib.loads(data.decode()).values())
    except (ValueError, RecursionError):
        return False


def _number(text: str) -> Any:
    return Decimal(text) if text.strip("+-") not in {"inf", "nan"} else float(text)
