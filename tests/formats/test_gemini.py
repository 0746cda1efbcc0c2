"""What only Gemini's room has to know, each rule as a table: what its upstreams answer, what its clients ask."""

import orjson
import pytest

from droid2api.formats import BY_NAME
from droid2api.hub.events import BlockEnd, BlockStart, Citation, Delta, Failed, Finish, Usage
from droid2api.wire.sse import ServerSentEvent

from .wire import TARGET, read_stream

GEMINI = BY_NAME["gemini"]

# -- answers --------------------------------------------------------------------------------------------------------

SIGNED = {"thoughtSignature": "c2ln"}
CALL, OTHER = ({"functionCall": {"name": "f", "args": {}, "id": id}} for id in "ab")
THOUGHT = {"text": "hm", "thought": True}
PICTURE = {"inlineData": {"mimeType": "image/png", "data": "AA=="}}


def said(*parts, **candidate):
    return {"candidates": [{"content": {"role": "model", "parts": list(parts)}, **candidate}]}


def grounded(*places, **page):
    chunks = [{"web": {"uri": f"https://{number}.example"}} | page for number in range(len(places))]
    supports = [
        {"segment": {"startIndex": start, "endIndex": end}, "groundingChunkIndices": [number]}
        for number, (start, end) in enumerate(places)
    ]
    return {"groundingMetadata": {"groundingChunks": chunks, "groundingSupports": supports}}


def read(*values):
    """The events of a stream; a whole answer says the same."""
    events = read_stream("gemini", [b"data: %b\r\n\r\n" % orjson.dumps(value) for value in values])
    assert list(map(repr, GEMINI.decode_response(list(values), TARGET))) == list(map(repr, events))
    return events


def cited(events):
    assert type(events[-1]) is Finish, events[-1]
    return [event.citations for event in events if type(event) is BlockEnd]


PLACED, UNPLACED = Citation("https://0.example", "", 1, 3), Citation("https://0.example")


@pytest.mark.parametrize(
    ("values", "citations"),
    [
        pytest.param([said({"text": "aé€"})], [[PLACED]], id="the text is open"),
        pytest.param([said({"text": "aé€"}), said(CALL)], [[PLACED], []], id="a call follows"),
        pytest.param([said({"text": "aé€"}, CALL, OTHER)], [[PLACED], [], []], id="calls follow at once"),
        pytest.param([said({"text": "aé€"}), said(CALL), said({"text": ""} | SIGNED)], [[PLACED], [], []], id="signed"),
        pytest.param([said({"text": "aé€"}), said({"toolCall": {}} | SIGNED)], [[PLACED], []], id="a tool of its own"),
        pytest.param([said({"text": "aé€"}), said(CALL), said({"text": "b"})], [[], [], [UNPLACED]], id="more text"),
        pytest.param([said({"text": "aé"} | SIGNED), said({"text": "€"} | SIGNED)], [[], [UNPLACED]], id="half of it"),
        pytest.param([said({"text": "aé€"}), said(THOUGHT)], [[], []], id="thoughts follow: nowhere to put it"),
    ],
)
def test_citations_come_with_the_finish_reason(values, citations):
    assert cited(read(*values, {"candidates": [{"finishReason": "STOP"} | grounded((1, 6))]})) == citations


@pytest.mark.parametrize("page", [{"web": {"uri": "u"}}, {"retrievedContext": {"uri": "u"}}, {"maps": {"uri": "u"}}])
def test_pages_of_each_search(page):
    events = read(said({"text": "ab"}, finishReason="STOP", groundingMetadata={"groundingChunks": [page]}))
    assert cited(events) == [[Citation("u")]]


@pytest.mark.parametrize(
    "values",
    [
        [said({"text": "a"}), said(CALL), said(finishReason="MALFORMED_FUNCTION_CALL")],
        [said({"text": "a"}), said(CALL, finishReason="UNEXPECTED_TOOL_CALL")],
        [said({"text": "a"}), said(CALL), {"error": {"code": 503, "message": "Overloaded"}}],
    ],
)
def test_a_call_behind_a_text_is_not_told_before_the_end(values):
    """Nobody is to run one of an answer that fails."""
    events = read(*values)
    assert type(events[-1]) is Failed
    assert [event.kind for event in events if type(event) is BlockStart] == ["text"]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([said(PICTURE, finishReason="STOP")], "a picture or a file in its answer, which cannot be passed on"),
        ([said(PICTURE | SIGNED, finishReason="STOP")], "a picture or a file in its answer, which cannot be passed on"),
        ([said({"text": "a"}), said(PICTURE | SIGNED)], "a picture or a file in its answer, which cannot be passed on"),
        ([{"candidates": [{"content": "Hello", "finishReason": "STOP"}]}], "an event whose content is no object"),
        ([{"candidates": [{"content": [{"text": "a"}]}]}], "an event whose content is no object"),
    ],
)
def test_what_cannot_be_passed_on_is_no_empty_success(values, words):
    assert read(*values)[-1].error.message == f"The upstream sent {words}."


@pytest.mark.parametrize("part", [PICTURE | {"thought": True}, PICTURE | SIGNED | {"thought": True}])
def test_a_picture_among_the_thoughts_is_no_part_of_the_answer(part):
    events = read(said(part), said({"text": "ok"}, finishReason="STOP"))
    assert type(events[-1]) is Finish
    assert [event.text for event in events if type(event) is Delta] == ["ok"]


@pytest.mark.parametrize("candidates", [None, [], [{}], [{"content": {}}], [{"finishReason": "SAFETY"}]])
@pytest.mark.parametrize("words", ["", "It is about locks."])
def test_a_blocked_prompt_says_why_whatever_stands_beside_it(candidates, words):
    feedback = {"blockReason": "PROHIBITED_CONTENT"} | ({"blockReasonMessage": words} if words else {})
    value = {"promptFeedback": feedback, "usageMetadata": {"promptTokenCount": 5}, "candidates": candidates}
    _, start, delta, _, finish = read(value)
    assert (start.kind, delta.text) == ("refusal", words or "The prompt was blocked (PROHIBITED_CONTENT).")
    assert finish == Finish("content_filter", "PROHIBITED_CONTENT", Usage(5))


def test_counts_are_there_before_the_end():
    """Of a stream that is cut or left, the last counts of all that were told."""
    reader = GEMINI.StreamDecoder(TARGET)
    told = [{"promptTokenCount": 9, "candidatesTokenCount": 1}, {"candidatesTokenCount": 4, "thoughtsTokenCount": 2}]
    seen = []
    for usage in told:
        reader.feed([ServerSentEvent(b"", orjson.dumps(said({"text": "a"}) | {"usageMetadata": usage}))])
        seen.append(reader.usage)
    assert seen == [Usage(9, 1), Usage(9, 6, reasoning=2)]
