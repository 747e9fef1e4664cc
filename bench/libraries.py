"""Documents by the libraries that read them, called directly: bench/documents.py's base.

    python bench/libraries.py < NAMES

Each document's own library, as its manual shows, on the bytes of the file:
kreuzberg, for mail the standard library's email, for pictures Pillow, for sound
tinytag. Text and metadata are taken from it as Python's objects, and dropped.
"""

from __future__ import annotations

import email
import email.policy
import sys
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
    if kind == ".eml":
        message = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
        texts = [part.get_content() for part in message.walk() if not part.is_multipart()]
        return texts, dict(message.items())
    return _extracted(path)


def _extracted(path: Path) -> tuple[str, dict[Any, Any]]:
    from kreuzberg import ExtractionConfig, detect_mime_type_from_path, extract_bytes_sync

    config = ExtractionConfig(disable_ocr=True, use_cache=False, enable_quality_processing=False)
    kind = detect_mime_type_from_path(str(path))
    found = extract_bytes_sync(path.read_bytes(), kind, config=config)
    return found.content, dict(found.metadata)


if __name__ == "__main__":
    for name in sys.stdin.read().splitlines():
        read(Path(name))
