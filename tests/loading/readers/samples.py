"""A small real file of each record format, as bytes: written by the format's own writer."""

from __future__ import annotations

import io
import sqlite3
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import fastavro
import pyarrow as pa
import pyarrow.feather
import pyarrow.orc
import pyarrow.parquet

from howdah.loading.readers import ReaderOptions

TABLE = pa.table({"n": pa.array(range(50)), "text": pa.array([f"é{n}" for n in range(50)])})

FEATURE = (
    b'{"type":"Feature","id":%d,"properties":{"n":1.10},'
    b'"geometry":{"type":"Point","coordinates":[1.0,2.50]}}'
)
LOG = (
    b'127.0.0.1 - frank [10/Oct/2000:13:55:36 -0700] "GET /a.gif HTTP/1.0" 200 2326 '
    b'"http://example.com/" "Mozilla/4.08 [en]"\n'
)
MESSAGE = b"From a@b Thu Jan  1 00:00:00 2026\nFrom: a@b\nTo: c@d\nSubject: %d\n\n>From here\n\n"
EVENT = b"BEGIN:VEVENT\r\nUID:%d\r\nDTSTART:20240229T120000Z\r\nEND:VEVENT\r\n"


def written(write):
    file = io.BytesIO()
    write(file)
    return file.getvalue()


def stream(table):
    def write(file):
        with pa.ipc.new_stream(file, table.schema) as writer:
            writer.write_table(table)

    return written(write)


def parquet(table, **options):
    return written(lambda file: pyarrow.parquet.write_table(table, file, **options))


def orc(table):
    return written(lambda file: pyarrow.orc.write_table(table, file))


def feather(table, **options):
    return written(lambda file: pyarrow.feather.write_feather(table, file, **options))


def avro(schema, records, **options):
    return written(lambda file: fastavro.writer(file, schema, records, **options))


def sqlite(*statements):
    with TemporaryDirectory() as folder:
        path = Path(folder, "a.db")
        conn = sqlite3.connect(path)
        for statement in statements:
            conn.execute(*((statement,) if isinstance(statement, str) else statement))
        conn.commit()
        conn.close()
        return path.read_bytes()


@cache
def samples():
    """Return, by the reader's name, a file's bytes and how many records it has."""
    schema = {"type": "record", "name": "r", "fields": [{"name": "n", "type": "long"}]}
    rows = [("INSERT INTO t VALUES (?, ?)", [n, f"é{n}"]) for n in range(50)]
    features = b",".join(FEATURE % n for n in range(50))
    return {
        "ndjson": (b'{"n": 1, "a": "\xc3\xa9"}\n' * 50, 50),
        "csv": (b"n,text,more\n" + b"1,\xc3\xa9,x\n" * 50, 50),
        "json": (b'[{"n": 1},\n' + b'{"n": 1},' * 48 + b'{"n": 1}]', 50),
        "geojson": (b'{"type":"FeatureCollection","features":[%b]}' % features, 50),
        "geojsonseq": (b"".join(b"\x1e" + FEATURE % n + b"\n" for n in range(50)), 50),
        "parquet": (parquet(TABLE), 50),
        "orc": (orc(TABLE), 50),
        "arrow": (feather(TABLE), 50),
        "arrowstream": (stream(TABLE), 50),
        "avro": (avro(schema, [{"n": n} for n in range(50)]), 50),
        "sqlite": (sqlite("CREATE TABLE t (n, text)", *rows), 50),
        "xml": (b"<r>" + b"<item id='1'><n>1</n></item>" * 50 + b"</r>", 50),
        "yaml": (b"---\n" + b"- n: 1\n  text: \xc3\xa9\n" * 50, 50),
        "toml": (b"[t]\nn = 1\ntext = '\xc3\xa9'\n", 1),
        "ini": (b"[t]\nn = 1\ntext: \xc3\xa9\n", 1),
        "accesslog": (LOG * 50, 50),
        "fixedwidth": (b"n  text\n" + b"1  abc\n" * 50, 50),
        "vcard": (b"BEGIN:VCARD\r\nVERSION:4.0\r\nFN:\xc3\xa9\r\nEND:VCARD\r\n" * 50, 50),
        "icalendar": (
            b"BEGIN:VCALENDAR\r\n" + b"".join(EVENT % n for n in range(50)) + b"END:VCALENDAR\r\n",
            50,
        ),
        "mbox": (b"".join(MESSAGE % n for n in range(50)), 50),
    }


OPTIONS = {
    "xml": ReaderOptions(element="item"),
    "fixedwidth": ReaderOptions(widths=(3, 5)),
}
"""What some of them cannot be read without."""
