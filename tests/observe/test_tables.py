"""Tables: plain text, aligned."""

from droid2api.observe.tables import plain_table

COLUMNS = ["id", "tokens"]


def test_texts_stand_left_and_numbers_right():
    rows = [["[bold]gpt", 1234567], ["a", 5]]
    assert plain_table(COLUMNS, rows) == "id            tokens\n[bold]gpt  1,234,567\na                  5\n"


def test_a_name_cannot_write_to_the_terminal():
    text = plain_table(COLUMNS, [["\x1b]0;x\x07", 1]])
    assert "\x1b]" not in text
    assert "\\x1b]0;x\\x07" in text


def test_a_table_without_rows():
    assert plain_table(COLUMNS, []) == "id  tokens\n"
