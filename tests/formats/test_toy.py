"""A fourth format is one room and one word: this one is client format and upstream type, the package unchanged."""

import ast
import asyncio
from contextlib import asynccontextmanager
from pathlib import Path

import orjson
import pytest
from aiohttp import web

import droid2api
from droid2api.config import load
from droid2api.demo import Demo
from droid2api.errors import UpstreamError
from droid2api.formats import FORMATS, Format
from droid2api.observe.explain import explain
from droid2api.server.keys import RUNTIME
from tests.formats import toy
from tests.harness import BODIES, BY_TYPE, MODELS, PATHS, gateway_for, serving

ROOM: Format = toy
WORDS = ["Good ", "morning."]
SAID = {"say": [["rule", "Be brief."], ["me", "Hello"]]}


class Service:
    """An upstream that speaks the toy format."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, str], dict]] = []
        self.error = None
        self.cut = False

    def app(self):
        app = web.Application()
        app.router.add_post("/talk/{model}", self.answer)
        return app

    async def answer(self, request):
        self.asked.append((str(request.rel_url), dict(request.headers), orjson.loads(await request.read())))
        if self.error:
            return web.json_response(toy.encode_error(self.error), status=self.error.status)
        end = {"end": "said", "cost": [7, 2]}
        if "flow" not in request.query:
            return web.json_response({"name": "parrot", "words": WORDS} | end)
        out = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await out.prepare(request)
        for value in [*({"word": word} for word in WORDS), *([] if self.cut else [end])]:
            await out.write(toy._event(value))
            await asyncio.sleep(0)
        return out


@asynccontextmanager
async def running(folder, service=None, **config):
    """A gateway in front of the demo, and of the toy's service for the model "parrot"."""
    async with serving(Demo(pace=0).app()) as demo, serving((service or Service()).app()) as url:
        endpoints = [{"name": name, "base_url": demo + path} for name, path in PATHS.items()]
        endpoints.append({"name": "toy-service", "base_url": f"{url}/talk", "api_key_env": "TOY_KEY"})
        value = {"endpoint": endpoints, "models": [*MODELS, {"id": "parrot", "type": "toy-service"}]} | config
        (folder / "config.json").write_bytes(orjson.dumps(value))
        environment = {"HOME": str(folder), "FACTORY_API_KEY": "test-key", "TOY_KEY": "planted-toy-key"}
        settings = load(folder / "config.json", environment, (*FORMATS, toy))
        async with gateway_for(settings) as gateway:
            yield gateway


def stream_of(content):
    return [orjson.loads(event.removeprefix(b"data: ")) for event in content.split(b"\n\n") if event]


def test_the_package_does_not_know_it():
    texts = [path.read_text(encoding="utf-8") for path in Path(droid2api.__file__).parent.rglob("*.py")]
    assert not [text for text in texts if "toy" in text.lower()]


@pytest.mark.parametrize("type", ["anthropic", "openai", "common"])
async def test_its_client_asks_any_upstream(tmp_path, type):
    async with running(tmp_path, system_prompt="Sing. ") as gateway:
        path = f"/toys/talk/{BY_TYPE[type]}"
        status, headers, content = await gateway.ask(path, SAID | {"mood": "gay"})
        assert (status, headers["x-droid2api-dropped"]) == (200, "mood")
        answer = orjson.loads(content)
        assert ("".join(answer["words"]), answer["end"]) == ("Hello", "said")
        status, _, content = await gateway.ask(f"{path}?flow=1", SAID)
        *words, end = stream_of(content)
        assert (words, end["end"]) == ([{"word": "Hello"}], "said")
        assert end["cost"][1] > 0


@pytest.mark.parametrize("path", BODIES)
async def test_any_client_asks_its_upstream(tmp_path, path):
    service = Service()
    async with running(tmp_path, service) as gateway:
        for stream in (False, True):
            status, _, content = await gateway.ask(path, BODIES[path] | {"model": "parrot", "stream": stream})
            assert status == 200
            assert b"Good " in content
            assert b"morning." in content
        (whole, headers, body), (streamed, *_) = service.asked
        assert (whole, streamed) == ("/talk/parrot", "/talk/parrot?flow=1")
        assert body["say"] == [["me", "hi"]]
        assert (headers["x-toy-key"], headers["x-toy-version"]) == ("planted-toy-key", "1")
        assert "Authorization" not in headers


async def test_its_relay_is_byte_equal(tmp_path):
    service = Service()
    async with running(tmp_path, service, system_prompt="Sing.") as gateway:
        status, _, content = await gateway.ask("/toy/talk/parrot?flow", SAID | {"mood": "gay"})
        assert (status, stream_of(content)[-1]) == (200, {"end": "said", "cost": [7, 2]})
        assert content == b"".join(map(toy._event, [*({"word": word} for word in WORDS), stream_of(content)[-1]]))
        assert service.asked[0][2] == {"say": [["rule", "Sing."], *SAID["say"]], "mood": "gay"}
        service.cut = True
        _, _, content = await gateway.ask("/toy/talk/parrot?flow", SAID)
        assert "before its end" in stream_of(content)[-1]["oops"]


async def test_errors_are_in_its_envelope(tmp_path):
    service = Service()
    async with running(tmp_path, service) as gateway:
        status, _, content = await gateway.ask("/toy/talk/nobody", SAID)
        assert (status, orjson.loads(content)["number"]) == (404, 404)
        status, _, content = await gateway.ask("/toy/talk/parrot", b"{")
        assert (status, orjson.loads(content)["number"]) == (400, 400)
        status, _, content = await gateway.ask("/toy/talk/glm-4.6", {"say": [["me"]]})
        assert (status, orjson.loads(content)["oops"]) == (400, "say[0]: must be [who, words].")
        service.error = UpstreamError("Sleeping.", status=429)
        status, headers, content = await gateway.ask("/v1/messages", BODIES["/v1/messages"] | {"model": "parrot"})
        assert (status, headers["retry-after"]) == (429, "1")
        assert "Sleeping." in orjson.loads(content)["error"]["message"]


async def test_its_key_opens_the_gateway(tmp_path):
    async with running(tmp_path, api_keys=["planted-gateway-key"]) as gateway:
        status, _, _ = await gateway.ask("/toy/talk/parrot", SAID, {"x-toy-key": "planted-other-key"})
        assert status == 401
        status, _, _ = await gateway.ask("/toy/talk/parrot", SAID, {"x-toy-key": "planted-gateway-key"})
        assert status == 200


async def test_it_is_explained(tmp_path):
    async with running(tmp_path) as gateway:
        settings = gateway.app[RUNTIME].settings
        explained = explain(settings, {"model": "parrot", "messages": [{"role": "user", "content": "Hello"}], "n": 1})
        assert (explained.upstream, explained.body) == ("toy", {"say": [["me", "Hello"]]})
        assert explained.url.endswith("/talk/parrot")


def test_it_is_one_module():
    tree = ast.parse(Path(toy.__file__).read_text(encoding="utf-8"))
    imported = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not [name for name in imported if name.startswith("tests")]
