"""The filter that applies stop sequences: whatever the pieces, the text ends where the first sequence begins."""

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from droid2api.errors import RequestError
from droid2api.hub.events import BlockEnd, BlockStart, Delta, Finish, Usage
from droid2api.hub.stops import LONGEST_STOP, StopFilter, check_stops

letters = st.text("ab", max_size=20)


def filtered(sequences, pieces):
    """The text that comes out, and the sequence that was met."""
    stops = StopFilter(sequences)
    events = [BlockStart("text"), *map(Delta, pieces), BlockEnd(), Finish("length")]
    out = [event for each in events for event in stops.feed([each])]
    assert [type(event) for event in out if type(event) is not Delta] == [BlockStart, BlockEnd, Finish]
    return "".join(event.text for event in out if type(event) is Delta), out[-1].stop_sequence


@given(st.lists(st.text("ab", min_size=1, max_size=5), min_size=1, max_size=4), st.lists(letters, max_size=6))
def test_the_text_ends_where_a_sequence_begins(sequences, pieces):
    whole = "".join(pieces)
    places = [whole.find(sequence) for sequence in sequences]
    met = [place for place in places if place >= 0]
    text, stop = filtered(sequences, pieces)
    if stop is None:
        assert (text, met) == (whole, [])
    else:
        assert stop in sequences
        assert whole.startswith(text + stop)
        assert len(text) >= min(met)


@pytest.mark.parametrize(
    ("pieces", "text", "stop"),
    [
        (["one ST", "OP two"], "one ", "STOP"),
        (["one ST", "AY"], "one STAY", None),
        (["ST"], "ST", None),
        (["SSTOP"], "S", "STOP"),
        (["S", "T", "O", "P", "x"], "", "STOP"),
    ],
)
def test_in_pieces(pieces, text, stop):
    assert filtered(["STOP", "\n\n"], pieces) == (text, stop)


@pytest.mark.parametrize(
    ("pieces", "text", "stop"),
    [(["xabcdef"], "xab", "cd"), (["xabc", "def"], "xab", "cd"), (["xabcx"], "xabcx", None), (["xab"], "xab", None)],
)
def test_the_sequence_that_is_whole_first_counts(pieces, text, stop):
    assert filtered(["abcdef", "cd", "cde"], pieces) == (text, stop)


def test_of_two_that_are_whole_at_once_the_earlier_one_counts():
    assert filtered(["cab", "ab"], ["xcab"]) == ("x", "cab")


@pytest.mark.parametrize("sequence", ["]", "^", "\\", "-", "[a"])
def test_letters_that_mean_something_in_a_regular_expression(sequence):
    assert filtered([sequence], ["x", sequence, "y"]) == ("x", sequence)


def test_the_end_of_a_stopped_answer_has_the_usage_and_the_reason():
    events = StopFilter(["a"]).feed([BlockStart("text"), Delta("a"), Finish("length", "max_tokens", Usage(3, 2))])
    assert events == [BlockStart("text"), BlockEnd(), Finish("stop", "stop_sequence", Usage(3, 2), "a")]


def test_as_many_and_as_long_sequences_as_may_be():
    stops = ["x" * 1000] * 3
    assert check_stops(stops, "stop", 3) is stops


@pytest.mark.parametrize(
    ("stops", "param", "message"),
    [
        (["a"] * 4, "stop", "stop: must be 3 stop sequences at the most, not 4."),
        (["a", "x" * 1001], "stop[1]", "stop[1]: must have 1000 characters at the most."),
    ],
)
def test_more_or_longer_sequences_than_may_be(stops, param, message):
    with pytest.raises(RequestError) as raised:
        check_stops(stops, "stop", 3)
    assert (raised.value.param, raised.value.message) == (param, message)


def test_as_many_and_as_long_ones_as_may_be_cost_what_they_weigh():
    """A regular expression of these would take minutes and gigabytes."""
    sequences = [f"{number:04}" * (LONGEST_STOP // 4) for number in range(8191)]
    tracemalloc.start()
    assert filtered(sequences, ["0042" * 249] * 50 + ["1"]) == ("", "0042" * 250)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 2_000_000
