"""The lanes of a streamed answer without a socket: what they know of it besides its bytes."""

import itertools
from dataclasses import replace

import orjson
import pytest
from multidict import CIMultiDict

from droid2api.errors import StreamError, UpstreamError
from droid2api.formats import BY_NAME, decoder
from droid2api.gateway.lanes import (
    BODY_LIMIT,
    AnswerReader,
    Beginning,
    ErrorLane,
    RelayBody,
    RelayStream,
    TranslateLane,
    begins_stream,
    choose_lane,
)
from droid2api.gateway.prepare import Prepared
from droid2api.hub.events import BlockStart, Failed, Finish, Usage
from droid2api.hub.request import Message, Target, ToolCall
from droid2api.settings import Endpoint, Model
from droid2api.wire import sse
from tests.formats.recordings import OWN, each_answer, each_stream
from tests.harness import body_of
from tests.timing import assert_quick

NAMES = ("chat", "responses", "anthropic")
"""Those whose streams are cut at \\n\\n below; Gemini's lanes are tested over HTTP, in the matrix of faults."""
TEXT = {name: (OWN / name / "text.sse").read_bytes() for name in NAMES}
each_format = pytest.mark.parametrize("name", NAMES)


def model_of(name):
    return Model("A model", Target("m"), BY_NAME[name], Endpoint(name, "http://127.0.0.1:9"))


def request_of(name, stream=True):
    """With what a path may say of it put in by hand."""
    return replace(BY_NAME[name].decode_request(body_of(BY_NAME[name].TYPE)), model="m", stream=stream)


def prepared_for(client, upstream, stream=True, **more):
    """A request in the translate lane, but for what is sent."""
    return Prepared(model_of(upstream), "", CIMultiDict(), {}, request_of(client, stream), **more)


def translating(client, upstream, stream=True, streamed=True, **more):
    ids = itertools.count()
    prepared = prepared_for(client, upstream, stream, **more)
    return TranslateLane(BY_NAME[client], prepared, prepared.request, streamed, lambda: 0.0, lambda: str(next(ids)))


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
    reader = AnswerReader(prepared_for(name, name), streamed=True, waits=False)
    events = reader.feed(content) + reader.close(None)
    return events[-1]


# -- usage ----------------------------------------------------------------------------------------------------------


@each_stream
@pytest.mark.parametrize("size", [None, 7, 1 << 20], ids=["events", "bits", "whole"])
def test_both_lanes_know_the_same_usage(recording, size):
    """The relay lane from a few bytes of the stream, the other from reading it."""
    relayed, translated = RelayStream(BY_NAME[recording.format]), translating(other(recording.format), recording.format)
    for lane in (relayed, translated):
        pump(lane, pieces(recording.bytes, size))
    last = last_event(recording.format, recording.bytes)
    if type(last) is Finish:
        assert (translated.usage() or Usage()) == last.usage
        assert (relayed.usage() or Usage()) == last.usage
    else:
        assert translated.usage() == relayed.usage()


@pytest.mark.parametrize("recording", [param for param in each_answer.args[1] if type(param.values[0].json) is dict])
def test_usage_of_a_whole_answer(recording):
    format = BY_NAME[recording.format]
    events = format.decode_response(recording.json, Target("m"))
    lane = RelayBody(format, 200)
    assert pump(lane, [recording.bytes]) == recording.bytes
    if type(events[-1]) is Finish:
        assert (lane.usage() or Usage()) == events[-1].usage


