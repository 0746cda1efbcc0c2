"""Claude Code and Codex, the real programs, on models of all three upstream types and at strict services."""

from __future__ import annotations

import base64
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

from droid2api.demo import Demo
from tests.agents import CLAUDE, CLIENTS, CODEX, OLD_CODEX, ClaudeCode, Codex, installed
from tests.harness import BY_TYPE, demo_gateway
from tests.strict import Strict, strict, strict_gateway

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

upstreams = pytest.mark.parametrize("upstream", ["anthropic", "openai", "common", "google"])


@pytest.fixture(scope="module")
def claude():
    return installed(CLAUDE, "claude")


@pytest.fixture(scope="module")
def codex():
    return installed(CODEX, "codex")


@pytest.fixture(scope="module")
def old_codex():
    return installed(OLD_CODEX, "codex", CLIENTS / "codex-0.77")


def one_model(id: str, upstream: str) -> dict[str, Any]:
    return {"models": [{"id": id, "type": upstream, "thinking": "adaptive"}]}


# -- upstreams of each type -----------------------------------------------------------------------------------------


@upstreams
async def test_claude_code(claude, tmp_path, upstream):
    model = BY_TYPE[upstream] if upstream != "anthropic" else "claude-opus-5-5"
    demo = Demo(pace=0)
    async with demo_gateway(tmp_path, demo, **one_model(model, upstream)) as gateway:
        client = ClaudeCode(claude, gateway.url, tmp_path)
        assert "hello there" in await client.ask(model, "hello there")
        prompt = 'call Bash with {"command": "echo $((40 + 2))-it-works", "description": "adds"}'
        assert "The tool said: 42-it-works" in await client.ask(model, prompt)
    foreign = [body for path, _, body in demo.requests if path != "/v1/messages"]
    assert "x-anthropic-billing-header" not in str(foreign)


PATCH = "*** Begin Patch\n*** Update File: note.txt\n@@\n-hello world\n+hello gateway\n*** End Patch\n"


@upstreams
async def test_codex(codex, tmp_path, upstream):
    async with demo_gateway(tmp_path, Demo(pace=0), **one_model("gpt-5.5", upstream)) as gateway:
        client = Codex(codex, gateway.url, tmp_path)
        assert "hello there" in await client.ask("gpt-5.5", "hello there")
        assert "42-it-works" in await client.ask("gpt-5.5", 'call exec_command {"cmd": "echo $((40 + 2))-it-works"}')
        note = tmp_path / "note.txt"
        note.write_text("hello world\n")
        await client.ask("gpt-5.5", f"call apply_patch <<<{PATCH}>>>")
        assert note.read_text() == "hello gateway\n"


async def test_codex_with_tools_in_namespaces(codex, tmp_path):
    """A model that Codex does not know gets its tools in namespaces."""
    async with demo_gateway(tmp_path, Demo(pace=0), **one_model("claude-opus-5-5", "anthropic")) as gateway:
        prompt = 'call exec_command {"cmd": "echo $((40 + 2))-it-works"}'
        assert "42-it-works" in await Codex(codex, gateway.url, tmp_path).ask("claude-opus-5-5", prompt)


# -- Claude Code at strict services ---------------------------------------------------------------------------------

PICTURE = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAIAAABLbSncAAAAEklEQVR4nGP4z8CAFWEXHbQSACj/P8Fu7N9hAAAAAElFTkSuQmCC"
)
PAPER = b"""%PDF-1.4
1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj
2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj
3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 99 99]>>endobj
trailer<</Root 1 0 R>>
%%EOF
"""
TWICE = 'call Bash twice with {"command": "echo $((40 + 2))-it-works", "description": "adds"}'
READERS = {"openai", "openai chat", "qwen", "kimi", "gemini"}
"""Services that are sent papers, as far as is known of them."""


def sent(upstream: Strict) -> str:
    """The last body that the upstream has answered."""
    return orjson.dumps(upstream.answered[-1]).decode()


def length(upstream: Strict) -> int:
    body = upstream.answered[-1]
    return len(body.get("messages") or body["input"])


OPENAI_TYPED = ["openai", "openai chat", "groq", "qwen", "deepseek", "kimi", "gemini"]
AS_HAIKU = [(service, "claude-haiku-4-5") for service in ("openai", "openai chat", "qwen", "gemini")]


@pytest.mark.parametrize(("service", "model"), [(service, None) for service in OPENAI_TYPED] + AS_HAIKU)
async def test_claude_code_at_a_strict_service(claude, tmp_path, monkeypatch, service, model):
    """One session: calls with the same ids in every answer, a tool that is found, a web search, media, compaction."""
    upstream = strict(service, reused_ids=True)
    own = upstream.service.models[0]
    model = model or own
    for name, content in (("a.png", PICTURE), ("b.jpg", PICTURE), ("c.pdf", PAPER)):
        (tmp_path / name).write_bytes(content)
    async with strict_gateway(tmp_path, monkeypatch, upstream, model_redirects={"claude-haiku-*": own}) as gateway:
        client = ClaudeCode(claude, gateway.url, tmp_path)
        assert "hello" in await client.ask(model, "hello")
        for _ in range(2):
            assert "42-it-works; 42-it-works" in await client.ask(model, TWICE, "--continue")
        await client.ask(model, 'call ToolSearch with {"query": "select:WebSearch", "max_results": 1}', "--continue")
        said = await client.ask(model, 'call WebSearch with {"query": "droid2api"}', "--continue")
        assert 'results for query: "droid2api"' in said
        searches = [tool for body in upstream.answered for tool in body.get("tools") or () if "web" in tool["type"]]
        assert bool(searches) == (service == "openai")
        for name, kind in (("a.png", "image/png"), ("b.jpg", "image/png"), ("c.pdf", "application/pdf")):
            await client.ask(model, f'call Read with {{"file_path": "{tmp_path}/{name}"}}', "--continue")
            shown = "image" in kind or service in READERS
            assert (f"data:{kind};base64" if shown else f"[{kind} left out") in sent(upstream)
        before = length(upstream)
        await client.ask(model, "/compact", "--continue")
        await client.ask(model, "what now", "--continue")
        assert length(upstream) < before
        assert "what now" in sent(upstream)
    assert upstream.refused == []


