from __future__ import annotations

import json

import pytest

from howdah.loading.readers import BadRecord, Head, ReaderOptions, reader_for
from howdah.loading.readers.geojson import GeoJSON, GeoJSONSeq

from .reading import items, numbered, texts

POINT = b'{"type":"Point","coordinates":[1.0,2.50]}'
FEATURE = b'{"type":"Feature","id":7,"properties":{"n":1.10,"t":"\xc3\xa9"},"geometry":%b}' % POINT
RECORD = b'{"n":1.10,"t":"\xc3\xa9","id":7,"geometry":%b}' % POINT


@pytest.mark.parametrize(
    ("data", "records"),
    [
        (FEATURE, [RECORD]),
        (b'{"type":"FeatureCollection","features":[%b, %b]}' % (FEATURE, FEATURE), [RECORD] * 2),
        (b'{"features":[%b],"crs":{"a":[1]},"type":"FeatureCollection"}' % FEATURE, [RECORD]),
        (b'{"type":"FeatureCollection","features":[]}', []),
        (POINT, [b'{"geometry":%b}' % POINT]),
        (b'{"type":"Feature","properties":null,"geometry":null}', [b'{"geometry":null}']),
        (b'{"type":"Feature","properties":{ },"geometry":null,"bbox":[1,2]}',
         [b'{"geometry":null,"bbox":[1,2]}']),
        (b'{"type":"Feature","id":"f","properties":{"id":1,"id_2":2},"geometry":null}',
         [b'{"id":1,"id_2":2,"id_3":"f","geometry":null}']),
        (b'{"type":"Topology","arcs":[]}', [b'{"type":"Topology","arcs":[]}']),
    ],
    ids=range(9),
)  # fmt: skip
def test_a_feature_is_its_properties_and_what_else_it_has(data, records):
    assert texts(items(GeoJSON(), data)) == records


@pytest.mark.parametrize(
    "data",
    [
        b"\x1e%b\n\x1e%b\n" % (FEATURE, FEATURE),
        b"\x1e%b\x1e\n%b" % (FEATURE.replace(b",", b",\n", 1), FEATURE),
        b"%b\n%b\n" % (FEATURE, FEATURE),
        b"\xef\xbb\xbf%b\n\n%b" % (FEATURE, FEATURE),
    ],
    ids=["rfc8142", "several-lines", "newlines", "mark"],
)
def test_a_sequence_gives_a_record_for_each_feature(data):
    assert texts(items(GeoJSONSeq(), data)) == [RECORD, RECORD]


def test_one_bad_text_in_a_sequence_costs_no_other():
    found = texts(items(GeoJSONSeq(), b"\x1e%b\n\x1e{oops\n\x1e%b\n" % (FEATURE, FEATURE)))
    assert [found[0], found[2]] == [RECORD, RECORD]
    assert isinstance(found[1], BadRecord)
    lines = numbered(items(GeoJSONSeq(), b"%b\n{oops\n%b\n" % (FEATURE, FEATURE)))
    assert lines == [(1, RECORD), (2, b"{oops"), (3, RECORD)]  # the server refuses the second


def test_a_collection_that_is_cut_off_gives_its_whole_features():
    found = texts(items(GeoJSON(), b'{"type":"FeatureCollection","features":[%b,{"type' % FEATURE))
    assert found[0] == RECORD
    assert found[1].place == "end of the source"


@pytest.mark.parametrize(
    ("name", "data", "reader"),
    [
        ("a.json", FEATURE, "geojson"),
        ("a", b'{"type":"FeatureCollection","name":"x","features":[', "geojson"),
        ("a.geojson", b'{"features":[' + (FEATURE + b",") * 1000, "geojson"),
        ("a", POINT, "geojson"),
        ("a.ndjson", FEATURE + b"\n" + FEATURE + b"\n", "geojsonseq"),
        ("a", b"\x1e" + FEATURE, "geojsonseq"),
        ("a.json", b'{"data":%b}' % FEATURE, "json"),
        ("a.json", b'{"type":"Point","x":1}', "json"),
        ("a.ndjson", b'{"type":"Feature"}\n{"type":"Feature"}\n', "ndjson"),
    ],
    ids=range(9),
)
def test_geojson_is_told_from_other_json_by_its_members(name, data, reader):
    assert reader_for(Head(name, data[:65536])).name == reader


def test_a_path_makes_it_plain_json():
    reader = reader_for(Head("a.geojson", FEATURE), ReaderOptions(at="$.properties"))
    assert json.loads(texts(items(reader, FEATURE))[0]) == {"n": 1.10, "t": "é"}
