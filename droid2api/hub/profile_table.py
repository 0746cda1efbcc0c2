"""The facts of the profiles: rows of hosts, models and formats, above each the source of what it claims.

A row claims a fact for what its source names, and for nothing else: an id that no row knows gets what the row of its
format says. All rows that match are applied, in order, so that later ones win: formats, models at any host, services.
Models are named in the way that `profiles.normalized` gives them.

"Factory's list" has the models that Factory's CLI 0.225 offers (recorded). "OpenAI live" is pydantic/pydantic-ai's
profiles/openai.py, where each cell was tried on the live Responses API (2026-07).
"""

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
    """Facts of all models that match one of the patterns of each kind."""

    facts: Mapping[str, Any]
    models: list[str]
    hosts: list[str]
    formats: list[str]

    def matches(self, host: str, model: str, format_name: str) -> bool:
        asked = ((host, self.hosts), (model, self.models), (format_name, self.formats))
        return all(any(fnmatchcase(text, pattern) for pattern in patterns) for text, patterns in asked)


def _row(models: str = "*", hosts: str = "*", formats: str = "*", **facts: Any) -> Row:
    return Row(facts, models.split(), hosts.split(), formats.split())


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
_OPENAI_CHAT: dict[str, Any] = {
    "system_messages": "anywhere",
    "extras": OPENAI_EXTRAS,
    "refused_options": ("top_k", "min_p"),
    "service_tiers": _TIERS,
}

