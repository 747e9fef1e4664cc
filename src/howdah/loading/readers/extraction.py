"""Documents by kreuzberg: PDF, office files, HTML, e-books, markup; without OCR, cache or network.

Its metadata gets the names of Dublin Core. What office files and e-books say in
their own properties is read from there, since kreuzberg joins what is repeated.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from howdah.errors import MissingExtra
from howdah.loading.readers import UnreadableSource
from howdah.loading.readers.characters import decoded
from howdah.loading.readers.mail import iso_date
from howdah.loading.readers.markup import (
    html_text,
    package_part,
    package_properties,
    xml_text,
)
from howdah.loading.readers.mediatypes import DOCX, EPUB, HTML, MSG, PPTX
from howdah.loading.readers.packages import Package
from howdah.loading.readers.panics import panics_as_unreadable

__all__ = ["dublin_core", "extracted"]

_TIMEOUT_S = 120
_ODF = "application/vnd.oasis.opendocument."
_ODT, _ODP, _ODG = _ODF + "text", _ODF + "presentation", _ODF + "graphics"

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
_SLIDES = "ppt/slides/slide"
_SLIDE = re.compile(rf"{_SLIDES}\d+\.xml")
_MSG_HEADER = re.compile(
    r"\A(?:(?:Subject|From|To|CC|BCC|Date|Attachments?): [^\n]*\n)+\n?", re.IGNORECASE
)


def extracted(data: bytes, kind: str, package: Package | None = None) -> dict[str, Any]:
    """Return the attributes of a document of a media type.

    Args:
        data: The document.
        kind: Its media type.
        package: The ZIP file that it is, if it is one and can be opened.

    Raises:
        UnreadableSource: It is broken, cut off or encrypted.
        MissingExtra: kreuzberg is not installed.
    """
    properties: dict[str, list[str]] = {}
    if kind in {DOCX, PPTX, EPUB} or kind.startswith(_ODF):
        properties = package_properties(package)
    markup = _as_utf8(data) if _is_text(kind) else data
    if kind.startswith(_ODF) and kind != _ODT:
        found: dict[str, Any] = {"text": _odf_text(package), "metadata": {}}
    else:
        text, metadata = _extract(markup, kind)
        if not text.strip() and kind in {HTML, "application/xhtml+xml"}:
            # kreuzberg drops <nav>, and everything that is nested very deeply.
            text = html_text(markup.decode("utf-8", "replace"))
        found = _named(metadata, kind) | {
            "text": _MSG_HEADER.sub("", text) if kind == MSG else text
        }
    if properties:
        found |= dublin_core(properties)
    own = found.get("metadata")
    found["pages"] = _pages(own if isinstance(own, dict) else {}, kind, package)
    return found


@cache
def _library() -> tuple[Callable[..., Any], Any, type[Exception]]:
    """Return what extracts, its configuration and its error.

    Nothing that writes, calls out, or changes the text is configured.
    """
    try:
        from kreuzberg import (
            ExtractionConfig,
            KreuzbergError,
            PostProcessorConfig,
            extract_bytes_sync,
        )
    except ModuleNotFoundError as exc:
        raise MissingExtra("reading PDF, office and HTML files", "documents") from exc
    config = ExtractionConfig(  # type: ignore[call-arg] # its stubs lack disable_ocr
        use_cache=False,
        enable_quality_processing=False,
        disable_ocr=True,  # ty: ignore[unknown-argument]
        postprocessor=PostProcessorConfig(enabled=False),  # there is none that we have a use for
        extraction_timeout_secs=_TIMEOUT_S,
    )
    return extract_bytes_sync, config, KreuzbergError


def _extract(data: bytes, kind: str) -> tuple[str, Mapping[str, Any]]:
    extract, config, failure = _library()
    try:
        with panics_as_unreadable():
            result = extract(data, kind, config)
    except (failure, RuntimeError, ValueError, OSError) as exc:
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


def _odf_text(package: Package | None) -> str:
    return xml_text(package_part(package, lambda _: "content.xml")).text


def _named(metadata: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Return kreuzberg's metadata by the names of Dublin Core, the rest under `metadata`."""
    if kind == MSG:
        return _mail_named(metadata)
    found = {_NAMES[key]: value for key, value in metadata.items() if key in _NAMES}
    rest = {k: v for k, v in metadata.items() if k not in _NAMES and k not in _NOISE}
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


def dublin_core(properties: Mapping[str, list[str]]) -> dict[str, Any]:
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


def _pages(metadata: dict[str, Any], kind: str, package: Package | None) -> int | None:
    """Return how many pages or slides there are, where the format has fixed ones."""
    pages: int | None = metadata.pop("slide_count", None)
    if kind == PPTX:
        names = package.names if package else ()
        return sum(name.startswith(_SLIDES) and bool(_SLIDE.fullmatch(name)) for name in names)
    if kind == "application/pdf":
        pages = metadata.pop("page_count", None)
    if kind.startswith((_ODP, _ODG)):
        return len(re.findall(rb"<draw:page[ />]", package_part(package, lambda _: "content.xml")))
    return pages
