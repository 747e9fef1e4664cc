"""Documents: one file, one record, with the elements of Dublin Core, the text and the rest.

Which format a file has is told by its content. Plain text, Markdown, mail and
XML are read by the standard library, everything else by kreuzberg, without
OCR, cache or network. See docs/reference/loading-attributes.md.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, BinaryIO

from howdah.errors import MissingExtra
from howdah.loading.readers import HEAD_BYTES, Head, Item, Match, Reader, UnreadableSource
from howdah.loading.readers.characters import decoded, encoding_of, is_wide
from howdah.loading.readers.mail import iso_date, mail_attributes, messages
from howdah.loading.readers.markup import (
    html_text,
    member_names,
    package_part,
    package_properties,
    xml_text,
)
from howdah.loading.readers.mediatypes import (
    BINARY_SUFFIXES,
    DOCX,
    EPUB,
    HTML,
    MAIL,
    MBOX,
    MSG,
    PPTX,
    media_type,
)
from howdah.loading.readers.ole import stream_names
from howdah.loading.readers.panics import panics_as_unreadable

__all__ = ["DOCUMENT_LIMIT_BYTES", "Document", "mail_record"]

DOCUMENT_LIMIT_BYTES = 1 << 30
"""How large a document may be: it is held in memory, in bytes."""

_TEXT_LIMIT_BYTES = 256 << 20  # the most that jsonb holds
_TIMEOUT_S = 120
_ODF = "application/vnd.oasis.opendocument."
_ODT = _ODF + "text"

# kreuzberg's names -> Dublin Core's.
_NAMES = {
    "title": "title",
    "directive_title": "title",
    "authors": "creator",
    "directive_author": "creator",
    "subject": "subject",
    "description": "description",
    "publisher": "publisher",
    "created_at": "created",
    "modified_at": "modified",
    "language": "language",
    "identifier": "identifier",
    "rights": "rights",
    "copyright": "rights",
}
_PROPERTIES = (
    "title",
    "subject",
    "description",
    "publisher",
    "contributor",
    "identifier",
    "language",
    "rights",
    "created",
    "modified",
)
# What kreuzberg adds of its own, or says twice.
_NOISE = {
    "format_type",
    "extraction_method",
    "core_properties",
    "headers",
    "links",
    "images",
    "pages",
    "slide_titles",
    "slide_names",
    "html_offset",
    "structured_data",
    "data_format",
    "field_count",
    "is_encrypted",
    "author",
}
_MSG_HEADER = re.compile(
    r"\A(?:(?:Subject|From|To|CC|BCC|Date|Attachments?): [^\n]*\n)+\n?", re.IGNORECASE
)
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
    "pages",
    "width",
    "height",
    "bytes",
    "sha256",
    "text",
    "metadata",
)


class Document(Reader):
    """Reads PDF, office files, HTML, mail, e-books, images, markup and plain text."""

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
        kind = _kind(data, name)
        for part, part_kind in (
            ((m, MAIL) for m in messages(data)) if kind == MBOX else [(data, kind)]
        ):
            yield _record(part, part_kind, name)


def mail_record(data: bytes) -> dict[str, Any]:
    """Return the attributes of one message, as those of a file that holds it alone."""
    return _record(data, MAIL, "")


def _kind(data: bytes, name: str) -> str:
    members = member_names(data) if data.startswith(b"PK\x03\x04") else []
    kind, _ = media_type(Head(name.rpartition("/")[2], data[:HEAD_BYTES], members))
    if kind is None:
        raise UnreadableSource("The file is of no format that is known.")
    return kind


def _record(data: bytes, kind: str, name: str) -> dict[str, Any]:
    if "EncryptedPackage" in stream_names(data[:HEAD_BYTES]):
        raise UnreadableSource("The document is encrypted with a password.")
    if kind == MAIL:
        found = mail_attributes(data)
    elif kind == "application/xml":
        found = _xml(data)
    elif kind in {"text/plain", "text/markdown"}:
        found = _text(data, kind, name)
    else:
        found = _extracted(data, kind)
    if len(found["text"]) > _TEXT_LIMIT_BYTES:
        raise UnreadableSource(f"The text is longer than {_TEXT_LIMIT_BYTES} characters.")
    found |= {
        "type": "StillImage" if kind.startswith("image/") else "Text",
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
    return {
        "title": _markdown_title(text) if kind == "text/markdown" else None,
        "text": text,
        "metadata": {"encoding": encoding} if encoding != "utf-8" else {},
    }


def _is_link(text: str, name: str) -> bool:
    """Say whether git has checked out a symbolic link as a file, where links are off.

    What is named as a PDF file and holds nothing but the path of another one
    is no text that anybody wants to load.
    """
    dot, suffix = name.rpartition(".")[1:]
    suffix = f"{dot}{suffix}".lower()
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


# ---- by kreuzberg


@cache
def _config() -> Any:
    """Return the configuration: nothing that writes, calls out, or changes the text."""
    try:
        from kreuzberg import ExtractionConfig
    except ModuleNotFoundError as exc:
        raise MissingExtra("reading PDF, office and HTML files", "documents") from exc
    return ExtractionConfig(  # type: ignore[call-arg] # its stubs lack disable_ocr
        use_cache=False,
        enable_quality_processing=False,
        disable_ocr=True,  # ty: ignore[unknown-argument]
        extraction_timeout_secs=_TIMEOUT_S,
    )


def _extracted(data: bytes, kind: str) -> dict[str, Any]:
    properties: dict[str, list[str]] = {}
    if kind in {DOCX, PPTX, EPUB} or kind.startswith(_ODF):
        properties = package_properties(data)
    markup = _as_utf8(data) if _is_text(kind) else data
    if kind.startswith(_ODF) and kind != _ODT:
        found: dict[str, Any] = {"text": _odf_text(data), "metadata": {}}
    else:
        text, metadata = _extract(markup, kind)
        if not text.strip() and kind in {HTML, "application/xhtml+xml"}:
            # kreuzberg drops <nav>, and everything that is nested very deeply.
            text = html_text(markup.decode("utf-8", "replace"))
        found = _named(metadata, kind) | {
            "text": _MSG_HEADER.sub("", text) if kind == MSG else text
        }
    found |= _dublin_core(properties)
    own = found.get("metadata")
    found["pages"] = _pages(own if isinstance(own, dict) else {}, kind, data)
    return found


def _extract(data: bytes, kind: str) -> tuple[str, Mapping[str, Any]]:
    config = _config()
    from kreuzberg import KreuzbergError, extract_bytes_sync

    try:
        with panics_as_unreadable():
            result = extract_bytes_sync(data, kind, config)
    except (KreuzbergError, RuntimeError, ValueError, OSError) as exc:
        if kind == "application/pdf" and b"/Encrypt" in data:
            raise UnreadableSource("The PDF file is encrypted with a password.") from exc
        raise UnreadableSource(
            f"The file is broken or cut off: it cannot be read as {kind}."
        ) from exc
    return result.content, dict(result.metadata)


def _is_text(kind: str) -> bool:
    return kind.startswith("text/") or kind in {
        "application/xhtml+xml",
        "application/x-latex",
        "application/x-typst",
        "application/x-bibtex",
        "application/x-ipynb+json",
    }


def _as_utf8(data: bytes) -> bytes:
    """Return text in UTF-8, which is all that kreuzberg reads; HTML may name another encoding."""
    declared = re.search(rb"<meta[^>]+charset=[\"']?([\w-]+)", data[:4096], re.IGNORECASE)
    if declared and not data.startswith((b"\xff\xfe", b"\xfe\xff")):
        try:
            return data.decode(declared[1].decode()).encode()
        except (LookupError, UnicodeDecodeError):
            pass  # the declaration is wrong
    return decoded(data)[0].encode("utf-8", "replace")


def _odf_text(data: bytes) -> str:
    return xml_text(package_part(data, lambda _: "content.xml")).text


def _named(metadata: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Return kreuzberg's metadata by the names of Dublin Core, the rest under `metadata`."""
    if kind == MSG:
        return _mail_named(metadata)
    found = {_NAMES[key]: value for key, value in metadata.items() if key in _NAMES}
    rest = {k: v for k, v in metadata.items() if k not in _NAMES and k not in _NOISE}
    if kind.startswith("image/"):
        found |= {"width": rest.get("width"), "height": rest.get("height")}
    # For office files the creator once more, for PDF the program, for these the author.
    if kind in {"application/x-latex", "application/xml+opml"}:
        found.setdefault("creator", rest.pop("created_by", None))
    elif [rest.get("created_by")] == found.get("creator"):
        del rest["created_by"]
    for name in {"created", "modified"} & found.keys():
        written = found.pop(name)
        if (date := iso_date(str(written))) is not None:
            found[name] = date
        else:
            rest[name] = written  # as the document says it: "July 17, 2006"
    if isinstance(creator := found.get("creator"), list):
        found["creator"] = creator[0] if len(creator) == 1 else creator
    return found | {"metadata": rest}


