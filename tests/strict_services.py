"""What real services refuse, as data, for the strict upstreams.

A service is data: the models and the host by which the gateway knows it, its rules, and the shape of its errors. A rule
finds places in a body and says what the service says of them. The rules are from public reports of what was refused,
with the words of those reports.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from anthropic.types import message_create_params

from tests.refusals import (
    Find,
    blank_stops,
    block_kinds,
    cache_marks,
    calls_with_one_id,
    calls_without_reasoning,
    calls_without_results,
    calls_without_signature,
    calls_without_thinking,
    chat_pictures,
    claude_pictures,
    effort_beside,
    effort_beside_tools,
    fields_beside,
    forced_tool,
    has,
    item_ids,
    late_system,
    long_call_ids,
    long_texts,
    message_fields_beside,
    missing_choice,
    no_type,
    no_user,
    no_word_json,
    part_kinds,
    prefill,
    prefill_space,
    repeated_call_ids,
    repeated_tools,
    responses_pictures,
    root_unions,
    sampling_and_reasoning,
    system_messages,
    system_not_after_user,
    thinking_kinds,
    tool_names,
    unknown_fields,
    unpaired_blocks,
    unpaired_items,
    unsigned_thinking,
    wrong_arguments,
    wrong_call_ids,
    wrong_content_kinds,
    wrong_inputs,
    wrong_output,
    wrong_schemas,
)

Json = dict[str, Any]


@dataclass(frozen=True)
class Rule:
    """Refuses a body in which something is found; `says` has "{}" for the first find."""

    find: Find
    says: str

    def refusal(self, body: Json) -> str | None:
        found = next(iter(self.find(body)), None)
        return None if found is None else self.says.format(found)


@dataclass(frozen=True)
class Service:
    """`type` is its format in config.json. `error` gives its error body for a text."""

    host: str
    type: str
    models: tuple[str, ...]
    rules: tuple[Rule, ...]
    error: Callable[[str], Any]
    signs_calls: bool = False
    binds_thinking: bool = False
    reasons: bool = True

    def refusal(self, body: Json) -> str | None:
        return next((text for rule in self.rules if (text := rule.refusal(body)) is not None), None)


# -- error bodies ---------------------------------------------------------------------------------------------------


def openai_error(text: str) -> Json:
    return {"error": {"message": text, "type": "invalid_request_error", "param": None, "code": None}}


def plain_error(text: str) -> Json:
    return {"error": {"message": text, "type": "invalid_request_error"}}


def anthropic_error(text: str) -> Json:
    error = {"type": "invalid_request_error", "message": text}
    return {"type": "error", "error": error, "request_id": "req_demo"}


def vllm_error(text: str) -> Json:
    return {"object": "error", "message": text, "type": "BadRequestError", "param": None, "code": 400}


def google_error(text: str) -> list[Json]:
    return [{"error": {"code": 400, "message": text, "status": "INVALID_ARGUMENT"}}]


# -- the services ---------------------------------------------------------------------------------------------------

_USUAL_CHAT = frozenset(
    "model messages stream stream_options tools tool_choice parallel_tool_calls max_tokens max_completion_tokens "
    "temperature top_p stop response_format reasoning_effort frequency_penalty presence_penalty seed user".split()
)
_PAIRED = Rule(calls_without_results, "tool_call_ids did not have response messages: {}")
_ONE_ID = Rule(calls_with_one_id, "Duplicate tool_call id {}")
_OPENAI_RULES = (
    Rule(wrong_schemas, "Invalid schema for function '{}"),
    Rule(tool_names(r"[a-zA-Z0-9_-]{1,64}"), "Invalid tool name {}: string does not match pattern."),
    Rule(long_texts("user", "prompt_cache_key", "safety_identifier"), "Invalid '{}': string too long."),
    Rule(sampling_and_reasoning, "Unsupported parameter: '{}' is not supported with this model."),
    Rule(effort_beside("none", "low", "medium", "high", "xhigh"), "Unsupported value: '{}'."),
)
_CLAUDE_FIELDS = (
    *message_create_params.MessageCreateParamsStreaming.__annotations__,
    *message_create_params.MessageCreateParamsBase.__annotations__,
    *("context_management", "temperature", "top_p", "top_k"),  # with its beta; what the SDK no longer types
)
_CLAUDE_RULES = (
    Rule(fields_beside(_CLAUDE_FIELDS), "{}: Extra inputs are not permitted"),
    Rule(unpaired_blocks, "messages: {}"),
    Rule(repeated_call_ids, "messages: `tool_use` ids must be unique"),
    Rule(wrong_call_ids, "messages: tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'"),
    Rule(wrong_inputs, "messages: tool_use.input: Input should be a valid dictionary"),
    Rule(tool_names(r"[a-zA-Z0-9_-]{1,128}"), "tools: {}: String should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'"),
    Rule(repeated_tools, "tools: Tool names must be unique."),
    Rule(root_unions, "tools: {}: input_schema does not support oneOf, allOf, or anyOf at the top level"),
    Rule(no_type, "tools: {}: input_schema.type: Field required"),
    Rule(wrong_output, "output_config.format.schema: {}"),
    Rule(blank_stops, "stop_sequences: each stop sequence must contain non-whitespace"),
    Rule(claude_pictures, "messages: The image was specified using the image type {}"),
    Rule(cache_marks, "A maximum of 4 blocks with cache_control may be provided. Found {}."),
    Rule(unsigned_thinking, "messages: thinking.signature: Field required"),
)

SERVICES = {
    "openai": Service(
        "api.openai.com",
        "openai",
        ("gpt-5.5",),
        (
            Rule(unknown_fields("responses"), "Unknown parameter: '{}'."),
            *_OPENAI_RULES,
            Rule(unpaired_items, "{}"),
            Rule(item_ids(64), "Invalid '{}': string too long. Expected a string with maximum length 64."),
            Rule(no_word_json, "Response input messages must contain the word 'json' in some form."),
            Rule(wrong_content_kinds, "Invalid value: '{}'. Supported values are: 'output_text' and 'refusal'."),
            Rule(missing_choice, "Tool choice '{}' not found in 'tools' parameter."),
            Rule(responses_pictures, "The image data you provided is declared as {}."),
            Rule(has("stop"), "Unknown parameter: '{}'."),
        ),
        openai_error,
    ),
    "openai chat": Service(
        "api.openai.com",
        "common",
        ("gpt-5.4",),
        (
            Rule(unknown_fields("chat"), "Unknown parameter: '{}'."),
            *_OPENAI_RULES,
            Rule(effort_beside_tools, "Function tools with reasoning_effort are not supported. Use /v1/responses."),
            Rule(has("max_tokens"), "Unsupported parameter: '{}'. Use 'max_completion_tokens' instead."),
            Rule(has("stop"), "Unsupported parameter: '{}' is not supported with this model."),
            Rule(long_call_ids, "Invalid 'messages[{}].tool_calls[0].id': string too long. Maximum length 40."),
            _PAIRED,
            _ONE_ID,
            Rule(chat_pictures, "The image data you provided is declared as {}."),
        ),
        openai_error,
    ),
    "claude": Service(
        "api.anthropic.com",
        "anthropic",
        ("claude-opus-5-5",),
        (
            *_CLAUDE_RULES,
            Rule(prefill, "This model does not support assistant message prefill."),
            Rule(thinking_kinds("enabled", "disabled"), '"thinking.type.{}" is not supported for this model.'),
            Rule(has("temperature", "top_p", "top_k"), "`{}` is deprecated for this model."),
            Rule(forced_tool, "tool_choice.{}: forced tool use is not supported for this model."),
            Rule(effort_beside("low", "medium", "high", "xhigh", "max"), "output_config.effort: {}"),
            Rule(system_not_after_user, "messages.{}: role 'system' must follow a user turn"),
        ),
        anthropic_error,
        binds_thinking=True,
    ),
    "old claude": Service(
        "api.anthropic.com",
        "anthropic",
        ("claude-sonnet-4-5", "claude-haiku-4-5-20251001"),
        (
            *_CLAUDE_RULES,
            Rule(prefill_space, "messages: final assistant content cannot end with trailing whitespace"),
            Rule(thinking_kinds("adaptive"), "{} thinking is not supported on this model"),
            Rule(effort_beside(), "This model does not support the effort parameter."),
            Rule(system_messages, 'messages.{}.role: Unexpected role "system".'),
            Rule(
                lambda body: [True] if {"temperature", "top_p"} <= set(body) else [],
                "`temperature` and `top_p` cannot both be specified for this model.",
            ),
        ),
        anthropic_error,
    ),
    "groq": Service(
        "api.groq.com",
        "common",
        ("openai/gpt-oss-120b",),
        (
            Rule(fields_beside(_USUAL_CHAT | {"service_tier", "reasoning_format"}), "property '{}' is unsupported"),
            Rule(
                message_fields_beside("role", "content", "name", "tool_calls", "reasoning"),
                "'messages' : for 'role:assistant' : property '{}' is unsupported",
            ),
            Rule(effort_beside("low", "medium", "high"), "`reasoning_effort` must be low, medium or high, not {}"),
            Rule(
                lambda body: [] if body.get("service_tier") in (None, "auto", "on_demand", "flex") else [True],
                "service_tier is not available",
            ),
            _PAIRED,
        ),
        plain_error,
        reasons=False,  # it says `reasoning`, the demo `reasoning_content`
    ),
    "qwen": Service(
        "qwen.example",
        "common",
        ("Qwen/Qwen3.5-397B-A17B",),
        (
            Rule(late_system, "System message must be at the beginning."),
            Rule(no_user, "No user query found in messages."),
            Rule(wrong_arguments, "Can only get item pairs from a mapping: the arguments of {}."),
            _PAIRED,
        ),
        vllm_error,
    ),
    "deepseek": Service(
        "api.deepseek.com",
        "common",
        ("deepseek-v4-pro",),
        (
            Rule(calls_without_reasoning, "The `reasoning_content` in the thinking mode must be passed back."),
            Rule(forced_tool, "Thinking mode does not support this tool_choice"),
            Rule(part_kinds("file"), "unknown variant `{}`, expected `text`"),
            _PAIRED,
        ),
        openai_error,
    ),
    "deepseek messages": Service(
        "api.deepseek.com",
        "anthropic",
        ("deepseek-v4-flash",),
        (
            Rule(calls_without_thinking, "The `content[].thinking` in the thinking mode must be passed back."),
            Rule(forced_tool, "Thinking mode does not support this tool_choice"),
            Rule(block_kinds("image", "document"), "unknown variant `{}`, expected `text`"),
            Rule(unpaired_blocks, "{}"),
        ),
        openai_error,
    ),
    "kimi": Service(
        "api.moonshot.ai",
        "common",
        ("kimi-k2.6",),
        (
            Rule(
                calls_without_reasoning,
                "thinking is enabled but reasoning_content is missing in assistant tool call message at index {}",
            ),
            Rule(forced_tool, "tool_choice '{}' is incompatible with thinking enabled"),
            Rule(has("temperature", "top_p"), "invalid {}: only 1 is allowed for this model"),
            Rule(
                lambda body: [True] if {"thinking", "reasoning_effort"} <= set(body) else [],
                "cannot specify both 'thinking' and 'reasoning_effort'",
            ),
            _PAIRED,
            _ONE_ID,
        ),
        plain_error,
    ),
    "gemini": Service(
        "generativelanguage.googleapis.com",
        "common",
        ("gemini-3.5-flash",),
        (
            Rule(
                fields_beside(_USUAL_CHAT | {"extra_body"}),
                'Invalid JSON payload received. Unknown name "{}": Cannot find field.',
            ),
            Rule(
                calls_without_signature,
                "Function call is missing a thought_signature in functionCall parts. "
                "Additional data, function call `default_api:{}`",
            ),
            Rule(effort_beside("none", "minimal", "low", "medium", "high"), "Invalid reasoning_effort: {}"),
            Rule(wrong_arguments, "Invalid value: the arguments of {}"),
            _PAIRED,
        ),
        google_error,
        signs_calls=True,
    ),
}
