"""What services refuse to find in a body, for the rules of the strict upstreams: each function gives the places.

Whatever is found may be named in the error. Some look at bodies of any format, the others say at which.
"""

from __future__ import annotations

import base64
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import orjson

from tests.formats import sdk

Json = dict[str, Any]
Find = Callable[[Json], Iterable[object]]

# -- what is found: anywhere ----------------------------------------------------------------------------------------


def fields_beside(known: Iterable[str]) -> Find:
    taken = frozenset(known)
    return lambda body: [name for name in body if name not in taken]


def has(*names: str) -> Find:
    return lambda body: [name for name in names if name in body]


def effort_beside(*taken: str) -> Find:
    """The efforts of all three formats."""

    def find(body: Json) -> list[str]:
        said = (body.get("reasoning_effort"), (body.get("reasoning") or {}).get("effort"))
        efforts = [*said, (body.get("output_config") or {}).get("effort")]
        return [effort for effort in efforts if effort is not None and effort not in taken]

    return find


def tools_of(body: Json) -> list[Json]:
    """Name, parameters and strictness of each function, whatever the format."""
    tools = [tool.get("function") or tool for tool in body.get("tools") or ()]
    kinds = ("parameters", "input_schema")
    return [
        {"name": tool["name"], "schema": tool[kind], "strict": tool.get("strict")}
        for tool in tools
        for kind in kinds
        if kind in tool
    ]


def tool_names(pattern: str) -> Find:
    return lambda body: [tool["name"] for tool in tools_of(body) if not re.fullmatch(pattern, tool["name"])]


def nodes(schema: object, is_schema: bool = True) -> Iterator[Json]:
    """The objects of a schema that are schemas, so not what `properties` holds by name."""
    if type(schema) is list:
        for item in schema:
            yield from nodes(item)
    elif type(schema) is dict:
        if is_schema:
            yield schema
        for name, item in schema.items():
            if not is_schema or name not in ("enum", "const", "default", "examples", "required"):
                yield from nodes(item, not (is_schema and name in ("properties", "$defs", "patternProperties")))


def is_kind(schema: Json, kind: str) -> bool:
    return schema.get("type") == kind or (type(schema.get("type")) is list and kind in schema["type"])


def wrong_schemas(body: Json) -> Iterator[str]:
    """What OpenAI refuses of tools' parameters."""
    for tool in tools_of(body):
        name, schema = tool["name"], tool["schema"]
        if schema.get("type") != "object":
            yield f"{name}': schema must be a JSON Schema of 'type: \"object\"'"
        for node in nodes(schema):
            if is_kind(node, "object") and "properties" not in node and "additionalProperties" not in node:
                yield f"{name}': object schema missing properties"
            if is_kind(node, "array") and "items" not in node and "prefixItems" not in node:
                yield f"{name}': array schema missing items"
            if re.search(r"\(\?<?[=!]", str(node.get("pattern"))):
                yield f"{name}': regex lookaround is not supported"
            if {"type", "properties"} & {key for key, value in node.items() if value is None}:
                yield f"{name}': None is not of type"
            if tool["strict"] and is_kind(node, "object"):
                required = sorted(node.get("required") or ())
                if node.get("additionalProperties") is not False or required != sorted(node.get("properties") or ()):
                    yield f"{name}': 'required' is required to include every key, 'additionalProperties' to be false"


def wrong_pictures(media: Iterable[tuple[str, str]]) -> list[str]:
    """Media types that the first bytes contradict."""
    starts = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg", b"GIF8": "image/gif"}
    wrong = []
    for media_type, data in media:
        true = next((kind for start, kind in starts.items() if base64.b64decode(data[:16]).startswith(start)), None)
        if true and true != media_type:
            wrong.append(f"{media_type}, but it is {true}")
    return wrong


def unknown_fields(format: str) -> Find:
    """Fields, at any depth, that the SDK has no place for."""

    def find(body: Json) -> list[str]:
        wrong = [error.partition(":") for error in sdk.wrong_fields(format, body)]
        return [where.removeprefix("body.") for where, _, text in wrong if "no field of" in text]

    return find


# -- what is found: in a Chat body ----------------------------------------------------------------------------------


def calls_of(message: Json) -> list[Json]:
    return list(message.get("tool_calls") or ())


def assistants(body: Json) -> list[Json]:
    return [message for message in body["messages"] if message["role"] == "assistant"]


def late_system(body: Json) -> list[int]:
    return [index for index, message in enumerate(body["messages"]) if index and message["role"] == "system"]


def no_user(body: Json) -> list[bool]:
    return [] if any(message["role"] == "user" for message in body["messages"]) else [True]


def calls_without_results(body: Json) -> Iterator[str]:
    waiting: Counter[str] = Counter()
    for message in body["messages"]:
        if message["role"] == "tool":
            if not waiting[message["tool_call_id"]]:
                yield message["tool_call_id"]
            waiting[message["tool_call_id"]] -= 1
            continue
        yield from waiting.elements()
        waiting = Counter(call["id"] for call in calls_of(message))
    yield from waiting.elements()


