from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from howdah.errors import UsageError
from howdah.loading.readers import BadRecord, ReaderOptions, UnreadableSource
from howdah.loading.readers.jsonpath import ALL, Step, parse_path
from howdah.loading.readers.jsontext import JSON

from .reading import items, texts

DATA = b'{"n":[1, 2,{"x":"]"}], "a":{"items":[{"id":1.10},{"id":2}],"none":[]}, "b c":{"d":"e"}}'


def selected(data, path):
    return texts(items(JSON(ReaderOptions(at=path)), data))


@pytest.mark.parametrize(
    ("path", "steps"),
    [
        ("$", ()),
        ("$.a.b_1", (Step("a"), Step("b_1"))),
        ("$['a b'][\"c\"]", (Step("a b"), Step("c"))),
        (r"""$['it\'s "x" \u00e9']""", (Step('it\'s "x" é'),)),
        ("$[0][*].*", (Step(0), ALL, ALL)),
        ("$ .a [ 1 ]", (Step("a"), Step(1))),
        ("$.größe", (Step("größe"),)),
    ],
)
def test_a_path_has_its_steps(path, steps):
    assert parse_path(path) == steps


@pytest.mark.parametrize(
    ("path", "place"),
    [("", 1), ("a", 1), ("$.", 2), ("$[-1]", 2), ("$..a", 2), ("$.a[?@.b]", 4), ("$[0:2]", 2),
     ("$['a]", 2), ("$[01]", 2), ("$.1", 2)],
)  # fmt: skip
def test_a_path_beyond_the_subset_is_refused_with_the_place(path, place):
    with pytest.raises(UsageError, match=f"from character {place} on"):
        parse_path(path)


@pytest.mark.parametrize(
    ("path", "records"),
    [
        ("$", [DATA]),
        ("$.a.items[*]", [b'{"id":1.10}', b'{"id":2}']),
        ("$.a.items[1]", [b'{"id":2}']),
        ("$.a.items[*].id", [b"1.10", b"2"]),
        ("$.a.*", [b'[{"id":1.10},{"id":2}]', b"[]"]),
        ("$.n[2].x", [b'"]"']),
        ("$['b c'].d", [b'"e"']),
        ("$.a.none[*]", []),
    ],
)
def test_the_values_that_a_path_leads_to_are_records_byte_for_byte(path, records):
    assert selected(DATA, path) == records


def test_a_path_is_followed_into_each_of_several_values():
    assert selected(b'{"a":[1]}\n{"b":0}\n{"a":[2,3]}', "$.a[*]") == [b"1", b"2", b"3"]


@pytest.mark.parametrize("path", ["$.z", "$.n.x", "$.n[3]", "$[0]", "$.a.items.id"])
def test_a_path_that_leads_to_nothing_makes_the_source_unreadable(path):
    with pytest.raises(UnreadableSource, match="leads to nothing"):
        selected(DATA, path)


@pytest.mark.parametrize(
    ("data", "path", "good"),
    [
        (b'{"a":[1,2', "$.a[*]", 1),
        (b'{"a":[1,2],"b":"x', "$.a[*]", 2),
        (b'{"a":12', "$.a", 0),
        (b'{"a" 1}', "$.a", 0),
        (b"{a:1}", "$.a", 0),
        (b'{"a":1,}', "$.a", 1),
        (b'{"x":[[[1,2', "$.a", 0),
        (b'{"a":[tru,2]}', "$.a[*]", 1),
    ],
)
def test_a_text_that_breaks_off_on_the_way_gives_what_came_before_and_a_bad_record(
    data, path, good
):
    found = selected(data, path)
    assert sum(isinstance(item, bytes) for item in found) == good
    assert sum(isinstance(item, BadRecord) for item in found) == 1


TREES = st.recursive(
    st.none() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["a", "b", 'c"', "é\\"]), inner, max_size=4)
    ),
    max_leaves=30,
)
STEPS = st.one_of(st.just(None), st.integers(0, 2), st.sampled_from(["a", "b", 'c"', "é\\"]))


def follow(values, step):
    """Return what a step leads to, by Python's own means."""
    found = []
    for value in values:
        if isinstance(value, list) and not isinstance(step, str):
            found += value if step is None else value[step : step + 1]
        elif isinstance(value, dict) and not isinstance(step, int):
            found += value.values() if step is None else [value[step]] if step in value else []
    return found


@given(TREES, st.lists(STEPS, max_size=3), st.booleans())
def test_a_path_leads_to_what_python_finds(tree, steps, ascii_only):
    path = "$" + "".join("[*]" if step is None else f"[{json.dumps(step)}]" for step in steps)
    expected = [tree]
    for step in steps:
        expected = follow(expected, step)
    data = json.dumps(tree, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    try:
        found = [json.loads(text) for text in selected(data, path)]
    except UnreadableSource:
        found = []
    assert found == expected
