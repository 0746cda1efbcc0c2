"""Checks the grammar of events.py, down to the type of every field."""

from droid2api.errors import GatewayError
from droid2api.hub.events import BlockEnd, BlockStart, Citation, Delta, Event, Failed, Finish, Start, State, Usage

KINDS = ("text", "reasoning", "tool_call", "refusal")
REASONS = ("stop", "length", "tool_calls", "content_filter")


def check_turn(events: list[Event]) -> None:
    """turn := Start block* (Finish | [BlockStart Delta*] Failed)"""
    assert events, "no events at all"
    assert type(events[0]) is Start
    assert type(events[-1]) in (Finish, Failed)
    inside, called, ids = None, False, []
    for event in events[1:-1]:
        match event:
            case BlockStart():
                assert inside is None, "a block inside a block"
                inside = event
                if event.kind == "tool_call":
                    called = True
                    assert event.id
                    assert event.name
                    assert event.id not in ids, "two calls of one id"
                    ids.append(event.id)
            case Delta():
                assert inside is not None, "text outside of a block"
                assert event.text, "an empty delta"
            case BlockEnd():
                assert inside is not None, "an end without a start"
                assert not (inside.state and event.state), "state at both ends of a block"
                assert inside.kind == "text" or not event.citations, "citations of what is no text"
                inside = None
            case _:
                raise AssertionError(f"{event} inside a turn")
    if type(events[-1]) is Finish:
        assert inside is None, "the last block is open in a finished turn"
        assert (events[-1].reason == "tool_calls") <= called
        assert (events[-1].reason == "stop") <= (not called)
    for event in events:
        _check_types(event)


def _check_types(event: Event) -> None:
    match event:
        case Start():
            _check_strings(event.id, event.model)
        case BlockStart():
            assert event.kind in KINDS
            assert type(event.custom) is bool
            _check_strings(event.id, event.name, event.namespace)
            _check_state(event.state)
        case Delta():
            _check_strings(event.text)
        case BlockEnd():
            _check_state(event.state)
            for citation in event.citations:
                assert type(citation) is Citation
                _check_strings(citation.url, citation.title)
                for offset in (citation.start, citation.end):
                    assert offset is None or type(offset) is int
        case Finish():
            assert event.reason in REASONS
            _check_strings(event.raw, event.stop_sequence or "")
            usage = event.usage
            assert type(usage) is Usage
            for count in (usage.input, usage.output, usage.cache_read, usage.cache_write, usage.reasoning):
                assert type(count) is int
        case Failed():
            assert isinstance(event.error, GatewayError)
            assert event.error.message
            assert 400 <= event.error.status < 600


def _check_state(state: State | None) -> None:
    if state is not None:
        assert type(state) is State
        assert type(state.data) is dict
        _check_strings(state.format, state.family, state.service, state.pack())


def _check_strings(*values: object) -> None:
    for value in values:
        assert type(value) is str
