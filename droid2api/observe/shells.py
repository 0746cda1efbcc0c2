"""Lines of a shell that set variables and start programs, quoted as that shell wants it.

They are for pasting, and in bash, fish and PowerShell for evaluating too.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping

from droid2api.errors import ConfigError

_PLAIN = re.compile(r"[\w./:=+-]+", re.ASCII)
"""A word that no shell reads anything into."""


class Shell(ABC):
    """`name` is what --shell takes, and the language of a block of its lines."""

    name: str

    @abstractmethod
    def variable(self, name: str, value: str) -> str:
        """The line that sets an environment variable. Raises ConfigError for a value that the shell cannot hold."""

    @abstractmethod
    def word(self, text: str) -> str:
        """One argument of a program. Raises ConfigError as `variable` does."""

    def variables(self, values: Mapping[str, str]) -> str:
        return "".join(f"{self.variable(name, value)}\n" for name, value in values.items())

    def command(self, words: Iterable[str]) -> str:
        return " ".join(map(self.word, words))


class Bash(Shell):
    """For every shell of POSIX."""

    name = "bash"

    def variable(self, name: str, value: str) -> str:
        return f"export {name}={shlex.quote(value)}"

    def word(self, text: str) -> str:
        return shlex.quote(text)


class Fish(Shell):
    name = "fish"

    def variable(self, name: str, value: str) -> str:
        return f"set -gx {name} {self.word(value)}"

    def word(self, text: str) -> str:
        if _PLAIN.fullmatch(text):
            return text
        return "'" + re.sub(r"(['\\])", r"\\\1", text) + "'"


class PowerShell(Shell):
    name = "powershell"

    def variable(self, name: str, value: str) -> str:
        return f"$env:{name} = {self._quoted(value)}"

    def word(self, text: str) -> str:
        return text if _PLAIN.fullmatch(text) else self._quoted(text)

    def _quoted(self, text: str) -> str:
        """It takes typographic quotes for plain ones; two of any are one of them."""
        return "'" + re.sub("(['\u2018\u2019\u201a\u201b])", r"\1\1", text) + "'"


class Cmd(Shell):
    """Its prompt, not a batch file: there a percent sign would have to be written twice."""

    name = "cmd"

    def variable(self, name: str, value: str) -> str:
        return f"set {name}={self._escaped(value)}"

    def word(self, text: str) -> str:
        return self._escaped(subprocess.list2cmdline([text]))

    def _escaped(self, text: str) -> str:
        """Nothing is inside of quotes for it, where a percent sign could not be escaped."""
        if not text.isprintable():
            raise ConfigError(f"--shell cmd: {text[:20]!r} has characters that cmd cannot hold. Take powershell.")
        return re.sub(r'([\s"%&|<>^()!])', r"^\1", text)


SHELLS: Mapping[str, Shell] = {shell.name: shell for shell in (Bash(), Fish(), PowerShell(), Cmd())}


def usual_shell() -> Shell:
    """The one that most people paste into on this system."""
    return SHELLS["powershell" if os.name == "nt" else "bash"]
