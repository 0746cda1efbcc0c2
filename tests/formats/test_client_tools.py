"""Tools that the client runs, whatever the format calls them: offered, called, answered and given back."""

import itertools

import orjson
import pytest

from droid2api.errors import RequestError
from droid2api.formats import BY_NAME
from droid2api.hub.events import BlockEnd, BlockStart, Delta, Finish, Start
from droid2api.hub.tools import ToolRestorer

from . import sdk
from .bodies import (
    SCHEMA,
    anthropic,
    anthropic_call,
    anthropic_result,
    anthropic_tool,
    assistant,
    convert,
    responses,
    responses_call,
    responses_result,
    responses_tool,
    system,
    target,
    text,
    user,
)

CLAUDE = target("anthropic", "claude-haiku-4-5")
QWEN = target("chat", "qwen3-max")
GPT = target("responses", "gpt-5.5")

SEARCH_TOOL = {"type": "tool_search", "execution": "client", "description": "Find", "parameters": SCHEMA}
# the client's own kind: its tool, a call, what came of it; the function's arguments and the result's text
NATIVE = {
    "tool_search": (
        SEARCH_TOOL,
        {"type": "tool_search_call", "call_id": "a", "execution": "client", "arguments": {"query": "mail"}},
        {
            "type": "tool_search_output",
            "call_id": "a",
            "execution": "client",
            "tools": [responses_tool("send_mail")],
        },
        {"query": "mail"},
        "These tools can be called now: send_mail.",
    ),
    "local_shell": (
        {"type": "local_shell"},
        {
            "type": "local_shell_call",
            "id": "lsh_1",
            "call_id": "a",
            "action": {"type": "exec", "command": ["ls", "-l"], "env": {}},
        },
        {"type": "local_shell_call_output", "id": "lsh_1", "output": "a.txt"},
        {"command": ["ls", "-l"]},
        "a.txt",
    ),
    "shell": (
        {"type": "shell", "environment": {"type": "local"}},
        {
            "type": "shell_call",
            "call_id": "a",
            "action": {"commands": ["ls", "cat x"], "timeout_ms": 1000, "max_output_length": None},
        },
        {
            "type": "shell_call_output",
            "call_id": "a",
            "output": [
                {"stdout": "a.txt", "stderr": "", "outcome": {"type": "exit", "exit_code": 0}},
                {"stdout": "", "stderr": "no x", "outcome": {"type": "timeout"}},
            ],
        },
        {"commands": ["ls", "cat x"], "timeout_ms": 1000},
        "a.txt\nExit code: 0\n\nno x\nTimed out.",
    ),
    "apply_patch": (
        {"type": "apply_patch"},
        {
            "type": "apply_patch_call",
            "call_id": "a",
            "operation": {"type": "update_file", "path": "x", "diff": "@@"},
            "status": "completed",
        },
        {"type": "apply_patch_call_output", "call_id": "a", "status": "failed", "output": "no such file"},
        {"type": "update_file", "path": "x", "diff": "@@"},
        "Error: no such file",
    ),
}
each_native = pytest.mark.parametrize("kind", NATIVE)


@each_native
def test_a_tool_of_the_clients_is_a_function(kind):
    tool, call, output, arguments, result = NATIVE[kind]
    body = responses(user("go"), call, output, tools=[tool], tool_choice={"type": kind})
    encoded = convert("responses", body, "chat", QWEN)
    _, answered, came = encoded.body["messages"]
    assert answered["tool_calls"][0]["function"]["name"] == kind
    assert orjson.loads(answered["tool_calls"][0]["function"]["arguments"]) == arguments
    assert (came["tool_call_id"], came["content"]) == ("a", result)
    offered = {tool["function"]["name"]: tool["function"]["parameters"] for tool in encoded.body["tools"]}
    assert set(arguments) <= set(offered[kind]["properties"]) or kind == "tool_search"
    assert encoded.body["tool_choice"] == {"type": "function", "function": {"name": kind}}
    assert not [path for path in encoded.dropped if "id" not in path and "status" not in path]
    for upstream, model in (("anthropic", CLAUDE), ("chat", QWEN)):
        assert kind in str(convert("responses", body, upstream, model).body["tools"])


