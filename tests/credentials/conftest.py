"""What the tests of credentials share."""

from contextlib import asynccontextmanager

import pytest

from droid2api.credentials import schedule
from tests.credentials.service import FIRST_KEY
from tests.harness import gateway_for, serving, settings_for


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(schedule, "RETRY_DELAYS", (0.02, 0.05))


@pytest.fixture
def start(tmp_path):
    """A gateway in front of a service, with DROID_REFRESH_KEY unless `environment` says other."""

    @asynccontextmanager
    async def start(service, environment=None, **config):
        environment = {"DROID_REFRESH_KEY": FIRST_KEY} if environment is None else environment
        async with (
            serving(service.app()) as upstream,
            gateway_for(settings_for(tmp_path, upstream, environment, **config)) as gateway,
        ):
            yield gateway

    return start
