"""What a client's Responses body means."""

from functools import partial
from typing import get_args

from droid2api.errors import RequestError
from droid2api.formats import openai_shared as shared
from droid2api.formats.responses.native import NATIVES, call_arguments, native_tool, output_of
from droid2api.hub import request as hub
from droid2api.hub.events import State
from droid2api.hub.history import attach_states
from droid2api.hub.media import url_media_type
from droid2api.wire.fields import Json, objects, optional, required

NAME = "responses"
ENCRYPTED_REASONING = "reasoning.encrypted_content"

_HANDLED = frozenset(
    "model input instructions stream stream_options tools tool_choice parallel_tool_calls max_output_tokens reasoning "
    "text user safety_identifier include previous_response_id conversation prompt background".split()
)
_ROLES: dict[str, hub.Role] = {role: role for role in get_args(hub.Role)}
_STATEFUL = ("previous_response_id", "conversation", "prompt", "background")
SERVED = frozenset(
    "web_search_call file_search_call code_interpreter_call image_generation_call mcp_call mcp_list_tools "
    "mcp_approval_request mcp_approval_response program program_output configuration_update".split()
)
"""Items of tools that OpenAI runs itself: what came of them is in the messages around them."""
_SERVED_TOOLS = frozenset("file_search code_interpreter image_generation mcp programmatic_tool_calling".split())
_MESSAGE = frozenset("type role content phase".split())
_PART = frozenset(
    "type text refusal image_url file_url file_data file_id filename detail prompt_cache_breakpoint".split()
)
_CALL = frozenset("type call_id name arguments input namespace output".split())
_TOOL = frozenset("type name description parameters strict format defer_loading".split())
_SEARCH = frozenset("type filters user_location search_context_size external_web_access".split())


def decode_request(body: Json) -> hub.Request:
    """A client's body as a Request. Raises RequestError that names the wrong field."""
    for name in _STATEFUL:
        if body.get(name):
            raise RequestError(
                f"{name}: needs an upstream that keeps state; send the whole conversation as input.", param=name
            )
    text = optional(body, "text", dict) or {}
    reasoning = optional(body, "reasoning", dict) or {}
    instructions = optional(body, "instructions", str)
    request = hub.Request(
        model=required(body, "model", str),
        messages=[hub.Message("system", [hub.Text(instructions)])] if instructions else [],
        stream=optional(body, "stream", bool),
        parallel_tool_calls=optional(body, "parallel_tool_calls", bool),
        max_tokens=optional(body, "max_output_tokens", int),
        effort=optional(reasoning, "effort", str, "reasoning."),
        show_reasoning=bool(reasoning.get("summary")),
        user=optional(body, "safety_identifier", str) or optional(body, "user", str),
        options={name: value for name, value in body.items() if name not in _HANDLED and value is not None},
        body=body,
    )
    if body.get("user") not in (None, "", request.user):
        request.drop("user")
    request.drop_rest("reasoning", reasoning, frozenset(["effort", "summary"]))
    request.drop_rest("text", text, frozenset(["format", "verbosity"]))
    request.drop_rest("stream_options", optional(body, "stream_options", dict) or {}, frozenset())
    request.output = shared.decode_output(request, optional(text, "format", dict, "text.") or None, "text.format")
    for name in ("temperature", "top_p"):
        optional(body, name, float)
    if verbosity := text.get("verbosity"):
        request.options["verbosity"] = verbosity
    for name in optional(body, "include", list) or ():
        if name != ENCRYPTED_REASONING:  # that one every answer has
            request.drop(f"include.{name}")
    reader = _InputReader(request)
    reader.read_input(body.get("input"))
    reader.read_tools("tools", body.get("tools"))
    request.tools = reader.offered()
    request.tool_choice = shared.decode_tool_choice(body.get("tool_choice"), _decode_named)
    return request