def calls_with_one_id(body: Json) -> list[str]:
    counted = [Counter(call["id"] for call in calls_of(message)) for message in body["messages"]]
    return [id for ids in counted for id, times in ids.items() if times > 1]


def long_call_ids(body: Json) -> list[int]:
    """Places of the messages whose calls have ids of more than forty characters."""
    messages = enumerate(body["messages"])
    return [index for index, message in messages for call in calls_of(message) if len(call["id"]) > 40]


def is_object(text: object) -> bool:
    try:
        return type(orjson.loads(str(text))) is dict
    except orjson.JSONDecodeError:
        return False


def wrong_arguments(body: Json) -> list[str]:
    calls = [call["function"] for message in body["messages"] for call in calls_of(message)]
    return [call["name"] for call in calls if not is_object(call["arguments"])]


def calls_without_reasoning(body: Json) -> list[int]:
    messages = enumerate(body["messages"])
    if (body.get("thinking") or {}).get("type") == "disabled":
        return []
    return [index for index, message in messages if calls_of(message) and not message.get("reasoning_content")]


def calls_without_signature(body: Json) -> list[str]:
    first = [calls_of(message)[0] for message in body["messages"] if calls_of(message)]
    return [call["function"]["name"] for call in first if not signature_of(call)]


def signature_of(call: Json) -> object:
    return ((call.get("extra_content") or {}).get("google") or {}).get("thought_signature")


def message_fields_beside(*known: str) -> Find:
    return lambda body: [name for message in assistants(body) for name in message if name not in known]


def chat_parts(body: Json) -> list[Json]:
    contents = [message.get("content") for message in body["messages"]]
    return [part for content in contents if type(content) is list for part in content]


def chat_pictures(body: Json) -> list[str]:
    urls = [part["image_url"]["url"] for part in chat_parts(body) if part["type"] == "image_url"]
    return wrong_pictures(_split(url) for url in urls if url.startswith("data:"))


def _split(url: str) -> tuple[str, str]:
    head, _, data = url.partition(",")
    return head.removeprefix("data:").removesuffix(";base64"), data


def part_kinds(*kinds: str) -> Find:
    return lambda body: [part["type"] for part in chat_parts(body) if part["type"] in kinds]


def sampling_and_reasoning(body: Json) -> list[str]:
    """Sampling parameters, but for models that were told not to reason."""
    effort = body.get("reasoning_effort") or (body.get("reasoning") or {}).get("effort")
    return [name for name in ("temperature", "top_p") if name in body and effort != "none"]


def effort_beside_tools(body: Json) -> list[bool]:
    return [True] if body.get("tools") and body.get("reasoning_effort") not in (None, "none") else []


def forced_tool(body: Json) -> list[str]:
    if (body.get("thinking") or {}).get("type") == "disabled":
        return []
    choice = body.get("tool_choice")
    kind = choice.get("type") if type(choice) is dict else choice
    return [kind] if kind in ("required", "function", "any", "tool") else []


# -- what is found: in a Responses body -----------------------------------------------------------------------------

_CALLS = ("function_call", "custom_tool_call")


def unpaired_items(body: Json) -> Iterator[str]:
    calls: Counter[str] = Counter()
    for item in body["input"]:
        kind = item.get("type", "message")
        if kind in _CALLS:
            calls[item["call_id"]] += 1
        elif kind in [f"{call}_output" for call in _CALLS]:
            if not calls[item["call_id"]]:
                yield f"No tool call found for function call output with call_id {item['call_id']}."
            calls[item["call_id"]] -= 1
    for id in calls.elements():
        yield f"No tool output found for function call {id}."


def item_ids(longest: int) -> Find:
    return lambda body: [
        f"input[{index}].call_id" for index, item in enumerate(body["input"]) if len(item.get("call_id", "")) > longest
    ]


def no_word_json(body: Json) -> list[bool]:
    wanted = ((body.get("text") or {}).get("format") or {}).get("type") == "json_object"
    return [True] if wanted and "json" not in orjson.dumps(body["input"]).decode().lower() else []


def wrong_content_kinds(body: Json) -> list[str]:
    said = [item for item in body["input"] if item.get("role") == "assistant" and type(item["content"]) is list]
    return [part["type"] for item in said for part in item["content"] if part["type"] not in ("output_text", "refusal")]


def missing_choice(body: Json) -> list[str]:
    choice = body.get("tool_choice")
    if type(choice) is not dict or choice["type"] == "allowed_tools":
        return []
    offered = [(tool["type"], tool.get("name")) for tool in body.get("tools") or ()]
    return [] if (choice["type"], choice.get("name")) in offered else [choice["type"]]


def responses_pictures(body: Json) -> list[str]:
    lists = [item.get("content") for item in body["input"]] + [item.get("output") for item in body["input"]]
    parts = [part for parts in lists if type(parts) is list for part in parts]
    return wrong_pictures(_split(part["image_url"]) for part in parts if part.get("image_url", "").startswith("data:"))


