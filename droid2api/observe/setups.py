"""What to paste into each client so that it uses this gateway: shell lines, a file, or code.

For `droid2api env` and the page. docs/clients.md has the same texts.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass

from droid2api.errors import ConfigError, RequestError
from droid2api.settings import Model, Settings

NO_KEY = "any"
"""What a client sends that wants a key, where the gateway wants none."""


@dataclass(frozen=True, slots=True)
class Part:
    """`where` is the file that the text belongs into, "" for lines of a shell or of a program; `language` is bash,
    toml, json or python.
    """

    where: str
    language: str
    text: str


@dataclass(frozen=True, slots=True)
class Setup:
    """All that one tool needs; `start` is the command that runs it then, "" where there is none."""

    tool: str
    title: str
    parts: tuple[Part, ...]
    start: str = ""


def setups(base_url: str, key: str, settings: Settings, model: str | None = None) -> dict[str, Setup]:
    """Each tool's setup by its name. `base_url` is without /v1; `model` is for all, else each gets one that fits.

    Raises ConfigError when `model` is none that the gateway knows, or when it knows none at all.
    """
    if not settings.models:
        raise ConfigError(f"{settings.source}: no model is configured, so there is nothing to ask for.")
    if model is not None:
        try:
            settings.route(model)
        except RequestError as error:
            raise ConfigError(f"--{error.message}") from None
    return {
        tool: make(base_url, key, settings, model or _fitting(settings, type_).id)
        for tool, (type_, make) in _MAKERS.items()
    }


def local_url(settings: Settings) -> str:
    """Where clients on this machine reach the gateway."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104 - is not bound here
    return f"http://[{host}]:{settings.port}" if ":" in host else f"http://{host}:{settings.port}"


def _fitting(settings: Settings, type_: str) -> Model:
    """The first model whose upstream speaks the tool's own format, so that its answers are relayed untouched."""
    models = list(settings.models.values())
    return next((model for model in models if type_ == model.format.TYPE), models[0])


def _small(settings: Settings, otherwise: str) -> str:
    """A model for small side jobs."""
    for words in (r"haiku", r"\b(mini|nano|small|flash|lite)\b"):
        for id in settings.models:
            if re.search(words, id, re.IGNORECASE):
                return id
    return otherwise


def _exports(**variables: str) -> str:
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items())


def _claude(base_url: str, key: str, settings: Settings, model: str) -> Setup:
    text = _exports(
        ANTHROPIC_BASE_URL=base_url,
        ANTHROPIC_AUTH_TOKEN=key,
        ANTHROPIC_MODEL=model,
        ANTHROPIC_DEFAULT_HAIKU_MODEL=_small(settings, model),
    )
    return Setup("claude", "Claude Code", (Part("", "bash", text),), "claude")


def _codex(base_url: str, key: str, settings: Settings, model: str) -> Setup:
    text = f"""\
model = {_quoted(model)}
model_provider = "droid2api"

[model_providers.droid2api]
name = "droid2api"
base_url = {_quoted(f"{base_url}/v1")}
env_key = "DROID2API_KEY"
wire_api = "responses"
"""
    file, shell = Part("~/.codex/config.toml", "toml", text), Part("", "bash", _exports(DROID2API_KEY=key))
    return Setup("codex", "Codex", (file, shell), "codex")


def _openai(base_url: str, key: str, settings: Settings, model: str) -> Setup:
    text = f"""\
from openai import OpenAI

client = OpenAI(base_url={_quoted(f"{base_url}/v1")}, api_key={_quoted(key)})

answer = client.chat.completions.create(
    model={_quoted(model)},
    messages=[{{"role": "user", "content": "Hello"}}],
)
print(answer.choices[0].message.content)
"""
    return Setup("openai", "OpenAI SDK", (Part("", "python", text),))


def _opencode(base_url: str, key: str, settings: Settings, model: str) -> Setup:
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "name": "droid2api",
        "options": {"baseURL": f"{base_url}/v1", "apiKey": key},
        "models": {model: {"name": settings.route(model).name, "tool_call": True}},
    }
    value = {"model": f"droid2api/{model}", "provider": {"droid2api": provider}}
    text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    return Setup("opencode", "opencode", (Part("opencode.json", "json", text),), "opencode")


def _cline(base_url: str, key: str, settings: Settings, model: str) -> Setup:
    words = ["cline", "auth", "-p", "openai-compatible", "-k", key, "-m", model, "-b", f"{base_url}/v1"]
    start = shlex.join(["cline", "-P", "openai-compatible", "-m", model])
    return Setup("cline", "Cline", (Part("", "bash", shlex.join(words) + "\n"),), start)


def _aider(base_url: str, key: str, settings: Settings, model: str) -> Setup:
    text = _exports(OPENAI_API_BASE=f"{base_url}/v1", OPENAI_API_KEY=key, AIDER_MODEL=f"openai/{model}")
    return Setup("aider", "aider", (Part("", "bash", text),), "aider")


def _gemini(base_url: str, key: str, settings: Settings, model: str) -> Setup:
    text = _exports(GOOGLE_GEMINI_BASE_URL=base_url, GEMINI_API_KEY=key, GEMINI_MODEL=model)
    file = Part("~/.gemini/settings.json", "json", '{"security": {"auth": {"selectedType": "gemini-api-key"}}}\n')
    return Setup("gemini", "Gemini CLI", (file, Part("", "bash", text)), shlex.join(["gemini", "-m", model]))


def _quoted(text: str) -> str:
    """A string of Python and of TOML: as in JSON."""
    return json.dumps(text, ensure_ascii=False)


_MAKERS: dict[str, tuple[str, Callable[[str, str, Settings, str], Setup]]] = {
    "claude": ("anthropic", _claude),
    "codex": ("openai", _codex),
    "openai": ("", _openai),
    "opencode": ("", _opencode),
    "cline": ("", _cline),
    "aider": ("", _aider),
    "gemini": ("google", _gemini),
}
"""Each tool with the `type` of a model that fits it, "" where each does as well."""
