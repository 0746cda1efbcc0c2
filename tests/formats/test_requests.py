"""Every recorded request, read and written in each format, as the official SDKs type it (property 7)."""

import itertools
from dataclasses import replace

from droid2api.errors import RequestError
from droid2api.formats import BY_NAME
from droid2api.hub.encoded import Encoded
from droid2api.hub.events import State
from droid2api.hub.history import normalize
from droid2api.hub.profile_table import OPENAI_EXTRAS
from droid2api.hub.profiles import profile_of
from droid2api.hub.request import (
    Media,
    Reasoning,
    Refusal,
    Request,
    Target,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from droid2api.hub.schema import fit
from droid2api.hub.tools import safe_name, wrapped_arguments, wrapped_tool
from droid2api.wire.fields import parse_arguments

from . import sdk
from .bodies import gemini, gemini_tool, gemini_user, target
from .recordings import each_request

MODELS = ["gpt-4.1", "gpt-5-mini", "claude-sonnet-4-5", "claude-opus-5", "deepseek-chat"]


@each_request
def test_request(recording):
    """It is what the SDK of the upstream's format would send, or refused by the name of a field."""
    try:
        request = normalize(BY_NAME[recording.format].decode_request(recording.json))
    except RequestError as error:
        check_refusal(error)
        return
    # a value that is not as the client's own SDK has it may go on to the upstream, who can tell
    own = {error.rpartition(".")[2] for error in sdk.wrong_fields(recording.format, recording.json)}
    wrong = []
    for format, model in itertools.product(BY_NAME, MODELS):
        try:
            body = BY_NAME[format].encode_request(request, target(format, model, max_tokens=64000)).body
        except RequestError as error:
            check_refusal(error)
            continue
        errors = sdk.wrong_fields(format, body)
        wrong += [f"{format}, {model}: {error}" for error in errors if error.rpartition(".")[2] not in own]
    assert wrong == []


def check_refusal(error: RequestError):
    assert error.param
    assert error.param.split("[")[0].split(".")[0] in error.message
    assert error.status == 400


# -- what outlives the way through a format -------------------------------------------------------------------------


def reader(format: str) -> Target:
    """Takes all that the format has. State in a client's body is known by its format only: no model's family counts."""
    profile = replace(profile_of("", "", format), system_messages="anywhere", extras=OPENAI_EXTRAS)
    return Target("", max_tokens=1 << 20, profile=profile)


@each_request
def test_nothing_is_lost(recording):
    """Texts, files, calls, results, tools and settings are still there when the written body is read again."""
    for format in BY_NAME:
        check_nothing_is_lost(recording, format)


def check_nothing_is_lost(recording, format):
    try:
        request = normalize(BY_NAME[recording.format].decode_request(recording.json))
        encoded = BY_NAME[format].encode_request(request, reader(format))
    except RequestError as error:
        check_refusal(error)
        return
    again = normalize(BY_NAME[format].decode_request(encoded.body))
    assert content_of(again, format) == content_of(request, format)
    assert results_of(again).keys() == results_of(request).keys()
    for id, text in results_of(request).items():
        assert text in results_of(again)[id]
    choice = request.tool_choice
    if choice and choice.allowed is not None and format not in ("responses", "gemini"):
        tools = [tool for tool in request.tools if tool.name in choice.allowed]
        request = replace(request, tools=tools, tool_choice=ToolChoice(choice.mode))
    assert tools_of(again, format) == tools_of(request, format)
    check_settings(again, request, format, encoded)


def content_of(request: Request, format: str):
    """Wherever it stands. Chat has files of tool results in a user message, with a line that says so."""
    content = {"system": [], "user": [], "assistant": [], "calls": [], "files": [], "state": []}
    for message in request.messages:
        role = "system" if message.role == "developer" else message.role
        for part in message.parts:
            match part:
                case Text() | Refusal():
                    empty = format == "anthropic" and not part.text.strip()
                    if not empty and not part.text.startswith(("Files from the tool result", "Call the tool ")):
                        content[role].append(part.text)
                case ToolCall():
                    content["calls"].append((safe_name(part.id), wire_name(part), arguments_of(part, format)))
                case ToolResult():
                    content["files"] += [item.href for item in part.content if isinstance(item, Media)]
                case Media():
                    content["files"].append(part.href)
                case Reasoning(state=State(format=owner)) if owner == format != "chat":
                    content["state"].append((part.text, part.state))
    joined = {role: "".join(content[role]) for role in ("user", "assistant")}
    # the output format that Anthropic has no field for is asked for in the system prompt
    system = "\n\n".join(text for text in content["system"] if not text.startswith("Answer with one JSON object"))
    if format == "gemini":  # a later system message is the user's there
        joined["user"], system = "".join(sorted(system.replace("\n\n", "") + joined["user"].replace("\n\n", ""))), ""
    return content | joined | {"system": system, "files": sorted(content["files"])}


def wire_name(named: Tool | ToolCall):
    return safe_name(f"{named.namespace}__{named.name}" if named.namespace else named.name)


def arguments_of(call: ToolCall, format: str):
    if call.custom and format == "responses":
        return call.arguments
    try:
        return parse_arguments(wrapped_arguments(call), "")
    except RequestError:
        return call.arguments


def results_of(request: Request):
    return {
        safe_name(part.call_id): "\n\n".join(item.text for item in part.content if isinstance(item, Text))
        for message in request.messages
        for part in message.parts
        if isinstance(part, ToolResult)
    }


def tools_of(request: Request, format: str):
    empty = {"type": "object", "properties": {}}
    tools = []
    for tool in request.tools:
        if tool.kind == "web_search" and format == "chat":
            continue
        if format != "responses":
            tool = wrapped_tool(tool)
        grammar = {name: value for name, value in (tool.grammar or {}).items() if name != "type"}
        parameters = {name: value for name, value in (tool.parameters or {}).items() if name != "$schema"}
        tools.append((wire_name(tool), tool.kind, tool.description, empty | parameters, grammar))
    return tools


def check_settings(again: Request, request: Request, format: str, encoded: Encoded):
    body = encoded.body
    assert format == "gemini" or bool(again.stream) == bool(request.stream)
    if format != "gemini":
        assert again.user == (safe_name(request.user) if request.user and format != "anthropic" else request.user)
    if again.tools:
        if format != "anthropic" or "thinking" not in body:
            choice = request.tool_choice and replace(request.tool_choice, name=name_of_choice(request))
            searches = all(tool.kind == "web_search" for tool in again.tools)  # no choice of it in gemini
            assert again.tool_choice in (choice, ToolChoice("auto"), None if searches else choice)
        if format != "gemini":
            assert (again.parallel_tool_calls is False) == (request.parallel_tool_calls is False)
    if request.max_tokens and "thinking" not in body:
        assert again.max_tokens == max(request.max_tokens, 16 if format == "responses" else 0)
    if request.output and request.output.schema:
        assert again.output.schema == fit(request.output.schema, reader(format).profile.output_schema)[0]
    assert again.stop == ([] if encoded.local_stop else request.stop)
    if format != "anthropic" or ("thinking" in body and request.effort in ("low", "medium", "high")):
        assert again.effort == (request.effort and reader(format).profile.effort(request.effort))
    for name in ("temperature", "top_p"):
        if name in again.options:
            largest = 1 if format == "anthropic" else 2
            assert again.options[name] == min(request.options[name], largest)


def name_of_choice(request: Request):
    return request.tool_choice.name and safe_name(request.tool_choice.name)


def test_a_number_as_text_that_no_json_holds():
    """Python itself refuses to read some thousand digits."""
    for digits in ("9" * 30, "9" * 5000):
        tool = gemini_tool(parametersJsonSchema={"type": "object", "properties": {"a": {"minItems": digits}}})
        request = BY_NAME["gemini"].decode_request(gemini(gemini_user("hi"), tools=[tool]))
        assert request.tools[0].parameters["properties"]["a"] == {"minItems": digits}
