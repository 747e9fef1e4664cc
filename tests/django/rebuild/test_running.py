"""The running application, during rebuilds."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fixtures.django_project import Project

CLIENTS = Path(__file__).with_name("clients.py")
REBUILDS = 20


@pytest.fixture
def clients(request: pytest.FixtureRequest) -> Callable[[Project], Callable[[], list[dict]]]:
    def start(project: Project) -> Callable[[], list[dict]]:
        process = project.start(CLIENTS)
        assert process.stdout.readline() == "running\n", process.stderr.read()

        def stop() -> list[dict]:
            out, err = process.communicate(timeout=60)
            assert process.returncode == 0, err
            return json.loads(out)

        return stop

    return start


def test_twenty_rebuilds_give_the_running_application_no_error(make_project, clients):
    project = make_project("stock")
    project.rebuild()
    stop = clients(project)

    for number in range(REBUILDS):
        other, name = (("Vendor 1", "Vendor one"), ("Vendor one", "Vendor 1"))[number % 2]
        project.write("fixtures/sample.json", f'"name": "{other}"', f'"name": "{name}"')
        report = project.report()
        assert [one["notes"] for one in report["databases"]] == [[], []]
    found = stop()

    assert len(found) == 10
    for client in found:
        assert client["errors"] == [], client
        assert client["statements"] > REBUILDS, client
        if "places" not in client["name"]:
            assert client["longest_s"] < 0.5, client
    for client in found:
        if client["generations"]:
            # Each swap was seen, in its order: the two names in turn.
            assert len(client["generations"]) == REBUILDS + 1, client
