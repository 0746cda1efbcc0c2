"""Tools of Anthropic's own making that the client runs: their models know the parameters, for others they are told."""

from droid2api.hub.request import Tool
from droid2api.wire.fields import Json, required

_TEXT: Json = {"type": "string"}
_RANGE: Json = {"type": "array", "items": {"type": "integer"}, "description": "First and last line."}
_EDIT: Json = {
    "path": _TEXT,
    "file_text": {"type": "string", "description": "For create: the file's content."},
    "old_str": {"type": "string", "description": "For str_replace: the text to replace; it must be there once."},
    "new_str": {"type": "string", "description": "For str_replace: what takes its place."},
    "insert_line": {"type": "integer", "description": "For insert: the line after which the text goes."},
    "insert_text": {"type": "string", "description": "For insert: the text."},
    "view_range": _RANGE,
}
_RENAME: Json = {"old_path": _TEXT, "new_path": _TEXT}


def _schema(properties: Json, needed: list[str], commands: str = "") -> Json:
    command: Json = {"command": {"type": "string", "enum": commands.split()} if commands else _TEXT}
    return {"type": "object", "properties": command | properties, "required": needed}


_TOOLS: dict[str, tuple[str, Json]] = {
    "bash_": (
        "Runs a command in a shell session that stays open; restart begins a new one.",
        _schema({"restart": {"type": "boolean"}}, []),
    ),
    "text_editor_": (
        "Views and edits files.",
        _schema(_EDIT, ["command", "path"], "view create str_replace insert"),
    ),
    "memory_": (
        "Reads and writes files in the directory /memories, which outlives the conversation.",
        _schema(_EDIT | _RENAME, ["command"], "view create str_replace insert delete rename"),
    ),
}


def native_tool(kind: str, tool: Json, where: str) -> Tool | None:
    """The function for such a tool, whatever version its type names; None for another kind."""
    for prefix, (description, schema) in _TOOLS.items():
        if kind.startswith(prefix):
            return Tool(required(tool, "name", str, f"{where}."), description, schema)
    return None
