"""What to paste into each client so that it uses this gateway: shell lines, a file, or code.

For `droid2api env` and the page. docs/clients.md has the same texts. `observe/tools.py` starts clients with the same
values.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from droid2api.errors import ConfigError, RequestError
from droid2api.observe.shells import SHELLS, Shell
from droid2api.settings import Model, Settings
from droid2api.wire.fields import Json

NO_KEY = "any"
"""What a client sends that wants a key, where the gateway wants none."""


@dataclass(frozen=True, slots=True)
class Part:
    """`where` is the file that the text belongs into, "" for lines of a shell or of a program; `language` is toml,
    json, python or a shell's name. What is `optional` is not needed for a start.
    """

    where: str
    language: str
    text: str
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Setup:
    """All that one tool needs; `start` is the command that runs it then, "" where there is none."""

    tool: str
    title: str
    parts: tuple[Part, ...]
    start: str = ""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a client is to use: the gateway at `base_url` (without /v1), with this key and model."""

    base_url: str
    key: str
    settings: Settings
    model: str
    shell: Shell


def setups(
    base_url: str, key: str, settings: Settings, model: str | None = None, shell: Shell = SHELLS["bash"]
) -> dict[str, Setup]:
    """Each tool's setup by its name. `base_url` is without /v1; `model` is for all, else each gets one that fits.

    Raises ConfigError when `model` is none that the gateway knows, or when it knows none at all.
    """
    return {tool: setup(tool, base_url, key, settings, model, shell) for tool in _MAKERS}


def setup(tool: str, base_url: str, key: str, settings: Settings, model: str | None, shell: Shell) -> Setup:
    """One tool's. Raises ConfigError as `setups` does."""
    return _MAKERS[tool][1](Wanted(base_url, key, settings, model_for(tool, settings, model), shell))


def model_for(tool: str, settings: Settings, model: str | None) -> str:
    """The one that was asked for, else one that fits the tool. Raises ConfigError as `setups` does."""
    if not settings.models:
        raise ConfigError(f"{settings.source}: no model is configured, so there is nothing to ask for.")
    if model is None:
        return _fitting(settings, _MAKERS[tool][0]).id
    try:
        settings.route(model)
    except RequestError as error:
        raise ConfigError(f"--{error.message}") from None
    return model


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


def quoted(text: str) -> str:
    """A string of Python and of TOML: as in JSON."""
    return json.dumps(text, ensure_ascii=False)


def _json_lines(begin: str, rows: Iterable[Json], end: str) -> str:
    """JSON with one row on each line."""
    lines = ",\n".join(f"  {json.dumps(row, ensure_ascii=False)}" for row in rows)
    return f"{begin}\n{lines}\n{end}\n"


def _lines(wanted: Wanted, variables: dict[str, str]) -> Part:
    return Part("", wanted.shell.name, wanted.shell.variables(variables))


# -- what each client wants -----------------------------------------------------------------------------------------


def claude_variables(wanted: Wanted) -> dict[str, str]:
    return {
        "ANTHROPIC_BASE_URL": wanted.base_url,
        "ANTHROPIC_AUTH_TOKEN": wanted.key,
        "ANTHROPIC_MODEL": wanted.model,
        "ANTHROPIC_DEFAULT_HAIKU_MODEL": _small(wanted.settings, wanted.model),
        "CLAUDE_CODE_ENABLE_GATEWAY_MODEL_DISCOVERY": "1",
    }


def claude_options(settings: Settings) -> list[Json]:
    """What its picker is to list besides the models that it finds by itself: those of other names than its own."""
    return [
        {"model": id, "label": model.name, "description": "through droid2api"}
        for id, model in settings.models.items()
        if not id.startswith("claude")
    ]


def _claude(wanted: Wanted) -> Setup:
    parts = [_lines(wanted, claude_variables(wanted))]
    if options := claude_options(wanted.settings):
        text = _json_lines('{"modelPicker": {"options": [', options, "]}}")
        parts.append(Part("~/.claude/settings.json", "json", text, optional=True))
    return Setup("claude", "Claude Code", tuple(parts), "claude")


def _codex(wanted: Wanted) -> Setup:
    text = f"""\
model = {quoted(wanted.model)}
model_provider = "droid2api"

[model_providers.droid2api]
name = "droid2api"
base_url = {quoted(f"{wanted.base_url}/v1")}
env_key = "DROID2API_KEY"
wire_api = "responses"
"""
    file = Part("~/.codex/config.toml", "toml", text)
    return Setup("codex", "Codex", (file, _lines(wanted, {"DROID2API_KEY": wanted.key})), "codex")


