"""A credential that the package does not know: tokens of 25 minutes, headers of its own, given to one endpoint."""

import asyncio
from contextlib import asynccontextmanager

import aiohttp
import orjson
from aiohttp import web

from droid2api.application import build_app
from droid2api.credentials.credential import Credential
from droid2api.errors import CredentialError
from droid2api.server.keys import RUNTIME
from tests.credentials.service import say
from tests.harness import PATHS, Gateway, serving, settings_for

MINUTES = 60
BODY = {"model": "gpt-5.5", "input": "hi"}
CHAT_BODY = {"model": "gpt-5.5", "messages": [{"role": "user", "content": "hi"}]}


class EditorCredential(Credential):
    """Exchanges a login for tokens that live 25 minutes; its service wants to know the editor too."""

    source = "editor login"

    def __init__(self):
        self.now = 0.0
        self.closed = self.running = False
        self.count = self.renewals = 0
        self.ends = 0.0

    @property
    def token(self):
        return f"planted-token-{self.count}"

    def exchange(self):
        self.count += 1
        self.ends = self.now + 25 * MINUTES

    async def get(self, client_keys):
        if self.now >= self.ends:
            self.exchange()
        return {"authorization": f"token {self.token}", "editor-version": "test/1.0"}

    async def renew(self, refused):
        self.renewals += 1
        if refused["authorization"] == f"token {self.token}":
            self.exchange()
        return True

    def describe(self):
        return {"source": self.source, "state": "ok", "expires_at": int(self.ends)}

    def secrets(self):
        return [self.token]

    async def run(self):
        self.running = True
        await asyncio.Event().wait()

    async def close(self):
        self.closed = True


class Service:
    """Takes `good` tokens only, and repeats what it was sent when it refuses one."""

    def __init__(self):
        self.good = {"token planted-token-1", "token planted-token-2", "Bearer test-key"}
        self.seen = []

    async def answer(self, request):
        self.seen.append(request.headers)
        if request.headers["authorization"] not in self.good:
            return web.json_response({"error": {"message": f"Unknown: {request.headers['authorization']}"}}, status=401)
        return web.json_response(
            {"id": "r", "object": "response", "status": "completed", "model": "gpt-5.5", "output": [], "usage": None}
        )

    def app(self):
        app = web.Application()
        app.router.add_post("/{path:.*}", self.answer)
        return app


@asynccontextmanager
async def started(folder, service, credential):
    async with serving(service.app()) as upstream:
        app = build_app(settings_for(folder, upstream), credentials={"openai": credential})
        async with serving(app) as url, aiohttp.ClientSession() as client:
            yield Gateway(url, app, client)


async def test_its_headers_reach_the_endpoint_and_no_other(tmp_path):
    service, credential = Service(), EditorCredential()
    async with started(tmp_path, service, credential) as gateway:
        assert credential.running
        assert (await gateway.ask(PATHS["openai"], BODY))[0] == 200
        await say(gateway, "anthropic")
    own, other = service.seen
    assert (own["authorization"], own["editor-version"]) == ("token planted-token-1", "test/1.0")
    assert (other["authorization"], "editor-version" in other) == ("Bearer test-key", False)
    assert credential.closed


async def test_it_is_asked_before_each_request_and_lives_25_minutes(tmp_path):
    service, credential = Service(), EditorCredential()
    async with started(tmp_path, service, credential) as gateway:
        for credential.now in (0, 24 * MINUTES, 25 * MINUTES, 49 * MINUTES):
            assert (await gateway.ask(PATHS["openai"], BODY))[0] == 200
    sent = [headers["authorization"][-1] for headers in service.seen]
    assert sent == ["1", "1", "2", "2"]


async def test_a_401_renews_it_once_and_the_call_is_repeated(tmp_path):
    service, credential = Service(), EditorCredential()
    service.good = {"token planted-token-2"}
    async with started(tmp_path, service, credential) as gateway:
        assert (await gateway.ask(PATHS["openai"], BODY))[0] == 200
        assert (credential.renewals, len(service.seen)) == (1, 2)
        service.good = set()
        assert (await gateway.ask(PATHS["openai"], BODY))[0] == 401
    assert (credential.renewals, len(service.seen)) == (2, 4)


async def test_its_secrets_are_masked(tmp_path):
    service, credential = Service(), EditorCredential()
    service.good = set()
    async with started(tmp_path, service, credential) as gateway:
        status, _, content = await gateway.ask(PATHS["common"], CHAT_BODY)
    assert status == 401
    assert orjson.loads(content)["error"]["message"] == "Unknown: token ***"


async def test_health_describes_it_beside_the_shared_one(tmp_path):
    credential = EditorCredential()
    async with started(tmp_path, Service(), credential) as gateway:
        health = orjson.loads((await gateway.get("/health"))[2])
    assert health["credential"] == {"source": "FACTORY_API_KEY", "state": "ok"}
    assert health["credentials"] == {"openai": {"source": "editor login", "state": "ok", "expires_at": 0}}


async def test_a_failure_of_it_is_the_clients_answer(tmp_path, monkeypatch):
    async def get(client_keys):
        raise CredentialError("The editor's login has ended.", status=503)

    credential = EditorCredential()
    monkeypatch.setattr(credential, "get", get)
    service = Service()
    async with started(tmp_path, service, credential) as gateway:
        status, _, content = await gateway.ask(PATHS["openai"], BODY)
    assert (status, service.seen) == (503, [])
    assert b"The editor's login has ended." in content


async def test_it_stays_when_settings_are_read_again(tmp_path):
    service, credential = Service(), EditorCredential()
    async with started(tmp_path, service, credential) as gateway:
        changed = settings_for(tmp_path, "http://127.0.0.1:9", {"FACTORY_API_KEY": "test-key-2"})
        await gateway.app[RUNTIME].apply(changed)
        assert gateway.app[RUNTIME].credentials["openai"] is credential
        assert not credential.closed
    assert credential.closed
