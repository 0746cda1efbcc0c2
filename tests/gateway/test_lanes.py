"""The lanes of a streamed answer without a socket: what they know of it besides its bytes."""

import itertools
import json

import orjson
import pytest

from droid2api.config import Endpoint, Model
from droid2api.errors import StreamError
from droid2api.formats import FORMATS
from droid2api.gateway import lanes
from droid2api.gateway.lanes import AnswerReader, RelayLane, TranslateLane, find_usage
from droid2api.hub.events import Failed, Finish, Usage
from droid2api.hub.request import Target
from tests.formats.recordings import OWN, each_answer, each_stream

TEXT = {name: (OWN / name / "text.sse").read_bytes() for name in FORMATS}
each_format = pytest.mark.parametrize("name", FORMATS)


def model_of(name):
    return Model("A model", Target("m"), FORMATS[name], Endpoint(name, "http://127.0.0.1:9"))


def request_of(name, stream=True):
    said = {"input": "hi"} if name == "responses" else {"messages": [{"role": "user", "content": "hi"}]}
    return FORMATS[name].decode_request({"model": "m", "max_tokens": 50, "stream": stream} | said)


def translating(client, upstream):
    ids = itertools.count()
    return TranslateLane(FORMATS[client], model_of(upstream), request_of(client), lambda: 0.0, lambda: str(next(ids)))


def other(name):
    """A client's format that is not the upstream's."""
    return "anthropic" if name == "chat" else "chat"


def pieces(content, size):
    """Whole events with `size` None."""
    if size is None:
        return [event + b"\n\n" for event in content.split(b"\n\n") if event]
    return [content[start : start + size] for start in range(0, len(content), size)]


def pump(lane, chunks, failure=None):
    out = b"".join(lane.feed(chunk) for chunk in chunks)
    return out + lane.close(failure)


def last_event(name, content):
    reader = AnswerReader(model_of(name), request_of(name))
    events = reader.feed(content) + reader.close(None)
    return events[-1]


# -- usage ----------------------------------------------------------------------------------------------------------


@each_stream
@pytest.mark.parametrize("size", [None, 7, 1 << 20], ids=["events", "bits", "whole"])
def test_both_lanes_know_the_same_usage(recording, size):
    """The relay lane from a few bytes of the stream, the other from reading it."""
    relayed, translated = RelayLane(FORMATS[recording.format]), translating(other(recording.format), recording.format)
    for lane in (relayed, translated):
        pump(lane, pieces(recording.bytes, size))
    last = last_event(recording.format, recording.bytes)
    if type(last) is Finish:
        assert translated.usage() == last.usage
        assert (relayed.usage() or Usage()) == last.usage
    else:
        assert translated.usage() == relayed.usage()


@each_answer
def test_usage_of_a_whole_answer(recording):
    format = FORMATS[recording.format]
    events = format.decode_response(recording.json, Target("m"))
    assert find_usage(recording.bytes, format) == events[-1].usage
    assert events[-1].usage.output > 0


