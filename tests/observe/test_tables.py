"""Tables: by rich on a terminal where it is installed, else plain."""

import io
import sys

import pytest

from droid2api.observe.tables import show_table

COLUMNS = ["id", "tokens"]
ROWS = [["[bold]gpt", 1234567], ["a", 5]]
PLAIN = "id            tokens\n[bold]gpt  1,234,567\na                  5\n"


class Terminal(io.StringIO):
    def isatty(self):
        return True


def shown(out, rows=ROWS):
    show_table(COLUMNS, rows, out)
    return out.getvalue()


def test_plain_into_a_pipe():
    assert shown(io.StringIO()) == PLAIN


def test_plain_without_rich(monkeypatch):
    monkeypatch.setitem(sys.modules, "rich.console", None)
    assert shown(Terminal()) == PLAIN


def test_rich_on_a_terminal():
    text = shown(Terminal())
    assert "───" in text
    assert "[bold]gpt" in text  # no markup
    assert "1,234,567" in text


def test_the_first_column_stays_in_one_piece(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    id = "claude-haiku-4-5-20251001"
    assert id in shown(Terminal(), [[id, "a long text that must be broken into lines"]])


@pytest.mark.parametrize("out", [io.StringIO, Terminal])
def test_a_name_cannot_write_to_the_terminal(out, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    text = shown(out(), [["\x1b]0;x\x07", 1]])
    assert "\x1b]" not in text
    assert "\\x1b]0;x\\x07" in text


def test_a_table_without_rows():
    assert shown(io.StringIO(), []) == "id  tokens\n"
