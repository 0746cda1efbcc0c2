"""The keeper of the grammar: whatever order a wire has, blocks come one after the other."""

import pytest

from droid2api.errors import RequestError, StreamError
from droid2api.formats.decoder import read_citation
from droid2api.hub.events import BlockEnd, BlockStart, Citation, Delta, Failed, Finish, Start, State
from droid2api.hub.request import Target, family
from droid2api.hub.turn import Block, FoldedTurn, Turn, fold

TEXT, CALL, OTHER = BlockStart("text"), BlockStart("tool_call", "a", "f"), BlockStart("tool_call", "b", "g")


def test_blocks_that_alternate_come_one_after_the_other():
    turn = Turn()
    turn.start("i", "m")
    turn.open(0, TEXT)
    turn.open(1, CALL)
    turn.delta(0, "x")
    turn.delta(1, "{")
    assert turn.drain() == [Start("i", "m"), TEXT, Delta("x")]
    turn.delta(0, "y")
    turn.delta(1, "}")
    turn.end(1)
    assert turn.drain() == [Delta("y")]
    turn.end(0)
    assert turn.drain() == [BlockEnd(), CALL, Delta("{}"), BlockEnd()]
    assert [key for key in (0, 1) if turn.is_open(key)] == []


def test_a_waiting_block_goes_on_live():
    turn = Turn()
    turn.open(0, TEXT)
    turn.open(1, CALL)
    turn.delta(1, "{")
    turn.end(0)
    turn.delta(1, "}")
    turn.end(1)
    assert turn.drain() == [Start("", ""), TEXT, BlockEnd(), CALL, Delta("{"), Delta("}"), BlockEnd()]


def test_finish_ends_what_is_open():
    turn = Turn()
    turn.open(0, CALL)
    turn.open(1, OTHER)
    turn.finish(Finish("stop"))
    assert turn.drain()[1:] == [CALL, Delta("{}"), BlockEnd(), OTHER, Delta("{}"), BlockEnd(), Finish("tool_calls")]
    turn.finish(Finish("stop"))
    turn.fail(StreamError("late"))
    assert turn.drain() == []


@pytest.mark.parametrize(
    ("named", "called", "reason"),
    [
        ("stop", True, "tool_calls"),
        ("tool_calls", True, "tool_calls"),
        ("tool_calls", False, "stop"),
        ("length", True, "length"),
        ("content_filter", False, "content_filter"),
    ],
)
def test_calls_decide_the_reason(named, called, reason):
    turn = Turn()
    if called:
        turn.open(0, CALL)
    turn.finish(Finish(named))
    assert turn.drain()[-1].reason == reason


def test_failure_leaves_the_block_open():
    turn, error = Turn(), StreamError("broken")
    turn.open(0, CALL)
    turn.delta(0, "{")
    turn.open(1, TEXT)
    turn.fail(error)
    turn.finish(Finish("stop"))
    assert turn.drain() == [Start("", ""), CALL, Delta("{"), Failed(error)]


def test_custom_calls_may_have_no_input():
    turn = Turn()
    turn.open(0, BlockStart("tool_call", "a", "p", custom=True))
    turn.end(0)
    assert turn.drain()[-1] == BlockEnd()


@pytest.mark.parametrize(
    "misuse",
    [
        lambda turn: turn.delta(9, "x"),
        lambda turn: turn.end(9),
        lambda turn: turn.open(0, TEXT),
        lambda turn: turn.opened(9),
        lambda turn: turn.text(9),
        lambda turn: turn.size(9),
    ],
)
def test_misuse_by_a_decoder(misuse):
    turn = Turn()
    turn.open(0, TEXT)
    with pytest.raises(KeyError):
        misuse(turn)


def test_fold():
    state, usage = State("chat", "m", {}), Finish("stop")
    events = [Start("i", "m"), TEXT, Delta("a"), Delta("b"), BlockEnd(), TEXT, BlockEnd(state), usage]
    blocks = [Block(TEXT, "ab", BlockEnd()), Block(TEXT, "", BlockEnd(state))]
    assert fold(events) == FoldedTurn(Start("i", "m"), blocks, usage)
    with pytest.raises(StreamError, match="broken"):
        fold([Start("i", "m"), TEXT, Failed(StreamError("broken"))])


def test_citations():
    assert read_citation({"url": "u", "title": None, "start_index": 1, "end_index": "2"}) == Citation("u", "", 1, None)
    assert read_citation({"title": "t"}) is None


def test_packed_state_comes_back():
    state = State("anthropic", "claude", {"signature": "é"})
    assert State.unpack(state.pack()) == state
    for other in ("", "EqQB", "droid2api.", "droid2api.!!!!", "droid2api.e30=", "droid2api.WzEsMiwzXQ=="):
        assert State.unpack(other) is None


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("claude-opus-5", "claude"),
        ("anthropic/claude-opus-5", "claude"),
        ("GPT-5", "gpt"),
        ("qwen3", "qwen"),
        ("5", ""),
    ],
)
def test_family(model, expected):
    assert family(model) == Target(model).family == expected


def test_errors_know_their_status():
    assert RequestError("x").status == 400
    assert StreamError("x").status == 502
    assert StreamError("x", status=529).status == 529