@each_native
@pytest.mark.parametrize("at_once", [True, False])
def test_its_call_comes_back_in_the_clients_own_kind(kind, at_once):
    tool, call, *_, arguments, _ = NATIVE[kind]
    decoded = BY_NAME["responses"].decode_request(responses(tools=[tool]))
    encoded = BY_NAME["chat"].encode_request(decoded, QWEN)
    written = orjson.dumps(arguments).decode()
    events = [
        Start("i", "m"),
        BlockStart("text"),
        Delta("hm"),
        BlockEnd(),
        BlockStart("tool_call", "a", kind),
        Delta(written[:5]),
        Delta(written[5:]),
        BlockEnd(),
        Finish("tool_calls"),
    ]
    ids = itertools.count()
    encoder = BY_NAME["responses"].StreamEncoder(decoded, lambda: 0.0, lambda: str(next(ids)))
    restorer = ToolRestorer(encoded.tool_names)
    parts = [events] if at_once else [[event] for event in events]
    stream = b"".join(encoder.encode(restorer.feed(part)) for part in parts)
    sdk.check_stream("responses", stream)
    said, item = encoder.response["output"]
    assert said["type"] == "message"
    wanted = {name: value for name, value in call.items() if name != "id"} | {"status": "completed"}
    for field in ("action", "operation", "arguments"):
        if field in wanted:
            assert {**item[field], **wanted.pop(field)} == item[field]
    assert wanted.items() <= item.items()
    assert not [e for e in sdk.wire_events(stream) if b"arguments.delta" in e.data]


def test_what_a_search_has_found_is_offered():
    tool, call, output, *_ = NATIVE["tool_search"]
    later = responses_tool("later", defer_loading=True)
    body = responses(user("go"), call, output, tools=[tool, later])
    encoded = convert("responses", body, "anthropic", CLAUDE)
    assert [tool["name"] for tool in encoded.body["tools"]] == ["send_mail", "tool_search"]


def test_tools_that_the_service_would_have_searched_are_all_offered():
    deferred = [responses_tool("f", defer_loading=True), responses_tool("g")]
    encoded = convert("responses", responses(tools=[{"type": "tool_search"}, *deferred]), "chat", QWEN)
    assert {tool["function"]["name"] for tool in encoded.body["tools"]} == {"f", "g"}
    assert encoded.dropped == ["tools.tool_search"]
    search = {"type": "tool_search_tool_bm25_20251119", "name": "tool_search_tool_bm25"}
    body = anthropic(tools=[search, anthropic_tool("f", defer_loading=True), anthropic_tool("g")])
    encoded = convert("anthropic", body, "chat", QWEN)
    assert [tool["function"]["name"] for tool in encoded.body["tools"]] == ["f", "g"]
    assert encoded.dropped == ["tools.tool_search_tool_bm25_20251119"]


def change(kind, tool):
    return {"type": kind, "tool": tool}


def reference(name):
    return {"type": "tool_reference", "name": name}


CHANGES = {
    "a deferred tool waits": ([], ["now"]),
    "added": ([change("tool_addition", reference("later"))], ["now", "later"]),
    "added and withdrawn": (
        [change("tool_addition", reference("later")), change("tool_removal", reference("later"))],
        ["now"],
    ),
    "withdrawn": ([change("tool_removal", reference("now"))], None),
    "defined again": (
        [
            change("tool_addition", {"type": "tool_definition", "definition": anthropic_tool("new")}),
            change("tool_addition", {"type": "tool_definition", "definition": anthropic_tool("new", description="N")}),
        ],
        ["now", "new"],
    ),
    "defined in the place of another": (
        [
            change("tool_removal", reference("now")),
            change("tool_addition", {"type": "tool_definition", "definition": anthropic_tool("now", description="N")}),
        ],
        ["now"],
    ),
    "defined": (
        [change("tool_addition", {"type": "tool_definition", "definition": anthropic_tool("new")})],
        ["now", "new"],
    ),
}


@pytest.mark.parametrize("where", ["system", "compaction"])
@pytest.mark.parametrize("name", CHANGES)
def test_tools_that_change_in_the_conversation(name, where):
    changes, expected = CHANGES[name]
    later = system([text("Tools changed."), *changes])
    if where == "compaction":
        later = assistant([{"type": "compaction", "content": "We talked.", "tool_changes": changes}])
    tools = [anthropic_tool("now"), anthropic_tool("later", defer_loading=True)]
    for upstream, model in (("chat", QWEN), ("responses", GPT)):
        encoded = convert("anthropic", anthropic(user("hi"), later, user("go"), tools=tools), upstream, model)
        offered = encoded.body.get("tools")
        names = offered and [(tool.get("function") or tool)["name"] for tool in offered]
        assert names == expected
        assert ("We talked." if where == "compaction" else "Tools changed.") in str(encoded.body)


