"""What stands between decoder and encoder: stop sequences and the client's own names of tools, for any chunking.

The grammar holds behind them, there is exactly one end, the text before a stop sequence is all there and nothing after
it. `run_filters` and `translated` are the only places that know how filters and lanes are put together.
"""

import itertools
import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from droid2api.errors import StreamError
from droid2api.formats import BY_NAME
from droid2api.gateway.lanes import TranslateLane
from droid2api.hub.encoded import Encoded
from droid2api.hub.events import BlockEnd, BlockStart, Delta, Failed, Finish, Start, Usage
from droid2api.hub.request import Tool
from droid2api.hub.stops import StopFilter
from droid2api.hub.tools import ToolRestorer, name_tools
from droid2api.hub.turn import Block
from tests.gateway.test_lanes import prepared_for

from .carried import is_failed
from .grammar import check_turn
from .readers import read_stream, read_whole
from .strategies import json_objects, turns
from .wire import write_stream

few = settings(max_examples=50, deadline=None)
many = settings(few, max_examples=100)
letters = st.text("ab", max_size=6)
stops = st.lists(st.text("ab", min_size=1, max_size=4), min_size=1, max_size=3, unique=True)
"""Few letters, so that sequences are met, overlap, and begin without going on."""


@st.composite
def lettered(draw):
    """A turn, finished or failed, whose text is of the stop sequences' letters and comes in small pieces."""
    events, called = [Start("id", "m")], False
    for kind in draw(st.lists(st.sampled_from(["text", "text", "reasoning", "tool_call"]), min_size=1, max_size=3)):
        call = {"id": f"call_{len(events)}", "name": "f"} if kind == "tool_call" else {}
        called = called or bool(call)
        said = ["{}"] if call else draw(st.lists(st.text("ab", min_size=1, max_size=2), max_size=6))
        events += [BlockStart(kind, **call), *map(Delta, said), BlockEnd()]
    usual = "tool_calls" if called else "stop"
    if draw(st.integers(0, 3)):
        return [*events, Finish(draw(st.sampled_from([usual, "length", "content_filter"])), "upstream's", Usage(3, 2))]
    return [*events[: draw(st.integers(1, len(events)))], Failed(StreamError("broken"))]


@st.composite
def chunked(draw, items):
    """The items, or bytes, in pieces of any size; some are empty."""
    places = sorted(draw(st.lists(st.integers(0, len(items)), max_size=6)))
    return [items[start:end] for start, end in itertools.pairwise([0, *places, len(items)])]


# -- stop sequences -------------------------------------------------------------------------------------------------


def run_filters(sequences, chunks, *, waits):
    """What comes out for chunks of events; who does not `wait` for the upstream's end is done at the stop."""
    stop_filter, out = StopFilter(sequences), []
    for chunk in chunks:
        out += stop_filter.feed(chunk)
        if stop_filter.stopped and not waits:
            return out + stop_filter.close()
    return out


def blocks_of(events):
    """Each block, the last one too if it was left open."""
    blocks = []
    for event in events:
        if type(event) is BlockStart:
            blocks.append(Block(event, "", BlockEnd()))
        elif type(event) is Delta:
            blocks[-1].text += event.text
        elif type(event) is BlockEnd:
            blocks[-1].end = event
    return blocks


def stop_of(events, sequences):
    """The text block that is stopped, the places where it may end and the sequences: the first that is whole."""
    for number, block in enumerate(blocks_of(events)):
        for end in range(1, len(block.text) + 1 if block.start.kind == "text" else 0):
            if met := {sequence for sequence in sequences if block.text[:end].endswith(sequence)}:
                return number, {end - len(sequence) for sequence in met}, met
    return None


