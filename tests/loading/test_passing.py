"""CSV that is passed on to COPY gives the rows that reading it here gives."""

from __future__ import annotations

import gzip
import itertools

import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import howdah
from howdah.loading.inference import Kind
from howdah.loading.passing import checked, is_plain, passed
from howdah.loading.rows import Unfit

TOKENS = [
    *(
        b"a",
        b"1",
        b"007",
        b"1.50",
        b"0.5",
        b"0.10000000000000001",
        b"-0.0",
        b"12345678901234567890",
    ),
    *(b"true", b"1e5", b"2024-01-02", b"2024-01-02 10:00", b"2024-01-02T10:00:00Z", b" ", b"NULL"),
    *(
        b'{"x": 1}',
        b'"{""x"": 1}"',
        b'"x"',
        b'""',
        b'"',
        b'"a""b"',
        b'"a\nb"',
        b'"a\r\nb"',
        b'a"b"c',
    ),
    *(b"\\.", b"\\N", b"\\", b"\0", b"\xff", "é".encode(), b"\r", b"\t"),
]
CELLS = st.sampled_from([*TOKENS, b"", b"5", b"2024-03-04"])
GOOD = st.lists(CELLS, min_size=4, max_size=4).map(b",".join) | CELLS
ODD = st.lists(st.sampled_from([*TOKENS, b",", b",", b"\n", b'"\n"']), max_size=9).map(b"".join)
ENDS = st.sampled_from([b"\n", b"\n", b"\r\n"])
LINES = st.lists(st.tuples(GOOD | ODD, ENDS).map(b"".join), min_size=1, max_size=6).map(b"".join)
HEADS = st.sampled_from(
    [b"a\n", b"a,b,c,d\n", b"\xef\xbb\xbfa,b,c,d\n", b"a,b,c,d\r\n", b"d,c,b,a\n"]
)

EXISTING = "CREATE TABLE {} (a text, b bigint, c jsonb DEFAULT '[]', d timestamp)"

numbers = itertools.count()


def outcome(ask, table):
    rows = ask(f"SELECT t::text FROM {table} AS t ORDER BY 1")
    types = ask(f"SELECT attname::text, atttypid::regtype::text FROM pg_attribute "
                f"WHERE attrelid = '{table}'::regclass AND attnum > 0 ORDER BY 1")  # fmt: skip
    bad = ask(f"SELECT record, content FROM howdah.rejects WHERE target = '{table}'::regclass "
              "ORDER BY 1, 2")  # fmt: skip
    return rows, types, bad


