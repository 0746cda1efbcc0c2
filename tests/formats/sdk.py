"""The official SDKs as judges: their own types, validated strictly."""

import functools
import typing
from collections.abc import Iterator

import anthropic.types
import orjson
import typing_extensions
from anthropic.types import message_create_params
from google.genai import types as gemini_types
from openai.types import chat as chat_types
from openai.types import responses as responses_types
from openai.types.chat import completion_create_params
from openai.types.responses import response_create_params
from pydantic import BaseModel, ValidationError

from droid2api.wire import sse

# -- answers --------------------------------------------------------------------------------------------------------


def _members(union: object) -> Iterator[type[BaseModel]]:
    """The classes of a union, under whatever annotations."""
    if isinstance(union, type):
        yield union
    else:
        origin = typing.get_origin(union)
        for argument in typing.get_args(union)[: 1 if origin is typing.Annotated else None]:
            yield from _members(argument)


def _by_type(union: object) -> dict[str, type[BaseModel]]:
    return {
        name: member for member in _members(union) for name in typing.get_args(member.model_fields["type"].annotation)
    }


_EVENTS = {
    "responses": _by_type(responses_types.ResponseStreamEvent),
    "anthropic": _by_type(anthropic.types.RawMessageStreamEvent),
}
_ANSWERS = {
    "chat": chat_types.ChatCompletion,
    "responses": responses_types.Response,
    "anthropic": anthropic.types.Message,
}
_EXTENSIONS = {
    "chat": {"reasoning_content", "reasoning_details", "annotations", "extra_content"},
    "responses": {"store", "status"},
    "anthropic": set(),
}
"""Fields that the SDKs do not know (yet): reasoning as Chat upstreams have it; for Responses, what OpenAI itself sends:
a repeated setting, and the status of a call of a custom tool."""


def check_answer(format: str, body: dict) -> None:
    if format == "gemini":
        gemini_types.GenerateContentResponse.model_validate(body, extra="forbid")
        return
    _check_model(format, _ANSWERS[format], body)


def _check_model(format: str, model: type[BaseModel], value: dict) -> None:
    parsed = model.model_validate_json(orjson.dumps(value), strict=True)
    unknown = set(_unknown_fields(parsed)) - _EXTENSIONS[format]
    assert not unknown, f"{model.__name__} has no field {unknown}"


def _unknown_fields(value: object) -> Iterator[str]:
    if isinstance(value, BaseModel):
        yield from value.model_extra or ()
        for name in type(value).model_fields:
            yield from _unknown_fields(getattr(value, name))
    elif isinstance(value, list):
        for item in value:
            yield from _unknown_fields(item)


def wire_events(stream: bytes) -> list[sse.ServerSentEvent]:
    decoder = sse.Decoder()
    return decoder.feed(stream) + decoder.close()


def check_stream(format: str, stream: bytes) -> None:
    """Every event of a stream that was not broken off."""
    events = wire_events(stream)
    if format == "gemini":
        assert all(line.startswith(b"data: {") for line in stream.removesuffix(b"\r\n\r\n").split(b"\r\n\r\n"))
        for event in events:
            check_answer(format, orjson.loads(event.data))
        return
    if format == "chat":
        assert events.pop().data == b"[DONE]"
        for event in events:
            assert event.event == b""
            if (
                b'"custom":' not in event.data
            ):  # the API streams calls of custom tools, these types do not know them yet
                _check_model(format, chat_types.ChatCompletionChunk, orjson.loads(event.data))
        return
    for number, event in enumerate(events):
        value = orjson.loads(event.data)
        assert event.event.decode() == value["type"]
        _check_model(format, _EVENTS[format][value["type"]], value)
        if format == "responses":
            assert value["sequence_number"] == number


# -- requests -------------------------------------------------------------------------------------------------------

