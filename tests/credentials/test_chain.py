"""Which credential an endpoint has: the first one that exists."""

import logging
from dataclasses import replace

import pytest

from droid2api import application
from droid2api.credentials.chain import find_shared
from droid2api.errors import ConfigError
from droid2api.server.keys import RUNTIME
from tests.credentials.service import FIRST_KEY, KEY, Service, credential_state, log_in, say
from tests.harness import PATHS, gateway_for, serving, settings_for

OWN_KEY = {"api_key_env": "OWN_KEY"}
ALL = {"OWN_KEY": "own", "FACTORY_API_KEY": "factory", "DROID_REFRESH_KEY": FIRST_KEY}


@pytest.mark.parametrize(
    ("environment", "own_key", "logged_in", "source", "credential"),
    [
        (ALL, True, True, "FACTORY_API_KEY", "own"),
        (ALL, False, True, "FACTORY_API_KEY", "Bearer factory"),
        (ALL | {"FACTORY_API_KEY": " "}, False, True, "DROID_REFRESH_KEY", "Bearer {access}"),
        ({}, False, True, "~/.factory/auth.json", "Bearer {access}"),
        ({}, False, False, "client", "Bearer client"),
    ],
    ids=["api_key_env", "FACTORY_API_KEY", "DROID_REFRESH_KEY", "auth.json", "client"],
)
async def test_priority(tmp_path, environment, own_key, logged_in, source, credential):
    service = Service()
    if logged_in:
        log_in(tmp_path)
    async with serving(service.app()) as upstream:
        endpoint = {"name": "anthropic", "base_url": upstream + "/v1/messages"} | (OWN_KEY if own_key else {})
        async with gateway_for(settings_for(tmp_path, upstream, environment, endpoint=[endpoint])) as gateway:
            status, _ = await say(gateway, headers={"x-api-key": "client"})
            assert status == 200
            assert service.used == [credential.format(access=service.access_token)]
            assert (await credential_state(gateway))["source"] == source
            assert source in application._banner(gateway.app[RUNTIME].settings, gateway.app, 1).replace(
                "each client's own", "client"
            )


@pytest.mark.parametrize(
    ("headers", "credential"),
    [
        ({"Authorization": "Bearer theirs"}, "Bearer theirs"),
        ({"authorization": "bearer  theirs "}, "Bearer theirs"),
        ({"x-api-key": "theirs"}, "Bearer theirs"),
        ({"Authorization": "Bearer theirs", "x-api-key": "other"}, "Bearer theirs"),
        ({"Authorization": "Basic dTpw", "x-api-key": "theirs"}, "Bearer theirs"),
    ],
)
async def test_the_clients_own(start, headers, credential):
    service = Service()
    async with start(service, {}) as gateway:
        assert (await say(gateway, headers=headers))[0] == 200
        assert service.used == [credential]


@pytest.mark.parametrize("type", PATHS)
async def test_no_credential_at_all(start, type):
    async with start(Service(), {}) as gateway:
        status, body = await say(gateway, type)
        assert status == 401
        told = body["error"]["status"] if type == "google" else body["error"]["type"]
        assert told == ("UNAUTHENTICATED" if type == "google" else "authentication_error")
        assert ("type" in body) == (type == "anthropic")
        for way in ("FACTORY_API_KEY", "DROID_REFRESH_KEY", "~/.factory/auth.json", "api_key_env", "Authorization"):
            assert way in body["error"]["message"]


async def test_an_endpoint_whose_own_key_is_missing(tmp_path):
    endpoint = {"name": "anthropic", "base_url": "http://127.0.0.1:9/v1/messages", "api_key_env": "OWN_KEY"}
    async with gateway_for(settings_for(tmp_path, "http://127.0.0.1:9", {}, endpoint=[endpoint])) as gateway:
        status, body = await say(gateway, headers={"x-api-key": "client"})
        assert status == 401
        assert "OWN_KEY" in body["error"]["message"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"access_token": 1}', '{"refresh_token": ""}', "\xff"])
async def test_an_unusable_login_is_none(tmp_path, start, content):
    log_in(tmp_path).write_bytes(content.encode("latin-1"))
    async with start(Service(), {}) as gateway:
        assert (await credential_state(gateway))["source"] == "client"


# -- where a refresh token goes -------------------------------------------------------------------------------------


async def test_a_refresh_token_goes_elsewhere_only_for_a_file_that_the_user_chose(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    service = Service()
    async with serving(service.app()) as upstream:
        settings = settings_for(tmp_path, f"{upstream}", KEY)
        async with gateway_for(settings) as gateway:
            assert (await say(gateway))[0] == 200
        assert f"The refresh token is sent to {upstream}/oauth/token (auth.token_url)." in caplog.text
        with pytest.raises(ConfigError) as error:
            async with gateway_for(replace(settings, own=False)):
                pass
        assert "auth.token_url" in str(error.value)
        assert "--config or DROID2API_CONFIG" in str(error.value)
        async with gateway_for(replace(settings, own=False, environment={"FACTORY_API_KEY": "x.demo"})) as gateway:
            assert (await credential_state(gateway))["source"] == "FACTORY_API_KEY"  # nothing goes there
    assert service.calls == [FIRST_KEY]


async def test_the_default_needs_no_choice_and_no_line(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    settings = settings_for(tmp_path, "http://127.0.0.1:9", KEY, auth={})
    credential = find_shared(replace(settings, own=False), None)
    assert credential.source == "DROID_REFRESH_KEY"
    assert "auth.token_url" not in caplog.text
