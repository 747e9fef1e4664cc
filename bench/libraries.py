"""Documents by the libraries that read them, called directly: bench/documents.py's base.

    python bench/libraries.py < NAMES

Each document's own library, as its manual shows, on the bytes of the file:
kreuzberg, for mail the standard library's email, for pictures Pillow, for sound
tinytag. What they find is not looked at.
"""

from __future__ import annotations

import email
import email.policy
import sys
from pathlib import Path

PICTURES = {".jpg", ".jpeg", ".png", ".gif", ".bmp", ".tif", ".tiff", ".webp"}
SOUND = {".mp3", ".m4a", ".wav", ".flac", ".ogg"}


def read(path: Path) -> None:
    kind = path.suffix.lower()
    if kind in PICTURES:
        from PIL import Image

        with Image.open(path) as image:
            if kind != ".png":  # for which Pillow would decode the whole picture first
                image.getexif()
    elif kind in SOUND:
        from tinytag import TinyTag

        TinyTag.get(path)
    elif kind == ".eml":
        message = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
        for part in message.walk():
            if not part.is_multipart():
                part.get_content()
    else:
        _extract(path)


def _extract(path: Path) -> None:
    from kreuzberg import ExtractionConfig, detect_mime_type_from_path, extract_bytes_sync

    config = ExtractionConfig(disable_ocr=True, use_cache=False, enable_quality_processing=False)
    extract_bytes_sync(path.read_bytes(), detect_mime_type_from_path(str(path)), config=config)


if __name__ == "__main__":
    for name in sys.stdin.read().splitlines():
        read(Path(name))
