"""What only Gemini's room has to know, each rule as a table: what its upstreams answer, what its clients ask."""

import orjson
import pytest

from droid2api.errors import RequestError
from droid2api.formats import BY_NAME
from droid2api.hub.encoded import Encoded
from droid2api.hub.events import BlockEnd, BlockStart, Citation, Delta, Failed, Finish, Usage
from droid2api.hub.history import normalize
from droid2api.hub.profiles import profile_of
from droid2api.hub.request import Target
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


# -- requests -------------------------------------------------------------------------------------------------------

HELLO = {"role": "user", "parts": [{"text": "Hello"}]}


def decoded(**fields):
    return GEMINI.decode_request({"model": "m", "contents": [HELLO]} | fields)


def called(*names):
    return {"role": "model", "parts": [{"functionCall": {"name": name[0], "args": {}} | ided(name)} for name in names]}


def answered(*names):
    answers = [{"name": name[0], "response": {"output": str(place)}} for place, name in enumerate(names)]
    return {
        "role": "user",
        "parts": [{"functionResponse": each | ided(n)} for each, n in zip(answers, names, strict=True)],
    }


def ided(name):
    """A call of `f` is "f", one with an id "f:id"."""
    return {"id": name[2:]} if name[1:] else {}


def encoded(request, model="gemini-3-pro", format="gemini"):
    return BY_NAME[format].encode_request(normalize(request), Target(model, profile=profile_of("", model, format)))


@pytest.mark.parametrize(
    ("calls", "answers", "outputs"),
    [
        (["f", "g", "f"], ["f", "g", "f"], ["0", "1", "2"]),
        (["f", "g", "f"], ["g", "f", "f"], ["1", "0", "2"]),
        (["f:x", "g:y"], ["g:y", "f:x"], ["1", "0"]),
        (["f:x", "f"], ["f:x", "f"], ["0", "1"]),
        (["f", "f:x", "f"], ["f:x", "f", "f"], ["1", "0", "2"]),
        (["f:x", "f:x"], ["f:x", "f:x"], ["0", "1"]),
        (["f", "g"], ["g:z", "f:z"], ["1", "0"]),
    ],
)
@pytest.mark.parametrize("model", ["gemini-2.5-flash", "gemini-3-pro"])
def test_each_answer_goes_to_its_call_and_in_its_order(calls, answers, outputs, model):
    made = encoded(decoded(contents=[HELLO, called(*calls), answered(*answers)]), model)
    _, model_turn, user_turn = made.body["contents"]
    responses = [part["functionResponse"] for part in user_turn["parts"]]
    assert [each["response"]["output"] for each in responses] == outputs
    told = [(part["functionCall"]["id"], part["functionCall"]["name"]) for part in model_turn["parts"]]
    assert [(each["id"], each["name"]) for each in responses] == told
    assert ("messages.result_order" in made.repaired) == (outputs != sorted(outputs))


NULLS = dict.fromkeys("text inlineData fileData functionCall functionResponse thought thoughtSignature".split())


@pytest.mark.parametrize(
    "part",
    [
        {"text": "Hello"},
        {"inlineData": {"mimeType": "application/pdf", "data": "JVBERi0"}},
        {"fileData": {"fileUri": "https://example.org/a.csv", "mimeType": "text/csv"}},
    ],
)
def test_null_is_what_is_not_there(part):
    bare = decoded(contents=[{"parts": [part]}])
    nulls = dict.fromkeys("tools toolConfig systemInstruction generationConfig safetySettings cachedContent".split())
    full = decoded(contents=[{"role": None, "parts": [NULLS | part]}], **nulls)
    assert (full.messages, full.dropped) == (bare.messages, [])


@pytest.mark.parametrize(
    "part",
    [
        {},
        NULLS,
        {"thought": True},
        {"text": "a", "inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgo"}},
        {"text": "a", "functionCall": {"name": "f"}},
        {"functionCall": {"name": "f"}, "executableCode": {"code": "1"}},
    ],
)
def test_a_part_is_one_thing(part):
    with pytest.raises(RequestError, match=r"^contents\[0\]\.parts\[0\]: must have one of text, "):
        decoded(contents=[{"parts": [part]}])


