"""Audio and video files: their tags and their length, by tinytag; what is heard is not read."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from typing import Any

from howdah.errors import MissingExtra
from howdah.loading.readers import UnreadableSource
from howdah.loading.readers.mail import iso_date

__all__ = ["sound_attributes"]

# tinytag's names -> Dublin Core's, and those of our own that are documented.
_NAMES = {
    "title": "title",
    "artist": "creator",
    "album": "album",
    "comment": "description",
    "copyright": "rights",
    "publisher": "publisher",
    "isrc": "identifier",
    "language": "language",
}
_LEFT_OUT = {"filename", "filesize", "mime_type", "duration", "year"}


def sound_attributes(data: bytes) -> dict[str, Any]:
    """Return the attributes of an audio or video file.

    Raises:
        UnreadableSource: It is broken or cut off.
        MissingExtra: tinytag is not installed.
    """
    try:
        from tinytag import TinyTag, TinyTagException
    except ModuleNotFoundError as exc:
        raise MissingExtra("reading audio files", "documents") from exc
    try:
        tag = TinyTag.get(file_obj=BytesIO(data))
        tags: Mapping[str, Any] = tag.as_dict()
    except (TinyTagException, ValueError, LookupError, ArithmeticError, OSError) as exc:
        raise UnreadableSource("The audio file is broken or cut off.") from exc
    found: dict[str, Any] = {
        ours: _single(tags[name]) for name, ours in _NAMES.items() if name in tags
    }
    year = _single(tags.get("year"))
    created = iso_date(str(year)) if year else None
    rest = {
        name: _single(value)
        for name, value in tags.items()
        if name not in _NAMES and name not in _LEFT_OUT
    }
    if year and created is None:
        rest["year"] = year
    return found | {
        "created": created,
        "duration": round(tag.duration, 3) if tag.duration else None,
        "text": "",
        "metadata": rest,
    }


def _single(value: Any) -> Any:
    """Return the one value of a list of one: a tag may be repeated, and mostly is not."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value