_FORMATS = (
    # today's behaviour; picoclaw#1196 (extras), vllm#41114 (system messages), cc-switch#5725 (ids);
    # what the schema dialect mends is wrong or of no use anywhere
    _row(formats="chat", ids="kept", most_stops=4, tool_schema="openai"),
    # https://developers.openai.com/api/reference/resources/responses: the format is OpenAI's, so are its services
    _row(
        formats="responses",
        system_messages="anywhere",
        stops="none",
        tool_schema="openai",
        output_schema="openai",
        extras=OPENAI_EXTRAS,
        service_tiers=_TIERS,
    ),
    # today's behaviour; cc-switch#3246 (unsigned thinking), litellm#3286 (stops), opencode#13768 (prefill)
    _row(
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
    # https://ai.google.dev/gemini-api/docs/thinking, recorded
    _row(
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
    # https://platform.claude.com/docs/en/build-with-claude/extended-thinking: thinking without Anthropic's signature is
    # refused
    _row("claude-*", formats="anthropic", unsigned_thinking=False),
    # Factory's list; https://platform.claude.com/docs/en/about-claude/models/overview
    _row(
        "claude-opus-4-5 claude-sonnet-4-5 claude-haiku-4-5 claude-opus-4-1",
        formats="anthropic",
        efforts=_LOW_TO["high"],
        strict_tools=True,
        max_output_tokens=64000,
    ),
    # https://platform.claude.com/docs/en/about-claude/models/overview
    _row("claude-opus-4-1", formats="anthropic", max_output_tokens=32000),
    # Factory's list; https://platform.claude.com/docs/en/build-with-claude/adaptive-thinking, litellm#23546
    _row(
        "claude-opus-4-6 claude-sonnet-4-6",
        formats="anthropic",
        thinking="adaptive",
        efforts=("low", "medium", "high", "max"),
        strict_tools=True,
        max_output_tokens=128000,
    ),
    # Factory's list; https://platform.claude.com/docs/en/about-claude/models/whats-new-claude-4-8: no budget, no
    # sampling, no text
    _row(
        _CLAUDE_SINCE_4_7,
        formats="anthropic",
        thinking="adaptive",
        efforts=_LOW_TO["max"],
        thinking_hidden=True,
        strict_tools=True,
        sampling="refused",
        max_output_tokens=128000,
    ),
    # https://platform.claude.com/docs/en/build-with-claude/working-with-messages: no prefill since 4.6; opencode#13768
    _row(f"claude-opus-4-6 claude-sonnet-4-6 {_CLAUDE_SINCE_4_7}", prefill=False),
    # https://platform.claude.com/docs/en/build-with-claude/mid-conversation-system-messages, langchainjs#11922; not
    # claude-sonnet-5, which answers and ignores them (recorded)
    _row(
        f"claude-opus-4-8 claude-opus-5 claude-fable-5 claude-mythos-5 {_CLAUDE_BOUND}",
        formats="anthropic",
        system_messages="after_user",
    ),
    # https://platform.claude.com/docs/en/models/opus-5-5/whats-new-opus-5-5: on by default, `disabled` at effort high
    # or below
    _row("claude-opus-5 claude-sonnet-5 claude-haiku-5-5", formats="anthropic", reasons="unless_off", off="disabled"),
    # https://platform.claude.com/docs/en/models/sonnet-5-5/whats-new-sonnet-5-5#turn-off-up-front-thinking
    _row("claude-sonnet-5-5", formats="anthropic", reasons="unless_off", off="between_tools"),
    # https://platform.claude.com/docs/en/models/fable-5-1/migration-guide,
    # https://platform.claude.com/docs/en/models/opus-5-5/migration-guide: `disabled` is refused
    _row(
        "claude-opus-5-5 claude-opus-5-5-fast claude-fable-5 claude-fable-5-1 claude-fable-5-2 "
        "claude-mythos-5 claude-mythos-5-1 claude-mythos-5-2",
        formats="anthropic",
        **_ALWAYS,
    ),
    # https://platform.claude.com/docs/en/models/opus-5-5/whats-new-opus-5-5#forced-tool-use-is-not-supported;
    # pydantic-ai for Fable 5
    _row(f"claude-fable-5 claude-mythos-5 {_CLAUDE_BOUND}", formats="anthropic", forced_tools="refused"),
    # https://platform.claude.com/docs/en/build-with-claude/preserved-thinking/change-tools-or-instructions,
    # opencode#48637
    _row(_CLAUDE_BOUND, formats="anthropic", bound_thinking=True),
)

_OPENAI_MODELS = (
    # https://developers.openai.com/api/reference/resources/chat: OpenAI's own ids, at whatever host
    _row(
        "gpt-[3-9]* gpt-[1-9][0-9]* chatgpt-* o[1-9]*",
        formats="chat",
        ids="safe",
        longest_id=40,
        output_schema="openai",
        **_OPENAI_CHAT,
    ),
    # https://developers.openai.com/api/docs/models: they do not reason, and refuse an effort; litellm#27074
    _row("gpt-[34]* chatgpt-*", efforts=(), off="omit", reasons="never"),
    # https://developers.openai.com/api/docs/guides/reasoning; OpenAI live
    _row("gpt-[5-9]* gpt-[1-9][0-9]* o[1-9]*", sampling="refused", stops="none", limit_field="max_completion_tokens"),
    # OpenAI live
    _row("o[1-9]*", efforts=_LOW_TO["high"], **_ALWAYS),
    # Factory's list
    _row("gpt-5 gpt-5-mini gpt-5-nano", efforts=("minimal", *_LOW_TO["high"]), **_ALWAYS),
    # Factory's list; OpenAI live
    _row("gpt-5-codex* gpt-5.1-codex gpt-5.1-codex-mini", efforts=_LOW_TO["high"], **_ALWAYS),
    # https://developers.openai.com/api/docs/models/gpt-5-pro
    _row("gpt-5-pro", efforts=("high",), **_ALWAYS),
    # https://developers.openai.com/api/docs/models/gpt-5.1-codex-max: xhigh came with it
    _row("gpt-5.1-codex-max", efforts=_LOW_TO["xhigh"], **_ALWAYS),
    # OpenAI live
    _row("gpt-5.[123]-chat*", efforts=("medium",), **_ALWAYS),
    # OpenAI live
    _row("gpt-5-chat*", efforts=(), off="omit", reasons="never", sampling="taken"),
    # Factory's list; OpenAI live
    _row("gpt-5.1", efforts=_LOW_TO["high"], sampling="without_reasoning"),
    # Factory's list; OpenAI live
    _row(
        "gpt-5.2 gpt-5.2-codex gpt-5.3-codex gpt-5.4 gpt-5.4-mini gpt-5.4-nano",
        efforts=_LOW_TO["xhigh"],
        sampling="without_reasoning",
    ),
    # Factory's list; OpenAI live
    _row("gpt-5.5", efforts=_LOW_TO["xhigh"], reasons="unless_off", sampling="without_reasoning"),
    # Factory's list
    _row("gpt-5.[245]-pro", efforts=("medium", "high", "xhigh"), **_ALWAYS),
    # Factory's list; OpenAI live
    _row(
        "gpt-5.6 gpt-5.6-sol gpt-5.6-terra gpt-5.6-luna gpt-6-sol gpt-6-luna",
        efforts=_LOW_TO["max"],
        reasons="unless_off",
        sampling="without_reasoning",
    ),
    # Factory's list
    _row("gpt-6-astra", efforts=_LOW_TO["max"], **_ALWAYS),
    # openai/openai-openapi#541, litellm#34569: beside tools only an explicit none
    _row("gpt-5.[456]* gpt-6-sol gpt-6-luna", formats="chat", effort_beside_tools=False),
    # https://developers.openai.com/api/docs/guides/prompt-caching: four writes, one of OpenAI's own accord; gpt-5.6 and
    # later
    _row("gpt-5.[6-9]* gpt-[6-9]* gpt-[1-9][0-9]*", cache_breakpoints=3),
)

_GEMINI_MODELS = (
    # https://ai.google.dev/gemini-api/docs/thinking
    _row("gemini-2.0-*", efforts=(), off="omit", reasons="never"),
    # https://ai.google.dev/gemini-api/docs/thinking
    _row("gemini-2.5-pro*", thinking="budget", efforts=_LOW_TO["high"], **_ALWAYS),
    # https://ai.google.dev/gemini-api/docs/thinking
    _row("gemini-2.5-flash*", thinking="budget", efforts=_LOW_TO["high"], reasons="unless_off"),
    # https://ai.google.dev/gemini-api/docs/thinking: budget 0 is off
    _row("gemini-2.5-flash*", formats="gemini", off="disabled"),
    # https://ai.google.dev/gemini-api/docs/thinking: it is off unless asked for
    _row("gemini-2.5-flash-lite*", reasons="asked"),
    # https://ai.google.dev/gemini-api/docs/thinking; recorded: each answer's first tool call is signed; cc-switch#5725
    # (Chat endpoint)
    _row(
        "gemini-3* gemini-4* gemini-flash-latest gemini-pro-latest",
        efforts=_LOW_TO["high"],
        **_ALWAYS,
        signed_calls=True,
        max_output_tokens=65536,
    ),
    # https://ai.google.dev/gemini-api/docs/thinking; Factory's list
    _row("gemini-3-flash* gemini-3.1-flash-lite* gemini-3.5-flash*", efforts=("minimal", *_LOW_TO["high"])),
    # https://ai.google.dev/gemini-api/docs/gemini-4: no penalties, no prefill
    _row("gemini-4*", prefill=False, refused_options=("presence_penalty", "frequency_penalty")),
    # livekit/agents#7095: minimal and high are taken, a budget is not
    _row("gemma-4*", formats="gemini", efforts=("minimal", "high")),
)

_OTHER_MODELS = (
    # Factory's list; https://docs.x.ai/docs/guides/reasoning
    _row("grok-4.[67]", efforts=_LOW_TO["xhigh"], **_ALWAYS),
    # https://docs.x.ai/docs/guides/reasoning
    _row("grok-4.5*", efforts=_LOW_TO["high"], **_ALWAYS),
    # https://docs.x.ai/docs/guides/reasoning
    _row("grok-4.3*", efforts=_LOW_TO["high"]),
    # Factory's list; https://docs.z.ai/guides/capabilities/thinking-mode
    _row("glm-5.3*", efforts=("low", "high", "max")),
    # Factory's list
    _row("glm-5.2*", efforts=("high", "max")),
    # Factory's list
    _row("glm-5.1*", efforts=("high",)),
    # https://docs.z.ai: most output tokens
    _row("glm-5.[23]*", max_output_tokens=131072),
    # Factory's list
    _row("kimi-k3*", efforts=("low", "high", "max"), max_output_tokens=65536),
    # Factory's list
    _row("kimi-k2.[567]*", efforts=("high",), max_output_tokens=65536),
    # https://api-docs.deepseek.com/guides/thinking_mode
    _row("deepseek-v4-*", efforts=("low", "high", "max"), max_output_tokens=131072),
    # https://api-docs.deepseek.com/guides/thinking_mode, pawwork#250, cc-switch#3246: refused without
    _row("deepseek-v4-* deepseek-reasoner deepseek-flash kimi-k2.[567]* kimi-k2-thinking* kimi-k3*", replay="always"),
    # Factory's list
    _row("qwen3.8-max", efforts=("low", "medium", "xhigh")),
    # Factory's list
    _row("minimax-m3 minimax-m2.7", efforts=("high",)),
    # Factory's list
    _row("minimax-m2.5", efforts=_LOW_TO["high"]),
    # https://console.groq.com/docs/reasoning
    _row("gpt-oss-*", efforts=_LOW_TO["high"], **_ALWAYS),
    # https://docs.mistral.ai/api: an id is nine letters and digits; its templates say the same elsewhere
    _row("mistral-* ministral-* magistral-* devstral-* codestral-* mixtral-*", formats="chat", ids="nine"),
)

_SERVICES = (
    # https://developers.openai.com/api/reference
    _row(hosts="api.openai.com *.openai.azure.com", formats="chat", ids="safe", longest_id=40, **_OPENAI_CHAT),
    # Factory's list: no effort
    _row("glm-5 glm-4.7 glm-4.6", "*.factory.ai", efforts=()),
    # Factory's list; https://docs.fireworks.ai/guides/reasoning: effort none
    _row("glm-5.[12] kimi-* deepseek-v4-*", "*.factory.ai api.fireworks.ai", "chat", reasons="unless_off", off="none"),
    # Factory's list: always
    _row("glm-5.3* qwen3.8-max minimax-*", "*.factory.ai api.fireworks.ai", **_ALWAYS),
    # https://console.groq.com/docs/openai, https://console.groq.com/docs/api-reference, picoclaw#1196
    _row(
        hosts="api.groq.com",
        formats="chat",
        system_messages="anywhere",
        extras=(),
        refused_options=("logprobs", "logit_bias", "top_logprobs", "top_k", "min_p"),
        service_tiers=("auto", "on_demand", "flex", "performance"),
        media=_IMAGES,
    ),
    # https://console.groq.com/docs/reasoning: none or default
    _row("qwen3-*", "api.groq.com", "chat", efforts=("default",), reasons="unless_off"),
    # https://inference-docs.cerebras.ai/resources/openai
    _row(
        hosts="api.cerebras.ai",
        formats="chat",
        extras=(),
        refused_options=(
            "frequency_penalty",
            "presence_penalty",
            "logit_bias",
            "parallel_tool_calls",
            "top_k",
            "min_p",
        ),
    ),
    # https://ai.google.dev/gemini-api/docs/openai: an unknown field is refused by name
    _row(
        hosts="*.googleapis.com",
        formats="chat",
        extras=(),
        refused_options=("logit_bias", "logprobs", "top_logprobs", "top_k", "min_p"),
    ),
    # https://docs.mistral.ai/api: extra fields are refused; the last message is the user's or a tool's;
    # avante.nvim#2347 (stream_options), crush#1590 (reasoning_content)
    _row(
        hosts="api.mistral.ai",
        formats="chat",
        system_messages="anywhere",
        ids="nine",
        prefill=False,
        replay="never",
        refused_options=("user", "seed", "logit_bias", "logprobs", "top_logprobs", "top_k", "min_p", "stream_options"),
    ),
    # https://api-docs.deepseek.com/guides/thinking_mode; pydantic-ai providers/deepseek.py (tool_choice)
    _row(
        "deepseek-v4-* deepseek-flash",
        "api.deepseek.com",
        reasons="unless_off",
        off="disabled",
        forced_tools="without_reasoning",
    ),
    # https://api-docs.deepseek.com/guides/vision: pictures at the most, no files
    _row(hosts="api.deepseek.com", formats="chat", media=("image/*",)),
    # https://api-docs.deepseek.com/guides/anthropic_api: no pictures, no documents
    _row(hosts="api.deepseek.com", formats="anthropic", media=(), replay="always"),
    # https://platform.kimi.ai/docs/guide/use-thinking-effort; pydantic-ai providers/moonshotai.py
    _row("kimi-*", "api.moonshot.*", "chat", forced_tools="refused", strict_tools=False, sampling="refused", **_ALWAYS),
    # https://platform.kimi.ai/docs/guide/use-kimi-k2-thinking-model
    _row("kimi-k2.[56]", "api.moonshot.*", "chat", efforts=(), reasons="unless_off", off="disabled"),
    # https://docs.z.ai/api-reference/llm/chat-completion
    _row(hosts="api.z.ai open.bigmodel.cn", formats="chat", forced_tools="refused", most_stops=1),
    # https://docs.z.ai/guides/capabilities/thinking-mode
    _row("glm-[45]*", "api.z.ai open.bigmodel.cn", "chat", reasons="unless_off", off="disabled"),
    # https://docs.z.ai/guides/capabilities/thinking-mode: effort came with 5.2
    _row("glm-4* glm-5 glm-5.1", "api.z.ai open.bigmodel.cn", "chat", efforts=()),
    # https://docs.z.ai/guides/capabilities/thinking-mode: always
    _row("glm-5.3*", "api.z.ai open.bigmodel.cn", "chat", **_ALWAYS),
    # https://docs.x.ai/docs/guides/reasoning: refused by models that reason
    _row("grok-[4-9]*", "api.x.ai", "chat", stops="none", refused_options=("presence_penalty", "frequency_penalty")),
    # pydantic-ai providers/alibaba.py: file parts are refused
    _row(hosts="*.aliyuncs.com", formats="chat", media=("image/*",)),
)

ROWS = (*_FORMATS, *_CLAUDE_MODELS, *_OPENAI_MODELS, *_GEMINI_MODELS, *_OTHER_MODELS, *_SERVICES)
