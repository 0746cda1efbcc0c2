"""The filter that applies stop sequences: whatever the pieces, the text ends where the first sequence begins."""

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from droid2api.hub.events import BlockEnd, BlockStart, Delta, Finish
from droid2api.hub.stops import LONGEST_STOP, StopFilter

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


def test_as_many_and_as_long_ones_as_may_be_cost_what_they_weigh():
    """A regular expression of these would take minutes and gigabytes."""
    sequences = [f"{number:04}" * (LONGEST_STOP // 4) for number in range(8191)]
    tracemalloc.start()
    assert filtered(sequences, ["0042" * 249] * 50 + ["1"]) == ("", "0042" * 250)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 2_000_000
