"""The properties of the recordings, for turns that nobody has recorded yet."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from .grammar import check_turn
from .recordings import each_format
from .strategies import failed_turns, turns
from .test_answers import check_all
from .test_streams import check_cut, check_failure
from .wire import read_stream, write_stream

few = settings(max_examples=50, deadline=None)


@few
@given(turns() | failed_turns())
def test_they_obey_the_grammar(events):
    check_turn(events)


@pytest.mark.parametrize(
    ("format", "custom"), [("chat", True), ("responses", True), ("anthropic", False), ("gemini", False)]
)
def test_written_and_read_again(format, custom):
    @few
    @given(turns(custom=custom))
    def check(events):
        check_all(format, events)

    check()


@each_format
@few
@given(events=turns(custom=False), data=st.data())
def test_split_and_cut(format, events, data):
    stream = write_stream(format, events)
    cut = data.draw(st.integers(0, len(stream)))
    assert read_stream(format, [stream[:cut], stream[cut:]]) == read_stream(format, [stream])
    check_cut(format, stream[:cut])


@each_format
@few
@given(events=failed_turns())
def test_failures(format, events):
    check_failure(format, events)
