"""Pictures: size, EXIF and position, by Pillow; no pixel is decoded, but of few PNG files.

EXIF's own names go under `metadata.exif`; what has a name in Dublin Core gets it.
Source of the names: CIPA DC-008, https://exiftool.org/TagNames/EXIF.html
"""

from __future__ import annotations

import math
import re
import struct
import warnings
from collections.abc import Mapping
from contextlib import suppress
from io import BytesIO
from typing import TYPE_CHECKING, Any

from howdah.errors import MissingExtra
from howdah.loading.readers import UnreadableSource
from howdah.loading.readers.heif import heif

if TYPE_CHECKING:
    from PIL.Image import Exif
    from PIL.ImageFile import ImageFile

__all__ = ["picture_attributes"]

_PLUGINS = {
    "image/jpeg": ("JpegImagePlugin", "JpegImageFile"),
    "image/png": ("PngImagePlugin", "PngImageFile"),
    "image/gif": ("GifImagePlugin", "GifImageFile"),
    "image/tiff": ("TiffImagePlugin", "TiffImageFile"),
    "image/webp": ("WebPImagePlugin", "WebPImageFile"),
    "image/bmp": ("BmpImagePlugin", "BmpImageFile"),
    "image/avif": ("AvifImagePlugin", "AvifImageFile"),
}
# What is binary, or of use to nobody but the program that wrote it.
_LEFT_OUT = {"MakerNote", "PrintImageMatching", "JpegIFOffset", "JPEGTables", "XMLPacket"}
_LONGEST_VALUE = 1000  # characters, or numbers of an array: curves and tables are longer
_XMP = "XML:com.adobe.xmp"
_BROKEN = "The picture is broken or cut off."
_DATE = re.compile(r"(\d{4})[:-](\d\d)[:-](\d\d)[ T](\d\d:\d\d:\d\d)")
_BEHIND = re.compile(rb"tEXt|iTXt|zTXt|eXIf")  # of PNG: what may stand behind the pixels
_OFFSET = re.compile(r"[+-]\d\d:\d\d|Z")
# Outside of them a file's own metadata is damaged, and Pillow raises what it meets.
_FAULTS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    EOFError,
    OverflowError,
    ZeroDivisionError,
    RuntimeError,
    struct.error,
)


def picture_attributes(data: bytes, kind: str) -> dict[str, Any]:
    """Return the attributes of a picture of a media type.

    Raises:
        UnreadableSource: Its header is broken or cut off.
        MissingExtra: Pillow is not installed.
    """
    try:
        from PIL import Image
    except ModuleNotFoundError as exc:
        raise MissingExtra("reading pictures", "documents") from exc
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of damaged EXIF: into a person's progress bar
        return _read(data, kind, Image.Exif())


def _read(data: bytes, kind: str, exif: Exif) -> dict[str, Any]:
    if kind == "image/heic":
        found = heif(data)
        if found.exif:
            with suppress(*_FAULTS):  # the picture is sound, its EXIF block is not
                exif.load(found.exif)
        return _attributes(found.width, found.height, exif, {})
    try:
        with _opened(data, kind) as image:
            if kind == "image/png" and _BEHIND.search(data, data.rfind(b"IDAT")):
                image.load()  # Pillow comes there by decoding only
            width, height = image.size
            own = {"frames": _frames(image)} | _own(image)
            attributes = _attributes(width, height, _exif(image), own)
            if kind == "image/tiff":
                attributes["pages"] = attributes["metadata"].pop("frames") or 1
            return attributes
    except _FAULTS as exc:
        raise UnreadableSource(_BROKEN) from exc


def _opened(data: bytes, kind: str) -> ImageFile:
    # Not Image.open: it refuses large pictures, which are none of our worry, since
    # it is the decoding that takes memory.
    from importlib import import_module

    module, name = _PLUGINS[kind]
    image: ImageFile = getattr(import_module(f"PIL.{module}"), name)(BytesIO(data))
    return image


def _exif(image: ImageFile) -> Exif:
    from PIL import Image

    try:
        return Image.Image.getexif(image)  # PNG's own decodes the pixels first
    except _FAULTS:
        return Image.Exif()  # the picture is sound, its EXIF block is not


def _frames(image: ImageFile) -> int | None:
    count = getattr(image, "n_frames", 1)
    return count if count > 1 else None


