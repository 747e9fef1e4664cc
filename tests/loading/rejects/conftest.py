"""Fixtures of these tests."""

from __future__ import annotations

import pytest


@pytest.fixture
def howdah_command(request):
    """The fixture `howdah`, whose name the package has here."""
    return request.getfixturevalue("howdah")