@pytest.mark.parametrize("service", ["openai", "qwen", "gemini", "claude"])
async def test_an_mcp_server_that_appears_late(claude, tmp_path, monkeypatch, service):
    """Its tool is not offered at first; a search finds it, and then it can be called."""
    server = {"command": sys.executable, "args": [str(Path(__file__).parent / "late_mcp.py"), "3"]}
    (tmp_path / "mcp.json").write_bytes(orjson.dumps({"mcpServers": {"late": server}}))
    upstream = strict(service)
    async with strict_gateway(tmp_path, monkeypatch, upstream) as gateway:
        said = await ClaudeCode(claude, gateway.url, tmp_path).session(
            upstream.service.models[0],
            'call Bash with {"command": "sleep 5; echo awake", "description": "waits"}',
            'call ToolSearch with {"query": "select:mcp__late__add", "max_results": 1}',
            'call mcp__late__add with {"a": 40, "b": 2}',
            more=["--mcp-config", str(tmp_path / "mcp.json")],
        )
    assert "awake" in said[0]
    assert "the sum is 42" in said[2]
    offered = ["mcp__late__add" in str(body.get("tools")) for body in upstream.answered]
    assert (offered[0], offered[-1]) == (False, True)
    assert upstream.refused == []


@pytest.mark.parametrize(
    "services",
    [
        ["claude", "openai", "deepseek", "claude"],
        ["claude", "gemini", "openai chat", "deepseek messages", "qwen", "kimi", "old claude", "groq", "claude"],
    ],
    ids=len,
)
async def test_a_session_that_changes_its_model(claude, tmp_path, monkeypatch, services):
    """What each model made in the session is in what the next one gets."""
    upstreams = {service: strict(service) for service in services}
    async with strict_gateway(tmp_path, monkeypatch, *upstreams.values()) as gateway:
        client, more = ClaudeCode(claude, gateway.url, tmp_path), []
        for number, service in enumerate(services):
            upstream = upstreams[service]
            assert await client.ask(upstream.service.models[0], "good day", *more)
            more = ["--continue"]
            prompt = f'call Bash with {{"command": "echo $((40 + {number}))-it-works", "description": "adds"}}'
            assert f"{40 + number}-it-works" in await client.ask(upstream.service.models[0], prompt, *more)
            assert all(f"{40 + earlier}-it-works" in sent(upstream) for earlier in range(number + 1))
    assert {service: upstream.refused for service, upstream in upstreams.items()} == {name: [] for name in upstreams}


# -- Codex at strict services ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "service",
    ["claude", "old claude", "deepseek messages", "openai chat", "groq", "qwen", "deepseek", "kimi", "gemini"],
)
async def test_codex_at_a_strict_service(codex, tmp_path, monkeypatch, service):
    """One session: a call that is cut, calls with the same ids, a search for tools, one that was found, a patch."""
    upstream = strict(service, reused_ids=True, cuts=1)
    model, more = "gpt-5.5", ["resume", "--last"]
    (tmp_path / "note.txt").write_text("hello world\n")
    redirects = {model: upstream.service.models[0]}
    async with strict_gateway(tmp_path, monkeypatch, upstream, model_redirects=redirects) as gateway:
        client = Codex(codex, gateway.url, tmp_path)
        command = '{"cmd": "echo $((40 + 2))-it-works"}'
        assert "42-it-works" not in await client.ask(model, f"call exec_command {command}", ends_well=False)
        assert "failed to parse" in await client.ask(model, "good day", *more)
        assert "42-it-works" in await client.ask(model, f"call exec_command {command}", *more)
        assert (await client.ask(model, f"call exec_command twice {command}", *more)).count("42-it-works") == 2
        assert "can be called now" in await client.ask(model, 'call tool_search {"query": "agent"}', *more)
        tool = "multi_agent_v1__wait_agent"
        assert tool in str(upstream.answered[-1]["tools"])
        await client.ask(model, f'call {tool} {{"targets": ["nobody"]}}', *more)
        assert "nobody" in sent(upstream)
        assert "unsupported call" not in sent(upstream)
        await client.ask(model, f"call apply_patch <<<{PATCH}>>>", *more)
        assert (tmp_path / "note.txt").read_text() == "hello gateway\n"
        assert "bye" in await client.ask(model, "bye", *more)
    assert upstream.refused == []


@pytest.mark.parametrize("service", ["claude", "old claude", "qwen", "gemini"])
async def test_an_older_codex_with_its_local_shell(old_codex, tmp_path, monkeypatch, service):
    upstream = strict(service)
    redirects = {"codex-mini-latest": upstream.service.models[0]}
    async with strict_gateway(tmp_path, monkeypatch, upstream, model_redirects=redirects) as gateway:
        client = Codex(old_codex, gateway.url, tmp_path)
        prompt = 'call local_shell {"command": ["sh", "-c", "echo $((40 + 2))-it-works"]}'
        assert "42-it-works" in await client.ask("codex-mini-latest", prompt)
        assert "good day" in await client.ask("codex-mini-latest", "good day", "resume", "--last")
    assert "local_shell" in sent(upstream)
    assert upstream.refused == []
