from __future__ import annotations

import http.server
import io
import threading
import tracemalloc

import pytest

from howdah.loading.pieces import Failure, read_pieces
from howdah.loading.readers import Head, ReaderOptions, UnreadableSource, reader_for
from howdah.loading.readers.xmlrecords import XMLRecords

from .reading import items

XSI = b'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'


def read(data, element="i", **options):
    return items(XMLRecords(ReaderOptions(element=element, **options)), data)


@pytest.mark.parametrize(
    ("inside", "record"),
    [
        (b"<i>text</i>", {"#text": "text"}),
        (b"<i/>", {"#text": ""}),
        (b"<i a='1' b='x &amp; y'/>", {"@a": "1", "@b": "x & y"}),
        (b"<i a='1'>t</i>", {"@a": "1", "#text": "t"}),
        (b"<i><b>x</b><c> s </c><d/></i>", {"b": "x", "c": " s ", "d": ""}),
        (b"<i><b>x</b><c>-</c><b>y</b><b/></i>", {"b": ["x", "y", ""], "c": "-"}),
        (b"<i><b k='v'>x</b></i>", {"b": {"@k": "v", "#text": "x"}}),
        (b"<i>mixed <b>x</b> text</i>", {"b": "x", "#text": "mixed  text"}),
        (b"<i><b xsi:nil='true'/><c xsi:nil='false'/></i>", {"b": None, "c": ""}),
        (b"<i><b xsi:nil='1' why='no'/></i>", {"b": {"@why": "no"}}),
        (b"<i xmlns:p='urn:p' p:a='1'><p:b>x</p:b></i>", {"@a": "1", "b": "x"}),
        (b"<i><i>inner</i></i>", {"i": "inner"}),
        (b"<i><![CDATA[<b>]]>&#233;</i>", {"#text": "<b>é"}),
        (b"<i><!-- no --><?no?><b>x</b></i>", {"b": "x"}),
    ],
    ids=range(14),
)
def test_an_element_becomes_a_mapping_by_the_rule(inside, record):
    data = b"<r %b><skipped>a</skipped>%b<skipped/></r>" % (XSI, inside)
    assert read(data) == [record]


def test_elements_are_found_at_any_depth_and_by_the_name_without_prefix():
    data = b"<p:r xmlns:p='urn:p'><g><p:i>1</p:i></g><g><x><p:i>2</p:i></x></g></p:r>"
    assert read(data) == read(data, "q:i") == [{"#text": "1"}, {"#text": "2"}]


def test_a_root_of_that_name_is_one_record():
    assert read(b"<i><b>x</b></i>") == [{"b": "x"}]


@pytest.mark.parametrize(
    ("encoding", "declared"),
    [("utf-8-sig", "utf-8"), ("utf-16", "utf-16"), ("latin-1", "ISO-8859-1"),
     ("cp1252", "windows-1252"), ("shift_jis", "Shift_JIS"), ("utf-8", "utf-8")],
)  # fmt: skip
def test_declared_encodings_are_read(encoding, declared):
    text = "日本" if encoding == "shift_jis" else "né"
    data = f'<?xml version="1.0" encoding="{declared}"?><r><i>{text}</i></r>'.encode(encoding)
    assert read(data) == [{"#text": text}]


def test_the_option_wins_over_the_declaration():
    data = '<?xml version="1.0" encoding="utf-8"?><r><i>né</i></r>'.encode("cp1252")
    assert read(data, encoding="cp1252") == [{"#text": "né"}]


@pytest.mark.parametrize(
    ("data", "good", "reason"),
    [
        (b"<r><i>1</i><i>2", 1, "not well-formed: no element found, line 1"),
        (b"<r><i>1</i></x>", 1, "mismatched tag"),
        (b"<r></r>", 0, "has no element <i>"),
        (b"<?xml version='1.0' encoding='nope'?><r><i/></r>", 0, "'nope', an encoding"),
        (b"<i>" * 100_000, 0, "more than 500 deep"),
        (b"\xff\x00garbage", 0, "not"),
    ],
    ids=range(6),
)
def test_what_breaks_off_is_a_failure_behind_the_good_records(data, good, reason):
    pieces = list(read_pieces(XMLRecords(ReaderOptions(element="i")).read(_file(data), "")))
    assert sum(len(piece.texts) for piece in pieces[:-1]) == good
    assert isinstance(pieces[-1], Failure)
    assert reason in pieces[-1].reason


# ---- entities


def test_entities_in_text_are_left_as_they_are_written():
    data = b'<!DOCTYPE r [<!ENTITY c "ACME">]><r><i>&c; &lt; &unknown;</i></r>'
    with pytest.raises(UnreadableSource, match="undefined entity"):
        read(data)
    assert read(data.replace(b" &unknown;", b"")) == [{"#text": "&c; <"}]


def laughs(inside):
    entities = b'<!ENTITY l0 "lol">' + b"".join(
        b'<!ENTITY l%d "%b">' % (n, b"&l%d;" % (n - 1) * 10) for n in range(1, 10)
    )
    return b"<!DOCTYPE r [%b]><r>%b</r>" % (entities, inside)


@pytest.mark.parametrize("inside", [b"<i>&l9;</i>", b"<i a='&l9;'/>"], ids=["text", "attribute"])
def test_billion_laughs_end_as_a_reject_before_they_take_memory(inside):
    tracemalloc.start()
    try:
        with pytest.raises(UnreadableSource, match="entity 'l1' is made of others"):
            read(laughs(inside))
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_one_long_entity_repeated_ends_as_a_reject():
    data = b'<!DOCTYPE r [<!ENTITY a "%b">]><r><i>%b</i></r>' % (b"x" * 100_000, b"&a;" * 10_000)
    with pytest.raises(UnreadableSource, match="or long"):
        read(data)


def test_a_parameter_entity_ends_as_a_reject():
    data = b"<!DOCTYPE r [<!ENTITY % p \"<!ENTITY x 'y'>\"> %p;]><r><i>&x;</i></r>"
    with pytest.raises(UnreadableSource, match="entity 'p'"):
        read(data)


def test_no_file_is_read_and_nothing_is_fetched(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("SECRET")
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_args):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            url = f"http://127.0.0.1:{server.server_port}"
            data = (
                f'<!DOCTYPE r SYSTEM "{url}/x.dtd" [<!ENTITY f SYSTEM "{secret.as_uri()}">'
                f'<!ENTITY u SYSTEM "{url}/x">]><r><i>&f;&u;</i></r>'
            )
            assert read(data.encode()) == [{"#text": "&f;&u;"}]
        finally:
            server.shutdown()
            thread.join()
    assert asked == []


def test_xml_without_the_option_stays_a_document():
    data = b"<?xml version='1.0'?><r><i>1</i></r>"
    assert reader_for(Head("a.xml", data)).name == "document"
    assert reader_for(Head("a", data), ReaderOptions(element="i")).name == "xml"
    with pytest.raises(UnreadableSource, match="needs --element NAME"):
        items(XMLRecords(), data)


def _file(data):
    return io.BytesIO(data)
