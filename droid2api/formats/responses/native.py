"""Tools that the client runs and for whose calls the Responses format has items of their own, as functions.

Other formats know functions only: such a tool is offered as one, its calls in the history are calls of that function,
and a call in an answer becomes an item of the client's kind again.
"""

from dataclasses import dataclass

import orjson

from droid2api.hub.request import Part, Text, Tool
from droid2api.wire.fields import Json, dump, objects, optional


def _string(description: str) -> Json:
    return {"type": "string", "description": description}


_MILLISECONDS: Json = {"type": "integer", "description": "Time limit in milliseconds."}
_PATCH: Json = {
    "type": {"type": "string", "enum": ["create_file", "update_file", "delete_file"]},
    "path": _string("The file's path."),
    "diff": _string("The change in V4A diff form; for a new file its content. Not for delete_file."),
}
_NO_PATCH: Json = {"type": "update_file", "path": "", "diff": ""}
_COMMANDS: Json = {"type": "array", "items": {"type": "string"}, "description": "Commands, run one after the other."}
_COMMAND: Json = {"type": "array", "items": {"type": "string"}, "description": "The program and its arguments."}
_ENVIRONMENT: Json = {"type": "object", "properties": {}, "additionalProperties": {"type": "string"}}


@dataclass(frozen=True, slots=True)
class Native:
    """One kind of such tools. `field` of the call's item holds the function's arguments, `fixed` what else is there.

    `empty` is what stands there until the arguments have come, and for those that do not.
    """

    description: str
    properties: Json
    required: tuple[str, ...]
    field: str
    fixed: Json
    empty: Json


NATIVES = {
    "tool_search": Native("Finds tools that can then be called.", {"query": _string("")}, (), "arguments", {}, {}),
    "local_shell": Native(
        "Runs a command on the user's machine.",
        {"command": _COMMAND, "working_directory": _string(""), "timeout_ms": _MILLISECONDS, "env": _ENVIRONMENT},
        ("command",),
        "action",
        {"type": "exec", "env": {}},
        {"command": []},
    ),
    "shell": Native(
        "Runs shell commands on the user's machine.",
        {"commands": _COMMANDS, "timeout_ms": _MILLISECONDS, "max_output_length": {"type": "integer"}},
        ("commands",),
        "action",
        {"timeout_ms": None, "max_output_length": None},
        {"commands": []},
    ),
    "apply_patch": Native("Creates, changes or deletes a file.", _PATCH, ("type", "path"), "operation", {}, _NO_PATCH),
}


def native_tool(kind: str, tool: Json, where: str) -> Tool:
    """The function for a tool of the client's. A tool search brings its own description and parameters."""
    native = NATIVES[kind]
    schema = {"type": "object", "properties": native.properties, "required": list(native.required)}
    description = optional(tool, "description", str, f"{where}.") or native.description
    return Tool(kind, description, optional(tool, "parameters", dict, f"{where}.") or schema, native=kind)


def call_arguments(kind: str, item: Json) -> str:
    """The arguments of the function, from a call's item."""
    native = NATIVES[kind]
    value = item.get(native.field)
    if type(value) is not dict:  # of a call that was cut: one that is no object is wrapped as any function's
        return value if type(value) is str else dump(value or {}).decode()
    told = {name: each for name, each in value.items() if name not in native.fixed or each != native.fixed[name]}
    return dump(told).decode()


def output_of(kind: str, item: Json, where: str) -> tuple[list[Part], bool]:
    """What came out of a call, as text, and whether it is an error."""
    readers = {"tool_search": _found_tools, "shell": _shell_output}
    return readers.get(kind, _plain_output)(item, where)


def _found_tools(item: Json, where: str) -> tuple[list[Part], bool]:
    names = [str(tool.get("name") or tool.get("type")) for _, tool in objects(item.get("tools"), f"{where}.tools")]
    return [Text(f"These tools can be called now: {', '.join(names)}." if names else "No tool was found.")], False


def _plain_output(item: Json, where: str) -> tuple[list[Part], bool]:
    failed = item.get("status") == "failed"
    return [Text(optional(item, "output", str, f"{where}.") or ("Failed." if failed else "Done."))], failed


def _shell_output(item: Json, where: str) -> tuple[list[Part], bool]:
    """One text for each command: what it wrote, and how it ended."""
    texts: list[Part] = []
    for path, chunk in objects(item.get("output"), f"{where}.output"):
        outcome = optional(chunk, "outcome", dict, f"{path}.") or {}
        ended = "Timed out." if outcome.get("type") == "timeout" else f"Exit code: {outcome.get('exit_code')}"
        written = [optional(chunk, name, str, f"{path}.") or "" for name in ("stdout", "stderr")]
        texts.append(Text("\n".join([*filter(None, written), ended])))
    return texts or [Text("Done.")], False


def call_item(kind: str, arguments: str) -> Json:
    """The fields of a call's item in an answer, from the arguments of the function."""
    try:
        value = orjson.loads(arguments)
    except orjson.JSONDecodeError:
        value = None
    native = NATIVES[kind]
    given = value if type(value) is dict and value else native.empty
    fields: Json = {native.field: native.fixed | given}
    return fields | ({"execution": "client"} if kind == "tool_search" else {})


def native_prefix(kind: str) -> str:
    """How the ids of a call's items begin."""
    return {"tool_search": "tsc", "local_shell": "lsh", "shell": "sh", "apply_patch": "apc"}[kind]
