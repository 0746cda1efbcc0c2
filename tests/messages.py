"""Every text of the program that says what is wrong, read from its source: what troubleshooting.md must explain.

A text is given as its constant parts, with … for what is filled in. Names are followed to the texts that the same
function or the module gives them; what comes from elsewhere (an upstream's own message) is a … too.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "droid2api"
ERRORS = frozenset(
    "GatewayError RequestError CredentialError UpstreamError StreamError ConfigError StoreError StorageError".split()
)
TOLD = frozenset("log.warning log.error log.exception parser.error self._note_store self._warnings.append".split())
"""Calls whose first argument is told to the owner; so are a refusal (_refuse) and what a command notes (_note)."""
PLAIN = frozenset(["_refuse", "_note"])
PLACE = "…"


def messages() -> set[str]:
    """All of them, each on one line."""
    return {text for file in PACKAGE.rglob("*.py") for text in _of_module(ast.parse(file.read_text(encoding="utf-8")))}


def on_one_line(text: str) -> str:
    """Neighbouring places are one, and so are spaces."""
    text = re.sub(r"%(?:\.\d)?[sd]", PLACE, text)
    return re.sub(r"\s+", " ", re.sub(rf"{PLACE}(?:\s*{PLACE})+", PLACE, text)).strip()


def _of_module(tree: ast.Module) -> Iterator[str]:
    everywhere = _assigned(tree.body)
    inside = {node for function in _functions(tree) for node in ast.walk(function)}
    for function in _functions(tree):
        names = everywhere | _assigned(list(ast.walk(function)))
        for node in ast.walk(function):
            yield from _told_by(node, names)
    for node in ast.walk(tree):
        if node not in inside:
            yield from _told_by(node, everywhere)


def _functions(tree: ast.Module) -> list[ast.AST]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def _assigned(nodes: list[ast.AST] | list[ast.stmt]) -> dict[str, list[ast.expr]]:
    """Names with all that is assigned to them."""
    found: dict[str, list[ast.expr]] = {}
    for node in nodes:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found.setdefault(node.targets[0].id, []).append(node.value)
    return found


def _told_by(node: ast.AST, names: dict[str, list[ast.expr]]) -> Iterator[str]:
    for told in _arguments(node):
        for text in _texts(told, names):
            line = on_one_line(text)
            if re.search(r"[a-zA-Z]{2}", line):
                yield line


def _arguments(node: ast.AST) -> list[ast.expr]:
    """The expressions whose text a node tells to someone."""
    match node:
        case ast.Call(func=ast.Name(id="Finding"), args=[_, text, _]):  # with something to do
            return [text]
        case ast.Call(func=ast.Name(id=name), args=[text, *_]) if name in ERRORS | PLAIN:
            return [text]
        case ast.Call(func=ast.Attribute() as function, args=[text, *_]) if ast.unparse(function) in TOLD:
            return [text]
        case ast.AugAssign(target=target, value=ast.ListComp(elt=text)) if ast.unparse(target) == "self._warnings":
            return [text]
    return []


def _texts(node: ast.expr, names: dict[str, list[ast.expr]]) -> list[str]:
    match node:
        case ast.Constant(value=str(text)):
            return [text]
        case ast.JoinedStr(values=parts):
            return ["".join(chosen) for chosen in product(*(_texts(part, names) for part in parts))]
        case ast.FormattedValue(value=value, conversion=-1):
            return _texts(value, names)
        case ast.Name(id=name) if name in names:
            rest = {other: values for other, values in names.items() if other != name}
            return [text for value in names[name] for text in _texts(value, rest)]
        case ast.IfExp(body=body, orelse=other):
            return _texts(body, names) + _texts(other, names)
        case ast.BoolOp(values=values):
            return [text for value in values for text in _texts(value, names)]
    return [PLACE]
