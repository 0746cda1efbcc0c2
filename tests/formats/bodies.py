"""Clients' bodies for the tables of the request tests: what is not under test stays out of them."""

from droid2api.formats import BY_NAME
from droid2api.hub.encoded import Encoded
from droid2api.hub.history import normalize
from droid2api.hub.profiles import profile_of
from droid2api.hub.request import Target
from droid2api.wire.fields import Json

PNG = "iVBORw0KGgo="
PDF = "JVBERi0x"
SCHEMA = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}
CLOSED = SCHEMA | {"additionalProperties": False}
"""As strict services want them."""


def chat(*messages: Json, **fields) -> Json:
    return {"model": "m", "messages": list(messages) or [user("hi")]} | fields


def responses(*items: Json, **fields) -> Json:
    return {"model": "m", "input": list(items) or [user("hi")]} | fields


def anthropic(*messages: Json, **fields) -> Json:
    return {"model": "m", "messages": list(messages) or [user("hi")], "max_tokens": 500} | fields


def gemini(*contents: Json, **fields) -> Json:
    return {"contents": list(contents) or [gemini_user("hi")]} | fields


def gemini_user(*parts: object) -> Json:
    return {"role": "user", "parts": [{"text": part} if type(part) is str else part for part in parts]}


def gemini_tool(name: str = "f", **fields) -> Json:
    return {"functionDeclarations": [{"name": name, "parametersJsonSchema": SCHEMA} | fields]}


def gemini_call(id: str | None, name: str = "f", **fields) -> Json:
    """A model's turn; `fields` are the call's, but for `signature`."""
    signed = {"thoughtSignature": fields.pop("signature")} if "signature" in fields else {}
    return {"role": "model", "parts": [{"functionCall": {"id": id, "name": name, "args": {"x": 1}} | fields} | signed]}


def gemini_result(id: str | None, name: str = "f", **fields) -> Json:
    return gemini_user({"functionResponse": {"id": id, "name": name, "response": {"output": "1"}} | fields})


def system(content: object) -> Json:
    return {"role": "system", "content": content}


def developer(content: object) -> Json:
    return {"role": "developer", "content": content}


def user(content: object) -> Json:
    return {"role": "user", "content": content}


def assistant(content: object = None, **fields) -> Json:
    return {"role": "assistant", "content": content} | fields


def chat_tool(name: str = "f", **fields) -> Json:
    return {"type": "function", "function": {"name": name, "parameters": SCHEMA} | fields}


def responses_tool(name: str = "f", **fields) -> Json:
    return {"type": "function", "name": name, "parameters": SCHEMA} | fields


def anthropic_tool(name: str = "f", **fields) -> Json:
    return {"name": name, "input_schema": SCHEMA} | fields


def chat_call(id: str, name: str = "f", arguments: str = '{"x":1}') -> Json:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def responses_call(id: str, name: str = "f", arguments: str = '{"x":1}', **fields) -> Json:
    return {"type": "function_call", "call_id": id, "name": name, "arguments": arguments} | fields


def anthropic_call(id: str, name: str = "f", **fields) -> Json:
    return {"type": "tool_use", "id": id, "name": name, "input": {"x": 1}} | fields


def chat_result(id: str, content: object = "1") -> Json:
    return {"role": "tool", "tool_call_id": id, "content": content}


def responses_result(id: str, output: object = "1") -> Json:
    return {"type": "function_call_output", "call_id": id, "output": output}


def anthropic_result(id: str, content: object = "1", **fields) -> Json:
    return {"type": "tool_result", "tool_use_id": id, "content": content} | fields


def text(text: str, **fields) -> Json:
    return {"type": "text", "text": text} | fields


def input_text(text: str) -> Json:
    return {"type": "input_text", "text": text}


def target(format: str, id: str, host: str = "upstream.test", **fields) -> Target:
    """A model as config.json makes it, with its profile."""
    return Target(id, service=host, profile=profile_of(host, id, format), **{"cache": "off"} | fields)


def convert(client: str, body: Json, upstream: str, target: Target) -> Encoded:
    """What the upstream gets, as the translate lane makes it."""
    return BY_NAME[upstream].encode_request(normalize(BY_NAME[client].decode_request(body)), target)


def part_of(body: Json, expected: Json) -> Json:
    """The fields of a body that a table row is about; None for those that are not there."""
    return {name: body.get(name) for name in expected}
