"""What `droid2api run` starts each tool with: arguments, variables, and settings in a folder that is deleted later.

No file of the user's is written. Settings that a tool takes from a file only are given as a file of that folder; keys
stand in variables or there, never in arguments, which others see in the list of processes.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from droid2api.config import home
from droid2api.errors import ConfigError
from droid2api.observe.setups import (
    GEMINI_SETTINGS,
    Wanted,
    aider_variables,
    claude_options,
    claude_variables,
    droid_id,
    droid_models,
    gemini_variables,
    opencode_config,
    quoted,
)
from droid2api.wire.fields import Json

KEY_VARIABLE = "DROID2API_KEY"
"""Where tools that take a variable's name find the key."""
GEMINI_HOME = "GEMINI_CLI_HOME"
"""Where Gemini CLI has its folder .gemini, instead of the user's home."""


@dataclass(frozen=True, slots=True)
class Launch:
    """`arguments` stand before the user's own; `without` are variables that would win over ours. `end` is called when
    the tool has ended.
    """

    arguments: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    without: tuple[str, ...] = ()
    end: Callable[[], None] = lambda: None


@dataclass(frozen=True, slots=True)
class Tool:
    """`install` is the command that installs it; `launch` may write into the folder that it gets. It raises ConfigError
    for files of the user's that it must read and cannot.
    """

    install: str
    launch: Callable[[Wanted, Path], Launch]


def _claude(wanted: Wanted, folder: Path) -> Launch:
    """The variables stand in settings too: there they win over those of ~/.claude/settings.json."""
    variables = claude_variables(wanted)
    options = claude_options(wanted.settings)
    picker = {"modelPicker": {"options": options}} if options else {}
    file = _write(folder / "claude.json", {"env": variables} | picker)
    others = ("ANTHROPIC_API_KEY", "CLAUDE_CODE_USE_BEDROCK", "CLAUDE_CODE_USE_VERTEX", "CLAUDE_CODE_USE_FOUNDRY")
    return Launch(("--settings", str(file)), variables, others)


def _codex(wanted: Wanted, folder: Path) -> Launch:
    settings = {
        "model": wanted.model,
        "model_provider": "droid2api",
        "model_providers.droid2api.name": "droid2api",
        "model_providers.droid2api.base_url": f"{wanted.base_url}/v1",
        "model_providers.droid2api.env_key": KEY_VARIABLE,
        "model_providers.droid2api.wire_api": "responses",
    }
    options = [word for name, value in settings.items() for word in ("-c", f"{name}={quoted(value)}")]
    return Launch(tuple(options), {KEY_VARIABLE: wanted.key})


def _droid(wanted: Wanted, folder: Path) -> Launch:
    settings = {
        "customModels": droid_models(wanted, f"${{{KEY_VARIABLE}}}"),
        "sessionDefaultSettings": {"model": droid_id(wanted.model)},
    }
    return Launch(("--settings", str(_write(folder / "droid.json", settings))), {KEY_VARIABLE: wanted.key})


def _opencode(wanted: Wanted, folder: Path) -> Launch:
    models = dict.fromkeys([wanted.model, *wanted.settings.models])
    return Launch(variables={"OPENCODE_CONFIG_CONTENT": json.dumps(opencode_config(wanted, models))})


def _aider(wanted: Wanted, folder: Path) -> Launch:
    return Launch(variables=aider_variables(wanted) | {"AIDER_SHOW_MODEL_WARNINGS": "false"})


def _gemini(wanted: Wanted, folder: Path) -> Launch:
    others = ("GOOGLE_API_KEY", "GOOGLE_GENAI_USE_GCA", "GOOGLE_GENAI_USE_VERTEXAI")
    own = Path(os.environ.get(GEMINI_HOME) or home(os.environ))
    settings = _read_settings(own / ".gemini" / "settings.json")
    variables, merged = gemini_variables(wanted), _merged(settings, GEMINI_SETTINGS)
    if merged == settings:
        return Launch((), variables, others)
    end = _overlay(own, folder, merged)
    return Launch((), variables | {GEMINI_HOME: str(folder)}, others, end)


def _overlay(own: Path, folder: Path, settings: Json) -> Callable[[], None]:
    """Make `folder` a home for Gemini CLI that is the user's, but for settings.json: how to log in has no variable.

    Everything else of the user's is there by links. What the tool adds beside them is copied to the user's own folder
    in the end, by the function that this gives.
    """
    real, made = own / ".gemini", folder / ".gemini"
    made.mkdir()
    for entry in [own / ".agents", *_entries(real)]:
        if entry.exists() and entry.name != "settings.json":
            _link(entry, folder / entry.relative_to(own))
    _write(made / "settings.json", settings)

    return lambda: _keep_additions(made, real)


def _keep_additions(made: Path, real: Path) -> None:
    for entry in _entries(made):
        if entry.is_symlink() or entry.name == "settings.json":
            continue
        try:
            real.mkdir(mode=0o700, parents=True, exist_ok=True)
            if entry.is_dir():
                shutil.copytree(entry, real / entry.name, symlinks=True, dirs_exist_ok=True)
            else:
                shutil.copy2(entry, real / entry.name)
        except OSError as error:  # copytree's holds a list of them
            reason = error.strerror or "not all of it can be copied"
            print(f"droid2api: {real / entry.name}: what the tool added is lost: {reason}.", file=sys.stderr)


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _link(entry: Path, place: Path) -> None:
    try:
        place.symlink_to(entry.resolve(), target_is_directory=entry.is_dir())
    except OSError:  # Windows lets only some users make links
        if entry.is_dir():
            shutil.copytree(entry, place, dirs_exist_ok=True)
        else:
            shutil.copy2(entry, place)


def _read_settings(file: Path) -> Json:
    """JSON that may hold comments. Raises ConfigError."""
    if not file.exists():
        return {}
    try:
        text = file.read_text(encoding="utf-8-sig")
        value = json.loads(re.sub(r'("(?:\\.|[^"\\])*")|//[^\n]*|/\*.*?\*/', r"\1", text, flags=re.DOTALL))
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}.") from None
    except ValueError:
        value = None
    if type(value) is not dict:
        raise ConfigError(f"{file}: must be a JSON object. The tool itself cannot read it either.")
    return value


def _merged(below: Json, above: Json) -> Json:
    """Both, where objects meet; else the value above."""
    merged = below | above
    for name in below.keys() & above.keys():
        if type(below[name]) is dict and type(above[name]) is dict:
            merged[name] = _merged(below[name], above[name])
    return merged


def _write(file: Path, value: Json) -> Path:
    """Into the temporary folder, which nobody else may enter."""
    file.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
    return file


TOOLS: Mapping[str, Tool] = {
    "claude": Tool("npm install -g @anthropic-ai/claude-code", _claude),
    "codex": Tool("npm install -g @openai/codex", _codex),
    "droid": Tool("npm install -g @factory/cli", _droid),
    "gemini": Tool("npm install -g @google/gemini-cli", _gemini),
    "opencode": Tool("npm install -g opencode-ai", _opencode),
    "aider": Tool("pipx install aider-chat", _aider),
}
"""By the name of the tool's program."""
