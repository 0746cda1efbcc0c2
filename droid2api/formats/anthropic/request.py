"""What a client's Messages body means."""

from droid2api.errors import RequestError
from droid2api.formats.anthropic.native import native_tool
from droid2api.formats.anthropic.settings import is_attribution
from droid2api.hub import request as hub
from droid2api.hub.events import State
from droid2api.hub.history import attach_states
from droid2api.hub.media import url_media_type
from droid2api.hub.reasoning import effort_of
from droid2api.hub.stops import check_stops
from droid2api.wire.fields import Json, dump, objects, optional, required, strings

NAME = "anthropic"
MOST_STOPS = 8191
"""The API's own page names no limit; Amazon's page of the same format does."""

_HANDLED = frozenset(
    "model messages system stream tools tool_choice max_tokens stop_sequences thinking output_config output_format "
    "metadata".split()
)
_SERVED = frozenset("server_tool_use mcp_tool_use fallback".split())
_SERVED_TOOLS = ("code_execution_", "web_fetch_", "tool_search_tool_", "advisor_")
_BLOCKS = {
    "text": frozenset("type text cache_control".split()),
    "image": frozenset("type source cache_control".split()),
    "document": frozenset("type source title cache_control".split()),
    "thinking": frozenset("type thinking signature".split()),
    "redacted_thinking": frozenset("type data".split()),
    "tool_use": frozenset("type id name input".split()),
    "tool_result": frozenset("type tool_use_id content is_error cache_control".split()),
    "tool_reference": frozenset("type tool_name".split()),
    "search_result": frozenset("type title source content".split()),
    "compaction": frozenset("type content tool_changes".split()),
}
"""The fields of each block that are read here."""
_TOOL = frozenset("type name description input_schema strict cache_control defer_loading".split())
_SEARCH = frozenset(
    "type name max_uses allowed_domains blocked_domains user_location cache_control defer_loading".split()
)


def is_served(kind: str) -> bool:
    """Whether a block tells of a tool that the service runs itself."""
    return kind in _SERVED or kind.endswith("_tool_result")


def decode_request(body: Json) -> hub.Request:
    """A client's body as a Request. Raises RequestError that names the wrong field."""
    thinking = optional(body, "thinking", dict) or {}
    metadata = optional(body, "metadata", dict) or {}
    request = hub.Request(
        model=required(body, "model", str),
        messages=[],
        stream=optional(body, "stream", bool),
        max_tokens=optional(body, "max_tokens", int),
        stop=check_stops(strings(body, "stop_sequences"), "stop_sequences", MOST_STOPS),
        effort=_decode_effort(body, thinking),
        show_reasoning=thinking.get("display") == "summarized",
        user=optional(metadata, "user_id", str, "metadata."),
        options={name: value for name, value in body.items() if name not in _HANDLED and value is not None},
        body=body,
    )
    known = frozenset(["type", "budget_tokens", *(["display"] if request.show_reasoning else [])])
    request.drop_rest("thinking", thinking, known)  # that it is not to be shown is said to Claude only
    request.drop_rest("metadata", metadata, frozenset(["user_id"]))
    request.output = _decode_output(request, body)
    for name in ("temperature", "top_p"):
        optional(body, name, float)
    reader = _MessageReader(request)
    messages = reader.read(body)
    request.messages = [*_decode_system(request, body.get("system")), *attach_states(messages)]
    request.tools = reader.offered(body)
    if choice := optional(body, "tool_choice", dict):
        request.tool_choice = _decode_tool_choice(choice)
        if optional(choice, "disable_parallel_tool_use", bool, "tool_choice.") is not None:
            request.parallel_tool_calls = not choice["disable_parallel_tool_use"]
    if tier := request.options.pop("service_tier", None):
        request.options["service_tier"] = "default" if tier == "standard_only" else tier
    return request


def _decode_system(request: hub.Request, system: object) -> list[hub.Message]:
    if system is None or system == "" or system == []:
        return []
    if type(system) is str:
        return [hub.Message("system", [hub.Text(system)])]
    blocks = objects(system, "system")
    parts: list[hub.Part] = [
        _decode_text(request, where, block) for where, block in blocks if not is_attribution(block)
    ]
    return [hub.Message("system", parts)] if parts else []


def _decode_effort(body: Json, thinking: Json) -> str | None:
    effort = optional(optional(body, "output_config", dict) or {}, "effort", str, "output_config.")
    match thinking.get("type"):
        case "disabled":
            return "none"
        case "enabled":
            return effort or effort_of(optional(thinking, "budget_tokens", int, "thinking.") or 0)
        case "adaptive" | "between_tools":
            return effort or "medium"
    return effort