def _mail_named(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata of an MSG file by the names that mail has."""
    sender = str(metadata.get("from_email") or "").replace('"', "")
    sender = re.sub(r"^(\S+) <\1>$", r"\1", sender)
    return {
        "title": metadata.get("subject"),
        "creator": sender,
        "created": iso_date(metadata.get("created_at")),
        "identifier": metadata.get("message_id"),
        "metadata": {
            "subject": metadata.get("subject"),
            "from": sender,
            "to": metadata.get("to_emails"),
            "cc": metadata.get("cc_emails"),
            "bcc": metadata.get("bcc_emails"),
            "message_id": metadata.get("message_id"),
            "attachments": metadata.get("attachments"),
        },
    }


def _dublin_core(properties: Mapping[str, list[str]]) -> dict[str, Any]:
    """Return what an office file or e-book says itself; it may repeat an element."""
    creators = properties.get("initial_creator") or properties.get("creator", [])
    found: dict[str, Any] = {
        name: values[0] if len(values) == 1 else values
        for name in _PROPERTIES
        if (values := properties.get(name, []))
    }
    if creators:
        found["creator"] = creators[0] if len(creators) == 1 else creators
    dates = properties.get("date", [])
    if dates:
        found.setdefault("modified" if "created" in found else "created", dates[0])
    return found


def _pages(metadata: dict[str, Any], kind: str, data: bytes) -> int | None:
    """Return how many pages or slides there are, where the format has fixed ones."""
    pages: int | None = metadata.pop("slide_count", None)
    if kind == PPTX:
        return len(
            [name for name in member_names(data) if re.fullmatch(r"ppt/slides/slide\d+\.xml", name)]
        )
    if kind == "application/pdf":
        pages = metadata.pop("page_count", None)
    return pages


def _pruned(value: Any) -> Any:
    """Return a value without the keys that say nothing: null, and empty strings and lists."""
    if isinstance(value, Mapping):
        pruned = {key: _pruned(member) for key, member in value.items()}
        return {key: member for key, member in pruned.items() if member not in (None, "", [], {})}
    return [_pruned(member) for member in value] if isinstance(value, list | tuple) else value
