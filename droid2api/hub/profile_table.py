"""The facts of the profiles: rows of hosts, models and formats, each with the source of what it claims.

A row claims a fact for what its source names, and for nothing else: an id that no row knows gets what the row of its
format says. All rows that match are applied, in order, so that later ones win: formats, models at any host, services.
Models are named in the way that `profiles.normalized` gives them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
"""Weakest first; all words that more than one service has."""

OPENAI_EXTRAS = tuple(
    "store metadata prompt_cache_key prompt_cache_retention prompt_cache_options safety_identifier moderation "
    "verbosity prediction web_search_options".split()
)
"""Settings that OpenAI has beside those of all Chat services; strict services refuse a request that has one."""

_TIERS = ("auto", "default", "flex", "scale", "priority", "fast")


@dataclass(frozen=True, slots=True)
class Row:
    """Facts of all models that match one of the patterns of each kind, and where they are from."""

    source: str
    facts: Mapping[str, Any]
    models: tuple[str, ...] = ("*",)
    hosts: tuple[str, ...] = ("*",)
    formats: tuple[str, ...] = ("*",)

    def matches(self, host: str, model: str, format_name: str) -> bool:
        asked = ((host, self.hosts), (model, self.models), (format_name, self.formats))
        return all(any(fnmatchcase(text, pattern) for pattern in patterns) for text, patterns in asked)


def _row(source: str, models: str = "*", hosts: str = "*", formats: str = "*", **facts: Any) -> Row:
    return Row(source, facts, tuple(models.split()), tuple(hosts.split()), tuple(formats.split()))


_CLAUDE = "https://platform.claude.com/docs/en"
_FACTORY_LIST = "recorded: the models that Factory's CLI 0.225 offers"
_OPENAI_LIVE = "pydantic/pydantic-ai profiles/openai.py: each cell tried on the live Responses API (2026-07)"
_IMAGES = ("image/jpeg", "image/png", "image/gif", "image/webp")
_CLAUDE_BOUND = (
    "claude-opus-5-5 claude-opus-5-5-fast claude-sonnet-5-5 claude-haiku-5-5 claude-fable-5-1 claude-fable-5-2 "
    "claude-mythos-5-1 claude-mythos-5-2"
)
"""The models with preserved thinking, as its documentation names them."""
_CLAUDE_SINCE_4_7 = (
    f"claude-opus-4-7 claude-opus-4-8 claude-opus-5 claude-sonnet-5 claude-fable-5 claude-mythos-5 {_CLAUDE_BOUND}"
)
_LOW_TO = {top: EFFORTS[2 : EFFORTS.index(top) + 1] for top in ("high", "xhigh", "max")}
_ALWAYS: dict[str, Any] = {"reasons": "always", "off": "weakest"}

_FORMATS = (
    _row(
        "today's behaviour; picoclaw#1196 (extras), vllm#41114 (system messages), cc-switch#5725 (ids)",
        formats="chat",
        ids="kept",
        most_stops=4,
        tool_schema="openai",  # what it mends is wrong or of no use anywhere
    ),
    _row(
        "https://developers.openai.com/api/reference/resources/responses: the format is OpenAI's, so are its services",
        formats="responses",
        system_messages="anywhere",
        stops="none",
        tool_schema="openai",
        output_schema="openai",
        extras=OPENAI_EXTRAS,
        service_tiers=_TIERS,
    ),
    _row(
        "today's behaviour; cc-switch#3246 (unsigned thinking), litellm#3286 (stops), opencode#13768 (prefill)",
        formats="anthropic",
        off="omit",
        unsigned_thinking=True,
        prefill_space=False,
        media=(*_IMAGES, "application/pdf"),
        forced_tools="without_reasoning",
        strict_tools=False,
        tool_schema="anthropic tools",
        output_schema="anthropic output",
        sampling="without_reasoning",
        one_sampling=True,
        highest_temperature=1,
        stops="printable",
        service_tiers=("auto", "default"),
        cache_breakpoints=4,
    ),
    _row(
        "https://ai.google.dev/gemini-api/docs/thinking, recorded",
        formats="gemini",
        thinking="level",
        efforts=_LOW_TO["high"],
        **_ALWAYS,
        thinking_hidden=True,
        media=("image/*", "audio/*", "video/*", "text/*", "application/pdf"),
        most_stops=5,
        service_tiers=("flex", "default", "priority"),
    ),
)

_CLAUDE_MODELS = (
    _row(
        f"{_CLAUDE}/build-with-claude/extended-thinking: thinking without Anthropic's signature is refused",
        "claude-*",
        formats="anthropic",
        unsigned_thinking=False,
    ),
    _row(
        f"{_FACTORY_LIST}; {_CLAUDE}/about-claude/models/overview",
        "claude-opus-4-5 claude-sonnet-4-5 claude-haiku-4-5 claude-opus-4-1",
        formats="anthropic",
        efforts=_LOW_TO["high"],
        strict_tools=True,
        max_output_tokens=64000,
    ),
    _row(f"{_CLAUDE}/about-claude/models/overview", "claude-opus-4-1", formats="anthropic", max_output_tokens=32000),
    _row(
        f"{_FACTORY_LIST}; {_CLAUDE}/build-with-claude/adaptive-thinking, litellm#23546",
        "claude-opus-4-6 claude-sonnet-4-6",
        formats="anthropic",
        thinking="adaptive",
        efforts=("low", "medium", "high", "max"),
        strict_tools=True,
        max_output_tokens=128000,
    ),
    _row(
        f"{_FACTORY_LIST}; {_CLAUDE}/about-claude/models/whats-new-claude-4-8: no budget, no sampling, no text",
        _CLAUDE_SINCE_4_7,
        formats="anthropic",
        thinking="adaptive",
        efforts=_LOW_TO["max"],
        thinking_hidden=True,
        strict_tools=True,
        sampling="refused",
        max_output_tokens=128000,
    ),
    _row(
        f"{_CLAUDE}/build-with-claude/working-with-messages: no prefill since 4.6; opencode#13768",
        f"claude-opus-4-6 claude-sonnet-4-6 {_CLAUDE_SINCE_4_7}",
        prefill=False,
    ),
    _row(
        f"{_CLAUDE}/build-with-claude/mid-conversation-system-messages, langchainjs#11922; not claude-sonnet-5, which "
        "answers and ignores them (recorded)",
        f"claude-opus-4-8 claude-opus-5 claude-fable-5 claude-mythos-5 {_CLAUDE_BOUND}",
        formats="anthropic",
        system_messages="after_user",
    ),
    _row(
        f"{_CLAUDE}/models/opus-5-5/whats-new-opus-5-5: on by default, `disabled` at effort high or below",
        "claude-opus-5 claude-sonnet-5 claude-haiku-5-5",
        formats="anthropic",
        reasons="unless_off",
        off="disabled",
    ),
    _row(
        f"{_CLAUDE}/models/sonnet-5-5/whats-new-sonnet-5-5#turn-off-up-front-thinking",
        "claude-sonnet-5-5",
        formats="anthropic",
        reasons="unless_off",
        off="between_tools",
    ),
    _row(
        f"{_CLAUDE}/models/fable-5-1/migration-guide, {_CLAUDE}/models/opus-5-5/migration-guide: `disabled` is refused",
        "claude-opus-5-5 claude-opus-5-5-fast claude-fable-5 claude-fable-5-1 claude-fable-5-2 "
        "claude-mythos-5 claude-mythos-5-1 claude-mythos-5-2",
        formats="anthropic",
        **_ALWAYS,
    ),
    _row(
        f"{_CLAUDE}/models/opus-5-5/whats-new-opus-5-5#forced-tool-use-is-not-supported; pydantic-ai for Fable 5",
        f"claude-fable-5 claude-mythos-5 {_CLAUDE_BOUND}",
        formats="anthropic",
        forced_tools="refused",
    ),
    _row(
        f"{_CLAUDE}/build-with-claude/preserved-thinking/change-tools-or-instructions, opencode#48637",
        _CLAUDE_BOUND,
        formats="anthropic",
        bound_thinking=True,
    ),
)

_OPENAI_MODELS = (
    _row(
        "https://developers.openai.com/api/reference/resources/chat: OpenAI's own ids, at whatever host; "
        "vercel/ai#8132, opencode#12653: ids of calls have 40 characters at most",
        "gpt-[3-9]* gpt-[1-9][0-9]* chatgpt-* o[1-9]*",
        formats="chat",
        system_messages="anywhere",
        ids="safe",
        longest_id=40,
        output_schema="openai",
        extras=OPENAI_EXTRAS,
        service_tiers=_TIERS,
    ),
    _row(
        "https://developers.openai.com/api/docs/models: they do not reason, and refuse an effort; litellm#27074",
        "gpt-[34]* chatgpt-*",
        efforts=(),
        off="omit",
        reasons="never",
    ),
    _row(
        f"https://developers.openai.com/api/docs/guides/reasoning; {_OPENAI_LIVE}",
        "gpt-[5-9]* gpt-[1-9][0-9]* o[1-9]*",
        sampling="refused",
        stops="none",
        limit_field="max_completion_tokens",
    ),
    _row(_OPENAI_LIVE, "o[1-9]*", efforts=_LOW_TO["high"], **_ALWAYS),
    _row(_FACTORY_LIST, "gpt-5 gpt-5-mini gpt-5-nano", efforts=("minimal", *_LOW_TO["high"]), **_ALWAYS),
    _row(
        f"{_FACTORY_LIST}; {_OPENAI_LIVE}",
        "gpt-5-codex* gpt-5.1-codex gpt-5.1-codex-mini",
        efforts=_LOW_TO["high"],
        **_ALWAYS,
    ),
    _row("https://developers.openai.com/api/docs/models/gpt-5-pro", "gpt-5-pro", efforts=("high",), **_ALWAYS),
    _row(
        "https://developers.openai.com/api/docs/models/gpt-5.1-codex-max: xhigh came with it",
        "gpt-5.1-codex-max",
        efforts=_LOW_TO["xhigh"],
        **_ALWAYS,
    ),
    _row(_OPENAI_LIVE, "gpt-5.[123]-chat*", efforts=("medium",), **_ALWAYS),
    _row(_OPENAI_LIVE, "gpt-5-chat*", efforts=(), off="omit", reasons="never", sampling="taken"),
    _row(f"{_FACTORY_LIST}; {_OPENAI_LIVE}", "gpt-5.1", efforts=_LOW_TO["high"], sampling="without_reasoning"),
    _row(
        f"{_FACTORY_LIST}; {_OPENAI_LIVE}",
        "gpt-5.2 gpt-5.2-codex gpt-5.3-codex gpt-5.4 gpt-5.4-mini gpt-5.4-nano",
        efforts=_LOW_TO["xhigh"],
        sampling="without_reasoning",
    ),
    _row(
        f"{_FACTORY_LIST}; {_OPENAI_LIVE}",
        "gpt-5.5",
        efforts=_LOW_TO["xhigh"],
        reasons="unless_off",
        sampling="without_reasoning",
    ),
    _row(_FACTORY_LIST, "gpt-5.[245]-pro", efforts=("medium", "high", "xhigh"), **_ALWAYS),
    _row(
        f"{_FACTORY_LIST}; {_OPENAI_LIVE}",
        "gpt-5.6 gpt-5.6-sol gpt-5.6-terra gpt-5.6-luna gpt-6-sol gpt-6-luna",
        efforts=_LOW_TO["max"],
        reasons="unless_off",
        sampling="without_reasoning",
    ),
    _row(_FACTORY_LIST, "gpt-6-astra", efforts=_LOW_TO["max"], **_ALWAYS),
    _row(
        "openai/openai-openapi#541, litellm#34569: beside tools only an explicit none",
        "gpt-5.[456]* gpt-6-sol gpt-6-luna",
        formats="chat",
        effort_beside_tools=False,
    ),
    _row(
        "https://developers.openai.com/api/docs/guides/prompt-caching: four writes, one of OpenAI's own accord; "
        "gpt-5.6 and later",
        "gpt-5.[6-9]* gpt-[6-9]* gpt-[1-9][0-9]*",
        cache_breakpoints=3,
    ),
)

_GEMINI = "https://ai.google.dev/gemini-api/docs/thinking"
_GEMINI_MODELS = (
    _row(_GEMINI, "gemini-2.0-*", efforts=(), off="omit", reasons="never"),
    _row(_GEMINI, "gemini-2.5-pro*", thinking="budget", efforts=_LOW_TO["high"], **_ALWAYS),
    _row(_GEMINI, "gemini-2.5-flash*", thinking="budget", efforts=_LOW_TO["high"], reasons="unless_off"),
    _row(f"{_GEMINI}: budget 0 is off", "gemini-2.5-flash*", formats="gemini", off="disabled"),
    _row(f"{_GEMINI}: it is off unless asked for", "gemini-2.5-flash-lite*", reasons="asked"),
    _row(
        f"{_GEMINI}; recorded: each answer's first tool call is signed; cc-switch#5725 (Chat endpoint)",
        "gemini-3* gemini-4* gemini-flash-latest gemini-pro-latest",
        efforts=_LOW_TO["high"],
        **_ALWAYS,
        signed_calls=True,
        max_output_tokens=65536,
    ),
    _row(
        f"{_GEMINI}; {_FACTORY_LIST}",
        "gemini-3-flash* gemini-3.1-flash-lite* gemini-3.5-flash*",
        efforts=("minimal", *_LOW_TO["high"]),
    ),
    _row(
        "https://ai.google.dev/gemini-api/docs/gemini-4: no penalties, no prefill",
        "gemini-4*",
        prefill=False,
        refused_options=("presence_penalty", "frequency_penalty"),
    ),
)

_OTHER_MODELS = (
    _row(
        f"{_FACTORY_LIST}; https://docs.x.ai/docs/guides/reasoning", "grok-4.[67]", efforts=_LOW_TO["xhigh"], **_ALWAYS
    ),
    _row("https://docs.x.ai/docs/guides/reasoning", "grok-4.5*", efforts=_LOW_TO["high"], **_ALWAYS),
    _row("https://docs.x.ai/docs/guides/reasoning", "grok-4.3*", efforts=_LOW_TO["high"]),
    _row(
        f"{_FACTORY_LIST}; https://docs.z.ai/guides/capabilities/thinking-mode",
        "glm-5.3*",
        efforts=("low", "high", "max"),
    ),
    _row(_FACTORY_LIST, "glm-5.2*", efforts=("high", "max")),
    _row(_FACTORY_LIST, "glm-5.1*", efforts=("high",)),
    _row("https://docs.z.ai: most output tokens", "glm-5.[23]*", max_output_tokens=131072),
    _row(_FACTORY_LIST, "kimi-k3*", efforts=("low", "high", "max"), max_output_tokens=65536),
    _row(_FACTORY_LIST, "kimi-k2.[567]*", efforts=("high",), max_output_tokens=65536),
    _row(
        "https://api-docs.deepseek.com/guides/thinking_mode",
        "deepseek-v4-*",
        efforts=("low", "high", "max"),
        max_output_tokens=131072,
    ),
    _row(
        "https://api-docs.deepseek.com/guides/thinking_mode, pawwork#250, cc-switch#3246: refused without",
        "deepseek-v4-* deepseek-reasoner deepseek-flash kimi-k2.[567]* kimi-k2-thinking* kimi-k3*",
        replay="always",
    ),
    _row(_FACTORY_LIST, "qwen3.8-max", efforts=("low", "medium", "xhigh")),
    _row(_FACTORY_LIST, "minimax-m3 minimax-m2.7", efforts=("high",)),
    _row(_FACTORY_LIST, "minimax-m2.5", efforts=_LOW_TO["high"]),
    _row("https://console.groq.com/docs/reasoning", "gpt-oss-*", efforts=_LOW_TO["high"], **_ALWAYS),
    _row(
        "https://docs.mistral.ai/api: an id is nine letters and digits; its templates say the same elsewhere",
        "mistral-* ministral-* magistral-* devstral-* codestral-* mixtral-*",
        formats="chat",
        ids="nine",
    ),
)

_SERVICES = (
    _row(
        "https://developers.openai.com/api/reference",
        hosts="api.openai.com *.openai.azure.com",
        formats="chat",
        system_messages="anywhere",
        ids="safe",
        longest_id=40,
        extras=OPENAI_EXTRAS,
        service_tiers=_TIERS,
    ),
    _row(f"{_FACTORY_LIST}: no effort", "glm-5 glm-4.7 glm-4.6", "*.factory.ai", efforts=()),
    _row(
        f"{_FACTORY_LIST}; https://docs.fireworks.ai/guides/reasoning: effort none",
        "glm-5.[12] kimi-* deepseek-v4-*",
        "*.factory.ai api.fireworks.ai",
        "chat",
        reasons="unless_off",
        off="none",
    ),
    _row(f"{_FACTORY_LIST}: always", "glm-5.3* qwen3.8-max minimax-*", "*.factory.ai api.fireworks.ai", **_ALWAYS),
    _row(
        "https://console.groq.com/docs/openai, https://console.groq.com/docs/api-reference, picoclaw#1196",
        hosts="api.groq.com",
        formats="chat",
        system_messages="anywhere",
        extras=(),
        refused_options=("logprobs", "logit_bias", "top_logprobs"),
        service_tiers=("auto", "on_demand", "flex", "performance"),
        media=_IMAGES,
    ),
    _row(
        "https://console.groq.com/docs/reasoning: none or default",
        "qwen3-*",
        "api.groq.com",
        "chat",
        efforts=("default",),
        reasons="unless_off",
    ),
    _row(
        "https://inference-docs.cerebras.ai/resources/openai",
        hosts="api.cerebras.ai",
        formats="chat",
        extras=(),
        refused_options=("frequency_penalty", "presence_penalty", "logit_bias", "parallel_tool_calls"),
    ),
    _row(
        "https://ai.google.dev/gemini-api/docs/openai: an unknown field is refused by name",
        hosts="*.googleapis.com",
        formats="chat",
        extras=(),
        refused_options=("logit_bias", "logprobs", "top_logprobs", "top_k", "min_p"),
    ),
    _row(
        "https://docs.mistral.ai/api: extra fields are refused; the last message is the user's or a tool's",
        hosts="api.mistral.ai",
        formats="chat",
        system_messages="anywhere",
        ids="nine",
        prefill=False,
        refused_options=("user", "seed", "logit_bias", "logprobs", "top_logprobs", "top_k", "min_p"),
    ),
    _row(
        "https://api-docs.deepseek.com/guides/thinking_mode; pydantic-ai providers/deepseek.py (tool_choice)",
        "deepseek-v4-* deepseek-flash",
        "api.deepseek.com",
        reasons="unless_off",
        off="disabled",
        forced_tools="without_reasoning",
    ),
    _row(
        "https://api-docs.deepseek.com/guides/vision: pictures at the most, no files",
        hosts="api.deepseek.com",
        formats="chat",
        media=("image/*",),
    ),
    _row(
        "https://api-docs.deepseek.com/guides/anthropic_api: no pictures, no documents",
        hosts="api.deepseek.com",
        formats="anthropic",
        media=(),
        replay="always",
    ),
    _row(
        "https://platform.kimi.ai/docs/guide/use-thinking-effort; pydantic-ai providers/moonshotai.py",
        "kimi-*",
        "api.moonshot.*",
        "chat",
        forced_tools="refused",
        strict_tools=False,
        sampling="refused",
        **_ALWAYS,
    ),
    _row(
        "https://platform.kimi.ai/docs/guide/use-kimi-k2-thinking-model",
        "kimi-k2.[56]",
        "api.moonshot.*",
        "chat",
        efforts=(),
        reasons="unless_off",
        off="disabled",
    ),
    _row(
        "https://docs.z.ai/api-reference/llm/chat-completion",
        hosts="api.z.ai open.bigmodel.cn",
        formats="chat",
        forced_tools="refused",
        most_stops=1,
    ),
    _row(
        "https://docs.z.ai/guides/capabilities/thinking-mode",
        "glm-[45]*",
        "api.z.ai open.bigmodel.cn",
        "chat",
        reasons="unless_off",
        off="disabled",
    ),
    _row(
        "https://docs.z.ai/guides/capabilities/thinking-mode: effort came with 5.2",
        "glm-4* glm-5 glm-5.1",
        "api.z.ai open.bigmodel.cn",
        "chat",
        efforts=(),
    ),
    _row(
        "https://docs.z.ai/guides/capabilities/thinking-mode: always",
        "glm-5.3*",
        "api.z.ai open.bigmodel.cn",
        "chat",
        **_ALWAYS,
    ),
    _row(
        "https://docs.x.ai/docs/guides/reasoning: refused by models that reason",
        "grok-[4-9]*",
        "api.x.ai",
        "chat",
        stops="none",
        refused_options=("presence_penalty", "frequency_penalty"),
    ),
    _row(
        "pydantic-ai providers/alibaba.py: file parts are refused",
        hosts="*.aliyuncs.com",
        formats="chat",
        media=("image/*",),
    ),
)

ROWS = (*_FORMATS, *_CLAUDE_MODELS, *_OPENAI_MODELS, *_GEMINI_MODELS, *_OTHER_MODELS, *_SERVICES)