def test_the_last_definition_of_a_tool_counts():
    changes = CHANGES["defined in the place of another"][0]
    body = anthropic(user("hi"), system(changes), user("go"), tools=[anthropic_tool("now")])
    (tool,) = convert("anthropic", body, "chat", QWEN).body["tools"]
    assert tool["function"]["description"] == "N"


@pytest.mark.parametrize(
    ("kind", "named"), [("tool_addition", ["messages.tool_reference"]), ("tool_removal", []), (None, [])]
)
def test_a_reference_to_a_tool_that_is_not_there_is_named(kind, named):
    changes = [change(kind, reference("gone"))] if kind else []
    body = anthropic(user("hi"), system([text("S"), *changes]), user("go"), tools=[anthropic_tool("now")])
    assert convert("anthropic", body, "chat", QWEN).dropped == named


@pytest.mark.parametrize("execution", [{"execution": "client"}, {"execution": None}, {}])
def test_a_search_with_a_call_id_is_the_clients(execution):
    """Its items need not say so, and what it has found is offered."""
    items = [
        {"type": "tool_search_call", "call_id": "s", "arguments": {"query": "x"}} | execution,
        {"type": "tool_search_output", "call_id": "s", "tools": [responses_tool("found")]} | execution,
    ]
    encoded = convert("responses", responses(user("go"), *items), "chat", QWEN)
    assert [tool["function"]["name"] for tool in encoded.body["tools"]] == ["found"]
    assert encoded.dropped == []
    served = [item | {"call_id": None} for item in items]
    if execution.get("execution") is None:
        encoded = convert("responses", responses(user("go"), *served), "chat", QWEN)
        assert encoded.dropped == ["input.tool_search_call", "input.tool_search_output"]


@pytest.mark.parametrize(
    ("item", "arguments", "repaired"),
    [
        ({"type": "tool_search_call", "execution": "client", "arguments": '{"query":"x"}'}, {"query": "x"}, {}),
        ({"type": "tool_search_call", "execution": "client", "arguments": None}, {}, {}),
        ({"type": "shell_call", "action": None}, {}, {}),
        ({"type": "shell_call", "action": ["ls"]}, {"arguments": ["ls"]}, {"messages.tool_call.arguments": 1}),
        ({"type": "apply_patch_call", "operation": "{"}, {"arguments": "{"}, {"messages.tool_call.arguments": 1}),
    ],
)
def test_a_call_that_was_cut_does_not_end_the_session(item, arguments, repaired):
    kind = item["type"]
    output = {"type": f"{kind}_output" if kind != "tool_search_call" else "tool_search_output", "call_id": "a"}
    output |= {"execution": "client"} if kind == "tool_search_call" else {}
    encoded = convert("responses", responses(user("go"), item | {"call_id": "a"}, output), "chat", QWEN)
    (call,) = encoded.body["messages"][1]["tool_calls"]
    assert orjson.loads(call["function"]["arguments"]) == arguments
    assert dict(encoded.repaired) == repaired


def test_references_to_tools_of_the_service_are_named():
    added = system([text("S"), change("tool_addition", {"type": "mcp_toolset_reference", "server_name": "s"})])
    encoded = convert("anthropic", anthropic(user("hi"), added), "chat", QWEN)
    assert encoded.dropped == ["messages.mcp_toolset_reference"]


EDIT = {
    "command": "string",
    "path": "string",
    "file_text": "string",
    "old_str": "string",
    "new_str": "string",
    "insert_line": "integer",
    "insert_text": "string",
    "view_range": "array",
}