@pytest.mark.parametrize(
    ("name", "usage"), [("chat", None), ("responses", None), ("anthropic", Usage(33, 1, cache_read=7, cache_write=5))]
)
def test_usage_of_a_stream_that_is_cut(name, usage):
    """What was told until then: Anthropic's streams begin with it."""
    content = TEXT[name][: len(TEXT[name]) // 2]
    for lane in (RelayStream(BY_NAME[name]), translating(other(name), name)):
        pump(lane, pieces(content, 50))
        assert lane.usage() == usage
        assert type(lane.error) is StreamError


@each_format
def test_a_stream_without_usage(name):
    content = TEXT[name].replace(b'"usage"', b'"other"')
    relayed, translated = RelayStream(BY_NAME[name]), translating(other(name), name)
    for lane in (relayed, translated):
        assert lane.usage() is None
        pump(lane, [content])
        assert lane.error is None
    assert relayed.usage() is None


@pytest.mark.parametrize(
    ("told", "usage"),
    [
        (b'"usage":{"prompt_tokens":1,"completion_tokens":2}', Usage(1, 2)),
        (b'"usage" : {"prompt_tokens": 1, "completion_tokens": 2}', Usage(1, 2)),
        (b'"usage":null', None),
        (b'"usage":{}', None),
        (b'"usage":5', None),
        (b'"content":"\\"usage\\":{\\"prompt_tokens\\":1}"', None),  # an answer about it
        (b'"usage":{"prompt_tokens":"1","completion_tokens":true,"prompt_tokens_details":5}', Usage()),
        (b'"usage":{"prompt_tokens":-1}', Usage()),
        (b'"usage":{"prompt_tokens":%d}' % (1 << 63), Usage()),
        (b'"usage":{"a":%b' % (b"[" * 3900), None),
    ],
)
def test_odd_usage(told, usage):
    lane = RelayStream(BY_NAME["chat"])
    lane.feed(b'data: {"choices":[],%b}\n\n' % told)
    assert lane.usage() == usage


@each_format
def test_nothing_is_parsed_while_a_stream_is_relayed(name, monkeypatch):
    """And in the end only what is at its end, however long it was."""
    asked = []
    format = BY_NAME[name]
    ending = format.ending
    monkeypatch.setattr(format, "ending", lambda event: asked.append(event) or ending(event))
    events = pieces(TEXT[name], None)
    middle = next(event for event in events if "👋".encode() in event)
    middle = middle.replace(b"{", b'{"usage":{"input_tokens":7},', 1)
    lane = RelayStream(format)
    for event in [events[0], *[middle] * 2000, *events[1:]]:
        lane.feed(event)
    assert asked == []
    assert lane.done
    assert lane.usage().output > 0
    assert len(asked) <= 15


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
    lane = RelayStream(BY_NAME[name])
    assert pump(lane, pieces(begun + error + after, size)) == begun + error + after
    assert lane.error is None
    assert lane.relayed_error().message == "Overloaded"


@pytest.mark.parametrize(("name", "error"), TOLD)
def test_an_error_that_misses_its_blank_line_is_known(name, error):
    lane = RelayStream(BY_NAME[name])
    assert pump(lane, [error.rstrip()]) == error.rstrip()
    assert lane.relayed_error().message == "Overloaded"


@each_format
def test_the_words_of_an_error_that_is_only_called_a_stream(name):
    lane = RelayStream(BY_NAME[name])
    assert pump(lane, [b'{"error": {"message": ', b'"Overloaded"}}\n']) == b""
    assert lane.error.message == "Overloaded"


@each_stream
def test_a_regular_end_is_no_error(recording):
    """Whatever the answer holds; a recorded failure is one."""
    lane = RelayStream(BY_NAME[recording.format])
    pump(lane, [recording.bytes])
    last = last_event(recording.format, recording.bytes)
    assert (lane.relayed_error() or lane.error) is None or type(last) is Failed
    if type(last) is Failed:
        assert lane.error or lane.relayed_error().message == last.error.message


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
    lane = RelayStream(BY_NAME["chat"])
    lane.feed(b"data: %b\n\n" % data)
    assert lane.relayed_error() is None


@each_format
@pytest.mark.parametrize(
    ("rest", "passes"),
    [
        (b" ", True),
        (b"data: {}", True),
        (b"data: [DONE]", True),
        (b"data: {", False),
        (b": bye", False),
        (b'{"error":{"message":"late"}}', True),
    ],
)
def test_what_stands_behind_the_last_blank_line_passes_if_it_is_whole(name, rest, passes):
    lane = RelayStream(BY_NAME[name])
    assert pump(lane, [TEXT[name], rest]) == TEXT[name] + (rest if passes else b"")
    assert lane.error is None


def test_an_error_event_is_numbered_behind_the_last_one():
    lane = RelayStream(BY_NAME["responses"])
    for event in pieces(TEXT["responses"], None)[:3]:
        lane.feed(event)
    (told,) = sse.decode(lane.encode_error(StreamError("It broke.")))
    last = orjson.loads(sse.decode(pieces(TEXT["responses"], None)[2])[0].data)
    assert orjson.loads(told.data)["sequence_number"] == last["sequence_number"] + 1


@each_format
def test_a_failure_is_told_before_what_the_rest_says(name):
    lane = RelayStream(BY_NAME[name])
    assert pump(lane, [b'{"error":{"message":"Overloaded"}}'], StreamError("It broke.")) == b""
    assert lane.error.message == "It broke."


def test_usage_with_three_events_behind_it():
    usage = b'{"choices":[],"usage":{"prompt_tokens":1}}'
    lane = RelayStream(BY_NAME["chat"])
    for data in (b"{}", usage, b"{}", b'{"choices":[]}', b"[DONE]"):
        lane.feed(b"data: %b\n\n" % data)
    assert lane.usage() == Usage(1)


def test_a_count_that_is_null_later_stays():
    lane = RelayStream(BY_NAME["chat"])
    for usage in (b'{"prompt_tokens":3}', b'{"prompt_tokens":null,"completion_tokens":2}'):
        lane.feed(b'data: {"choices":[],"usage":%b}\n\n' % usage)
    assert lane.usage() == Usage(3, 2)


# -- how it begins --------------------------------------------------------------------------------------------------


@each_format
def test_a_stream_has_begun_with_more_than_its_head(name):
    beginning = Beginning(BY_NAME[name], Target("m"))
    assert not beginning.feed(b": hello\n\n")
    assert not beginning.feed(pieces(TEXT[name], None)[0])
    assert beginning.feed(TEXT[name])


@pytest.mark.parametrize(("name", "error"), TOLD)
def test_an_error_in_place_of_a_beginning(name, error):
    with pytest.raises(UpstreamError, match="Overloaded"):
        Beginning(BY_NAME[name], Target("m")).feed(error)


# -- whole answers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "streamed", "relayed", "translated"),
    [
        (200, True, RelayStream, TranslateLane),
        (200, False, RelayBody, TranslateLane),
        (201, True, RelayBody, ErrorLane),
        (302, False, RelayBody, ErrorLane),
        (429, True, RelayBody, ErrorLane),
    ],
)
def test_the_lane_for_an_answer(status, streamed, relayed, translated):
    relay = Prepared(model_of("chat"), "", CIMultiDict(), {})
    for prepared, lane in ((relay, relayed), (prepared_for("chat", "anthropic"), translated)):
        assert type(choose_lane(BY_NAME["chat"], prepared, status, streamed, lambda: 0.0, lambda: "")) is lane


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        (201, 502, "The upstream's answer has the status 201."),
        (399, 502, "The upstream's answer has the status 399."),
        (400, 400, "Overloaded"),
        (429, 429, "Overloaded"),
    ],
)
def test_the_error_of_a_relayed_answer(status, code, message):
    content = b'{"error":{"message":"Overloaded"}}'
    relay = Prepared(model_of("chat"), "", CIMultiDict(), {})
    lane = choose_lane(BY_NAME["chat"], relay, status, False, lambda: 0.0, lambda: "")
    assert pump(lane, [content]) == content
    assert (lane.relayed_error().status, lane.relayed_error().message) == (code, message)


