"""Which media type a source is, by its content; a name only says which kind of text it is."""

from __future__ import annotations

import re

from howdah.loading.readers import HEAD_BYTES, Head, Match
from howdah.loading.readers.characters import encoding_of, looks_like_text
from howdah.loading.readers.ole import MAGIC, stream_names

__all__ = ["BINARY_SUFFIXES", "DOCX", "EPUB", "HTML", "MAIL", "MBOX", "MSG", "PPTX", "media_type"]

DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
PPTX = "application/vnd.openxmlformats-officedocument.presentationml.presentation"
EPUB = "application/epub+zip"
HTML = "text/html"
MAIL = "message/rfc822"
MBOX = "application/mbox"
MSG = "application/vnd.ms-outlook"

BINARY_SUFFIXES = frozenset(
    {".pdf", ".docx", ".pptx", ".xlsx", ".odt", ".doc", ".ppt", ".xls", ".epub", ".png", ".jpg"}
)
"""Suffixes of formats that are no text."""

_PDF_BYTES = 1024  # within which its magic number stands
_MAGIC = (
    (re.compile(rb"\{\\rtf"), "application/rtf"),
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "image/png"),
    (re.compile(rb"\xff\xd8\xff"), "image/jpeg"),
    (re.compile(rb"GIF8[79]a"), "image/gif"),
    (re.compile(rb"II\*\x00|MM\x00\*"), "image/tiff"),
    (re.compile(rb"(?s)RIFF.{4}WEBP"), "image/webp"),
    (re.compile(rb"(?s).{4}ftyp(?:hei[cxms]|hev[cx]|mif1|msf1)"), "image/heic"),
    (re.compile(rb"(?s).{4}ftypavi[fs]"), "image/avif"),
    (re.compile(rb"(?s).{4}ftypM4[AB]"), "audio/mp4"),
    (re.compile(rb"(?s).{4}ftypqt  "), "video/quicktime"),
    (re.compile(rb"(?s).{4}ftyp"), "video/mp4"),
    (re.compile(rb"(?s)RIFF.{4}WAVE"), "audio/wav"),
    (re.compile(rb"(?s)FORM.{4}AIF[FC]"), "audio/aiff"),
    (re.compile(rb"fLaC"), "audio/flac"),
    (re.compile(rb"OggS"), "audio/ogg"),
    (re.compile(rb"ID3[\x02-\x04]"), "audio/mpeg"),
    (re.compile(rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11"), "audio/x-ms-wma"),
    # Two letters alone would be any text: the length of the header, too.
    (re.compile(rb"(?s)BM.{12}[\x0c\x28\x6c\x7c]\x00\x00\x00"), "image/bmp"),
)
# The first bytes of a frame of MPEG audio: too few to be sure of them by themselves.
_MPEG_FRAME = re.compile(rb"\xff[\xe2-\xe7\xf2-\xf7\xfa-\xfd]")
_MPEG_SUFFIXES = {".mp3", ".mp2", ".mpga"}
_OLE = (
    ("WordDocument", "application/msword"),
    ("PowerPoint Document", "application/vnd.ms-powerpoint"),
    ("__properties_version1.0", MSG),
    ("__nameid_version1.0", MSG),
    ("HwpSummaryInformation", "application/x-hwp"),
)
_OLE_SUFFIXES = {
    ".doc": "application/msword",
    ".ppt": "application/vnd.ms-powerpoint",
    ".msg": MSG,
    ".docx": DOCX,
    ".pptx": PPTX,
}
_ZIP_MIMETYPE = re.compile(
    rb"mimetype(application/(?:epub\+zip|vnd\.oasis\.opendocument\.[a-z-]+))"
)
_SPREADSHEET = "application/vnd.oasis.opendocument.spreadsheet"

# The texts whose name says what they are; anything else that is text is plain.
_BY_SUFFIX = {
    **dict.fromkeys((".md", ".markdown", ".mdown", ".mkd"), "text/markdown"),
    **dict.fromkeys((".html", ".htm", ".xhtml", ".html4", ".html5"), HTML),
    ".rst": "text/x-rst",
    ".org": "text/x-org",
    **dict.fromkeys((".tex", ".latex"), "application/x-latex"),
    ".typ": "application/x-typst",
    ".bib": "application/x-bibtex",
    ".djot": "text/x-djot",
    ".eml": MAIL,
    ".mbox": MBOX,
}
_XML_SUFFIXES = re.compile(
    r"\.(xml|svg|xsd|xslt?|rss|atom|kml|gpx|plist|tei|xhtml|opml|fb2|jats|docbook\d?|dbk|opf|ncx)"
)
# Vocabularies of XML that are documents of their own: found in the doctype, or
# as the root element.
_XML_KINDS = (
    (re.compile(r"<FictionBook\b"), "application/x-fictionbook+xml"),
    (re.compile(r"<opml\b"), "application/xml+opml"),
    (
        re.compile(r"<!DOCTYPE[^>]*(?:JATS|NLM//DTD)|<article\b[^>]*\bdtd-version"),
        "application/x-jats+xml",
    ),
    (
        re.compile(r"<!DOCTYPE[^>]*docbook|docbook\.org/ns/docbook", re.IGNORECASE),
        "application/docbook+xml",
    ),
    (re.compile(r"<!DOCTYPE\s+html|<html\b", re.IGNORECASE), "application/xhtml+xml"),
)
_XML_BY_SUFFIX = {
    **dict.fromkeys((".docbook", ".dbk"), "application/docbook+xml"),
    ".jats": "application/x-jats+xml",
    ".xhtml": "application/xhtml+xml",
    **dict.fromkeys((".html", ".htm"), HTML),
}
_HTML_START = re.compile(r"<(?:!doctype\s+html|html|head|body)\b", re.IGNORECASE)
_FIELD = re.compile(
    r"(?mi)^(From|To|Cc|Subject|Date|Received|Message-ID|MIME-Version|Return-Path"
    r"|Delivered-To|Content-Type|Reply-To|X-[\w-]+):"
)
_FIELD_LINE = re.compile(r"[!-9;-~]+:(?:\s|$)")
_FEWEST_FIELDS = 2


_latest: list[tuple[Head, tuple[str | None, Match]]] = []


def media_type(head: Head) -> tuple[str | None, Match]:
    """Return the media type of a document and how sure that is; (None, NO) if it is none.

    It is remembered: who chooses a reader asks, and then the reader.
    """
    for known, told in _latest:
        if known.data is head.data and known.name == head.name and known.members == head.members:
            return told
    told = _media_type(head)
    _latest[:] = [(head, told)]
    return told


def _media_type(head: Head) -> tuple[str | None, Match]:
    data = head.data
    if b"%PDF-" in data[:_PDF_BYTES]:
        return "application/pdf", Match.CERTAIN
    for magic, kind in _MAGIC:
        if magic.match(data):
            # The brand of the container does not tell whether there is a picture in it.
            heard = kind == "video/mp4" and head.suffix in {".m4a", ".m4b"}
            return "audio/mp4" if heard else kind, Match.CERTAIN
    if data.startswith(MAGIC):
        return _in_ole(head)
    if data.startswith(b"PK\x03\x04"):
        return _in_zip(head)
    if head.suffix in _MPEG_SUFFIXES and _MPEG_FRAME.match(data):
        return "audio/mpeg", Match.LIKELY
    return _in_text(head) if looks_like_text(data) else (None, Match.NO)


def _in_ole(head: Head) -> tuple[str | None, Match]:
    streams = stream_names(head.data)
    for stream, kind in _OLE:
        if stream in streams:
            return kind, Match.CERTAIN
    unclear = not streams or "EncryptedPackage" in streams
    kind = _OLE_SUFFIXES.get(head.suffix, "")
    return (kind, Match.LIKELY) if kind and unclear else (None, Match.NO)


def _in_zip(head: Head) -> tuple[str | None, Match]:
    if found := _ZIP_MIMETYPE.search(head.data[:256]):
        kind = found[1].decode()
        return (None, Match.NO) if kind.startswith(_SPREADSHEET) else (kind, Match.CERTAIN)
    # The directory stands at a file's end: one that is cut off has none, but
    # its first members still name themselves.
    for folder, kind in (("word/", DOCX), ("ppt/", PPTX)):
        named = any(member.startswith(folder) for member in head.members)
        if named or (not head.members and b"\0" + folder.encode() in _local_names(head.data)):
            return kind, Match.CERTAIN
    return None, Match.NO


def _local_names(data: bytes) -> bytes:
    """Return the names of the members in a ZIP file's head, each behind a zero byte."""
    names = re.findall(rb"PK\x03\x04.{22}(..)..(.{0,64})", data, re.DOTALL)
    return b"".join(b"\0" + name[: int.from_bytes(length, "little")] for length, name in names)


def _in_text(head: Head) -> tuple[str | None, Match]:
    text = head.data.decode(encoding_of(head.data), "replace")
    start = text.lstrip("\ufeff \t\r\n")
    suffix = head.suffix
    if start.startswith("<"):
        if (kind := _in_markup(start, suffix)) is not None:
            return kind, Match.CERTAIN
    elif suffix == ".ipynb" and (len(head.data) >= HEAD_BYTES or '"nbformat"' in text):
        return "application/x-ipynb+json", Match.CERTAIN
    elif (kind := _in_fields(start)) is not None:
        return kind, Match.CERTAIN
    if suffix in _BY_SUFFIX:
        return _BY_SUFFIX[suffix], Match.LIKELY
    return "text/plain", Match.POSSIBLE


def _in_markup(start: str, suffix: str) -> str | None:
    declared = start.startswith("<?xml")
    if _HTML_START.match(_behind_comments(start)):
        return HTML
    if declared or _XML_SUFFIXES.match(suffix):
        prolog = start[:4096]
        for pattern, kind in _XML_KINDS:
            if pattern.search(prolog):
                return kind
        return _XML_BY_SUFFIX.get(suffix.rstrip("45"), "application/xml")
    return None


def _behind_comments(markup: str) -> str:
    while (markup := markup.lstrip()).startswith("<!--"):
        markup = markup.partition("-->")[2]
    return markup


def _in_fields(start: str) -> str | None:
    """Tell mail by its header: at least two fields that mail has, before the first blank line."""
    mailbox = start.startswith("From ")
    if not mailbox and not _FIELD_LINE.match(start):
        return None
    header = re.split(r"\r?\n\r?\n", start[:16384], maxsplit=1)[0]
    if len({name.lower() for name in _FIELD.findall(header)}) < _FEWEST_FIELDS:
        return None
    return MBOX if mailbox else MAIL