class _InputReader:
    """Reads the items of `input`, and the tools, which may stand among them."""

    def __init__(self, request: hub.Request) -> None:
        self._request = request
        self._found: dict[tuple[str, str], hub.Tool] = {}
        self._tools: list[hub.Tool] = []
        self._deferred: list[hub.Tool] = []
        self._served: set[str] = set()
        self._call_ids: dict[str, str] = {}
        self._outdated = 0
        """How many messages are marked already."""

    def offered(self) -> list[hub.Tool]:
        """The tools that the model may call. Deferred ones wait for a search of the client's; if there is none, the
        service would have searched, and nobody else will.
        """
        searches = any(tool.native == "tool_search" for tool in self._tools)
        known = {(tool.namespace, tool.name) for tool in self._tools}
        found = [tool for key, tool in self._found.items() if key not in known]
        deferred = (
            [] if searches else [tool for tool in self._deferred if (tool.namespace, tool.name) not in self._found]
        )
        return [*found, *self._tools, *deferred]

    def read_input(self, items: object) -> None:
        if not items:
            raise RequestError("input: is required and must not be empty.", param="input")
        if type(items) is str:
            self._request.messages.append(hub.Message("user", [hub.Text(items, where="input")]))
            return
        for where, item in objects(items, "input"):
            self._read_item(where, item)
        self._request.messages = attach_states(self._request.messages)

    def _read_item(self, where: str, item: Json) -> None:
        kind, path = optional(item, "type", str, f"{where}.") or "message", f"{where}."
        match kind:
            case "message":
                self._read_message(where, item)
            case "function_call" | "custom_tool_call":
                custom = kind == "custom_tool_call"
                arguments = optional(item, "input" if custom else "arguments", str, path) or ""
                id, name = required(item, "call_id", str, path), required(item, "name", str, path)
                self._request.drop_rest("messages.tool_call", item, _CALL)
                call = hub.ToolCall(id, name, arguments, custom, optional(item, "namespace", str, path) or "", where)
                self._request.messages.append(hub.Message("assistant", [call]))
            case "function_call_output" | "custom_tool_call_output":
                self._request.drop_rest("messages.tool_result", item, _CALL)
                content = shared.decode_content(
                    item.get("output"), f"{path}output", partial(_decode_part, self._request)
                )
                self._add_result(item, where, content, custom=kind == "custom_tool_call_output")
            case "reasoning":
                self._request.messages.append(hub.Message("assistant", [_decode_reasoning(self._request, item, where)]))
            case "additional_tools":
                self._read_found(f"{path}tools", item.get("tools"))
            case "item_reference" | "compaction" | "compaction_trigger":
                raise RequestError(
                    f"{where}: {kind} items need an upstream of the openai type; for Codex, configure this gateway as "
                    "a custom model provider.",
                    param=where,
                )
            case _ if kind in SERVED:
                self._request.drop(f"input.{kind}")
            case _:
                self._read_native(where, item, kind)

    def _read_message(self, where: str, item: Json) -> None:
        role = _ROLES.get(required(item, "role", str, f"{where}."))
        if role is None:
            raise RequestError(f"{where}.role: must be user, assistant, system or developer.", param=f"{where}.role")
        self._request.drop_rest("messages", item, _MESSAGE)
        parts = shared.decode_content(item.get("content"), f"{where}.content", partial(_decode_part, self._request))
        if phase := optional(item, "phase", str, f"{where}."):
            _set_phase(parts, phase)
        self._request.messages.append(hub.Message(role, parts))

    def _read_native(self, where: str, item: Json, kind: str) -> None:
        """A call of a tool that the client runs, or what came of it. Raises RequestError for any other item."""
        name = kind.removesuffix("_output").removesuffix("_call")
        if name not in NATIVES or kind not in (f"{name}_call", f"{name}_call_output", "tool_search_output"):
            message = f"{where}: {kind[:40]} items cannot be sent to this model; leave it out or ask an openai model."
            raise RequestError(message, param=where)
        id = optional(item, "call_id", str, f"{where}.") or ""
        if _is_served(item) or id in self._served:
            self._served.add(id)
            self._request.drop(f"input.{kind}")
            return
        self._request.drop_rest("messages.tool_call", item, _CALL | {NATIVES[name].field, "execution", "tools"})
        if kind.endswith("_output"):
            if name == "tool_search":
                self._read_found(f"{where}.tools", item.get("tools"))
            content, is_error = output_of(name, item, where)
            self._add_result(item, where, content, is_error=is_error)
        else:
            id = required(item, "call_id", str, f"{where}.")
            self._call_ids[str(item.get("id"))] = id
            call = hub.ToolCall(id, name, call_arguments(name, item), where=where)
            self._request.messages.append(hub.Message("assistant", [call]))

    def _add_result(
        self, item: Json, where: str, content: list[hub.Part], custom: bool = False, is_error: bool = False
    ) -> None:
        id = optional(item, "call_id", str, f"{where}.") or self._call_ids.get(str(item.get("id")))
        id = id or required(item, "call_id", str, f"{where}.")
        self._request.messages.append(hub.Message("user", [hub.ToolResult(id, content, is_error, custom, where=where)]))

    def _read_found(self, where: str, tools: object) -> None:
        """Tools that came in the course of the conversation: the last word on each counts."""
        reader = _InputReader(self._request)
        reader.read_tools(where, tools)
        found = {(tool.namespace, tool.name): tool for tool in [*reader._tools, *reader._deferred]}
        if any(self._found.get(key) != tool for key, tool in found.items()):
            messages = self._request.messages
            for part in [part for message in messages[self._outdated :] for part in message.parts]:
                if isinstance(part, hub.Reasoning):
                    part.outdated = True
            self._outdated = len(messages)
        self._found |= found

    def read_tools(self, where: str, tools: object, namespace: str = "") -> None:
        for path, tool in objects(tools, where):
            kind = required(tool, "type", str, f"{path}.")
            if kind == "namespace":
                name = required(tool, "name", str, f"{path}.")
                self._request.drop_rest("tools.namespace", tool, frozenset(["type", "name", "tools"]))
                self.read_tools(f"{path}.tools", tool.get("tools"), name)
            elif kind in ("function", "custom"):
                decoded = _decode_tool(self._request, path, tool, namespace)
                (self._deferred if tool.get("defer_loading") is True else self._tools).append(decoded)
            elif kind.startswith("web_search"):
                self._tools.append(
                    hub.Tool("web_search", kind="web_search", search=_decode_search(self._request, tool))
                )
            elif kind in _SERVED_TOOLS or _is_served(tool):
                self._request.drop(f"tools.{kind}")
            elif kind in NATIVES:
                self._request.drop_rest(f"tools.{kind}", tool, _TOOL | {"execution", "environment"})
                self._tools.append(native_tool(kind, tool, path))
            else:
                message = f"{kind[:40]!r} tools cannot be offered to this model; leave it out or ask an openai model."
                raise RequestError(f"{path}.type: {message}", param=f"{path}.type")