_DROID_PROVIDERS = {"anthropic": ("anthropic", ""), "openai": ("openai", "/v1")}
"""By a model's type, its provider there and what its URL ends in. Others are asked in Chat Completions."""


def droid_models(wanted: Wanted, key: str) -> list[Json]:
    """The models for `customModels`, the wanted one first."""
    return [_droid_model(wanted, id, key) for id in dict.fromkeys([wanted.model, *wanted.settings.models])]


def _droid_model(wanted: Wanted, id: str, key: str) -> Json:
    model = wanted.settings.route(id)
    provider, path = _DROID_PROVIDERS.get(model.format.TYPE, ("generic-chat-completion-api", "/v1"))
    limit = model.target.max_tokens
    return {
        "model": id,
        "id": droid_id(id),
        "displayName": model.name,
        "provider": provider,
        "baseUrl": wanted.base_url + path,
        "apiKey": key,
    } | ({} if limit is None else {"maxOutputTokens": limit})


def droid_id(model: str) -> str:
    return f"custom:{model}"


def _droid(wanted: Wanted) -> Setup:
    text = _json_lines('{"customModels": [', droid_models(wanted, wanted.key), "]}")
    file = Part("~/.factory/settings.json", "json", text)
    start = wanted.shell.command(["droid", "exec", "-m", droid_id(wanted.model), "Hello"])
    return Setup("droid", "Factory's droid", (file,), start)


def _openai(wanted: Wanted) -> Setup:
    text = f"""\
from openai import OpenAI

client = OpenAI(base_url={quoted(f"{wanted.base_url}/v1")}, api_key={quoted(wanted.key)})

answer = client.chat.completions.create(
    model={quoted(wanted.model)},
    messages=[{{"role": "user", "content": "Hello"}}],
)
print(answer.choices[0].message.content)
"""
    return Setup("openai", "OpenAI SDK", (Part("", "python", text),))


def opencode_config(wanted: Wanted, models: Iterable[str]) -> Json:
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "name": "droid2api",
        "options": {"baseURL": f"{wanted.base_url}/v1", "apiKey": wanted.key},
        "models": {id: {"name": wanted.settings.route(id).name, "tool_call": True} for id in models},
    }
    return {"model": f"droid2api/{wanted.model}", "provider": {"droid2api": provider}}


def _opencode(wanted: Wanted) -> Setup:
    text = json.dumps(opencode_config(wanted, [wanted.model]), indent=2, ensure_ascii=False) + "\n"
    return Setup("opencode", "opencode", (Part("opencode.json", "json", text),), "opencode")


def _cline(wanted: Wanted) -> Setup:
    url = f"{wanted.base_url}/v1"
    words = ["cline", "auth", "-p", "openai-compatible", "-k", wanted.key, "-m", wanted.model, "-b", url]
    start = wanted.shell.command(["cline", "-P", "openai-compatible", "-m", wanted.model])
    return Setup("cline", "Cline", (Part("", wanted.shell.name, wanted.shell.command(words) + "\n"),), start)


def aider_variables(wanted: Wanted) -> dict[str, str]:
    return {
        "OPENAI_API_BASE": f"{wanted.base_url}/v1",
        "OPENAI_API_KEY": wanted.key,
        "AIDER_MODEL": f"openai/{wanted.model}",
    }


def _aider(wanted: Wanted) -> Setup:
    return Setup("aider", "aider", (_lines(wanted, aider_variables(wanted)),), "aider")


GEMINI_SETTINGS: Json = {"security": {"auth": {"selectedType": "gemini-api-key"}}}


def gemini_variables(wanted: Wanted) -> dict[str, str]:
    return {
        "GOOGLE_GEMINI_BASE_URL": wanted.base_url,
        "GEMINI_API_KEY": wanted.key,
        "GEMINI_MODEL": wanted.model,
    }


def _gemini(wanted: Wanted) -> Setup:
    file = Part("~/.gemini/settings.json", "json", json.dumps(GEMINI_SETTINGS) + "\n")
    start = wanted.shell.command(["gemini", "-m", wanted.model])
    return Setup("gemini", "Gemini CLI", (file, _lines(wanted, gemini_variables(wanted))), start)


_MAKERS: dict[str, tuple[str, Callable[[Wanted], Setup]]] = {
    "claude": ("anthropic", _claude),
    "codex": ("openai", _codex),
    "droid": ("anthropic", _droid),
    "openai": ("", _openai),
    "opencode": ("", _opencode),
    "cline": ("", _cline),
    "aider": ("", _aider),
    "gemini": ("google", _gemini),
}
"""Each tool with the `type` of a model that fits it, "" where each does as well."""
