"""A source larger than memory is read in little of it: peaks of real processes, as ratios."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet
import pytest

from .samples import EVENT, FEATURE, LOG, MESSAGE, sqlite

pytestmark = pytest.mark.long

SIZE = 28 << 20

# Peak of a process that reads a small file and then the large one, in bytes:
# what the large one has added is what reading it takes.
READ = """
import sys, json
from howdah.loading.readers import ReaderOptions, reader_named
from howdah.loading.readers.encode import as_batches
from howdah.loading.pieces import read_pieces

def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith("VmHWM"))

name, small, large, options = sys.argv[1:]
reader = reader_named(name, ReaderOptions.of_texts(**json.loads(options)))

def records(path):
    count = bad = 0
    with open(path, "rb") as file:
        for piece in read_pieces(reader.read(file, "")):
            count += len(getattr(piece, "texts", ()))
            bad += not hasattr(piece, "texts")
    return count, bad

records(small)
before = peak()
count, bad = records(large)
print(json.dumps({"before": before, "added": peak() - before, "records": count, "bad": bad}))
"""


def measured(name, small, large, **options):
    done = subprocess.run(
        [sys.executable, "-c", READ, name, small, large, json.dumps(options)],
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def repeated(path, start, record, end, size=SIZE):
    """Write a file of at least `size` bytes."""
    count = size // len(record) + 1
    with path.open("wb") as file:
        file.write(start)
        for _ in range(count // 1000):
            file.write(record * 1000)
        file.write(record * (count % 1000))
        file.write(end)
    return count


TEXT = {
    "accesslog": (b"", LOG, b"", {}),
    "csv": (b"a,b\n", b'"x,%b",y\n' % (b"z" * 200), b"", {}),
    "fixedwidth": (b"", b"abc " * 50 + b"\n", b"", {"widths": "10,200", "header": "no"}),
    "geojson": (
        b'{"type":"FeatureCollection","features":[',
        FEATURE % 1 + b",",
        FEATURE % 2 + b"]}",
        {},
    ),
    "icalendar": (
        b"BEGIN:VCALENDAR\r\n",
        EVENT.replace(b"UID", b"DESCRIPTION:%b\r\nUID" % (b"x" * 500)) % 1,
        b"END:VCALENDAR\r\n",
        {},
    ),
    "json": (
        b'{"other":[',
        b'{"a":"%b"},' % (b"x" * 200),
        b'1],"items":[1,2]}',
        {"at": "$.items[*]"},
    ),
    "mbox": (b"", MESSAGE % 1 + b"x" * 5000 + b"\n\n", b"", {}),
    "xml": (b"<r>", b"<other><a>%b</a></other><i/>" % (b"x" * 200), b"</r>", {"element": "i"}),
    "yaml": (b"", b"- a: %b\n" % (b"x" * 1000), b"", {}),
}


@pytest.mark.parametrize("name", TEXT)
def test_a_large_text_takes_a_fraction_of_its_size(name, tmp_path):
    start, record, end, options = TEXT[name]
    repeated(tmp_path / "small", start, record, end, 1 << 16)
    count = repeated(tmp_path / "large", start, record, end)
    found = measured(name, tmp_path / "small", tmp_path / "large", **options)
    wanted = {"json": 2, "geojson": count + 1}.get(name, count)
    assert (found["records"], found["bad"]) == (wanted, 0)
    assert found["added"] < SIZE / 3


def write_parquet(path, groups):
    table = pa.table({"n": pa.array(range(20_000)), "text": ["x" * 200] * 20_000})
    with pa.parquet.ParquetWriter(
        path, table.schema, compression="none", use_dictionary=False
    ) as w:
        for _ in range(groups):
            w.write_table(table)


def write_stream(path, batches):
    batch = pa.record_batch({"text": ["x" * 200] * 5000})
    with path.open("wb") as file, pa.ipc.new_stream(file, batch.schema) as writer:
        for _ in range(batches):
            writer.write_batch(batch)


def write_avro(path, records):
    import fastavro

    schema = {"type": "record", "name": "r", "fields": [{"name": "t", "type": "string"}]}
    with path.open("wb") as file:
        fastavro.writer(file, schema, ({"t": "x" * 1000} for _ in range(records)))


def write_sqlite(path, rows):
    query = (
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) "
        "INSERT INTO t SELECT i, printf('%0200d', i) FROM n"
    )
    path.write_bytes(sqlite("CREATE TABLE t (i, text)", (query, [rows])))


@pytest.mark.parametrize(
    ("name", "write", "small", "large", "per_unit"),
    [
        ("parquet", write_parquet, 1, 20, 20_000),
        ("arrowstream", write_stream, 1, 70, 5000),
        ("avro", write_avro, 100, 70_000, 1),
        ("sqlite", write_sqlite, 100, 320_000, 1),
    ],
)
def test_a_large_binary_file_takes_a_fraction_of_its_size(
    name, write, small, large, per_unit, tmp_path
):
    write(tmp_path / "small", small)
    write(tmp_path / "large", large)
    size = (tmp_path / "large").stat().st_size
    assert size > SIZE
    found = measured(name, tmp_path / "small", tmp_path / "large")
    assert (found["records"], found["bad"]) == (large * per_unit, 0)
    assert found["added"] < size / 3


def test_one_row_group_is_not_read_as_a_whole(tmp_path):
    table = pa.table({"text": ["x" * 1000] * 100_000})
    pa.parquet.write_table(table.slice(0, 10_000), tmp_path / "small")
    pa.parquet.write_table(table, tmp_path / "large", compression="none", use_dictionary=False)
    found = measured("parquet", tmp_path / "small", tmp_path / "large")
    assert (found["records"], found["bad"]) == (100_000, 0)
    assert found["added"] < (tmp_path / "large").stat().st_size / 2


@pytest.mark.parametrize("name", ["ndjson", "accesslog", "csv"])
def test_a_line_of_a_gigabyte_is_one_bad_record_and_the_rest_is_read(name, tmp_path):
    line = {"ndjson": b'{"a":1}\n', "accesslog": LOG, "csv": b"a,b\n"}[name]
    (tmp_path / "small").write_bytes(line * 3)
    with (tmp_path / "large").open("wb") as file:
        file.write(line * 2)
        file.write(b'"' if name == "csv" else b"{")
        file.seek(1 << 30, os.SEEK_CUR)  # a hole: it takes no disk
        file.write(b"\n" + line)
    found = measured(name, tmp_path / "small", tmp_path / "large")
    assert (found["records"], found["bad"]) == (2 if name == "csv" else 3, 1)
    assert found["added"] < (1 << 30) * 0.8  # three times the longest record