def _decode_output(request: hub.Request, body: Json) -> hub.OutputFormat | None:
    config = optional(body, "output_config", dict) or {}
    request.drop_rest("output_config", config, frozenset(["effort", "format"]))
    format = optional(config, "format", dict, "output_config.") or optional(body, "output_format", dict)
    if not format:
        return None
    request.drop_rest("response_format", format, frozenset(["type", "schema"]))
    return hub.OutputFormat(required(format, "schema", dict, "output_config.format."), strict=True)


# -- messages -------------------------------------------------------------------------------------------------------


class _MessageReader:
    """Reads the messages; in some of them tools are found, added or withdrawn."""

    def __init__(self, request: hub.Request) -> None:
        self._request = request
        self._changes: dict[str, bool] = {}
        self._defined: list[tuple[str, Json]] = []

    def read(self, body: Json) -> list[hub.Message]:
        messages = [self._decode_message(*each) for each in objects(body.get("messages"), "messages")]
        if not messages:
            raise RequestError("messages: is required and must not be empty.", param="messages")
        return messages

    def offered(self, body: Json) -> list[hub.Tool]:
        """The tools that the model may call, after what the messages say of them.

        A deferred one waits until a search of the client's has found it. Where the service would have searched, all are
        offered, since nobody else will.
        """
        given = objects(body.get("tools"), "tools")
        defined = {str(tool.get("name")): (where, tool) for where, tool in self._defined}  # the last word on each
        tools = [each for each in given if str(each[1].get("name")) not in defined] + list(defined.values())
        served = any(str(tool.get("type")).startswith("tool_search_tool_") for _, tool in tools)
        offered, known = [], set()
        for where, tool in tools:
            decoded = _decode_tool(self._request, where, tool)
            waits = tool.get("defer_loading") is True and not served
            known |= {decoded.name} if decoded else set()
            if decoded and self._changes.get(decoded.name, not waits):
                offered.append(decoded)
        if any(added and name not in known for name, added in self._changes.items()):
            self._request.drop("messages.tool_reference")
        return offered

    def _decode_message(self, where: str, message: Json) -> hub.Message:
        role = required(message, "role", str, f"{where}.")
        self._request.drop_rest("messages", message, frozenset(["role", "content"]))
        parts = self._decode_content(message.get("content"), f"{where}.content")
        match role:
            case "user" | "assistant" | "system":
                return hub.Message(role, parts)
        raise RequestError(f"{where}.role: {role[:40]!r} is no role of a message.", param=f"{where}.role")

    def _decode_content(self, content: object, where: str) -> list[hub.Part]:
        if type(content) is str:
            return [hub.Text(content, where=where)]
        return [part for path, block in objects(content, where) if (part := self._decode_block(path, block))]

    def _decode_block(self, where: str, block: Json) -> hub.Part | None:
        kind, path = required(block, "type", str, f"{where}."), f"{where}."
        if kind in _BLOCKS:
            self._request.drop_rest(f"messages.{kind}", block, _BLOCKS[kind])
        match kind:
            case "text":
                return _decode_text(self._request, where, block)
            case "image" | "document":
                return _decode_media(self._request, kind, where, block)
            case "thinking":
                return hub.Reasoning(optional(block, "thinking", str, path) or "", _decode_state(block, "signature"))
            case "redacted_thinking":
                return hub.Reasoning("", _decode_state(block, "data"))
            case "tool_use":
                given = block.get("input") or {}  # what a model once called it with, be it an object or not
                arguments = given if type(given) is str else dump(given).decode()
                id, name = required(block, "id", str, path), required(block, "name", str, path)
                return hub.ToolCall(id, name, arguments, where=where)
            case "tool_result":
                content = self._decode_content(block.get("content"), f"{path}content")
                id, is_error = required(block, "tool_use_id", str, path), bool(block.get("is_error"))
                return hub.ToolResult(id, content, is_error, cache=_decode_cache(self._request, block), where=where)
            case "tool_reference":
                self._changes[str(block.get("tool_name"))] = True
                return hub.Text(f"The tool {block.get('tool_name')} can be called now.", where=where)
            case "tool_addition" | "tool_removal":
                self._change_tool(where, block)
                return None
            case "search_result":
                return _decode_search_result(where, block)
            case "compaction":
                return self._decode_compaction(where, block)
        if is_served(kind):
            self._request.drop(f"messages.{kind}")
            return None
        return hub.Foreign(kind, where)

    def _change_tool(self, where: str, block: Json) -> None:
        """A tool is offered from here on, or withdrawn. Raises RequestError for a reference to what is not here."""
        tool = required(block, "tool", dict, f"{where}.")
        self._request.drop_rest("messages.tool_change", block, frozenset("type tool cache_control".split()))
        match tool.get("type"):
            case "tool_reference":
                name = required(tool, "name", str, f"{where}.tool.")
            case "tool_definition":
                definition = required(tool, "definition", dict, f"{where}.tool.")
                self._defined.append((f"{where}.tool.definition", definition))
                name = str(definition.get("name"))
            case other:  # of tools that Anthropic's service has from an MCP server
                self._request.drop(f"messages.{str(other)[:40]}")
                return
        self._changes[name] = block["type"] == "tool_addition"

    def _decode_compaction(self, where: str, block: Json) -> hub.Part | None:
        """The summary that stands for the conversation before it. None where the compaction failed."""
        for path, change in objects(block.get("tool_changes"), f"{where}.tool_changes"):
            self._change_tool(path, change)
        content = optional(block, "content", str, f"{where}.")
        return hub.Text(content, where=where) if content else None


