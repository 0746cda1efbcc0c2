"""The laws of the house, read from its map (droid2api/__init__.py) and from the imports."""

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import droid2api

PACKAGE = Path(droid2api.__file__).parent
MAP = re.findall(r"^    (\w+(?:/\w*)*)(?:\s|$)", droid2api.__doc__, re.MULTILINE)
FLOORS = {name.rstrip("/").replace("/", "."): floor for floor, name in enumerate(MAP)}
ROOMS = [name.rstrip("/").rpartition("/")[2] for name in MAP if re.fullmatch(r"formats/\w+/", name)]
COMPOSITION = "application"
SOCKETLESS = ("errors", "wire", "hub", "formats", "config")


def modules():
    """Each module's name inside the package, with its tree."""
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")
        if name != "__init__":
            yield name, ast.parse(path.read_text(encoding="utf-8"))


MODULES = dict(modules())
FOLDERS = {name for name in MODULES if any(other.startswith(f"{name}.") for other in MODULES)}


def imports(name):
    """The package's own modules that this one imports, anywhere in the file."""
    for node in ast.walk(MODULES[name]):
        if isinstance(node, ast.Import):
            yield from (alias.name.removeprefix("droid2api.") for alias in node.names if "droid2api" in alias.name)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            if (node.module or "").partition(".")[0] != "droid2api":
                continue
            place = node.module.removeprefix("droid2api").removeprefix(".")
            for alias in node.names:
                inner = f"{place}.{alias.name}".removeprefix(".")
                yield inner if inner in MODULES else place


def floor_of(name):
    """Of the module, else of the room or folder that it is in; None for what is on no floor."""
    while name and name not in FLOORS:
        name = name.rpartition(".")[0]
    return FLOORS.get(name)


def is_face(name):
    """The package file of a folder that the map lists file by file: it must be empty."""
    return name in FOLDERS and name not in FLOORS


@pytest.mark.parametrize("name", MODULES)
def test_every_file_is_on_the_map(name):
    if is_face(name):
        assert not MODULES[name].body, "a folder's file that is not on the map must be empty"
    elif name.rpartition(".")[0] in FLOORS and "." in name:
        pass  # in a room, or in observe
    else:
        assert name in FLOORS, "the map does not name it"


def test_the_map_names_nothing_else():
    assert [name for name in FLOORS if name not in MODULES] == []


@pytest.mark.parametrize("name", [name for name in MODULES if not is_face(name)])
def test_imports_come_from_lower_floors(name):
    floor = floor_of(name)
    for imported in set(imports(name)) - {""}:
        assert floor_of(imported) is not None, f"{imported} is on no floor"
        assert floor_of(imported) <= floor, f"{name} imports {imported}"


@pytest.mark.parametrize("name", [name for name in MODULES if name != COMPOSITION])
def test_only_the_composition_root_knows_server_and_observe(name):
    known = {imported.split(".")[0] for imported in imports(name)} - {name.split(".")[0]}
    assert "observe" not in known
    assert "server" not in known or name.startswith("observe.") or name == "observe"


@pytest.mark.parametrize("name", [name for name in MODULES if name.startswith("formats.")])
def test_rooms_do_not_know_each_other(name):
    own = name.split(".")[1]
    others = {imported.split(".")[1] for imported in imports(name) if imported.startswith("formats.")}
    assert not others & (set(ROOMS) - {own})


def test_no_floor_has_a_circle():
    def needed(name):
        """Without the packages that it is in: Python runs their files first anyway."""
        return {other for other in imports(name) if other in MODULES and not f"{name}.".startswith(f"{other}.")}

    TopologicalSorter({name: needed(name) for name in MODULES}).prepare()  # raises CycleError, which names them


@pytest.mark.parametrize("name", [name for name in MODULES if name.split(".")[0] in SOCKETLESS])
def test_the_lower_floors_have_no_sockets(name):
    foreign = {
        (alias.name if isinstance(node, ast.Import) else node.module or "").split(".")[0]
        for node in ast.walk(MODULES[name])
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert not foreign & {"asyncio", "aiohttp", "socket", "ssl", "threading"}


# -- sizes ----------------------------------------------------------------------------------------------------------

MOST_LINES, MOST_METHODS, MOST_LINES_OF_A_FUNCTION = 450, 12, 50
FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)


@pytest.mark.parametrize("name", MODULES)
def test_nothing_grows_beyond_what_can_be_read_at_once(name):
    tree = MODULES[name]
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    functions = [node for node in ast.walk(tree) if isinstance(node, FUNCTION)]
    assert max((node.end_lineno for node in tree.body), default=0) <= MOST_LINES
    large = [each.name for each in classes if sum(isinstance(node, FUNCTION) for node in each.body) > MOST_METHODS]
    long = [each.name for each in functions if each.end_lineno - each.lineno + 1 > MOST_LINES_OF_A_FUNCTION]
    assert (large, long) == ([], [])
