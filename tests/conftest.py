"""What holds for every test."""

import gc
import logging
import re

import pytest

from droid2api.gateway import exchange, upstream

SECRETS = re.compile(r"test-key|client-key|demo-refresh-|e30\.[\w-]+\.demo|planted-")
"""The keys and tokens that the tests give to the gateway, its clients and its token service."""


class Leaks(logging.Handler):
    """Keeps what this program logs with a secret in it; the SDKs of the tests log for themselves."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.startswith(("droid2api", "aiohttp", "asyncio")) and SECRETS.search(self.format(record)):
            self.found.append(self.format(record))


def pytest_collection_finish():
    """Thousands of tests stay until the end: the collector need not walk through them each time, and what they leave
    is not worth a look after every 700 objects.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport():
    """What a test that passed has logged is read by nobody, and would go from process to process."""
    report = yield
    if report.passed:
        report.sections.clear()
    return report


@pytest.fixture(autouse=True)
def _no_secret_in_a_log():
    """The whole suite runs at DEBUG, and no line of the log may hold a secret."""
    root, leaks = logging.getLogger(), Leaks()
    level = root.level
    root.addHandler(leaks)
    root.setLevel(logging.DEBUG)
    yield
    root.removeHandler(leaks)
    root.setLevel(level)
    assert leaks.found == []


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    """An upstream that cannot be reached is tried again at once, and observers are told at once."""
    monkeypatch.setattr(exchange, "NOTIFY_AFTER", 0)
    monkeypatch.setattr(upstream, "CONNECT_DELAYS", tuple(delay / 40 for delay in upstream.CONNECT_DELAYS))
