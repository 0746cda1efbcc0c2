"""The setting DROID2API_REDIS_URL, without a Redis."""

import logging
import re
import subprocess
import sys

import pytest

from droid2api.credentials.chain import find_shared
from droid2api.errors import ConfigError
from tests.credentials.service import KEY, ROOT, Service, credential_state, say
from tests.harness import gateway_for, serving, settings_for

REDIS = KEY | {"DROID2API_REDIS_URL": "redis://:SECRET-password@127.0.0.1:1/0"}


async def test_no_refresh_without_the_shared_lock(tmp_path, caplog):
    pytest.importorskip("redis")
    caplog.set_level(logging.DEBUG)
    service = Service()
    async with serving(service.app()) as upstream, gateway_for(settings_for(tmp_path, upstream, REDIS)) as gateway:
        answers = [await say(gateway) for _ in range(3)]
        state = await credential_state(gateway)
    assert [status for status, _ in answers] == [503] * 3
    assert state["state"] == "failing"
    assert "Redis at 127.0.0.1:1 does not serve the shared token (ConnectionError)" in state["problem"]
    assert (service.calls, (tmp_path / "data" / "auth.json").exists()) == ([], False)
    lines = [record for record in caplog.records if record.levelno > logging.INFO and "auth" in record.name]
    assert len(lines) <= 2
    assert "SECRET-password" not in caplog.text + repr(answers) + repr(state)


async def test_a_redis_url_that_is_none(tmp_path):
    pytest.importorskip("redis")
    environment = KEY | {"DROID2API_REDIS_URL": "http://SECRET-password"}
    with pytest.raises(ConfigError, match="DROID2API_REDIS_URL") as error:
        find_shared(settings_for(tmp_path, "http://127.0.0.1", environment), None)
    assert "SECRET" not in str(error.value)


def test_without_the_redis_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "droid2api.credentials.redis_store", None)
    with pytest.raises(ConfigError, match=re.escape("pip install 'droid2api[redis]'")):
        find_shared(settings_for(tmp_path, "http://127.0.0.1", REDIS), None)


def test_redis_is_only_loaded_when_it_is_used():
    loaded = "'redis' in sys.modules or 'droid2api.credentials.redis_store' in sys.modules"
    code = f"import sys, droid2api.__main__; sys.exit({loaded})"
    assert subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(ROOT)}, timeout=30).returncode == 0
