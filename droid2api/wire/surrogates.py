"""Halves of a character (lone surrogates) in an upstream's JSON, which no strict reader takes.

Some services cut a text between the two halves and send each as an escape of its own, "\\ud83d" and "\\ude00", in two
deltas. Two halves in the same place of two events that follow on each other are one character; a half that stays alone
becomes U+FFFD.
"""

import json
import re
from collections.abc import Callable
from typing import Any

_HALF = re.compile(rb"\\u[dD][89a-fA-F]")


def parse(data: bytes) -> Any:
    """The JSON with its halves as they are; None when there are none, or when it cannot be read all the same."""
    if not _HALF.search(data):
        return None
    try:
        return json.loads(data, parse_int=_number, parse_constant=float)
    except (ValueError, RecursionError):
        return None


def _number(digits: str) -> int | float:
    return int(digits) if len(digits) < 19 else float(digits)


def join(first: Any, second: Any) -> None:
    """Move a half at the end of a text in `first` to its other one at the beginning of the same text in `second`."""
    if type(first) is dict and type(second) is dict:
        places: list[Any] = [name for name in first if name in second]
    elif type(first) is list and type(second) is list:
        places = list(range(min(len(first), len(second))))
    else:
        return
    for place in places:
        end, beginning = first[place], second[place]
        if type(end) is not str or type(beginning) is not str:
            join(end, beginning)
        elif "\ud800" <= end[-1:] <= "\udbff" and "\udc00" <= beginning[:1] <= "\udfff":
            whole = _whole(end[-1] + beginning[0])
            first[place], second[place] = end[:-1], whole + beginning[1:]


class Halves:
    """An object with a half of a character in it, which waits for the next object: that may have the other half."""

    def __init__(self) -> None:
        self.waiting: Any = None

    def join(self, following: Any) -> None:
        """Put halves in the object that waits and in the one that follows together."""
        join(self.waiting, following)

    def release_to(self, read: Callable[[Any], None]) -> None:
        """Read the object that waits, if there is one; halves that stay alone are replaced."""
        value, self.waiting = self.waiting, None
        if value is not None:
            read(mend(value))


def mend(value: Any) -> Any:
    """The JSON without halves."""
    if type(value) is str:
        return _whole(value)
    if type(value) is list:
        return [mend(item) for item in value]
    if type(value) is dict:
        return {_whole(name): mend(item) for name, item in value.items()}
    return value


def _whole(text: str) -> str:
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