def check_stopped(before, after, sequences):
    """What a filter made of a turn."""
    check_turn(after)
    assert sum(type(event) in (Finish, Failed) for event in after) == 1
    came, left = blocks_of(before), blocks_of(after)
    if stop := stop_of(before, sequences):
        number, places, met = stop
        assert left[:number] == came[:number]
        assert len(left) == number + 1
        assert left[number].text in {came[number].text[:place] for place in places}
        if type(after[-1]) is Finish:
            assert after[-1].stop_sequence in met
            assert after[-1].reason in ("stop", "tool_calls")
            assert after[-1].raw != "upstream's"
        return
    assert after[-1] == before[-1]
    if is_failed(before):  # what might have begun a sequence need not be said before a failure
        assert [block.start for block in left] == [block.start for block in came]
        assert all(block.text.startswith(other.text) for block, other in zip(came, left, strict=True))
    else:
        assert left == came


@pytest.mark.parametrize("waits", [True, False])
def test_stop_sequences(waits):
    """`waits`: the filter is fed to the upstream's end, for its usage."""

    @many
    @given(lettered(), stops, st.data())
    def check(events, sequences, data):
        out = run_filters(sequences, data.draw(chunked(events)), waits=waits)
        check_stopped(events, out, sequences)

    check()


HEAD, TEXT = [Start("id", "m")], [BlockStart("text"), Delta("oneSTOPtwo"), BlockEnd()]
CALL = [BlockStart("tool_call", "a", "f"), Delta("{}"), BlockEnd()]


@pytest.mark.parametrize("waits", [True, False])
def test_a_stop_after_a_call(waits):
    """Who has called a tool waits for its result: the call decides the reason."""
    events = [*HEAD, *CALL, *TEXT, Finish("tool_calls")]
    check_stopped(events, run_filters(["STOP"], [[event] for event in events], waits=waits), ["STOP"])


def test_a_failure_after_a_stop():
    """The upstream fails while its end is waited for: one end all the same."""
    events = [*HEAD, *TEXT, Failed(StreamError("broken"))]
    check_stopped(events, run_filters(["STOP"], [[event] for event in events], waits=True), ["STOP"])


def test_a_stop_within_a_stop():
    """The answer ends with the first sequence that is whole, as a model's own would, however it is read."""
    for letters in (["baa"], ["b", "a", "a"], ["ba", "a"]):
        events = [*HEAD, BlockStart("text"), *map(Delta, letters), BlockEnd(), Finish("stop")]
        check_stopped(events, run_filters(["a", "baa"], [events], waits=True), ["a", "baa"])


# -- names of tools -------------------------------------------------------------------------------------------------

TOOLS = [
    Tool("plain"),
    Tool("a.b c"),
    Tool("long" * 20),
    Tool("f", namespace="mcp"),
    Tool("patch", kind="custom"),
    Tool("patch.it", kind="custom"),
]


def wire_tools():
    """The upstream's names, as the restorer wants them, and with each tool."""
    encoded = Encoded({})
    named = name_tools(encoded, TOOLS)
    return encoded.tool_names, named


@st.composite
def calling(draw):
    """A turn as the upstream tells it, and as the client wants it: calls of tools under the upstream's names."""
    wire = wire_tools()[1]
    before, after, inside = [], [], False
    for event in draw(turns(custom=False)):
        inside = event.kind == "tool_call" if type(event) is BlockStart else inside and type(event) is not BlockEnd
        if type(event) is BlockStart and inside:
            name, tool = draw(st.sampled_from(wire))
            custom = tool.kind == "custom"
            text = draw(st.text("abc\n", max_size=4))
            before += [replace(event, name=name, namespace=""), *map(Delta, draw(split(json.dumps({"input": text}))))]
            after += [replace(event, name=tool.name, namespace=tool.namespace, custom=custom)]
            after += [Delta(text if custom else json.dumps({"input": text}))]
        elif not (inside and type(event) is Delta):
            before.append(event)
            after.append(event)
    return before, after


@st.composite
def split(draw, text):
    return [piece for piece in draw(chunked(text)) if piece]


