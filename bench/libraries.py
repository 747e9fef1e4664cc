"""Documents by the libraries that read them, called directly: bench/documents.py's base.

    python bench/libraries.py < NAMES

Each document's own library on the bytes of the file, called as howdah's readers call
it and with the same options: kreuzberg, for mail the standard library's email, for
XML its expat, for Markdown nothing but its decoding, for pictures Pillow, for sound
tinytag. Text and metadata are taken from it as Python's objects, and dropped. What
howdah does beside that is not done: which format it is, the suffix tells.
"""

from __future__ import annotations

import email
import sys
from functools import cache
from pathlib import Path
from typing import Any

PICTURES = {".jpg", ".jpeg", ".png", ".gif", ".bmp", ".tif", ".tiff", ".webp"}
SOUND = {".mp3", ".m4a", ".wav", ".flac", ".ogg"}


def read(path: Path) -> tuple[object, dict[Any, Any]]:
    """Return a document's text and metadata."""
    kind = path.suffix.lower()
    if kind in PICTURES:
        from PIL import Image

        with Image.open(path) as image:
            # For PNG, Pillow would decode the whole picture first.
            return image.size, {} if kind == ".png" else dict(image.getexif())
    if kind in SOUND:
        from tinytag import TinyTag

        return "", TinyTag.get(path).as_dict()
    data = path.read_bytes()
    if kind == ".eml":
        return _mail(data)
    if kind == ".md":
        return data.decode("utf-8", "replace"), {}
    if kind == ".xml":
        return _xml(data), {}
    return _extracted(path, data)


def _mail(data: bytes) -> tuple[list[bytes], dict[str, str]]:
    message = email.message_from_bytes(data)
    texts = [
        part.get_payload(decode=True)
        for part in message.walk()
        if part.get_content_maintype() == "text" and not part.get_filename()
    ]
    return texts, dict(message.items())


def _xml(data: bytes) -> str:
    from xml.parsers import expat

    pieces: list[str] = []
    parser = expat.ParserCreate()
    parser.CharacterDataHandler = pieces.append
    parser.buffer_text = True
    parser.Parse(data, True)
    return "".join(pieces)


@cache
def _config() -> Any:
    from kreuzberg import ExtractionConfig, PostProcessorConfig

    return ExtractionConfig(
        use_cache=False,
        enable_quality_processing=False,
        disable_ocr=True,
        postprocessor=PostProcessorConfig(enabled=False),
        extraction_timeout_secs=120,
    )


def _extracted(path: Path, data: bytes) -> tuple[str, dict[Any, Any]]:
    from kreuzberg import detect_mime_type_from_path, extract_bytes_sync

    kind = detect_mime_type_from_path(str(path))
    found = extract_bytes_sync(data, kind, _config())
    return found.content, dict(found.metadata)


if __name__ == "__main__":
    for name in sys.stdin.read().splitlines():
        read(Path(name))
