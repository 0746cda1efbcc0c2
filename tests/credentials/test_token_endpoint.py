"""One call of the token endpoint: what is sent, and which answers are taken."""

import orjson
import pytest
from aiohttp import web

from droid2api.credentials.token_endpoint import TokenEndpoint
from droid2api.errors import CredentialError
from droid2api.outbound import Outbound
from tests.credentials.service import Service as Tokens
from tests.credentials.service import answers, credential_state, jwt, log_in, say, settled
from tests.harness import serving

GOOD = {"access_token": "access", "refresh_token": "refresh"}


async def call(value, status=200):
    """The form that was sent, and the tokens that came of it."""
    forms = []

    async def answer(request):
        forms.append(dict(await request.post()))
        return web.Response(body=value if isinstance(value, bytes) else orjson.dumps(value), status=status)

    app = web.Application()
    app.router.add_post("/token", answer)
    async with serving(app) as url, Outbound({}) as outbound:
        endpoint = TokenEndpoint(outbound, f"{url}/token?key=planted-query", "client", "DROID_REFRESH_KEY")
        try:
            return forms, await endpoint.refresh("planted-first")
        except CredentialError as error:
            return forms, error


async def test_what_is_sent_and_taken():
    forms, tokens = await call(GOOD)
    assert forms == [{"grant_type": "refresh_token", "refresh_token": "planted-first", "client_id": "client"}]
    assert (tokens.access, tokens.refresh) == ("access", "refresh")


@pytest.mark.parametrize("more", [{}, {"refresh_token": None}, {"refresh_token": ""}])
async def test_a_refresh_token_that_is_not_rotated_is_kept(more):
    _, tokens = await call({"access_token": "access"} | more)
    assert tokens.refresh == "planted-first"


NO_TOKENS = [
    7,
    True,
    ["a"],
    {"a": 1},
    "with space",
    "line\nbreak",
    "tab\t",
    "nul\0",
    "\x7f",
    "clé",
    "\ud7ff",
    "x" * 16385,
]


@pytest.mark.parametrize("name", ["access_token", "refresh_token"])
@pytest.mark.parametrize("value", NO_TOKENS, ids=ascii)
async def test_what_is_no_token_is_not_taken(name, value):
    _, error = await call(GOOD | {name: value})
    assert error.status == 503
    assert "planted-" not in error.message
    assert f"answered 200 with {'an access' if name[0] == 'a' else 'a refresh'}_token that is none" in error.message


async def test_an_answer_without_end_is_not_read():
    _, error = await call(orjson.dumps(GOOD | {"more": "x" * 300_000}))
    assert (error.status, "answered 200. If" in error.message) == (503, True)


@pytest.mark.parametrize("name", ["access_token", "refresh_token"])
async def test_the_old_token_stays(tmp_path, start, quick, name):
    service = Tokens(access_token=jwt(3600))
    log_in(tmp_path, service.access_token, age=7 * 3600)
    service.token_answer = answers(200, orjson.dumps(GOOD | {name: "a\nb"}).decode())
    async with start(service, {}) as gateway:
        await settled(gateway)
        assert (await say(gateway))[0] == 200
        state = await credential_state(gateway)
        assert state["state"] == "failing"
        assert f"{name} that is none" in state["problem"]
    assert service.used == [f"Bearer {service.access_token}"]
