"""Documents: one file, one record, with the elements of Dublin Core, the text and the rest.

Which format a file has is told by its content. Plain text, source code, Markdown,
mail and XML are read by the standard library, pictures by Pillow, sound by
tinytag, everything else by kreuzberg. See docs/reference/loading-attributes.md.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

from howdah.loading.readers import HEAD_BYTES, Head, Item, Match, Reader, UnreadableSource
from howdah.loading.readers.characters import decoded, encoding_of, is_wide
from howdah.loading.readers.extraction import extracted
from howdah.loading.readers.languages import language_of
from howdah.loading.readers.mail import mail_attributes, messages
from howdah.loading.readers.markup import xml_text
from howdah.loading.readers.mediatypes import BINARY_SUFFIXES, MAIL, MBOX, media_type
from howdah.loading.readers.ole import MAGIC, stream_names
from howdah.loading.readers.packages import Package, package_of
from howdah.loading.readers.pictures import picture_attributes
from howdah.loading.readers.sound import sound_attributes

__all__ = ["DOCUMENT_LIMIT_BYTES", "Document", "mail_record"]

DOCUMENT_LIMIT_BYTES = 1 << 30
"""How large a document may be: it is held in memory, in bytes."""

_TEXT_LIMIT_BYTES = 256 << 20  # the most that jsonb holds
_WRAPPED = re.compile(r"\.(gz|bz2|xz|zst)$", re.IGNORECASE)
_DCMI_TYPES = {"image": "StillImage", "audio": "Sound", "video": "MovingImage"}
_ORDER = (
    "title",
    "creator",
    "subject",
    "description",
    "publisher",
    "contributor",
    "created",
    "modified",
    "type",
    "format",
    "identifier",
    "language",
    "rights",
    "album",
    "pages",
    "duration",
    "width",
    "height",
    "bytes",
    "sha256",
    "text",
    "metadata",
)


class Document(Reader):
    """Reads PDF, office files, HTML, mail, e-books, pictures, sound, markup, code and text."""

    name = "document"

    def recognise(self, head: Head) -> Match:
        """See `Reader.recognise`: by content; plain text is POSSIBLE, unknown bytes are NO."""
        return media_type(head)[1]

    def read(self, file: BinaryIO, name: str) -> Iterator[Item]:
        """See `Reader.read`: one record, or one a message of an mbox file."""
        data = file.read(DOCUMENT_LIMIT_BYTES + 1)
        if not data:
            raise UnreadableSource("The file is empty.")
        if len(data) > DOCUMENT_LIMIT_BYTES:
            raise UnreadableSource(f"The document is larger than {DOCUMENT_LIMIT_BYTES} bytes.")
        name = _WRAPPED.sub("", name.rpartition("/")[2])
        package = package_of(data, file)
        kind = _kind(data, name, package)
        for part, part_kind in (
            ((m, MAIL) for m in messages(data)) if kind == MBOX else [(data, kind)]
        ):
            yield _record(part, part_kind, name, package)


def mail_record(data: bytes) -> dict[str, Any]:
    """Return the attributes of one message, as those of a file that holds it alone."""
    return _record(data, MAIL, "")


def _kind(data: bytes, name: str, package: Package | None) -> str:
    kind, _ = media_type(Head(name, data[:HEAD_BYTES], package.names if package else ()))
    if kind is None:
        raise UnreadableSource("The file is of no format that is known.")
    return kind


def _record(data: bytes, kind: str, name: str, package: Package | None = None) -> dict[str, Any]:
    if data.startswith(MAGIC) and "EncryptedPackage" in stream_names(data[:HEAD_BYTES]):
        raise UnreadableSource("The document is encrypted with a password.")
    if kind == MAIL:
        found = mail_attributes(data)
    elif kind == "application/xml":
        found = _xml(data)
    elif kind in {"text/plain", "text/markdown"}:
        found = _text(data, kind, name)
    elif kind.startswith("image/"):
        found = picture_attributes(data, kind)
    elif kind.startswith(("audio/", "video/")):
        found = sound_attributes(data)
    else:
        found = extracted(data, kind, package)
    if len(found["text"]) > _TEXT_LIMIT_BYTES:
        raise UnreadableSource(f"The text is longer than {_TEXT_LIMIT_BYTES} characters.")
    found |= {
        "type": found.get("type") or _DCMI_TYPES.get(kind.partition("/")[0], "Text"),
        "format": kind,
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    pruned = _pruned(found)
    return {key: pruned[key] for key in _ORDER if key in pruned} | {"text": found["text"]}


# ---- by the standard library


def _text(data: bytes, kind: str, name: str) -> dict[str, Any]:
    text, encoding = decoded(data)
    if _is_link(text, name):
        raise UnreadableSource(f"This is the text of a symbolic link to {text!r}, not a file.")
    language = language_of(name, text[:256]) if kind == "text/plain" else None
    return {
        "title": _markdown_title(text) if kind == "text/markdown" else None,
        "type": "Software" if language else "Text",
        "language": language,
        "text": text,
        "metadata": {"encoding": encoding} if encoding != "utf-8" else {},
    }


def _is_link(text: str, name: str) -> bool:
    """Say whether git has checked out a symbolic link as a file, where links are off.

    What is named as a PDF file and holds nothing but the path of another one
    is no text that anybody wants to load.
    """
    suffix = Head(name, b"").suffix
    return (
        suffix in BINARY_SUFFIXES
        and re.fullmatch(r"[\w./-]+", text) is not None
        and (text.lower().endswith(suffix) and "/" in text)
    )


def _markdown_title(text: str) -> str | None:
    """Return the title in the front matter, or else the first heading of the first level."""
    front = re.match(r"---\r?\n(.*?)\r?\n(?:---|\.\.\.)\r?\n", text, re.DOTALL)
    if front and (named := re.search(r"(?m)^title:(.*)$", front[1])):
        return named[1].strip().strip("\"'")
    if heading := re.search(r"(?m)^# (.*)$|^(\S.*)\n=+\s*$", text):
        return (heading[1] or heading[2]).strip().rstrip("#").strip()
    return None


def _xml(data: bytes) -> dict[str, Any]:
    encoding = encoding_of(data[:HEAD_BYTES])
    if is_wide(encoding):  # whatever its declaration says
        found = xml_text(data.decode(encoding, "replace").encode(), "utf-8")
    else:
        found = xml_text(data)
    return {
        "title": found.title,
        "text": found.text,
        "metadata": {"root": found.root, "elements": found.elements},
    }


_PLAIN = frozenset({str, int, float, bool, type(None)})


def _pruned(value: Any) -> Any:
    """Return a value without the keys that say nothing: null, and empty strings and lists."""
    if type(value) in _PLAIN:  # nearly all are
        return value
    if isinstance(value, list | tuple):
        return [_pruned(member) for member in value]
    if isinstance(value, Mapping):
        return {
            key: kept
            for key, member in value.items()
            if (kept := member if type(member) in _PLAIN else _pruned(member)) or kept in _ZEROS
        }
    return value


_ZEROS = (0, False)
