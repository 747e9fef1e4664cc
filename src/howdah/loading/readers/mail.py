"""Mail (RFC 5322 with MIME) by the standard library: attributes of each message."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from howdah.loading.readers import UnreadableSource
from howdah.loading.readers.characters import decoded
from howdah.loading.readers.markup import html_text

if TYPE_CHECKING:
    from email.message import Message

__all__ = ["iso_date", "mail_attributes", "messages"]

_SEPARATOR = re.compile(rb"(?m)^From [^\r\n]*\d{4}\r?\n")
_ISO = re.compile(r"\d{4}(-\d\d(-\d\d([T ]\d\d:\d\d(:\d\d([.,]\d+)?)?(Z|[+-]\d\d:?\d\d)?)?)?)?")
_SPECIALS = re.compile(r'[][\\()<>@,:;".]')
_ADDRESSES = ("from", "to", "cc", "bcc", "reply-to", "sender")


def messages(mailbox: bytes) -> Iterator[bytes]:
    """Yield each message of an mbox file; the quoting of ">From " is undone."""
    lines = [found.span() for found in _SEPARATOR.finditer(mailbox)]
    for (_, start), (end, _) in pairwise([*lines, (len(mailbox), 0)]):
        yield re.sub(rb"(?m)^>(>*From )", rb"\1", mailbox[start:end])


def mail_attributes(data: bytes) -> dict[str, Any]:
    """Return the attributes of one message.

    Raises:
        UnreadableSource: It has neither header nor text.
    """
    from email import message_from_bytes

    message = message_from_bytes(data)
    fields = _fields(message)
    addresses = {name: _addresses(fields[name]) for name in _ADDRESSES if name in fields}
    text, attachments = _content(message)
    if not fields and not text.strip():
        raise UnreadableSource("The mail is empty.")
    senders = addresses.get("from", [])
    subject, sent = fields.get("subject"), fields.get("date")
    return {
        "title": subject,
        "creator": senders[0] if len(senders) == 1 else senders,
        "created": iso_date(sent),
        "identifier": fields.get("message-id"),
        "text": text,
        "metadata": {
            "subject": subject,
            "from": ", ".join(senders),
            **{name.replace("-", "_"): addresses.get(name) for name in _ADDRESSES[1:]},
            "date": sent,
            "message_id": fields.get("message-id"),
            "in_reply_to": fields.get("in-reply-to"),
            "attachments": attachments,
        },
    }


def iso_date(text: str | None) -> str | None:
    """Return a date in ISO 8601, from ISO 8601 or as mail writes it; None for anything else."""
    if not text:
        return None
    if _ISO.fullmatch(text.strip()):
        return text.strip()
    from email.utils import parsedate_to_datetime

    try:
        return parsedate_to_datetime(text).isoformat()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _fields(message: Message) -> dict[str, str]:
    """Return the header by names in lower case; of a repeated field, the first."""
    fields: dict[str, str] = {}
    for name, value in message.raw_items():
        # The parser keeps bytes above 127 as surrogates.
        raw = str(value).encode("utf-8", "surrogateescape")
        fields.setdefault(name.lower(), re.sub(r"[\r\n]+[ \t]*", " ", decoded(raw)[0]).strip())
    return {
        name: value if name in _ADDRESSES else _plain(value)
        for name, value in fields.items()
        if value
    }


def _plain(text: str) -> str:
    """Undo the encoded words of RFC 2047; a text that pretends to have some stays as it is."""
    from email.errors import HeaderParseError
    from email.header import decode_header, make_header

    try:
        return str(make_header(decode_header(text))) if "=?" in text else text
    except (HeaderParseError, LookupError, ValueError):
        return text


def _addresses(value: str) -> list[str]:
    from email.utils import getaddresses

    return [_address(_plain(name), address) for name, address in getaddresses([value]) if address]


def _address(name: str, address: str) -> str:
    if not name:
        return address
    escaped = re.sub(r'([\\"])', r"\\\1", name)
    return f'"{escaped}" <{address}>' if _SPECIALS.search(name) else f"{name} <{address}>"


def _content(message: Message) -> tuple[str, list[str]]:
    """Return the text, from its plain parts or else from HTML, and the attachments' names."""
    plain: list[str] = []
    rich: list[str] = []
    attachments: list[str] = []
    for part in message.walk():
        name = part.get_filename()
        if name or part.get_content_disposition() == "attachment":
            attachments.append(_plain(name) if name else part.get_content_type())
        elif part.get_content_type() == "text/plain":
            plain.append(_text(part))
        elif part.get_content_type() == "text/html":
            rich.append(html_text(_text(part)))
    return "\n\n".join(plain if any(map(str.strip, plain)) else rich), attachments


def _text(part: Message) -> str:
    data = part.get_payload(decode=True)
    if not isinstance(data, bytes):
        return ""
    try:
        return data.decode(part.get_content_charset() or "utf-8")
    except (LookupError, UnicodeDecodeError):
        return decoded(data)[0]