@pytest.mark.parametrize("status", [200, 400])
def test_half_a_whole_answer_does_not_pass(status):
    failure = StreamError("It broke.")
    for lane in (RelayBody(BY_NAME["chat"], status), ErrorLane(BY_NAME["chat"], status)):
        assert pump(lane, [b'{"error":{"message":"Over'], failure) == b""
        assert lane.error is failure


@pytest.mark.parametrize(("status", "code"), [(302, 502), (399, 502), (400, 400), (500, 500)])
def test_the_status_of_an_error_answer(status, code):
    lane = ErrorLane(BY_NAME["chat"], status)
    assert pump(lane, [b'{"error":{"message":"Overloaded"}}']) == b""
    assert (lane.error.status, lane.error.message) == (code, "Overloaded")


def test_an_error_answer_is_read_as_its_upstream_writes_it():
    details = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "7s"}]
    lane = choose_lane(BY_NAME["chat"], prepared_for("chat", "gemini"), 429, False, lambda: 0.0, lambda: "")
    pump(lane, [orjson.dumps({"error": {"message": "Slow down", "details": details}})])
    assert lane.error.headers["retry-after"] == "7"


@pytest.mark.parametrize("streamed", [True, False])
def test_an_id_that_the_conversation_has_is_not_given_again(streamed):
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    prepared = prepared_for("anthropic", "chat")
    prepared.request.messages.append(Message("assistant", [ToolCall("a", "f", "{}")]))
    reader = AnswerReader(prepared, streamed, waits=False)
    choice = {"index": 0, "finish_reason": "tool_calls", ("delta" if streamed else "message"): {"tool_calls": [call]}}
    content = orjson.dumps({"choices": [choice]})
    events = reader.feed(b"data: %b\n\n" % content if streamed else content) + reader.close(None)
    (start,) = [event for event in events if type(event) is BlockStart]
    assert start.id not in ("", "a")


