"""Tables for a terminal: by rich where it is installed (the extra `rich`), else plain aligned text.

What goes into a pipe or a file is plain always, so that grep and cut find what they expect.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TextIO, TypeAlias

Cell: TypeAlias = str | int


def show_table(columns: Sequence[str], rows: Sequence[Sequence[Cell]], out: TextIO) -> None:
    """Numbers stand at the right of their column, texts at the left."""
    if out.isatty():
        try:
            from rich.box import SIMPLE_HEAD
            from rich.console import Console
            from rich.table import Table
            from rich.text import Text
        except ImportError:
            pass
        else:
            table = Table(box=SIMPLE_HEAD, pad_edge=False)
            for index, column in enumerate(columns):
                side: Literal["left", "right"] = "right" if _is_number(rows, index) else "left"
                table.add_column(column, justify=side, overflow="fold", no_wrap=index == 0)  # the first is to be copied
            for row in rows:
                table.add_row(*(Text(_text(cell)) for cell in row))  # as it is: [brackets] are markup otherwise
            Console(file=out).print(table)
            return
    out.write(plain_table(columns, rows))


def plain_table(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    lines = [list(columns), *([_text(cell) for cell in row] for row in rows)]
    widths = [max(len(line[index]) for line in lines) for index in range(len(columns))]
    numbers = [_is_number(rows, index) for index in range(len(columns))]
    text = ""
    for line in lines:
        cells = zip(line, widths, numbers, strict=True)
        padded = [cell.rjust(width) if number else cell.ljust(width) for cell, width, number in cells]
        text += "  ".join(padded).rstrip() + "\n"
    return text


def _is_number(rows: Sequence[Sequence[Cell]], index: int) -> bool:
    return any(type(row[index]) is int for row in rows)


def _text(cell: Cell) -> str:
    """An escape sequence in a name must not reach the terminal."""
    text = f"{cell:,}" if type(cell) is int else str(cell)
    return text if text.isprintable() else ascii(text)
