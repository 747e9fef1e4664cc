"""Fixtures of these tests."""

from __future__ import annotations

import threading

import pytest

from tests.loading.forkjoin.tasks import Notes


@pytest.fixture(params=["forked", "from a fork server"])
def start(request):
    """Let the pool start its workers in each of its two ways, which it picks by our threads."""
    if request.param == "forked":
        yield
        return
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    yield
    done.set()
    thread.join()


@pytest.fixture
def notes(tmp_path):
    return Notes(tmp_path / "notes")