@pytest.mark.parametrize(
    ("size", "shown"), [(256 * 1024, "Overloaded"), (256 * 1024 + 1, '{"error":{"message":"Overl')]
)
def test_the_words_of_a_long_error_are_not_searched_for(size, shown):
    lane = ErrorLane(BY_NAME["chat"], 500)
    pump(lane, [b'{"error":{"message":"Overloaded"}}'.ljust(size)])
    assert lane.error.message[:26].strip() == shown


def test_the_beginning_of_a_long_error_is_shown():
    lane = ErrorLane(BY_NAME["chat"], 500)
    pump(lane, ["é".encode() * 5000])
    assert set(lane.error.message) <= {"é", "…", "."}


@each_format
def test_json_nested_too_deeply_is_half_an_event(name):
    lane = RelayStream(BY_NAME[name])
    assert pump(lane, [b"data: " + b"[" * 100_000]) == b""
    assert type(lane.error) is StreamError


def is_end(name, event):
    return any(BY_NAME[name].ending(each).done for each in sse.decode(event))


# -- the translate lane ---------------------------------------------------------------------------------------------

PAIRS = [(client, upstream) for client in NAMES for upstream in NAMES if client != upstream]
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
    assert not is_end(client, pieces(written, None)[-1])
    assert lane.error.message == "It broke."
    told = lane.encode_error(lane.error)
    assert told.count(b"It broke.") == 1
    assert is_end(client, told)


@each_pair
@pytest.mark.parametrize("streamed", [True, False], ids=["label stream", "label json"])
@pytest.mark.parametrize("stream", [True, False], ids=["client streams", "client waits"])
@pytest.mark.parametrize("kind", ["text.sse", "text.response.json"])
def test_any_answer_for_any_client(client, upstream, streamed, stream, kind):
    """Whatever the upstream sends, and whatever it calls that, the client gets what it asked for."""
    content = (OWN / upstream / kind).read_bytes()
    lane = translating(client, upstream, stream=stream, streamed=streamed)
    written = pump(lane, pieces(content, 100))
    assert lane.error is None
    assert lane.usage().output > 0
    if stream:
        assert type(last_event(client, written)) is Finish
    else:
        assert "👋" in written.decode() or "Oslo" in written.decode()
        assert BY_NAME[client].decode_response(orjson.loads(written), Target("m"))[-1].usage == lane.usage()