def long_texts(*names: str) -> Find:
    return lambda body: [name for name in names if len(body.get(name) or "") > 64]


# -- what is found: in a Messages body ------------------------------------------------------------------------------


def blocks_of(message: Json) -> list[Json]:
    return message["content"] if type(message["content"]) is list else [{"type": "text", "text": message["content"]}]


def all_blocks(body: Json) -> list[Json]:
    outer = [block for message in body["messages"] for block in blocks_of(message)]
    results = [block["content"] for block in outer if block["type"] == "tool_result"]
    return outer + [block for content in results if type(content) is list for block in content]


def unpaired_blocks(body: Json) -> Iterator[str]:
    waiting: list[str] = []
    for message in body["messages"]:
        results = [block["tool_use_id"] for block in blocks_of(message) if block["type"] == "tool_result"]
        if missing := set(waiting) - set(results):
            yield f"`tool_use` ids were found without `tool_result` blocks immediately after: {missing}."
        if foreign := set(results) - set(waiting):
            yield f"unexpected `tool_use_id` found in `tool_result` blocks: {foreign}."
        waiting = [block["id"] for block in blocks_of(message) if block["type"] == "tool_use"]
    if waiting:
        yield f"`tool_use` ids were found without `tool_result` blocks immediately after: {waiting}."


def repeated_call_ids(body: Json) -> list[str]:
    ids = Counter(block["id"] for block in all_blocks(body) if block["type"] == "tool_use")
    return [id for id, times in ids.items() if times > 1]


def wrong_call_ids(body: Json) -> list[str]:
    ids = [block["id"] for block in all_blocks(body) if block["type"] == "tool_use"]
    return [id for id in ids if not re.fullmatch(r"[a-zA-Z0-9_-]+", id)]


def repeated_tools(body: Json) -> list[str]:
    names = Counter(tool.get("name") for tool in body.get("tools") or ())
    return [name for name, times in names.items() if times > 1]


def root_unions(body: Json) -> list[str]:
    return [tool["name"] for tool in tools_of(body) if {"anyOf", "oneOf", "allOf"} & set(tool["schema"])]


def no_type(body: Json) -> list[str]:
    return [tool["name"] for tool in tools_of(body) if tool["schema"].get("type") != "object"]


_BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength")


def wrong_output(body: Json) -> Iterator[str]:
    format = (body.get("output_config") or {}).get("format") or {}
    for node in nodes(format.get("schema") or {}):
        if is_kind(node, "object") and node.get("additionalProperties") is not False:
            yield "For 'object' type, 'additionalProperties' must be explicitly set to false"
        for name in _BOUNDS:
            if name in node:
                yield f"property '{name}' is not supported"


def blank_stops(body: Json) -> list[bool]:
    return [True for stop in body.get("stop_sequences") or () if not stop.strip()]


def prefill(body: Json) -> list[bool]:
    return [True] if body["messages"][-1]["role"] == "assistant" else []


def prefill_space(body: Json) -> list[bool]:
    last = blocks_of(body["messages"][-1])[-1]
    return [True] if prefill(body) and last.get("text", "") != last.get("text", "").rstrip() else []


def system_messages(body: Json) -> list[int]:
    return [index for index, message in enumerate(body["messages"]) if message["role"] == "system"]


def system_not_after_user(body: Json) -> list[int]:
    messages = body["messages"]
    return [index for index in system_messages(body) if not index or messages[index - 1]["role"] != "user"]


def thinking_kinds(*kinds: str) -> Find:
    return lambda body: [kind for kind in [(body.get("thinking") or {}).get("type")] if kind in kinds]


def claude_pictures(body: Json) -> list[str]:
    sources = [block["source"] for block in all_blocks(body) if block["type"] == "image"]
    return wrong_pictures((source["media_type"], source["data"]) for source in sources if source["type"] == "base64")


def wrong_inputs(body: Json) -> list[str]:
    return [
        block["name"] for block in all_blocks(body) if block["type"] == "tool_use" and type(block["input"]) is not dict
    ]


def cache_marks(body: Json) -> list[int]:
    system = body.get("system") if type(body.get("system")) is list else []
    blocks = [*(body.get("tools") or ()), *system, *all_blocks(body)]
    marks = sum("cache_control" in block for block in blocks)
    return [marks] if marks > 4 else []


def unsigned_thinking(body: Json) -> list[bool]:
    return [True for block in all_blocks(body) if block["type"] == "thinking" and not block.get("signature")]


def calls_without_thinking(body: Json) -> list[int]:
    if (body.get("thinking") or {}).get("type") == "disabled":
        return []
    kinds = [[block["type"] for block in blocks_of(message)] for message in body["messages"]]
    return [index for index, own in enumerate(kinds) if "tool_use" in own and "thinking" not in own]


def block_kinds(*kinds: str) -> Find:
    return lambda body: [block["type"] for block in all_blocks(body) if block["type"] in kinds]
