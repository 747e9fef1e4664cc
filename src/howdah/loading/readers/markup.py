"""Text out of XML and HTML by the standard library; entities are never expanded."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from howdah.loading.readers import UnreadableSource
from howdah.loading.readers.packages import ZIP_FAULTS, Package

__all__ = [
    "XMLText",
    "html_text",
    "package_part",
    "package_properties",
    "xml_text",
]

_TITLE_DEPTH = 3
_TREE_BYTES = 64 << 10  # of properties; office programs write one or two kB
_PLAIN = re.compile(
    rb"""(?:\xef\xbb\xbf)?(?:<\?xml\s+version=["']1\.0["']
    (?:\s+encoding=["'](?:utf-8|UTF-8)["'])?(?:\s+standalone=["']\w+["'])?\s*\?>)?\s*<[A-Za-z]""",
    re.VERBOSE,
)
_DUBLIN_CORE = ("http://purl.org/dc/elements/1.1/", "http://purl.org/dc/terms/")
_ODF_META = "urn:oasis:names:tc:opendocument:xmlns:meta:1.0"
_ODF_NAMES = {"initial-creator": "initial_creator", "creation-date": "created"}
# Split once, so that no unclosed tag or comment is looked for again and again.
_TAGS = re.compile(r"(<!--|-->|<[^<>]*>)")
_TAG_NAME = re.compile(r"</?([a-z][a-z0-9]*)", re.IGNORECASE)
_HIDDEN = {"script", "style", "title"}
_BLOCKS = {"p", "div", "br", "tr", "li", "table", "h1", "h2", "h3", "h4", "h5", "h6"}


@dataclass(slots=True)
class XMLText:
    """What an XML document says.

    Attributes:
        root: The root element's name, without its namespace.
        elements: How many elements there are.
        text: The character data; an element that follows another begins a line.
        title: The first element of that name near the root.
        properties: The Dublin Core elements, in order of appearance.
    """

    root: str = ""
    elements: int = 0
    text: str = ""
    title: str | None = None
    properties: dict[str, list[str]] = field(default_factory=dict)


def xml_text(data: bytes, encoding: str | None = None) -> XMLText:
    """Return what an XML document says; a reference to an entity stays as it is written.

    Raises:
        UnreadableSource: It is not well-formed.
    """
    from xml.parsers import expat

    found = XMLText()
    parser = expat.ParserCreate(encoding, namespace_separator=" ")
    builder = _Builder(found)
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.pieces.append
    # A default handler keeps expat from expanding internal entities; external
    # ones it never opens.
    parser.DefaultHandler = builder.other
    parser.buffer_text = True
    try:
        parser.Parse(data, True)
    except expat.ExpatError as exc:
        message = expat.ErrorString(exc.code)
        raise UnreadableSource(
            f"The XML is not well-formed: {message}, line {exc.lineno}."
        ) from exc
    except (LookupError, ValueError) as exc:  # an encoding that expat does not have
        raise UnreadableSource("The XML is in an encoding that cannot be read.") from exc
    found.text = _lines("".join(builder.pieces))
    return found


class _Builder:
    """Collects what the parser reports."""

    def __init__(self, found: XMLText) -> None:
        self.pieces: list[str] = []
        self._found = found
        self._starts: list[int] = []
        self._ended = False

    def start(self, name: str, _attributes: object) -> None:
        self._found.root = self._found.root or name.rpartition(" ")[2]
        self._found.elements += 1
        if self._ended:
            self.pieces.append("\n")
        self._starts.append(len(self.pieces))
        self._ended = False

    def end(self, name: str) -> None:
        first = self._starts.pop()
        namespace, _, local = name.rpartition(" ")
        self._ended = True
        titled = local == "title" and len(self._starts) < _TITLE_DEPTH and not self._found.title
        key = _property(namespace, local)
        if titled or key:
            text = " ".join("".join(self.pieces[first:]).split())
            if titled:
                self._found.title = text or None
            if key and text:
                self._found.properties.setdefault(key, []).append(text)

    def other(self, text: str) -> None:
        if text.startswith("&"):
            self.pieces.append(text)


def _property(namespace: str, local: str) -> str | None:
    if namespace in _DUBLIN_CORE:
        return local
    return _ODF_NAMES.get(local) if namespace == _ODF_META else None


def html_text(text: str) -> str:
    """Return what stands between the tags of HTML, for mail and for what other parsers drop."""
    kept: list[str] = []
    until = ""
    for place, piece in enumerate(_TAGS.split(text)):
        if until:
            if piece.lower().startswith(until):
                until = ""
        elif place % 2 == 0:
            kept.append(piece)
        elif piece == "<!--":
            until = "-->"
        elif found := _TAG_NAME.match(piece):
            name = found[1].lower()
            if name in _HIDDEN and not piece.startswith("</"):
                until = f"</{name}"
            elif name in _BLOCKS:
                kept.append("\n")
    return _lines(html.unescape("".join(kept)))


def package_properties(package: Package | None) -> dict[str, list[str]]:
    """Return the Dublin Core properties of an OOXML, ODF or EPUB file.

    Raises:
        UnreadableSource: It is no whole ZIP file, or encrypted.
    """
    part = package_part(package, _properties_part)
    return _properties(part) if part else {}


def _properties(data: bytes) -> dict[str, list[str]]:
    """Return what `xml_text` gives as the properties, without a step of Python an element.

    What may declare an entity is left to `xml_text`, which does not expand it; and what is
    large, since a tree takes many times the memory.
    """
    from xml.etree.ElementTree import XML, ParseError

    small = len(data) <= _TREE_BYTES
    plain = small and b"<!" not in data and _PLAIN.match(data)  # in UTF-8, which hides no "<!"
    try:
        root = XML(data) if plain else None
    except (ParseError, LookupError, ValueError):
        root = None
    if root is None:
        return xml_text(data).properties
    found: dict[str, list[str]] = {}
    for element in root.iter():
        namespace, _, local = element.tag[1:].partition("}")
        if key := _property(namespace, local):
            text = " ".join("".join(element.itertext()).split())
            if text:
                found.setdefault(key, []).append(text)
    return found


def package_part(package: Package | None, choose: Callable[[Package], str | None]) -> bytes:
    """Return one member of a ZIP file, as far as 16 MiB; b"" if none is chosen.

    Raises:
        UnreadableSource: It is no whole ZIP file, or encrypted.
    """
    broken = "The file is broken, cut off or encrypted, as a ZIP file."
    if package is None:
        raise UnreadableSource(broken)
    try:
        name = choose(package)
        return b"" if name is None else package.read(name)
    except (KeyError, *ZIP_FAULTS) as exc:
        raise UnreadableSource(broken) from exc


def _properties_part(package: Package) -> str | None:
    names = package.names
    for name in ("docProps/core.xml", "meta.xml"):
        if name in names:
            return name
    if "META-INF/container.xml" in names:
        container = package.read("META-INF/container.xml")
        found = re.search(rb"full-path\s*=\s*[\"']([^\"']+)", container)
        part = html.unescape(found[1].decode("utf-8", "replace")) if found else ""
        return part if part in names else None
    return None


def _lines(text: str) -> str:
    """Return a text without blank lines, and without spaces at the ends of its lines."""
    return "\n".join(line for line in map(str.strip, text.splitlines()) if line)