def _is_served(value: Json) -> bool:
    """Whether the service runs a tool that a client may also run: a shell in its container, its own tool search. Where
    a search does not say who runs it, a call id does: the service's own have none."""
    environment = value.get("environment")
    if type(environment) is dict and environment.get("type") != "local":
        return True
    if not str(value.get("type")).startswith("tool_search"):
        return False
    execution = value.get("execution")
    return execution != "client" if execution else not value.get("call_id")


# -- messages -------------------------------------------------------------------------------------------------------


def _set_phase(parts: list[hub.Part], phase: str) -> None:
    """Which part of an answer a message is, as OpenAI's models want to see it again."""
    for part in parts:
        if isinstance(part, hub.Text):
            part.state = State(NAME, "", {"phase": phase})


def _decode_reasoning(request: hub.Request, item: Json, where: str) -> hub.Reasoning:
    request.drop_rest("messages.reasoning", item, frozenset("type id status summary content encrypted_content".split()))
    texts = [str(part.get("text") or "") for _, part in objects(item.get("summary"), f"{where}.summary")]
    texts += [str(part.get("text") or "") for _, part in objects(item.get("content"), f"{where}.content")]
    encrypted = optional(item, "encrypted_content", str, f"{where}.")
    state = None
    if encrypted:
        own = State(NAME, "", {"id": item.get("id"), "encrypted_content": encrypted})
        state = State.unpack(encrypted) or own
    return hub.Reasoning("\n\n".join(texts), state)


