"""The laws of the package's map (droid2api/__init__.py), read from the imports."""

import ast
from pathlib import Path

import pytest

import droid2api

PACKAGE = Path(droid2api.__file__).parent
FORMATS = ("chat", "responses", "anthropic")
FLOORS = [
    {"errors"},
    {
        *{"events", "turn", "conversation", "history", "tools", "reasoning", "capabilities", "estimate"},
        *{"fields", "sse", "stops"},
    },
    {f"formats.{name}" for name in FORMATS} | {"formats.openai_shared"},
    {"formats"},
    {"config"},
    {"auth", "token_store", "redis_store", "upstream", "exchange", "logs"},
    {"lanes", "relay", "guard", "reload"},
    {"app"},
    {"__main__", "demo"},
]
"""The map's floors. Modules of one floor may use each other, but for formats, and in one direction only."""


def modules():
    """Each module's name inside the package, with its tree."""
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")
        if name != "__init__":
            yield name, ast.parse(path.read_text())


def imports(tree):
    """Every module that is imported, anywhere in the file; droid2api's own without its name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.removeprefix("droid2api.") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            if node.module in ("droid2api", "droid2api.formats"):
                place = node.module.removeprefix("droid2api").removeprefix(".")
                yield from (f"{place}.{alias.name}".removeprefix(".") for alias in node.names)
            else:
                yield node.module.removeprefix("droid2api.")


def floor_of(name):
    """None for what is not of this package. The packages of the formats stand for their modules."""
    for floor, names in enumerate(FLOORS):
        if any(name == known or (known != "formats" and name.startswith(f"{known}.")) for known in names):
            return floor
    return 3 if name.startswith("formats.") else None


MODULES = dict(modules())


@pytest.mark.parametrize("name", [name for name in MODULES if not name.startswith("observe")])
def test_every_module_is_on_the_map(name):
    assert floor_of(name) is not None, "give it a floor, here and on the map"
    assert name.startswith("formats.") or name in droid2api.__doc__, "the map does not name it"


@pytest.mark.parametrize("name", [name for name in MODULES if floor_of(name) is not None])
def test_imports_come_from_lower_floors(name):
    floor = floor_of(name)
    for imported in imports(MODULES[name]):
        below = floor_of(imported)
        if below is None:
            continue
        if floor == below == 2:
            assert imported.split(".")[1] in (name.split(".")[1], "openai_shared")
        else:
            assert below <= floor, f"{name} imports {imported}"


def test_no_floor_has_a_circle():
    graph = {name: [other for other in imports(MODULES[name]) if other in MODULES] for name in MODULES}

    def walk(name, path):
        assert name not in path, f"a circle: {[*path, name]}"
        for other in graph.get(name, ()):
            walk(other, [*path, name])

    for name in graph:
        walk(name, [])


@pytest.mark.parametrize("name", [name for name in MODULES if floor_of(name) in range(5)])
def test_the_lower_floors_have_no_sockets(name):
    foreign = {imported.split(".")[0] for imported in imports(MODULES[name])}
    assert not foreign & {"asyncio", "aiohttp", "socket", "ssl", "threading"}