_PARAMS = {
    "chat": (
        completion_create_params.CompletionCreateParamsStreaming,
        completion_create_params.CompletionCreateParamsNonStreaming,
    ),
    "responses": (
        response_create_params.ResponseCreateParamsStreaming,
        response_create_params.ResponseCreateParamsNonStreaming,
    ),
    "anthropic": (
        message_create_params.MessageCreateParamsStreaming,
        message_create_params.MessageCreateParamsNonStreaming,
    ),
}
_REQUEST_EXTENSIONS = {
    "chat": {"reasoning_content", "reasoning", "reasoning_details", "top_k", "min_p"},
    "responses": set(),
    "anthropic": {"temperature", "top_p", "top_k"},
}
"""What these SDKs no longer type, and models that are still served take."""


def wrong_fields(format: str, body: dict) -> list[str]:
    """What the SDK would not have typed so, by path."""
    if format == "gemini":
        return list(_wrong_in_gemini(body))
    streaming, whole = _PARAMS[format]
    return list(_wrong(body, streaming if body.get("stream") else whole, "body", _REQUEST_EXTENSIONS[format]))


_GEMINI_PARTS = {
    "systemInstruction": gemini_types.Content,
    "contents": gemini_types.Content,
    "tools": gemini_types.Tool,
    "toolConfig": gemini_types.ToolConfig,
    "generationConfig": gemini_types.GenerationConfig,
}


def _wrong_in_gemini(body: dict) -> Iterator[str]:
    for name, value in body.items():
        if name == "serviceTier":
            continue
        for item in value if type(value) is list else [value]:
            try:
                _GEMINI_PARTS[name].model_validate(item, extra="forbid")
            except (KeyError, ValidationError) as error:
                yield f"body.{name}: {error}"


def _wrong(value: object, kind: object, where: str, extensions: set[str]) -> Iterator[str]:
    """What is wrong with a value for a type of an SDK's TypedDicts, by path."""
    origin, arguments = typing_extensions.get_origin(kind), typing_extensions.get_args(kind)
    if origin in (typing.Annotated, typing_extensions.Required, typing_extensions.NotRequired):
        yield from _wrong(value, arguments[0], where, extensions)
    elif typing_extensions.is_typeddict(kind):
        yield from _wrong_fields(value, kind, where, extensions)
    elif origin is typing.Union or type(kind).__name__ == "UnionType":
        found = [list(_wrong(value, member, where, extensions)) for member in arguments]
        if all(found):
            yield from min(found, key=lambda errors: (_is_other_kind(errors, where), len(errors)))
    elif origin is typing.Literal:
        if value not in arguments:
            yield f"{where}: {value!r} is none of {arguments}"
    elif origin is dict or getattr(origin, "__name__", "") == "Mapping":
        if type(value) is not dict:
            yield f"{where}: not an object"
        else:
            for name, item in value.items():
                yield from _wrong(item, arguments[1], f"{where}.{name}", extensions)
    elif origin is not None:  # the sequences: List, Iterable, SequenceNotStr
        if type(value) is not list:
            yield f"{where}: not a list"
        else:
            for index, item in enumerate(value):
                yield from _wrong(item, arguments[0], f"{where}[{index}]", extensions)
    elif kind not in (object, typing.Any):
        expected = {float: (float, int), None: (type(None),)}.get(kind, (kind,))
        if type(value) not in expected:
            yield f"{where}: {value!r} is no {getattr(kind, '__name__', kind)}"


def _wrong_fields(value: object, kind: type, where: str, extensions: set[str]) -> Iterator[str]:
    if type(value) is not dict:
        yield f"{where}: not an object"
        return
    hints = _hints(kind)
    for name, hint in hints.items():
        # not __required_keys__: it does not see through annotations that are strings
        if typing_extensions.get_origin(hint) is typing_extensions.Required and name not in value:
            yield f"{where}.{name}: missing in {kind.__name__}"
    for name, item in value.items():
        if name in hints:
            yield from _wrong(item, hints[name], f"{where}.{name}", extensions)
        elif name not in extensions:
            yield f"{where}.{name}: no field of {kind.__name__}"


@functools.cache
def _hints(kind: type) -> dict[str, object]:
    return typing_extensions.get_type_hints(kind, include_extras=True)


def _is_other_kind(errors: list[str], where: str) -> bool:
    """Errors of a union's member that the value is not meant to be: its role or type is another."""
    return any(error.startswith((f"{where}.type:", f"{where}.role:", f"{where}: ")) for error in errors)