@pytest.mark.long
@pytest.mark.parametrize("grows", [False, True])
@settings(
    max_examples=10,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@example(b"a,b,c,d\n", b'5" pipe,1,{},2024-01-02\n\\.\n"x"y,1,2,\n')
@example(b"a,b,c,d\n", b"x,1,abc,\n\n,,,\r\n1,2\n1,2,3,4,5\n")
@example(b"\xef\xbb\xbfa,b,c,d\n", b"\n\n\na,a,a,\xff\r\n")
@example(b"b\n", b'\n1\n\n2\n\n\n"3"\n\n')
@example(b"a\n", b'x\r\n\r\n""\r\ny,z\r\n\n')
@example(b"d\n", b"2024-01-02\n\n2024-01-02 10:00\nx")
@given(HEADS, LINES)
def test_file_gives_the_same_table_passed_on_or_read(dsn, ask, tmp_path, grows, head, lines):
    number = next(numbers)
    made = []
    for way, wrap in (("passed", bytes), ("read", gzip.compress)):
        table = f"{way}_{number}"
        path = tmp_path / f"{table}.csv{'.gz' if way == 'read' else ''}"
        if grows:  # what is in the table is of narrow types
            (tmp_path / "first.csv").write_bytes(b"a,b,c,d\n1,2,3,4\n")
            howdah.load([tmp_path / "first.csv"], dsn=dsn, table=table, columns=howdah.Columns())
        else:
            ask(EXISTING.format(table))
        path.write_bytes(wrap(head + lines))
        report = howdah.load([path], dsn=dsn, table=table, workers=1)
        made.append((*outcome(ask, table), report.records, report.rejects))
    assert made[0] == made[1]


@pytest.mark.parametrize(
    "rows",
    [
        b"a,1\nb,2\n",
        b"a,1\nb,2",
        b'"a ""q"", b",1\n"two\nlines",2\r\n',
        b",\n",
        b'"",""\n',
        b'",\n,",-5\n',
    ],
)
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_ordinary_rows_pass_as_they_are_however_they_are_cut(rows, size):
    blocks = [rows[place : place + size] for place in range(0, len(rows), size)]

    assert b"".join(checked(blocks, (Kind.TEXT, Kind.INTEGER), ",")) == rows


@pytest.mark.parametrize(
    "rows",
    [
        b'5" pipe,1\n',
        b'a"b"c,1\n',
        b'"a"b,1\n',
        b'"a" ,1\n',
        b"a\rb,1\n",
        b"\n",
        b"a\n",
        b"a,1,\n",
        b"\\.\n",
        b'"a\n\\.\n",1\n',
        b'"a,1\n',
        b"a,007\n",
        b"a, 1\n",
        b"a,+1\n",
        b"a,1.5\n",
        b'a,"01"\n',
    ],
)
@pytest.mark.parametrize("size", [1000, 1 << 30])
def test_odd_rows_do_not_pass(rows, size):
    data = b"fine,1\n" + rows + b"fine,2\n"
    blocks = [data[place : place + size] for place in range(0, len(data), size)]

    with pytest.raises(Unfit):
        list(checked(blocks, (Kind.TEXT, Kind.INTEGER), ","))


@pytest.mark.parametrize("kind", [None, Kind.TEXT, Kind.INTEGER])
def test_blank_lines_are_no_rows_of_one_column(kind):
    assert list(passed([b"\n1\n\n", b"\n2\n\n\n3"], (kind,), ",", all_texts=True)) == [
        (b"1\n", True),
        (b"2\n", True),
        (b"3", True),
    ]
    with pytest.raises(Unfit):
        list(checked([b'"1"\n\n2\n'], (kind,), ","))


def test_blank_lines_at_the_ends_are_no_rows():
    assert list(checked([b"\n\na,1\nb,2\n\n"], (Kind.TEXT, Kind.INTEGER), ",")) == [b"a,1\nb,2\n"]


def test_row_longer_than_what_is_looked_at_at_once_does_not_pass():
    blocks = [b'"', *[b"x" * 65_536] * 17, b'",1\n']

    with pytest.raises(Unfit):
        list(checked(blocks, (Kind.TEXT, Kind.INTEGER), ","))


FORMS = [
    (Kind.DOUBLE, ["0.5", "-1.25", "7", "123456789012345", "1e-07", "0.8444218515250481"]),
    (Kind.NUMERIC, ["1.50", "12345678901234567890", "-3", "1e5"]),
    (Kind.BOOLEAN, ["true", "false"]),
    (Kind.DATE, ["2024-01-02"]),
    (Kind.TIMESTAMP, ["2024-01-02", "2024-01-02T10:00", "2024-01-02 10:00:00.123456"]),
    (Kind.TIMESTAMPTZ, ["2024-01-02T10:00:00Z", "2024-01-02 10:00+05:30"]),
    (Kind.UUID, ["123e4567-e89b-12d3-a456-426614174000"]),
    (Kind.TEXT, ["007", " x ", "NaN"]),
    (None, ["007", "anything"]),
]
ALL_FORMS = sorted({text for _, texts in FORMS for text in texts} | {"0.10", "1.0", "-0.0", "t"})


@pytest.mark.parametrize(("kind", "known"), FORMS)
def test_values_pass_that_their_column_keeps_and_no_others(kind, known):
    from howdah.loading.inference import fits

    for text in ALL_FORMS:
        row = f"{text},\n".encode()
        keeps = kind is None or fits(text, kind, texts=True)
        assert keeps or text not in known
        if keeps:
            assert list(checked([row], (kind, Kind.TEXT), ",")) == [row]
        else:
            with pytest.raises(Unfit):
                list(checked([row], (kind, Kind.TEXT), ","))


TYPED = [kind for kind, _ in FORMS if kind not in (Kind.TEXT, None)] + [Kind.INTEGER]
# What has more digits, the server refuses as a bigint.
SHORT = [text for text in ALL_FORMS if len(text) < 20 or "-" in text]
COLUMN = st.sampled_from(
    [
        *SHORT,
        *("", "0", "-0", "-0.0", "-0.5", "00", "-", "1.", ".5", "5.0", "+1", "1,5", "[1", "null"),
        *("0.00012", "0.000012", "1e16", "1234567890123456.5", "9007199254740993", "FALSE", " 1"),
        *("2024-01-02T10:00:00+01:00", "2024-01-02T10:00:00.5Z", "2024-1-2", "1" * 400 + ".5"),
    ]
)


@pytest.mark.parametrize("kind", TYPED)
@given(st.data(), st.sampled_from([";", "|"]))
def test_column_passes_when_each_of_its_values_does(kind, data, delimiter):
    from howdah.loading.inference import fits

    good = [text for text in SHORT if fits(text, kind, texts=True)]
    ordinary = st.lists(st.sampled_from([*good, ""]), max_size=3)
    cells = [*data.draw(ordinary), data.draw(COLUMN), *data.draw(ordinary)]
    rows = "".join(f"{cell}{delimiter}x\n" for cell in cells).encode()

    def passes(block):
        try:
            return list(checked([block], (kind, Kind.TEXT), delimiter)) == [block]
        except Unfit:
            return False

    assert passes(rows) == all(fits(cell, kind, texts=True) for cell in cells if cell)


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_other_delimiters_are_loaded_alike(dsn, ask, tmp_path, delimiter):
    path = tmp_path / "a.csv"
    rows = [["n", "word", "x"], ["1", "a,b", "0.5"], ["2", "c", "1"], ["3", "", ""]]
    path.write_text("".join(delimiter.join(row) + "\n" for row in rows))

    howdah.load([path], dsn=dsn, table="t", columns=howdah.Columns())

    assert ask("SELECT * FROM t ORDER BY n") == [(1, "a,b", 0.5), (2, "c", 1), (3, "", None)]


def test_passing_on_sends_what_the_file_holds(dsn, tmp_path):
    """A table of many columns, large enough for several blocks and chunks."""
    path = tmp_path / "wide.csv"
    with path.open("w") as file:
        file.write(",".join(f"c{n}" for n in range(20)) + "\n")
        for row in range(60_000):
            file.write(",".join(str(row * n) for n in range(19)) + f',"row ""{row}"""\n')

    report = howdah.load([path], dsn=dsn, table="wide", columns=howdah.Columns(), workers=2)

    assert (report.records, report.rows, report.rejects) == (60_000, 60_000, 0)
    with psycopg.connect(dsn) as conn:
        sums = conn.execute("SELECT sum(c1), sum(c18), min(c19), count(DISTINCT c19) FROM wide")
        total = sum(range(60_000))
        assert sums.fetchone() == (total, 18 * total, 'row "0"', 60_000)


@pytest.mark.parametrize("rows", ["a,1\n", "a,1\nb,2"])
def test_rows_without_empty_cells_are_plain(rows):
    assert is_plain(rows.encode(), ",", all_texts=False)


@pytest.mark.parametrize("rows", [",1\n", "a,1\n,2\n", "a,\n", "a,1\nb,", "a,,1\n", "a,1\n,"])
def test_rows_with_an_empty_cell_are_plain_only_among_texts(rows):
    assert not is_plain(rows.encode(), ",", all_texts=False)
    assert is_plain(rows.encode(), ",", all_texts=True)


@pytest.mark.parametrize("rows", ["a,1\n", ",1\n", "a,\n", "a,1\nb,2\n", "a,1\n,2\n", '"a",1\n'])
@pytest.mark.parametrize("kinds", [(None, None), (Kind.TEXT, Kind.INTEGER)])
def test_rows_are_told_to_be_plain_when_they_are_passed(rows, kinds):
    [(same, plain)] = passed([rows.encode()], kinds, ",")

    assert same == rows.encode()
    assert plain == is_plain(same, ",", all_texts=False)


@pytest.mark.parametrize("rows", ['"a",1\n', "a\r,1\n", "\\N,1\n"])
def test_rows_that_the_text_format_reads_otherwise_are_not_plain(rows):
    assert not is_plain(rows.encode(), ",", all_texts=True)


def test_delimiter_that_the_text_format_has_not_is_not_plain():
    assert not is_plain(b"axb\n", "x", all_texts=True)


@pytest.mark.parametrize("odd", ["", '"7"'])
@pytest.mark.parametrize("end", ["\n", ""])
def test_cells_are_read_alike_behind_many_plain_ones(dsn, ask, tmp_path, odd, end):
    ask("CREATE TABLE t (n bigint, word text, at timestamp)")
    plain = "".join(f"{n},word {n},2024-01-02 03:04:05\n" for n in range(10_000))
    path = tmp_path / "a.csv"
    path.write_text(f"n,word,at\n{plain}{odd},,\n1,,2024-01-02{end}")

    report = howdah.load([path], dsn=dsn, table="t")

    assert (report.records, report.rejects) == (10_002, 0)
    assert ask("SELECT n, word, at::text FROM t WHERE word = '' ORDER BY at NULLS FIRST") == [
        (int(odd.strip('"')) if odd else None, "", None),
        (1, "", "2024-01-02 00:00:00"),
    ]
    assert ask("SELECT count(*), sum(n), count(DISTINCT word) FROM t WHERE word <> ''") == [
        (10_000, sum(range(10_000)), 10_000)
    ]
