"""The JSON text of a record -> its attributes, with every digit of its numbers."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["Number", "Unfit", "json_text", "parse"]


class Unfit(ValueError):
    """Raised for a record that has no place in the table; the message is a sentence."""


class Number(str):
    """A JSON number with a fraction or an exponent, as it was written."""

    __slots__ = ()


def _integer(text: str) -> int | Number:
    # int() refuses more than 4300 digits, and takes long for many.
    return int(text) if len(text) < 1000 else Number(text)  # noqa: PLR2004


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number (RFC 8259)")


_decoder = json.JSONDecoder(parse_float=Number, parse_int=_integer, parse_constant=_constant)


def parse(text: bytes) -> dict[str, Any]:
    """Return the attributes of a record.

    Args:
        text: A JSON object, in UTF-8.

    Returns:
        By name: None, bool, int, `Number`, str, or a list or dict of such.

    Raises:
        ValueError: It is no JSON object; the message says why, in short.
    """
    try:
        record = _decoder.decode(text.decode())
    except UnicodeDecodeError as exc:
        raise ValueError(f"invalid UTF-8 at byte {exc.start}") from exc
    except json.JSONDecodeError as exc:
        raise ValueError(f"invalid JSON at character {exc.pos}: {exc.msg}") from exc
    except RecursionError as exc:
        raise ValueError("nested too deeply") from exc
    if not isinstance(record, dict):
        raise ValueError("it is no object with attributes for the columns")  # noqa: TRY004 - the data is wrong, not the call
    return record


def json_text(value: object) -> str:
    """Return a value that `parse` gave as JSON text again, digit by digit."""
    match value:
        case Number():
            return str(value)
        case dict():
            pairs = (
                f"{json.dumps(k, ensure_ascii=False)}: {json_text(v)}" for k, v in value.items()
            )
            return f"{{{', '.join(pairs)}}}"
        case list():
            return f"[{', '.join(map(json_text, value))}]"
        case _:
            return json.dumps(value, ensure_ascii=False)
