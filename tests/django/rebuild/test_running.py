"""The running application, during rebuilds."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fixtures.django_project import Project

CLIENTS = Path(__file__).with_name("clients.py")
# Of each ENGINE; `make rebuilds` gives 20 to both.
REBUILDS = {"stock": 5, "schemas": 3}

logger = logging.getLogger(__name__)


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


@pytest.mark.parametrize("engines", [pytest.param("stock", marks=pytest.mark.long), "schemas"])
def test_rebuilds_in_a_row_give_the_running_application_no_error(make_project, clients, engines):
    rebuilds = int(os.environ.get("HOWDAH_REBUILDS", REBUILDS[engines]))
    project = make_project(engines)
    project.rebuild()
    stop = clients(project)

    for number in range(rebuilds):
        other, name = (("Vendor 1", "Vendor one"), ("Vendor one", "Vendor 1"))[number % 2]
        project.write("fixtures/sample.json", f'"name": "{other}"', f'"name": "{name}"')
        report = project.report()
        assert [one["notes"] for one in report["databases"]] == [[], []]
    found = stop()

    assert len(found) == 11
    machine = found.pop()
    assert machine["name"] == "elsewhere"
    logger.info("without a rebuild, the machine's own stall %.3f s", machine["longest_s"])
    for client in found:
        stall, statements = client["longest_s"], client["statements"]
        logger.info("%-12s %5d statements, stall %.3f s", client["name"], statements, stall)
        assert client["errors"] == [], client
        assert statements > rebuilds, client
        if "places" not in client["name"]:
            assert stall < 0.5 + machine["longest_s"], (client, machine)
    for client in found:
        if client["generations"]:
            # Each swap was seen, in its order: the two names in turn.
            assert len(client["generations"]) == rebuilds + 1, client