@few
@given(calling(), st.data())
def test_names_of_tools(turn, data):
    before, after = turn
    restorer = ToolRestorer(wire_tools()[0])
    out = [event for chunk in data.draw(chunked(before)) for event in restorer.feed(chunk)]
    check_turn(out)
    assert blocks_of(out) == blocks_of(after)
    assert (out[0], out[-1]) == (after[0], after[-1])


def test_an_empty_input_of_a_custom_tool():
    call = [BlockStart("tool_call", "a", "patch"), Delta('{"input": ""}'), BlockEnd()]
    check_turn(ToolRestorer(wire_tools()[0]).feed([*HEAD, *call, Finish("tool_calls")]))


# -- in a lane ------------------------------------------------------------------------------------------------------


def translated(client, upstream, chunks, *, sequences, stream):
    """The client's bytes for an upstream's, as the server pumps them."""
    prepared = prepared_for(client, upstream, stream, local_stop=sequences)
    new_id = map(str, itertools.count()).__next__
    lane = TranslateLane(BY_NAME[client], prepared, prepared.request, True, lambda: 0.0, new_id)
    out = b""
    for chunk in chunks:
        out += lane.feed(chunk)
        if lane.over:
            return out, lane.error
    return out + lane.close(None), lane.error


ENDS = {
    "chat": (b'"finish_reason":"', b"data: [DONE]"),
    "responses": (b'"type":"response.completed"', b'"type":"response.incomplete"'),
    "anthropic": (b'"type":"message_delta"', b'"type":"message_stop"'),
}


def check_translated(client, upstream, events, sequences, chunks, *, stream):
    out, error = translated(client, upstream, chunks, sequences=sequences, stream=stream)
    answer = (read_stream if stream else read_whole)(client, out)
    wanted = stop_of(events, sequences)
    if error is None:
        assert answer.error is None
        assert answer.ended
        assert not stream or [out.count(end) for end in ENDS[client]] == ([1, 0] if client == "responses" else [1, 1])
        assert answer.text in texts_of(events, wanted)
    else:
        assert is_failed(events)


def texts_of(events, stop):
    """What the client may be told: up to the stop; which of two is open when two sequences are met at once."""
    texts = [block.text if block.start.kind == "text" else "" for block in blocks_of(events)]
    if not stop:
        return {"".join(texts)}
    return {"".join(texts[: stop[0]]) + texts[stop[0]][:place] for place in stop[1]}


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("upstream", ["chat", "anthropic", "responses"])
@pytest.mark.parametrize("client", ["chat", "anthropic"])  # Responses has no stop sequences
def test_stops_in_a_lane(client, upstream, stream):
    @few
    @given(plain(), stops, st.data())
    def check(events, sequences, data):
        content = write_stream(upstream, events)
        check_translated(client, upstream, events, sequences, data.draw(chunked(content)), stream=stream)

    check()


@st.composite
def plain(draw):
    """A finished turn of text and calls, which every format has."""
    events = [Start("id", "m")]
    for number, text in enumerate(draw(st.lists(letters, max_size=3))):
        if text:
            events += [BlockStart("text"), *map(Delta, draw(split(text))), BlockEnd()]
            events += [BlockStart("reasoning"), Delta("hm"), BlockEnd()]  # Chat makes one text of two in a row
        else:
            arguments = json.dumps(draw(json_objects))
            events += [BlockStart("tool_call", f"call_{number}", "f"), Delta(arguments), BlockEnd()]
    called = any(type(event) is BlockStart and event.kind == "tool_call" for event in events)
    return [*events, Finish("tool_calls" if called else "stop", usage=Usage(3, 2))]


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("upstream", ["chat", "anthropic", "responses"])
@pytest.mark.parametrize("client", ["chat", "anthropic"])
def test_a_stop_and_the_end_in_one_read(client, upstream, stream):
    events = [*HEAD, *TEXT, Finish("stop", usage=Usage(3, 2))]
    check_translated(client, upstream, events, ["STOP"], [write_stream(upstream, events)], stream=stream)