@pytest.mark.parametrize(
    ("name", "usage"), [("chat", None), ("responses", None), ("anthropic", Usage(33, 1, cache_read=7, cache_write=5))]
)
def test_usage_of_a_stream_that_is_cut(name, usage):
    """What was told until then: Anthropic's streams begin with it."""
    content = TEXT[name][: len(TEXT[name]) // 2]
    for lane in (RelayLane(FORMATS[name]), translating(other(name), name)):
        pump(lane, pieces(content, 50))
        assert lane.usage() == usage
        assert type(lane.error) is StreamError


@each_format
def test_a_stream_without_usage(name):
    content = TEXT[name].replace(b'"usage"', b'"other"')
    relayed, translated = RelayLane(FORMATS[name]), translating(other(name), name)
    for lane in (relayed, translated):
        assert lane.usage() is None
        pump(lane, [content])
        assert lane.error is None
    assert relayed.usage() is None


@pytest.mark.parametrize(
    ("told", "usage"),
    [
        (b'"usage":{"prompt_tokens":1,"completion_tokens":2}', Usage(1, 2)),
        (b'"usage" : {"prompt_tokens":1}', None),  # nobody writes it so
        (b'"usage":\n  {"prompt_tokens": 1,\n "completion_tokens": 2}', Usage(1, 2)),
        (b'"usage":{"prompt_tokens":1},"usage":{"completion_tokens":2}', Usage(1, 2)),
        (b'"usage":{"prompt_tokens":1},"usage":{"prompt_tokens":null,"completion_tokens":2}', Usage(1, 2)),
        (b'"usage":null', None),
        (b'"usage":{}', None),
        (b'"usage":5', None),
        (b'"content":"\\"usage\\":{\\"prompt_tokens\\":1}"', None),  # an answer about it
        (b'"usage":{"prompt_tokens":"1","completion_tokens":true,"prompt_tokens_details":5}', Usage()),
        (b'"usage":{"prompt_tokens":-1,"completion_tokens":NaN}', Usage()),
        (b'"usage":{"prompt_tokens":%d}' % (1 << 63), Usage()),
        (b'"usage":{"prompt_tokens":%b}' % (b"9" * 4500), None),
        (b'"usage":{"a":%b' % (b"[" * 3900), None),
        (b'"usage":{"\xff\xfe":1,"prompt_tokens":1}', Usage(1)),
    ],
)
def test_odd_usage(told, usage):
    assert find_usage(b'data: {"choices":[],%b}\n\n' % told, FORMATS["chat"]) == usage


@each_format
def test_nothing_is_parsed_while_a_stream_is_relayed(name, monkeypatch):
    """And in the end only what is at its end, however long it was."""
    parsed = []

    class Watched(json.JSONDecoder):
        def raw_decode(self, text, *more):
            parsed.append(text)
            return super().raw_decode(text, *more)

    def loads(content):
        parsed.append(content)
        return orjson.loads(content)

    monkeypatch.setattr(lanes, "_JSON", Watched())
    monkeypatch.setattr(lanes.json, "loads", loads)
    events = pieces(TEXT[name], None)
    middle = next(event for event in events if "👋".encode() in event)
    middle = middle.replace(b"{", b'{"usage":{"input_tokens":7},', 1)
    lane = RelayLane(FORMATS[name])
    for event in [events[0], *[middle] * 2000, *events[1:]]:
        lane.feed(event)
    assert lane.done
    assert parsed == []
    usage = lane.usage()
    assert usage.output > 0
    assert len(parsed) <= 5


# -- how it ended ---------------------------------------------------------------------------------------------------

ERRORS = {
    "chat": [b'data: {"error":{"message":"Overloaded","code":503}}\n\n', b'data: {"error":"Overloaded"}\n\n'],
    "responses": [
        b'event: error\ndata: {"type":"error","code":"server_error","message":"Overloaded"}\n\n',
        b'event: response.failed\ndata: {"type":"response.failed","response":{"error":{"message":"Overloaded"}}}\n\n',
    ],
    "anthropic": [b'event: error\ndata: {"type": "error", "error": {"type": "x", "message": "Overloaded"}}\n\n'],
}
TOLD = [(name, error) for name, errors in ERRORS.items() for error in errors]


@pytest.mark.parametrize(("name", "error"), TOLD)
@pytest.mark.parametrize("after", [b"", b"data: [DONE]\n\n", b": bye\n\n"])
@pytest.mark.parametrize("size", [None, 7])
def test_an_upstreams_own_error_is_known(name, error, after, size):
    """And the bytes are what they were."""
    begun = b"".join(pieces(TEXT[name], None)[:2])
    lane = RelayLane(FORMATS[name])
    assert pump(lane, pieces(begun + error + after, size)) == begun + error + after
    assert lane.error is None
    assert lane.told_error().message == "Overloaded"


@pytest.mark.parametrize(("name", "error"), TOLD)
def test_an_error_that_misses_its_blank_line_is_known(name, error):
    lane = RelayLane(FORMATS[name])
    assert pump(lane, [error.rstrip()]) == error.rstrip()
    assert lane.told_error().message == "Overloaded"


@each_stream
def test_a_regular_end_is_no_error(recording):
    """Whatever the answer holds; a recorded failure is one."""
    lane = RelayLane(FORMATS[recording.format])
    pump(lane, [recording.bytes])
    last = last_event(recording.format, recording.bytes)
    assert (lane.told_error() or lane.error) is None or type(last) is Failed
    if type(last) is Failed:
        assert lane.error or lane.told_error().message == last.error.message


@pytest.mark.parametrize(
    "data",
    [
        b'{"type":"response.completed","response":{"error":null,"output":[{"type":"mcp_call","error":"none"}]}}',
        b'{"choices":[{"delta":{"content":"\\"error\\":{}"},"finish_reason":"stop"}],"error":null}',
        b'{"type":"message_stop","x":{"type":"error"}}',
        b'[{"type":"error"}]',
        b'{"type":"error"',
        b'{"error":"' + b"[" * 100_000,
    ],
)
def test_what_only_looks_like_an_error(data):
    lane = RelayLane(FORMATS["chat"])
    lane.feed(b"data: %b\n\n" % data)
    assert lane.told_error() is None


@each_format
def test_json_nested_too_deeply_is_half_an_event(name):
    lane = RelayLane(FORMATS[name])
    assert pump(lane, [b"data: " + b"[" * 100_000]) == b""
    assert type(lane.error) is StreamError


# -- the translate lane ---------------------------------------------------------------------------------------------

PAIRS = [(client, upstream) for client in FORMATS for upstream in FORMATS if client != upstream]
each_pair = pytest.mark.parametrize(("client", "upstream"), PAIRS)


@each_pair
def test_a_failure_before_the_first_word_writes_nothing(client, upstream):
    """So that it can still be a status."""
    lane = translating(client, upstream)
    assert pump(lane, [b": hello\n\n"], StreamError("It broke.")) == b""
    assert (lane.error.message, lane.over) == ("It broke.", True)
    lane = translating(client, upstream)
    assert pump(lane, [pieces(TEXT[upstream], None)[0] + ERRORS[upstream][0]]) == b""
    assert (lane.error.message, lane.over) == ("Overloaded", True)


@each_pair
def test_a_failure_later_is_one_error_and_no_end(client, upstream):
    lane = translating(client, upstream)
    content = TEXT[upstream][: TEXT[upstream].index("👋".encode())]
    written = pump(lane, [content], StreamError("It broke."))
    assert written
    assert not FORMATS[client].end.search(pieces(written, None)[-1])
    assert lane.error.message == "It broke."
    told = lane.encode_error(lane.error)
    assert told.count(b"It broke.") == 1
    assert FORMATS[client].end.search(told)


@each_pair
def test_a_whole_answer_becomes_a_stream(client, upstream):
    lane = translating(client, upstream)
    answer = orjson.loads((OWN / upstream / "text.response.json").read_bytes())
    events = FORMATS[upstream].decode_response(answer, Target("m"))
    written = lane.feed_whole(events)
    assert lane.usage() == events[-1].usage
    assert last_event(client, written).reason == events[-1].reason