def _own(image: ImageFile) -> dict[str, Any]:
    """Return what the format says beside EXIF: the mode, the resolution, PNG's texts."""
    dpi = image.info.get("dpi")
    found = image.info if image.format == "PNG" else {}
    texts = {
        key: value
        for key, value in found.items()
        if isinstance(value, str) and len(value) <= _LONGEST_VALUE and key != _XMP
    }
    return {"mode": image.mode, "dpi": _value(dpi), "texts": texts}


def _attributes(width: int, height: int, exif: Exif, own: Mapping[str, Any]) -> dict[str, Any]:
    from PIL import ExifTags

    try:
        inner = exif.get_ifd(ExifTags.IFD.Exif)
        gps = exif.get_ifd(ExifTags.IFD.GPSInfo)
    except _FAULTS:
        inner, gps = {}, {}
    tags = _named(dict(exif), ExifTags.TAGS) | _named(inner, ExifTags.TAGS)
    for pointer in ("ExifOffset", "GPSInfo", "ExifInteroperabilityOffset"):
        tags.pop(pointer, None)
    texts = own.get("texts", {})
    return {
        "title": texts.get("Title"),
        "creator": tags.get("Artist") or texts.get("Author"),
        "description": tags.get("ImageDescription") or texts.get("Description"),
        "created": _moment(tags, "DateTimeOriginal", "OffsetTimeOriginal")
        or _moment(tags, "DateTimeDigitized", "OffsetTimeDigitized"),
        "modified": _moment(tags, "DateTime", "OffsetTime"),
        "rights": tags.get("Copyright") or texts.get("Copyright"),
        "width": width,
        "height": height,
        "text": "",
        "metadata": {**own, **_position(_named(gps, ExifTags.GPSTAGS)), "exif": tags},
    }


def _named(tags: Mapping[int, Any], names: Mapping[int, str]) -> dict[str, Any]:
    found = {names[tag]: _value(value) for tag, value in tags.items() if tag in names}
    return {name: value for name, value in found.items() if name not in _LEFT_OUT}


def _value(value: Any) -> Any:
    """Return a value of EXIF as JSON has it; None for what JSON has not, or is of no use."""
    if isinstance(value, bytes):
        if len(value) == 1:
            return value[0]  # of EXIF's type BYTE: a number
        value = value.rstrip(b"\0").decode("ascii", "replace")
    if isinstance(value, str):
        text = value.strip("\0 ")
        return text if len(text) <= _LONGEST_VALUE and text.isprintable() else None
    if isinstance(value, tuple | list):
        values = [_value(member) for member in value[: _LONGEST_VALUE + 1]]
        return values if len(values) <= _LONGEST_VALUE and None not in values else None
    if isinstance(value, int) or value is None:
        return value
    try:
        number = float(value)  # a fraction; 0/0 where a camera does not know
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return (int(number) if number.is_integer() else number) if math.isfinite(number) else None


def _moment(tags: Mapping[str, Any], name: str, offset_name: str) -> str | None:
    """Return a date of EXIF in ISO 8601, with its offset from UTC where there is one."""
    found = _DATE.match(str(tags.get(name, "")))
    if not found or found[1] == "0000":
        return None
    offset = str(tags.get(offset_name, ""))
    return f"{found[1]}-{found[2]}-{found[3]}T{found[4]}" + (
        offset if _OFFSET.fullmatch(offset) else ""
    )


def _position(gps: Mapping[str, Any]) -> dict[str, float | None]:
    """Return latitude and longitude in degrees (north and east are positive), altitude in m."""
    altitude = gps.get("GPSAltitude")
    below = gps.get("GPSAltitudeRef") == 1
    return {
        "latitude": _degrees(gps, "GPSLatitude", "S"),
        "longitude": _degrees(gps, "GPSLongitude", "W"),
        "altitude": (-altitude if below else altitude)
        if isinstance(altitude, int | float)
        else None,
    }


def _degrees(gps: Mapping[str, Any], name: str, negative: str) -> float | None:
    match gps.get(name):
        case [int() | float() as degrees, int() | float() as minutes, int() | float() as seconds]:
            value = degrees + minutes / 60 + seconds / 3600
            # Seven places are a centimetre.
            return round(-value if gps.get(f"{name}Ref") == negative else value, 7)
    return None