@pytest.mark.parametrize(
    ("first", "labelled", "stream"),
    [
        (b"data: {}", False, True),
        (b"\n\nevent: x\ndata: 1", False, True),
        (b": comment", False, True),
        (b"ev", False, True),
        (b"eventually", False, False),
        (b"id: 1\n", False, True),
        (b"retry: 5\n", False, True),
        (b'{"a":1}', True, False),
        (b' \n[{"error":1}]', True, False),
        (b'{"a":1}', False, False),
        (b"<html>", False, False),
        (b"<html>", True, True),
        (b"\xef\xbb\xbfdata: {}", False, True),
        (b"\xef\xbb\xbf{", True, False),
        (b"", False, False),
        (b"", True, True),
    ],
)
def test_an_answer_is_told_by_its_first_bytes(first, labelled, stream):
    assert begins_stream(first, labelled) is stream


@each_pair
@pytest.mark.parametrize("content", [b"[1]", b"", b"{", b"[", b" {"])
def test_a_whole_answer_that_is_none(client, upstream, content):
    lane = translating(client, upstream, stream=False, streamed=False)
    assert pump(lane, [content]) == b""
    assert lane.error.message == "The upstream's answer is not a JSON object."


@each_pair
@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("content", [b"<html>Bad gateway</html>", b"\nupstream connect error\n", b"error: overloaded"])
def test_a_text_in_place_of_an_answer_is_told(client, upstream, content, stream, streamed):
    lane = translating(client, upstream, stream=stream, streamed=streamed)
    assert pump(lane, [content]) == b""
    assert lane.error.message == f"The upstream sent no answer but: {content.strip().decode()}"


@each_format
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<html>Bad gateway</html>\n", "The upstream sent no answer but: <html>Bad gateway</html>"),
        (b"data: 1\n\n<html>", "The upstream closed the stream before its end."),
        (b" \n", "The upstream closed the stream before its end."),
        (b'event: x\ndata: {"a', "The upstream closed the stream before its end."),
        (b"", "The upstream closed the stream before its end."),
    ],
)
def test_a_text_in_place_of_a_relayed_stream_is_told(name, content, message):
    lane = RelayStream(BY_NAME[name])
    assert pump(lane, [content]) == (b"data: 1\n\n" if content.startswith(b"data") else b"")
    assert lane.error.message == message


@each_pair
@pytest.mark.parametrize("before", [b"", b"odd\n\n"])
@pytest.mark.parametrize("begun", [True, False])
def test_only_a_text_alone_is_told_in_place_of_an_answer(client, upstream, before, begun):
    lane = translating(client, upstream)
    pump(lane, [before, *(pieces(TEXT[upstream], None)[:3] if begun else [b": hello\n\n"])])
    alone = before and not begun
    told = "The upstream sent no answer but: odd" if alone else "The upstream closed the stream before its end."
    assert lane.error.message == told


@pytest.mark.parametrize("streamed", [True, False])
def test_who_does_not_say_whether_to_stream_gets_what_the_upstream_sends(streamed):
    assert translating("chat", "anthropic", stream=None, streamed=streamed).streams is streamed


BOM = b"\xef\xbb\xbf"


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("upstream", NAMES)
def test_a_byte_order_mark_is_no_part_of_an_answer(upstream, streamed):
    """Before a stream, whatever its label, and before a whole answer."""
    lane = translating(other(upstream), upstream, streamed=streamed)
    assert b"data:" in pump(lane, [BOM + TEXT[upstream]])
    assert lane.error is None
    whole = orjson.loads((OWN / upstream / "text.response.json").read_bytes())
    lane = translating(other(upstream), upstream, stream=False, streamed=streamed)
    assert orjson.loads(pump(lane, [BOM + orjson.dumps(whole)]))
    assert lane.error is None


