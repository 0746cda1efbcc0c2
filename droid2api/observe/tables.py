"""Tables as aligned plain text: the same on a terminal and in a pipe, so that grep and cut find what they expect."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

Cell: TypeAlias = str | int


def plain_table(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """Numbers stand at the right of their column, texts at the left."""
    lines = [list(columns), *([_text(cell) for cell in row] for row in rows)]
    widths = [max(len(line[index]) for line in lines) for index in range(len(columns))]
    numbers = [any(type(row[index]) is int for row in rows) for index in range(len(columns))]
    text = ""
    for line in lines:
        cells = zip(line, widths, numbers, strict=True)
        padded = [cell.rjust(width) if number else cell.ljust(width) for cell, width, number in cells]
        text += "  ".join(padded).rstrip() + "\n"
    return text


def _text(cell: Cell) -> str:
    """An escape sequence in a name must not reach the terminal."""
    text = f"{cell:,}" if type(cell) is int else str(cell)
    return text if text.isprintable() else ascii(text)