def _decode_part(request: hub.Request, where: str, part: Json) -> hub.Part:
    kind, path = required(part, "type", str, f"{where}."), f"{where}."
    request.drop_rest(f"messages.{kind}", part, _PART)
    mark = part.get("prompt_cache_breakpoint")
    cache = str(mark.get("ttl") or "") if type(mark) is dict else None
    match kind:
        case "input_text" | "output_text" | "text" | "summary_text" | "reasoning_text":
            return hub.Text(required(part, "text", str, path), cache, where)
        case "refusal":
            return hub.Refusal(required(part, "refusal", str, path), where)
        case "input_image" if url := optional(part, "image_url", str, path):
            return shared.decode_image(url, cache, where, optional(part, "detail", str, path))
        case "input_file" if url := optional(part, "file_url", str, path):
            return hub.Document(url_media_type(url), "", url, cache, where, optional(part, "filename", str, path) or "")
        case "input_file" if data := optional(part, "file_data", str, path):
            return shared.decode_file(data, cache, where, optional(part, "filename", str, path) or "")
    if kind in ("input_image", "input_file"):
        return hub.Foreign("file_id", where, is_media=True)
    return hub.Foreign(kind, where, is_media=kind == "input_audio")


# -- tools and output -----------------------------------------------------------------------------------------------


def _decode_tool(request: hub.Request, where: str, tool: Json, namespace: str) -> hub.Tool:
    path = f"{where}."
    request.drop_rest("tools", tool, _TOOL)
    name, description = required(tool, "name", str, path), optional(tool, "description", str, path) or ""
    if tool["type"] == "custom":
        grammar = optional(tool, "format", dict, path)
        return hub.Tool(name, description, kind="custom", grammar=grammar, namespace=namespace)
    parameters, strict = optional(tool, "parameters", dict, path), optional(tool, "strict", bool, path)
    return hub.Tool(name, description, parameters, strict, namespace=namespace)


def _decode_search(request: hub.Request, tool: Json) -> hub.WebSearch:
    request.drop_rest("tools.web_search", tool, _SEARCH)
    filters = optional(tool, "filters", dict, "tools.web_search.") or {}
    request.drop_rest("tools.web_search", filters, frozenset(["allowed_domains", "blocked_domains"]))
    return hub.WebSearch(
        optional(filters, "allowed_domains", list, "tools.web_search.filters."),
        optional(filters, "blocked_domains", list, "tools.web_search.filters."),
        optional(tool, "user_location", dict, "tools.web_search."),
        context_size=optional(tool, "search_context_size", str, "tools.web_search."),
        live=optional(tool, "external_web_access", bool, "tools.web_search."),
    )


def _decode_named(choice: Json) -> hub.ToolChoice | None:
    match choice.get("type"):
        case "function" | "custom":
            return hub.ToolChoice("required", required(choice, "name", str, "tool_choice."))
        case "allowed_tools":
            names = [_named(tool) for _, tool in objects(choice.get("tools"), "tool_choice.tools")]
            return hub.ToolChoice("required" if choice.get("mode") == "required" else "auto", allowed=names)
        case str():
            return hub.ToolChoice("required", _named(choice))
    return None


def _named(tool: Json) -> str:
    """The name of a tool in a choice; those of the service, and the client's own kinds, are named by their type."""
    kind = str(tool.get("type"))
    if kind in ("function", "custom"):
        return str(tool.get("name"))
    return "web_search" if kind.startswith("web_search") else kind
