"""`droid2api completion SHELL`: a script that completes commands, options and their values, made of the parser."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from droid2api.observe.shells import SHELLS

SHELL_NAMES = ("bash", "zsh", "fish")
FILES = ("--config", "explain")
"""What takes a file: an option, and a command."""


def script(parser: argparse.ArgumentParser, shell: str) -> str:
    return _fish(parser) if shell == "fish" else _bash(parser, zsh=shell == "zsh")


def _commands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    actions = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    return dict(next(actions).choices)


def _help(parser: argparse.ArgumentParser, command: str) -> str:
    actions = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    return next(choice.help or "" for choice in next(actions)._choices_actions if choice.dest == command)


def _options(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    return (action for action in parser._actions if action.option_strings and action.help != argparse.SUPPRESS)


def _words(parser: argparse.ArgumentParser) -> list[str]:
    """What may stand after the command: its options, and the values of what stands without one."""
    named = [action.option_strings[-1] for action in _options(parser)]
    values = [str(value) for action in parser._actions if not action.option_strings for value in action.choices or ()]
    return values + named


# -- bash and zsh ---------------------------------------------------------------------------------------------------

_SCRIPT = """\
_droid2api() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD - 1]}} command='' words='' i
    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${{COMP_WORDS[i]}} in
            --) return ;;
            {commands}) [ -n "$command" ] || command=${{COMP_WORDS[i]}} ;;
        esac
    done
    case "$command $before" in
{values}
        *" --config") return ;;
        *)
            case $command in
{words}
            esac
            ;;
    esac
    COMPREPLY=($(compgen -W "$words" -- "$word"))
}}
complete -o default -F _droid2api droid2api
"""
_ZSH = """\
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit; }
autoload -Uz bashcompinit && bashcompinit
"""


def _bash(parser: argparse.ArgumentParser, *, zsh: bool) -> str:
    """zsh runs the script of bash."""
    commands = _commands(parser)
    values, words = [], [f"                '') words='{' '.join(_words(parser))}' ;;"]
    for name, command in commands.items():
        words.append(f"                {name}) words='{' '.join(_words(command))}' ;;")
        for option in _options(command):
            if option.choices:
                pattern, choices = f'"{name} {option.option_strings[-1]}"', " ".join(map(str, option.choices))
                values.append(f"        {pattern}) words='{choices}' ;;")
    text = _SCRIPT.format(commands="|".join(commands), values="\n".join(values), words="\n".join(words))
    return _ZSH + text if zsh else text


# -- fish -----------------------------------------------------------------------------------------------------------


def _fish(parser: argparse.ArgumentParser) -> str:
    lines = [f"complete -c droid2api -n __fish_use_subcommand {line}" for line in _fish_options(parser)]
    for name, command in _commands(parser).items():
        told = SHELLS["fish"].word(_help(parser, name))
        lines.append(f"complete -c droid2api -f -n __fish_use_subcommand -a {name} -d {told}")
        seen = f"-n '__fish_seen_subcommand_from {name}'"
        lines += [f"complete -c droid2api {seen} {line}" for line in _fish_options(command)]
        for action in command._actions:
            if not action.option_strings and action.choices:
                lines.append(f"complete -c droid2api -f {seen} -a '{' '.join(map(str, action.choices))}'")
    return "\n".join(lines) + "\n"


def _fish_options(parser: argparse.ArgumentParser) -> Iterator[str]:
    for option in _options(parser):
        name = option.option_strings[-1]
        line = f"-l {name.removeprefix('--')} -d {SHELLS['fish'].word(option.help or '')}"
        if option.choices:
            line += f" -x -a '{' '.join(map(str, option.choices))}'"
        elif option.nargs != 0 and name != "--demo":
            line += " -r" if name in FILES else " -x"
        yield line