@pytest.mark.parametrize(
    ("fields", "dropped"),
    [
        ({"generationConfig": {"responseMimeType": "text/plain"}}, []),
        (
            {"generationConfig": {"responseMimeType": "text/x.enum", "responseSchema": {"type": "STRING"}}},
            ["generationConfig.responseMimeType", "generationConfig.responseSchema"],
        ),
        ({"generationConfig": {"responseSchema": {"type": "STRING"}}}, ["generationConfig.responseSchema"]),
        ({"generationConfig": {"response_json_schema": {}}}, []),
        ({"toolConfig": {"functionCallingConfig": {"mode": "MODE_UNSPECIFIED"}}}, []),
        ({"tool_config": {"function_calling_config": {"mode": "SOMETIMES"}}}, ["toolConfig.mode"]),
    ],
)
def test_what_nobody_reads_is_named(fields, dropped):
    assert decoded(**fields).dropped == dropped


def test_names_that_are_the_clients_own_stay():
    mine = {"my_name": {"its_name": 1}}
    body = {
        "contents": [{"parts": [{"text": "a", "part_metadata": mine}]}],
        "tools": [{"mcp_servers": [{"headers": mine}]}],
    }
    GEMINI.apply_model_settings(Encoded(body), {}, Target("gemini-3-pro"), "")
    assert body["contents"] == [{"parts": [{"text": "a", "partMetadata": mine}]}]
    assert body["tools"] == [{"mcpServers": [{"headers": mine}]}]


@pytest.mark.parametrize(
    ("model", "effort", "thinking"),
    [
        ("gemma-4-31b-it", "low", {"thinkingLevel": "MINIMAL"}),
        ("gemma-4-31b-it", "medium", {"thinkingLevel": "HIGH"}),
        ("gemini-3.8-flash", "minimal", {"thinkingLevel": "LOW"}),
        ("gemini-3.5-flash", "minimal", {"thinkingLevel": "MINIMAL"}),
        ("gemini-4-neon", "xhigh", {"thinkingLevel": "HIGH"}),
    ],
)
def test_levels_that_a_model_takes(model, effort, thinking):
    config = encoded(decoded(generationConfig={"thinkingConfig": {"thinkingLevel": effort}}), model).body[
        "generationConfig"
    ]
    assert config["thinkingConfig"].items() >= thinking.items()


def test_a_file_by_url_keeps_its_type():
    file = {"fileData": {"fileUri": "https://example.org/a.csv", "mimeType": "text/csv"}}
    request = decoded(contents=[{"parts": [file, {"text": "Read it."}]}])
    assert encoded(request).body["contents"][0]["parts"][0] == file
    with pytest.raises(RequestError, match="text/csv content cannot be sent"):
        encoded(request, "claude-opus-5", "anthropic")


@pytest.mark.parametrize(
    ("limit", "most", "sent"),
    [
        (100, None, (24676, 24576)),
        (30000, None, (30000, 24576)),
        (4096, 8192, (8192, 7168)),
        (900, 20000, (20000, 18976)),
    ],
)
def test_the_budget_leaves_room_for_the_answer(limit, most, sent):
    """Google counts thoughts within the limit."""
    config = {"maxOutputTokens": limit, "thinkingConfig": {"thinkingBudget": 24576}}
    target = Target("gemini-2.5-flash", max_tokens=most, profile=profile_of("", "gemini-2.5-flash", "gemini"))
    made = GEMINI.encode_request(normalize(decoded(generationConfig=config)), target)
    told = made.body["generationConfig"]
    assert (told["maxOutputTokens"], told["thinkingConfig"]["thinkingBudget"]) == sent
    assert ("max_tokens" in made.repaired) == (limit != sent[0])
