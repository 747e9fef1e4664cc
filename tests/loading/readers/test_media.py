"""Pictures, sound and source code: what their own metadata says, under documented names."""

from __future__ import annotations

import io
import struct
import warnings
import wave

import pytest
from PIL import Image
from PIL.TiffImagePlugin import IFDRational

from howdah.loading.readers import Head, Match, UnreadableSource, reader_for
from howdah.loading.readers.documents import Document
from howdah.loading.readers.encode import encode
from howdah.loading.readers.heif import heif
from howdah.loading.readers.languages import language_of

from .reading import DOCUMENTS, items

ARTIST, DATE, COPYRIGHT, DESCRIPTION = 0x013B, 0x0132, 0x8298, 0x010E
ORIGINAL, OFFSET, MAKER_NOTE = 0x9003, 0x9011, 0x927C
EXIF, GPS = 0x8769, 0x8825


def read(data, name="source"):
    (record,) = items(Document(), data, name)
    assert encode(record)[0]
    return record


def exif() -> Image.Exif:
    made = Image.Exif()
    made[ARTIST], made[COPYRIGHT], made[DESCRIPTION] = "Ada", "CC0", "A bridge"
    made[DATE] = "2024:03:01 08:00:00"
    made.get_ifd(EXIF).update(
        {ORIGINAL: "2024:02:29 12:30:00", OFFSET: "+01:00", MAKER_NOTE: b"\x00" * 500}
    )
    made.get_ifd(GPS).update(
        {
            1: "S",
            2: (IFDRational(33), IFDRational(51), IFDRational(54, 1)),
            3: "E",
            4: (IFDRational(151), IFDRational(12), IFDRational(36)),
            5: b"\x01",
            6: IFDRational(25, 2),
        }
    )
    return made


def picture(kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30), "red").save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF"])
def test_picture_gives_its_size_its_maker_and_its_place(kind):
    record = read(picture(kind, exif=exif()))

    assert record["format"] == f"image/{kind.lower()}"
    assert (record["type"], record["width"], record["height"]) == ("StillImage", 40, 30)
    assert (record["creator"], record["rights"]) == ("Ada", "CC0")
    assert record["description"] == "A bridge"
    assert record["created"] == "2024-02-29T12:30:00+01:00"
    assert record["modified"] == "2024-03-01T08:00:00"
    assert record["metadata"]["latitude"] == -33.865
    assert record["metadata"]["longitude"] == 151.21
    assert record["metadata"]["altitude"] == -12.5
    assert "MakerNote" not in record["metadata"]["exif"]


def test_tiff_file_gives_its_own_tags():
    record = read(picture("TIFF", exif=exif()))

    assert (record["format"], record["creator"], record["pages"]) == ("image/tiff", "Ada", 1)
    assert record["modified"] == "2024-03-01T08:00:00"


@pytest.mark.parametrize("kind", ["GIF", "BMP"])
def test_picture_without_exif_gives_its_size(kind):
    record = read(picture(kind))

    assert (record["width"], record["height"], record["text"]) == (40, 30, "")


def test_pages_of_a_tiff_file_and_frames_of_an_animation_are_counted():
    more = [Image.new("RGB", (4, 4), color) for color in ("blue", "green")]

    assert read(picture("TIFF", save_all=True, append_images=more))["pages"] == 3
    assert read(picture("GIF", save_all=True, append_images=more))["metadata"]["frames"] == 3


def test_picture_of_more_pixels_than_memory_holds_is_not_decoded():
    header = struct.pack("<IiiHHIIiiII", 40, 100_000, 100_000, 1, 24, 0, 0, 0, 0, 0, 0)

    record = read(b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + header)

    assert (record["width"], record["height"]) == (100_000, 100_000)


def test_size_of_a_heic_picture_is_in_its_boxes():
    record = read((DOCUMENTS / "img__DA-1p.heic").read_bytes())

    assert record["format"] == "image/heic"
    assert (record["width"], record["height"]) == (596, 842)


def box(kind: bytes, *parts: bytes) -> bytes:
    content = b"".join(parts)
    return struct.pack(">I4s", len(content) + 8, kind) + content


def heic_with(block: bytes) -> bytes:
    block = struct.pack(">I", 6) + block  # its first 6 bytes are "Exif\0\0"

    def made(place: int) -> bytes:
        extent = struct.pack(">HHHII", 7, 0, 1, place, len(block))
        return box(b"ftyp", b"heic", bytes(4)) + box(
            b"meta",
            bytes(4),
            box(b"iinf", bytes(4), b"\0\1", box(b"infe", b"\2\0\0\0", b"\0\7\0\0", b"Exif\0")),
            box(b"iloc", bytes(4), b"\x44\x00", b"\0\1", extent),
            box(b"iprp", box(b"ipco", box(b"ispe", bytes(4), struct.pack(">II", 64, 48)))),
        )

    return made(len(made(0))) + block


