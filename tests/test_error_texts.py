"""Every text that tells of something wrong is in docs/troubleshooting.md, in both languages."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
ERRORS = re.compile(r"(Gateway|Request|Credential|Upstream|Stream|Config|Store|Storage)Error|wrong")
"""What is called with a text for a user."""
QUOTED = re.compile(r"``\s?(.+?)\s?``|`([^`]+)`")
TAKES_A_TEXT = ("error", "warning", "exception")
SHORT = 12
"""Characters of a part that is looked for; what is between two fields of an f-string is often a word or two."""


def parts(node: ast.AST, named: dict[str, list[ast.AST]]) -> Iterator[str]:
    """The constant parts of a text: of a string, an f-string, either side of an `if`, or a name for one."""
    match node:
        case ast.Constant(value=str(text)):
            yield from re.split(r"%s|%d", text.strip().partition("\n")[0])
        case ast.JoinedStr(values=values):
            for value in values:
                yield from parts(value, named)
        case ast.IfExp(body=body, orelse=orelse):
            yield from parts(body, named)
            yield from parts(orelse, named)
        case ast.BinOp(left=left, right=right):
            yield from parts(left, named)
            yield from parts(right, named)
        case ast.Name(id=name):
            for value in named.get(name, []):
                yield from parts(value, {})


def named_texts(tree: ast.AST) -> dict[str, list[ast.AST]]:
    """What is assigned to each name within a function, or at the top of a module."""
    found: dict[str, list[ast.AST]] = {}
    for node in ast.walk(tree) if not isinstance(tree, ast.Module) else tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found.setdefault(node.targets[0].id, []).append(node.value)
    return found


FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def is_for_a_user(call: ast.Call) -> bool:
    match call.func:
        case ast.Name(id=name):
            return bool(ERRORS.fullmatch(name)) or name == "Finding"
        case ast.Attribute(value=ast.Name(id="log"), attr=attr):
            return attr in TAKES_A_TEXT
        case ast.Attribute(attr="append"):
            return "_warnings" in ast.unparse(call.func)
    return False


def texts() -> Iterator[tuple[str, str]]:
    """Where it is, and a part of a text."""
    for file in (ROOT / "droid2api").rglob("*.py"):
        if file.stem == "demo":  # an upstream of its own, whose errors are those of the real ones
            continue
        tree = ast.parse(file.read_text(encoding="utf-8"))
        constants = named_texts(tree)
        for scope in (node for node in ast.walk(tree) if isinstance(node, FUNCTIONS)):
            named = constants | named_texts(scope)
            for call in (node for node in ast.walk(scope) if isinstance(node, ast.Call) and is_for_a_user(node)):
                for text in call_texts(call, named):
                    yield f"{file.stem}.py:{call.lineno}", text


def call_texts(call: ast.Call, named: dict[str, list[ast.AST]]) -> Iterator[str]:
    finding = isinstance(call.func, ast.Name) and call.func.id == "Finding"  # its name, what was found, what to do
    if finding and len(call.args) < 3:  # all is well
        return
    for argument in call.args[finding : finding + 1]:
        for part in parts(argument, named):
            text = " ".join(part.split()).strip(" .:,;()'")
            if len(text) >= SHORT:
                yield text


def test_every_error_text_can_be_found():
    page = " ".join((ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8").split())
    found = list(texts())
    assert len(found) > 90
    assert [(where, text) for where, text in found if text not in page] == []


def test_no_message_is_told_that_the_program_has_not():
    source = "\n".join(text for _, text in texts()) + "\n".join(sources())
    for message in messages("troubleshooting.md"):
        for part in re.split(r"…|\. ", message):  # sentences may be put together
            text = part.strip(" .:,;()'")
            assert len(text) < SHORT or text in source, message


def sources() -> Iterator[str]:
    """All strings of the program, for messages that are put together from several."""
    for file in (ROOT / "droid2api").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and type(node.value) is str:
                yield " ".join(node.value.split())


def messages(page: str) -> list[str]:
    """What the first column of its tables of messages quotes."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    rows = text[text.index("`…`") :].splitlines()
    return ["".join(found) for row in rows if row.startswith("| `") for found in QUOTED.findall(row.split(" | ")[0])]


def test_both_languages_quote_the_same():
    assert messages("troubleshooting.md") == messages("troubleshooting.zh-CN.md")
    assert len(messages("troubleshooting.md")) > 80
