"""The connection lost in the very COMMIT of a swap: what is reported is what happened."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.fixtures.cutting import Cutter, cutting
from tests.fixtures.django_project import Project

pytestmark = pytest.mark.long

NAMES = "SELECT name FROM shop.shop_item ORDER BY id"
ASIDE = b'RENAME TO "store__old1"'


@contextmanager
def cut(project: Project, lost: str, armed_by: bytes = ASIDE) -> Iterator[Cutter]:
    """Have the project reach its server through a proxy that cuts one COMMIT."""
    [port] = project.ask("SHOW port")
    before = dict(project.server)
    with cutting(int(port), armed_by, lost) as cutter:
        project.server |= {"host": "127.0.0.1", "port": str(cutter.port)}
        try:
            yield cutter
        finally:
            project.server = before
    assert cutter.has_cut


@pytest.fixture
def changed(small: Project) -> Project:
    small.rebuild()
    small.write("rows.json", '"cup"', '"mug"')
    return small


def test_swap_that_was_committed_is_reported_as_done(changed):
    with cut(changed, "the answer"):
        [report] = changed.report()["databases"]

    assert "the server says that it is committed" in report["notes"][0]
    assert report["left"] == []
    assert changed.ask(NAMES) == ["mug", "plate"]
    assert changed.leftovers() == []


def test_swap_that_was_rolled_back_is_reported_as_failed(changed):
    before = changed.digest()
    with cut(changed, "the request"):
        said = changed.rebuild(code=1)

    assert "lost at the commit, and the server has rolled it back" in said
    assert changed.digest() == before
    assert changed.leftovers() == []
    changed.rebuild()
    assert changed.ask(NAMES) == ["mug", "plate"]


@pytest.mark.parametrize("lost", ["the answer", "the request"])
def test_commit_of_a_rebuild_in_place_is_reported_as_it_was(changed, lost):
    before = changed.digest()
    code = 0 if lost == "the answer" else 1
    with cut(changed, lost):
        said = changed.rebuild("--in-place", "--json", code=code)

    if lost == "the answer":
        assert "the server says" in json.loads(said)["databases"][0]["notes"][0]
        assert changed.ask(NAMES) == ["mug", "plate"]
    else:
        assert "rolled it back" in said
        assert changed.digest() == before
    assert changed.leftovers() == []


@pytest.mark.parametrize("lost", ["the answer", "the request"])
def test_commit_of_an_undo_is_reported_as_it_was(changed, lost):
    changed.rebuild("--keep-old", "1")
    with cut(changed, lost, b'RENAME TO "store__undone"'):
        said = changed.rebuild("--undo", code=0 if lost == "the answer" else 1)

    expected = "cup" if lost == "the answer" else "mug"
    assert ("as before" if lost == "the answer" else "rolled it back") in said
    assert changed.ask(NAMES) == [expected, "plate"]


@pytest.mark.parametrize("lost", ["the answer", "the request"])
def test_of_several_databases_all_are_swapped_or_none(make_project, lost):
    """The second one's COMMIT is lost, when the first is swapped already."""
    project = make_project("schemas")
    project.rebuild()
    user, place = "SELECT username FROM auth.auth_user WHERE id = 2", "SELECT name FROM places.site"
    project.write("fixtures/sample.json", '"user2"', '"second"')
    project.write("fixtures/sample.json", '"Site 1"', '"Site one"')
    with cut(project, lost, b'RENAME TO "survey__old1"'):
        project.rebuild(code=0 if lost == "the answer" else 1)

    is_new = lost == "the answer"
    assert project.ask(user) == ["second" if is_new else "user2"]
    places = project.ask(f"{place} WHERE id = 1", database=project.databases[1])
    assert places == ["Site one" if is_new else "Site 1"]