def _decode_text(request: hub.Request, where: str, block: Json) -> hub.Text:
    return hub.Text(required(block, "text", str, f"{where}."), _decode_cache(request, block), where)


def _decode_cache(request: hub.Request, block: Json) -> str | None:
    mark = block.get("cache_control")
    if type(mark) is not dict:
        return None
    request.drop_rest("cache_breakpoints", mark, frozenset(["type", "ttl"]))
    return str(mark.get("ttl") or "")


def _decode_state(block: Json, field: str) -> State | None:
    """A signature that this gateway gave out holds the state of another provider; any other is Anthropic's own."""
    text = optional(block, field, str)
    return (State.unpack(text) or State(NAME, "", {field: text})) if text else None


def _decode_search_result(where: str, block: Json) -> hub.Text:
    texts = [str(item.get("text") or "") for _, item in objects(block.get("content"), f"{where}.content")]
    return hub.Text("\n".join([str(block.get("title") or ""), str(block.get("source") or ""), *texts]), where=where)


def _decode_media(request: hub.Request, kind: str, where: str, block: Json) -> hub.Part:
    source, path = required(block, "source", dict, f"{where}."), f"{where}.source."
    request.drop_rest(f"messages.{kind}.source", source, frozenset("type media_type data url content file_id".split()))
    cache = _decode_cache(request, block)
    title = optional(block, "title", str, f"{where}.") or ""
    match source.get("type"):
        case "base64":
            media_type, data = required(source, "media_type", str, path), required(source, "data", str, path)
            url = ""
        case "url":
            url = required(source, "url", str, path)
            media_type, data = url_media_type(url) if kind == "document" else "", ""
        case "text" if kind == "document":
            text = required(source, "data", str, path)
            return hub.Text(f"{title}\n\n{text}" if title else text, cache, where)
        case other:
            return hub.Foreign(f"{kind} {str(other)[:40]}", where, is_media=other == "file")
    if kind == "image":
        return hub.Image(media_type, data, url, cache, where)
    return hub.Document(media_type, data, url, cache, where, title)


# -- tools ----------------------------------------------------------------------------------------------------------


def _decode_tool(request: hub.Request, where: str, tool: Json) -> hub.Tool | None:
    """None for a tool that only Anthropic can run."""
    kind = optional(tool, "type", str, f"{where}.") or "custom"
    if kind == "custom":
        name, schema = required(tool, "name", str, f"{where}."), optional(tool, "input_schema", dict, f"{where}.") or {}
        request.drop_rest("tools", tool, _TOOL)
        description, strict = optional(tool, "description", str, f"{where}.") or "", tool.get("strict")
        strict = strict if type(strict) is bool else None
        return hub.Tool(name, description, schema, strict, cache=_decode_cache(request, tool))
    if kind.startswith("web_search_"):
        request.drop_rest("tools.web_search", tool, _SEARCH)
        return hub.Tool(
            "web_search", kind="web_search", cache=_decode_cache(request, tool), search=_decode_search(tool)
        )
    if kind.startswith(_SERVED_TOOLS) or kind == "mcp_toolset":
        request.drop(f"tools.{kind}")
        return None
    if native := native_tool(kind, tool, where):
        request.drop_rest(f"tools.{native.name}", tool, _TOOL)
        return native
    raise RequestError(
        f"{where}.type: {kind[:40]!r} tools cannot be offered to this model; leave it out or ask an anthropic model.",
        param=f"{where}.type",
    )


def _decode_search(tool: Json) -> hub.WebSearch:
    where = "tools.web_search."
    return hub.WebSearch(
        optional(tool, "allowed_domains", list, where),
        optional(tool, "blocked_domains", list, where),
        optional(tool, "user_location", dict, where),
        optional(tool, "max_uses", int, where),
    )


def _decode_tool_choice(choice: Json) -> hub.ToolChoice:
    match choice.get("type"):
        case "auto" | "none" as mode:
            return hub.ToolChoice(mode)
        case "any":
            return hub.ToolChoice("required")
        case "tool":
            return hub.ToolChoice("required", required(choice, "name", str, "tool_choice."))
    raise RequestError("tool_choice.type: must be auto, any, none or tool.", param="tool_choice.type")