@pytest.mark.parametrize(
    ("type", "name", "does", "fields", "needed", "commands"),
    [
        ("bash_20250124", "bash", "Runs", {"command": "string", "restart": "boolean"}, [], None),
        (
            "text_editor_20250728",
            "str_replace_based_edit_tool",
            "Views",
            EDIT,
            ["command", "path"],
            ["view", "create", "str_replace", "insert"],
        ),
        (
            "memory_20250818",
            "memory",
            "Reads",
            EDIT | {"old_path": "string", "new_path": "string"},
            ["command"],
            ["view", "create", "str_replace", "insert", "delete", "rename"],
        ),
    ],
)
def test_anthropics_own_tools_that_the_client_runs(type, name, does, fields, needed, commands):
    body = anthropic(
        user("go"),
        assistant([anthropic_call("a", name)]),
        user([anthropic_result("a")]),
        tools=[{"type": type, "name": name}],
    )
    (tool,) = convert("anthropic", body, "responses", GPT).body["tools"]
    assert (tool["name"], tool["description"].split()[0]) == (name, does)
    parameters = tool["parameters"]
    assert (parameters["type"], parameters["required"]) == ("object", needed)
    assert {field: schema["type"] for field, schema in parameters["properties"].items()} == fields
    assert parameters["properties"]["command"].get("enum") == commands
    if "view_range" in fields:
        assert parameters["properties"]["view_range"]["items"] == {"type": "integer"}


def test_one_of_anthropics_own_tools_without_a_name():
    with pytest.raises(RequestError) as raised:
        convert("anthropic", anthropic(tools=[{"type": "bash_20250124"}]), "responses", GPT)
    assert raised.value.param == "tools[0].name"


SERVED = [
    *({"type": f"{kind}_call", "id": "x"} for kind in ("web_search", "file_search", "code_interpreter", "mcp")),
    {"type": "image_generation_call", "id": "x", "result": "iVBO"},
    {"type": "tool_search_call", "call_id": None, "execution": "server", "arguments": {}},
    {
        "type": "shell_call",
        "call_id": "s",
        "action": {"commands": ["ls"]},
        "environment": {"type": "container_reference", "container_id": "c"},
    },
]


@pytest.mark.parametrize("item", SERVED, ids=lambda item: item["type"])
def test_what_openai_ran_itself_is_left_out_by_name(item):
    """A session that began on OpenAI goes on elsewhere."""
    encoded = convert("responses", responses(user("hi"), item, user("go")), "anthropic", CLAUDE)
    assert encoded.dropped == [f"input.{item['type']}"]


def test_the_output_of_a_served_shell_goes_with_its_call():
    output = {"type": "shell_call_output", "call_id": "s", "output": []}
    encoded = convert("responses", responses(user("hi"), SERVED[-1], output), "chat", QWEN)
    assert encoded.dropped == ["input.shell_call", "input.shell_call_output"]


UNKNOWN = {
    "an item": ("responses", responses(user("hi"), {"type": "teleport_call", "id": "x"}), "input[1]", "teleport_call"),
    "a computer": (
        "responses",
        responses(user("hi"), {"type": "computer_call", "call_id": "a", "action": {}}),
        "input[1]",
        "computer_call",
    ),
    "an output of nothing": (
        "responses",
        responses({"type": "shell_call_output", "call_id": "a", "output": []}),
        "input[0]",
        "'a'",
    ),
    "a tool of Responses": ("responses", responses(tools=[{"type": "teleport"}]), "tools[0].type", "teleport"),
    "a tool of Anthropic": (
        "anthropic",
        anthropic(tools=[{"type": "computer_20251124", "name": "computer"}]),
        "tools[0].type",
        "computer_20251124",
    ),
    "a tool of Chat": (
        "chat",
        {"model": "m", "messages": [user("hi")], "tools": [{"type": "teleport"}]},
        "tools[0].type",
        "teleport",
    ),
    "a block": ("anthropic", anthropic(user([{"type": "hologram"}])), "messages[0].content[0]", "hologram"),
    "a part": (
        "chat",
        {"model": "m", "messages": [user([{"type": "hologram"}])]},
        "messages[0].content[0]",
        "hologram",
    ),
    "a part of Responses": ("responses", responses(user([{"type": "hologram"}])), "input[0].content[0]", "hologram"),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_is_not_known_is_refused_by_name(name):
    client, body, where, named = UNKNOWN[name]
    for upstream in BY_NAME:
        if upstream != client:
            with pytest.raises(RequestError) as raised:
                convert(client, body, upstream, target(upstream, "m"))
            assert (raised.value.status, raised.value.param) == (400, where)
            assert named in raised.value.message


def test_legacy_function_calls_of_chat():
    body = {
        "model": "m",
        "messages": [
            user("go"),
            assistant(function_call={"name": "f", "arguments": '{"x":1}'}),
            {"role": "function", "name": "f", "content": "1"},
        ],
    }
    encoded = convert("chat", body, "responses", GPT)
    assert encoded.body["input"][1:] == [responses_call("f"), responses_result("f")]
    assert encoded.dropped == []