def test_an_answer_that_is_read_whole_has_a_limit():
    for lane in (RelayBody(BY_NAME["chat"], 200), translating("chat", "anthropic", streamed=False)):
        lane.feed(b"{" + b" " * (BODY_LIMIT - 1))
        with pytest.raises(UpstreamError, match=f"more than {BODY_LIMIT} bytes"):
            lane.feed(b" ")


MANY = b'{"x":[%b1]}' % (b"{}," * 8_000_000)
"""Less than half of what an answer may have, and gigabytes in memory."""


@each_format
def test_json_of_countless_values_is_not_read(name):
    """It would hold up all others for seconds: a whole answer, an event, an error, relayed or not."""
    for status in (200, 400):
        relay = RelayBody(BY_NAME[name], status)
        assert_quick(lambda: pump(relay, [MANY]), 1)  # noqa: B023 - used at once
        assert relay.relayed_error() is not None
    stream = RelayStream(BY_NAME[name])
    assert_quick(lambda: pump(stream, [b"data: %b\n\n" % MANY]), 1)
    for streamed in (False, True):
        lane = translating(other(name), name, streamed=streamed)
        assert_quick(lambda: pump(lane, [b"data: %b\n\n" % MANY if streamed else MANY]), 1)  # noqa: B023
        assert lane.error.message == "The upstream sent JSON with more than 500000 brackets and commas."


@each_format
@pytest.mark.parametrize("stream", [True, False])
def test_a_stream_that_never_ends_has_a_limit(name, stream, monkeypatch):
    """For who gets a stream and for who waits: one clear error, and nothing is read behind it."""
    monkeypatch.setattr(decoder, "ANSWER_LIMIT", 20_000)
    lane = translating(other(name), name, stream=stream)
    begin, endless = TEXT[name].split(b"\n\n")[:3], TEXT[name].split(b"\n\n")[3]
    out = lane.feed(b"\n\n".join(begin) + b"\n\n")
    for _ in range(2 * 20_000 // len(endless)):
        out += lane.feed(endless + b"\n\n")
    assert lane.over
    assert lane.error.message == "The upstream sent more than 20000 bytes in one answer."
    assert bool(out) is stream
    assert len(lane._events) < 500


@pytest.mark.parametrize(
    ("status", "content", "code", "message"),
    [
        (429, b'{"error":{"message":"Slow down","code":"rate_limit_exceeded"}}', 429, "Slow down"),
        (500, b"<html>oops</html>", 500, "<html>oops</html>"),
        (302, b"", 502, "The upstream answered with an error."),
    ],
)
def test_an_error_answer_becomes_the_error_of_the_call(status, content, code, message):
    lane = choose_lane(BY_NAME["chat"], prepared_for("chat", "anthropic"), status, False, lambda: 0.0, lambda: "")
    assert pump(lane, [content]) == b""
    assert (lane.error.status, lane.error.message) == (code, message)


def test_a_relayed_error_is_known_and_passes():
    content = b'{"error":{"message":"Slow down"}}'
    relayed = Prepared(model_of("chat"), "", CIMultiDict(), {})
    lane = choose_lane(BY_NAME["chat"], relayed, 429, False, lambda: 0.0, lambda: "")
    assert pump(lane, [content]) == content
    assert lane.relayed_error().message == "Slow down"
    assert lane.error is None


@each_pair
def test_half_a_character_does_not_fail_a_whole_answer(client, upstream):
    content = (OWN / upstream / "text.response.json").read_bytes().replace(b"In Oslo", b"In \\ud83dOslo")
    lane = translating(client, upstream, stream=False, streamed=False)
    assert "In \ufffdOslo" in pump(lane, [content]).decode()
    assert lane.error is None