def test_exif_of_a_heic_picture_is_found():
    block = exif().tobytes()
    assert block[:6] == b"Exif\0\0"

    record = read(heic_with(block))

    assert (record["width"], record["height"]) == (64, 48)
    assert record["created"] == "2024-02-29T12:30:00+01:00"
    assert record["metadata"]["latitude"] == -33.865


def test_heic_picture_with_a_damaged_exif_block_gives_its_size():
    record = read(heic_with(b"Exif\0\0no TIFF header"))

    assert (record["width"], record["height"]) == (64, 48)


def test_damaged_exif_is_no_warning_on_the_terminal():
    file = io.BytesIO()
    block = Image.Exif()
    block[0x010F] = "of this maker"
    Image.new("RGB", (64, 48)).save(file, "jpeg", exif=block)
    order = "<" if b"Exif\0\0II" in file.getvalue() else ">"
    make = struct.pack(order + "HH", 0x010F, 2)  # Make, a text: its length comes next
    at = file.getvalue().index(make) + len(make)
    damaged = file.getvalue()[:at] + b"\x7f\xff\xff\x7f" + file.getvalue()[at + 4 :]

    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        record = read(damaged)

    assert (record["width"], record["height"]) == (64, 48)
    assert not warned


@pytest.mark.parametrize("length", [12, 40, 400, 900])
def test_heic_picture_that_is_cut_off_says_so(length):
    with pytest.raises(UnreadableSource, match="broken or cut off"):
        heif((DOCUMENTS / "img__DA-1p.heic").read_bytes()[:length])


def test_sound_gives_its_tags_and_its_length():
    record = read((DOCUMENTS / "test.mp3").read_bytes())

    assert (record["type"], record["format"]) == ("Sound", "audio/mpeg")
    assert record["creator"] == "Artist Name Test String"
    assert record["album"] == "Album Name Test String"
    assert record["duration"] == pytest.approx(6.48, abs=0.01)


def test_container_of_video_is_sound_where_its_name_says_so():
    data = (DOCUMENTS / "test.m4a").read_bytes()

    assert read(data, "test.m4a")["type"] == "Sound"
    assert read(data, "test.mp4")["type"] == "MovingImage"
    assert read(data, "test.mp4")["duration"] == pytest.approx(6.44, abs=0.01)


def test_wave_file_has_a_length():
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(2 * 12_000))

    record = read(buffer.getvalue())

    assert (record["format"], record["duration"]) == ("audio/wav", 1.5)


@pytest.mark.parametrize(
    ("name", "start", "language"),
    [
        ("a.py", "", "Python"),
        ("A.CPP", "", "C++"),
        ("Makefile", "", "Makefile"),
        ("CMakeLists.txt", "", "CMake"),
        ("run", "#!/usr/bin/env python3\n", "Python"),
        ("run", "#!/usr/bin/env -S LANG=C perl -w\n", "Perl"),
        ("run", "#! /bin/bash -eu\n", "Shell"),
        ("run", "#!/opt/unknown\n", None),
        ("notes.txt", "import this\n", None),
        (".py", "", None),
        ("", "", None),
    ],
)
def test_language_is_that_of_the_name_or_of_the_first_line(name, start, language):
    assert language_of(name, start) == language


def test_source_code_is_text_with_a_language():
    data = b"#!/usr/bin/env python3\nprint(1, 2)\n"

    record = read(data, "/in/run.gz")

    assert (record["type"], record["language"]) == ("Software", "Python")
    assert record["text"] == data.decode()
    assert "language" not in read(b"plain, text\n", "a.txt")


def test_name_counts_without_the_suffix_of_a_wrapper():
    assert read(b"# Title\n", "/in/a.md.zst")["title"] == "Title"


@pytest.mark.parametrize(
    "data", [b"\xff\xfb\x90\x64" + bytes(400), b"ID3\4\0\0\0\0\0\0" + bytes(9)]
)
def test_sound_is_recognised_by_its_head(data):
    found = reader_for(Head("a.mp3", data))

    assert found is not None
    assert found.name == "document"
    assert Document().recognise(Head("a.bin", b"\xff\xfb\x90\x64" + bytes(400))) is Match.NO
