"""docs/troubleshooting.md is whole and true: each text of the program that tells of a problem can be found there.

The texts are read from the source: what errors are made with, what is logged as a warning or an error, what goes to
stderr, and what `droid2api check` finds wrong. Fields of a text are "…", as in the pages.
"""

import ast
import functools
import re
from collections.abc import Iterable, Iterator
from itertools import product
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = ("troubleshooting.md", "troubleshooting.zh-CN.md")
ENGLISH, CHINESE = ((ROOT / "docs" / page).read_text(encoding="utf-8") for page in PAGES)

LONG = 11
"""Characters from which on a constant part of a text is one to search for."""
ERRORS = frozenset(
    "GatewayError RequestError CredentialError UpstreamError StreamError WayError ConfigError StoreError "
    "StorageError".split()
)
LOUD = frozenset("warning error exception critical".split())
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


# -- what the program says ------------------------------------------------------------------------------------------


class Module:
    """Finds the texts of one source file. A name stands for all that is assigned to it in its function or at the top
    level; a parameter for all that this file's calls give; a call of this file's function for all that it returns.
    """

    def __init__(self, source: str) -> None:
        self._tree = ast.parse(source)
        self._function: dict[ast.AST, ast.AST] = {}
        self._note_functions(self._tree, self._tree)
        self._functions = {node.name: node for node in ast.walk(self._tree) if isinstance(node, FUNCTIONS)}
        self._calls = [node for node in ast.walk(self._tree) if isinstance(node, ast.Call)]
        self._assigned = [node for node in ast.walk(self._tree) if isinstance(node, ast.Assign)]

    def _note_functions(self, node: ast.AST, function: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            self._function[child] = function
            self._note_functions(child, child if isinstance(child, FUNCTIONS) else function)

    def texts(self) -> set[str]:
        found = {text for expression in self._told() for text in self._read(expression)}
        lines = map(_first_line, found)
        return {line for line in lines if re.search(r"\w", line) and not line.startswith("#")}

    def _told(self) -> Iterator[ast.expr]:
        for node in ast.walk(self._tree):
            if isinstance(node, ast.AugAssign) and _name(node.target) in ("message", "_warnings", "warnings"):
                yield node.value.elt if isinstance(node.value, ast.ListComp) else node.value
            elif isinstance(node, ast.Call) and node.args:
                yield from self._told_by(node)

    def _told_by(self, call: ast.Call) -> Iterable[ast.expr]:
        name, owner = _name(call.func), _name(getattr(call.func, "value", call))
        if name == "Finding":
            return call.args[1:] if len(call.args) > 2 else []  # without the third, all is well
        on_stderr = name == "print" and any(_name(keyword.value) == "stderr" for keyword in call.keywords)
        logged = name in LOUD and owner in ("log", "parser")
        warned = name == "append" and owner in ("_warnings", "warnings")
        return [_formatted(call)] if name in ERRORS or on_stderr or logged or warned else []

    def _read(self, node: ast.expr) -> list[str]:
        """All texts that an expression may be, "…" for what is not known."""
        match node:
            case ast.Constant(value=str(text)):
                return [text]
            case ast.JoinedStr(values=parts):
                return self._join([self._read(part) for part in parts])
            case ast.FormattedValue(value=value):
                return [text if _parts(text) and " " in text else "…" for text in self._read(value)]  # words, no paths
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                return self._join([self._read(left), self._read(right)])
            case ast.IfExp(body=body, orelse=other):
                return self._read(body) + self._read(other)
            case ast.BoolOp(values=values):
                return [text for value in values for text in self._read(value)]
            case ast.Name(id=name):
                return self._read_all(self._values(name, self._function[node]))
            case ast.Call(func=ast.Name(id=name)) if name in self._functions:
                inside = ast.walk(self._functions[name])
                return self._read_all(step.value for step in inside if isinstance(step, ast.Return) and step.value)
        return ["…"]

    def _join(self, parts: list[list[str]]) -> list[str]:
        return ["".join(choice) for choice in product(*(dict.fromkeys(part) for part in parts))]

    def _read_all(self, values: Iterable[ast.expr]) -> list[str]:
        return [text for value in values for text in self._read(value)] or ["…"]

    def _values(self, name: str, function: ast.AST) -> Iterator[ast.expr]:
        scopes = [function] if function is self._tree else [function, self._tree]
        for scope in scopes:
            for node in self._assigned:
                if self._function[node] is scope and name in map(_name, node.targets):
                    yield node.value
        if isinstance(function, FUNCTIONS):
            names = [argument.arg for argument in function.args.args if argument.arg != "self"]
            given = [call.args for call in self._calls if _name(call.func) == function.name and name in names]
            yield from (args[names.index(name)] for args in given if len(args) > names.index(name))


def _formatted(call: ast.Call) -> ast.expr:
    """The text that a call is given, with %s replaced by what stands for it."""
    first = call.args[0]
    if not (isinstance(first, ast.Constant) and "%" in str(first.value) and len(call.args) > 1):
        return first
    pieces = re.split(r"%[a-z]", first.value)
    values: list[ast.expr] = [ast.Constant(pieces[0])]
    for piece, value in zip(pieces[1:], call.args[1:], strict=True):
        values += [ast.FormattedValue(value, -1), ast.Constant(piece)]
    return ast.JoinedStr(values)


def _name(node: ast.AST) -> str:
    return getattr(node, "attr", getattr(node, "id", ""))


def _first_line(text: str) -> str:
    """Without the program's name, which the command line puts in front."""
    return re.sub("…+", "…", text.strip().partition("\n")[0]).strip().removeprefix("droid2api: ")


def _parts(text: str) -> list[str]:
    return [part for part in text.split("…") if len(part) >= LONG]


def texts_of_scripts() -> set[str]:
    shell, batch = ((ROOT / name).read_text(encoding="utf-8") for name in ("start.sh", "start.bat"))
    refused = re.findall(r'\bstop "([^"]+)"', shell) + re.findall(r"echo start\.bat: (.+?) 1>&2", batch)
    return {re.sub(r"\$\w+", "…", text) for text in refused if not text.startswith("installing")}


@functools.cache
def texts() -> set[str]:
    """Read when a test asks: collecting the tests need not wait for it in each process."""
    files = (ROOT / "droid2api").rglob("*.py")
    return texts_of_scripts().union(*(Module(file.read_text(encoding="utf-8")).texts() for file in files))


# -- what the pages say ---------------------------------------------------------------------------------------------


def rows(page: str) -> list[str]:
    """The first cells of the tables."""
    found = re.findall(r"(?:^\|.*\n)+", page, re.MULTILINE)
    return [row.split(" | ")[0] for table in found for row in table.splitlines()[2:]]


def quotes(text: str) -> list[str]:
    """What stands in backticks, of which there may be two."""
    return [quote.strip() for _, quote in re.findall(r"(?<!`)(`{1,2})(?!`)(.+?)(?<!`)\1(?!`)", text)]


def holds(quote: str, text: str) -> bool:
    """Whether a quote has the constant parts of a text in their order; a text without a long one wholly."""
    position = 0
    for part in _parts(text) or [text]:
        position = quote.find(part.strip(), position) + 1
        if not position:
            return False
    return True


@pytest.mark.parametrize("page", [ENGLISH, CHINESE], ids=["en", "zh"])
def test_each_text_is_in_the_page(page):
    quoted = [quote for row in rows(page) for quote in quotes(row)]
    missing = sorted(text for text in texts() if not any(holds(quote, text) for quote in quoted))
    assert not missing, "\n".join(missing)


@pytest.mark.parametrize("page", [ENGLISH, CHINESE], ids=["en", "zh"])
def test_no_row_is_there_twice(page):
    told = rows(page)
    assert [row for row in told if told.count(row) > 1 and "`" in row] == []


def test_each_quote_is_a_text_of_the_program():
    """In the tables of messages; the table of symptoms quotes clients too."""
    messages = ENGLISH[ENGLISH.index("\n## At the start") :]
    quoted = [quote for row in rows(messages) for quote in quotes(row) if " " in quote]
    assert len(quoted) > 100
    wrong = []
    for quote in quoted:
        parts = [part.strip(" .,:()") for part in quote.split("…")]
        if not any(all(part in text for part in parts) for text in texts()):
            wrong.append(quote)
    assert not wrong, "\n".join(wrong)


# -- how they are found ---------------------------------------------------------------------------------------------


def test_texts_are_found_where_errors_are_made():
    source = """
CONSTANT = "a text in a constant"

def _hint(x):
    return f"a hint of a helper about {x}"

def fail(x, y):
    if x:
        raise RequestError(f"there is {x} for {y!r} and no more", status=404)
    reason = "since the moon is full" if y else f"since {x} is not"
    log.warning("%s was not done, %s", x, reason)
    raise CredentialError(CONSTANT) from ConfigError(f"see: {_hint(x)}")

def say(problem):
    log.error("%s", problem)
    print(f"droid2api: {problem}", file=sys.stderr)
    print(problem, "is not told")

say("what only the caller of a function knows")
finding = Finding("name", "all is well") or Finding("name", "all is lost", "run for your life")
self._warnings += [f"{name}: is not what it was" for name in names]
"""
    assert Module(source).texts() == {
        "there is … for … and no more",
        "… was not done, since the moon is full",
        "… was not done, …",
        "a text in a constant",
        "see: a hint of a helper about …",
        "what only the caller of a function knows",
        "all is lost",
        "run for your life",
        "…: is not what it was",
    }


def test_a_new_text_is_missed():
    quoted = [quote for row in rows(ENGLISH) for quote in quotes(row)]
    assert not any(holds(quote, "The …'s … is not what nobody has expected.") for quote in quoted)
    assert not any(holds(quote, "too … by …") for quote in quoted)
