"""What holds for every test."""

import pytest

from droid2api import upstream


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    """An upstream that cannot be reached is tried again at once."""
    monkeypatch.setattr(upstream, "CONNECT_DELAYS", (0.01, 0.01))
