"""Tables that are made for the records: their columns and types."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import howdah
from howdah.errors import Refused
from howdah.loading import plan
from howdah.loading.columns import column_name, matched
from tests.loading.columns.shared import INTO_COLUMNS, TYPES, write


def test_columns_are_told_from_the_records(dsn, ask, tmp_path):
    path = write(
        tmp_path / "a.ndjson",
        '{"i": 1, "n": 1.50, "d": 0.5, "b": true, "t": "x", "l": [1], "day": "2024-01-02"}',
        '{"i": null, "z": "2024-01-02T03:04:05Z", "o": {"x": 1}, "new": 12345678901234567890}',
    )

    report = howdah.load([path], dsn=dsn, table="raw.t", columns=INTO_COLUMNS)

    assert (report.records, report.rejects) == (2, 0)
    assert dict(ask(TYPES, "raw.t")) == {
        "i": "bigint",
        "n": "numeric",
        "d": "double precision",
        "b": "boolean",
        "t": "text",
        "l": "jsonb",
        "day": "date",
        "z": "timestamp with time zone",
        "o": "jsonb",
        "new": "numeric",
    }
    assert ask("SELECT n::text, l, new::text FROM raw.t ORDER BY i") == [
        ("1.50", [1], None),
        (None, None, "12345678901234567890"),
    ]


def test_columns_of_fixed_widths_have_types_as_those_of_csv(dsn, ask, tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("id  day         who\n1   2024-05-06  Ann\n22  2024-05-07\n")
    options = howdah.ReaderOptions(widths="auto")

    howdah.load([path], dsn=dsn, table="t", columns=INTO_COLUMNS, options=options)

    assert ask(TYPES, "t") == [("id", "bigint"), ("day", "date"), ("who", "text")]
    assert ask("SELECT id, day::text, who FROM t") == [
        (1, "2024-05-06", "Ann"),
        (22, "2024-05-07", None),
    ]


NUMBERS = st.integers() | st.decimals(allow_nan=False, allow_infinity=False, places=3)


CELLS = NUMBERS.map(str) | st.text(st.characters(codec="utf-8", exclude_characters="\0"))


@settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(st.lists(CELLS | NUMBERS.map(str), min_size=1), min_size=1, max_size=3))
def test_whatever_is_loaded_is_read_back_with_every_digit(dsn, ask, tmp_path, files):
    """One source after the other: the first makes the table, the others widen it."""
    ask("DROP TABLE IF EXISTS digits")
    for number, values in enumerate(files):
        path = tmp_path / f"{number}.csv"
        quoted = (value.replace('"', '""') for value in values)
        path.write_text("x,n\n" + "".join(f'"{q}",{n}\n' for n, q in enumerate(quoted)), newline="")
        report = howdah.load([path], dsn=dsn, table="digits", columns=INTO_COLUMNS, again=False)
        assert (report.records, report.rejects) == (len(values), 0)

    found = sorted(text or "" for text in ask("SELECT x::text FROM digits"))
    # An exponent's number is written out: the same digits.
    assert found == sorted(value for values in files for value in values)


@pytest.mark.parametrize(
    "name",
    [
        "Größe",
        "two words",
        'a"b',
        "100%",
        "%s",
        "{}",
        "select",
        "x" * 80,
        "é" * 60,
        "ctid",
        "",
        "\0",
    ],
)
def test_any_attribute_can_be_a_column_and_is_found_again(dsn, ask, tmp_path, name):
    first = write(tmp_path / "a.ndjson", {name: 1, "other": 1}, {name: 2, "other": 2})
    second = write(tmp_path / "b.ndjson", {name: "three", "other": 3})

    for path in (first, second):
        report = howdah.load([path], dsn=dsn, table='"T %s"', columns=INTO_COLUMNS)
        assert report.rejects == 0

    assert [types for types, _ in ask(TYPES, '"T %s"')] == [column_name(name), "other"]
    assert ask('SELECT count(*) FROM "T %s"') == [3]


def test_long_names_that_differ_at_their_end_alone_are_two_columns(dsn, ask, tmp_path):
    path = write(tmp_path / "a.ndjson", {"x" * 70 + "1": 1, "x" * 70 + "2": 2})

    howdah.load([path], dsn=dsn, table="t", columns=INTO_COLUMNS)

    assert ask("SELECT * FROM t") == [(1, 2)]


def test_names_match_exactly_or_by_the_only_column_of_another_case():
    assert matched(["ID", "name"], ["id", "name"]) == {"ID": "id", "name": "name"}
    assert matched(["ID", "id"], ["id"]) == {"id": "id"}
    assert matched(["Id"], ["id", "ID"]) == {}
    assert matched(["a", "A"], ["A", "a"]) == {"a": "a", "A": "A"}


def test_dry_run_plans_the_table_that_the_load_makes(dsn, ask, tmp_path):
    path = write(tmp_path / "a.ndjson", *({"n": n, "word": "x" * n} for n in range(50)))

    planned = plan([path], table="raw.t", columns=howdah.Columns(key=("n",), extra="rest"))
    howdah.load([path], dsn=dsn, table="raw.t", columns=howdah.Columns(key=("n",), extra="rest"))

    assert planned.create == (
        'CREATE TABLE "raw"."t" (\n    "n" bigint,\n    "word" text,\n    "rest" jsonb,\n'
        '    PRIMARY KEY ("n")\n);'
    )
    assert planned.columns == ("n", "word", "rest")
    assert len(planned.rows) == 10
    assert planned.rows[3] == ("3", "xxx", None)
    assert [name for name, _ in ask(TYPES, "raw.t")] == ["n", "word", "rest"]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (howdah.Columns(key=("nosuch",)), "no attribute nosuch"),
        (howdah.Columns(key=("n",), updates_only=True), "no table t whose rows"),
    ],
)
def test_table_that_cannot_be_made_is_refused(dsn, tmp_path, columns, message):
    path = write(tmp_path / "a.ndjson", {"n": 1})

    with pytest.raises(Refused, match=message):
        howdah.load([path], dsn=dsn, table="t", columns=columns)


def test_sources_without_records_make_no_table(dsn, tmp_path):
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "noise.ndjson").write_text("{bad\n" * 3)

    with pytest.raises(Refused, match="No record could be read"):
        howdah.load([tmp_path], dsn=dsn, table="t", columns=INTO_COLUMNS)


def test_more_attributes_than_a_table_has_columns_are_refused(dsn, tmp_path):
    path = write(tmp_path / "a.ndjson", {f"c{n}": n for n in range(1601)}, {})

    with pytest.raises(Refused, match=r"1,601 attributes.*1,600"):
        howdah.load([path], dsn=dsn, table="t", columns=INTO_COLUMNS)


def test_ten_thousand_columns_are_attributes_of_a_record_but_no_table(dsn, ask, tmp_path):
    names = [f"column {number}" for number in range(10_000)]
    rows = [names, *([str(number)] * 10_000 for number in range(3))]
    path = tmp_path / "wide.csv"
    path.write_text("".join(",".join(row) + "\n" for row in rows))

    assert howdah.load([path], dsn=dsn).records == 3
    attributes = ask("SELECT attributes FROM documents WHERE record = 2")[0]
    assert attributes == dict.fromkeys(names, "1")
    with pytest.raises(Refused, match=r"10,000 attributes.*1,600"):
        howdah.load([path], dsn=dsn, table="t", columns=INTO_COLUMNS)
