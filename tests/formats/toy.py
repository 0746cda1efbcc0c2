"""A format that nobody speaks, in one module: what a room must give is shown here, and test_toy.py serves it.

    request   POST /toy/talk/{model}?flow=1   {"say": [["me", "Hello"], ["you", "Hi"], ["me", "How are you?"]]}
    answer    {"name": ..., "words": ["I ", "am fine."], "end": "said", "cost": [3, 2]}
    stream    one `data:` event for each word, {"word": "I "}, then {"end": "said", "cost": [3, 2]}
    error     {"oops": "...", "number": 400}

The model is in the path, whether the answer streams in the query, the key in a header of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, MutableMapping

import orjson

from droid2api.errors import GatewayError, RequestError, UpstreamError, WireError
from droid2api.formats.decoder import TurnDecoder
from droid2api.formats.endings import Ending
from droid2api.formats.routes import Action, Answer, ClientCall
from droid2api.hub.encoded import Encoded
from droid2api.hub.events import BlockStart, Delta, Event, Failed, Finish, Usage
from droid2api.hub.request import Message, Request, Target, Text, unsupported
from droid2api.hub.turn import fold
from droid2api.wire.fields import Json, optional, required
from droid2api.wire.sse import ServerSentEvent

NAME = "toy"
TYPE = "toy-service"
SHIPPED_URL = ""
PREFIXES = ("/toy", "/toys")
ROUTES = (Answer("/talk/{model}"),)
KEY_HEADERS = ("x-toy-key",)
KEY_QUERY = ""
KEY_HEADER = "x-toy-key"
KEEPALIVE = b'data: {"hm":true}\n\n'
ANSWER_HEADERS = ("x-toy-",)

_ROLES = {"me": "user", "you": "assistant", "rule": "system"}
_ENDS = {"said": "stop", "cut": "length"}


# -- a client's call


def speaks(path: str, headers: Mapping[str, str]) -> bool:
    return path.startswith("/toy")


def recognize(body: Json) -> str:
    return "only this format has 'say'" if "say" in body else ""


def read_model(call: ClientCall) -> str:
    return call.path["model"]


def wants_stream(call: ClientCall) -> bool | None:
    return "flow" in call.query


def wants_array(call: ClientCall) -> bool:
    return False


def decode_request(body: Json) -> Request:
    messages = []
    for index, said in enumerate(required(body, "say", list)):
        if type(said) is not list or len(said) != 2 or said[0] not in _ROLES or type(said[1]) is not str:
            raise RequestError(f"say[{index}]: must be [who, words].", param=f"say[{index}]")
        messages.append(Message(_ROLES[said[0]], [Text(said[1], where=f"say[{index}]")]))
    request = Request("", messages, max_tokens=optional(body, "most", int), body=body)
    for name in body.keys() - {"say", "most"}:
        request.drop(name)
    return request


# -- a client's answer


class StreamEncoder:
    def __init__(self, request: Request, clock: Callable[[], float], new_id: Callable[[], str]) -> None:
        self._said = False

    def encode(self, events: list[Event]) -> bytes:
        out = b""
        for event in events:
            match event:
                case BlockStart():
                    self._said = event.kind == "text"
                case Delta() if self._said:
                    out += _event({"word": event.text})
                case Finish():
                    out += _event(_end(event))
                case Failed():
                    out += encode_stream_error(event.error, b"")
        return out


def encode_response(
    events: list[Event], request: Request, clock: Callable[[], float], new_id: Callable[[], str]
) -> Json:
    turn = fold(events)
    return {"name": turn.start.model, "words": [block.text for block in turn.blocks]} | _end(turn.finish)


def encode_error(error: GatewayError) -> Json:
    return {"oops": error.message, "number": error.status}


def encode_stream_error(error: GatewayError, last: bytes) -> bytes:
    return _event(encode_error(error))


def _event(value: Json) -> bytes:
    return b"data: %b\n\n" % orjson.dumps(value)


def _end(finish: Finish) -> Json:
    return {"end": "cut" if finish.reason == "length" else "said", "cost": [finish.usage.input, finish.usage.output]}


# -- an upstream's request


def upstream_url(base_url: str, target: Target, action: Action, stream: bool, body: Json) -> str:
    return f"{base_url}/{target.id}{'?flow=1' if stream else ''}"


def upstream_headers(client: Mapping[str, str]) -> dict[str, str]:
    return {"x-toy-version": "1"}


def encode_request(request: Request, target: Target) -> Encoded:
    encoded = Encoded.begun(request)
    words = {role: word for word, role in _ROLES.items()} | {"developer": "rule"}
    say = []
    for message in request.messages:
        for part in message.parts:
            if not isinstance(part, Text):
                raise unsupported(part, TYPE)
            say.append([words[message.role], part.text])
    encoded.body = {"say": say} | ({"most": request.max_tokens} if request.max_tokens else {})
    for name in ("tools", "stop", "effort", "output", "options"):
        if getattr(request, name):
            encoded.drop(name)
    return encoded


def apply_model_settings(
    encoded: Encoded, headers: MutableMapping[str, str], target: Target, system_prompt: str
) -> None:
    if system_prompt:
        encoded.body["say"] = [["rule", system_prompt], *encoded.body["say"]]


# -- an upstream's answer


class StreamDecoder(TurnDecoder):
    """A word opens the only block; the end closes it."""

    @staticmethod
    def decode_usage(usage: Json) -> Usage:
        return decode_usage(usage)

    def read_value(self, value: Json) -> None:
        if "oops" in value:
            self.turn.fail(read_error(value, value.get("number")))
        elif "word" in value:
            if type(value["word"]) is not str:
                raise WireError("a word that is no text")
            self._write(value["word"])
        elif "end" in value:
            self.counts = {"cost": value.get("cost")}
            if value["end"] not in _ENDS:
                raise WireError(f"the end {value['end']!r}")
            self.turn.finish(Finish(_ENDS[value["end"]], value["end"], decode_usage(self.counts)))

    def _write(self, word: str) -> None:
        self.turn.start("", "")
        if self.turn.current is None:
            self.turn.open("words", BlockStart("text"))
        self.turn.delta("words", word)


def decode_response(body: Json, target: Target, used_ids: Collection[str] = ()) -> list[Event]:
    decoder = StreamDecoder(target, used_ids)
    return decoder.feed_values([*({"word": word} for word in body.get("words") or ()), body]) + decoder.close()


def decode_usage(usage: Json) -> Usage:
    cost = usage.get("cost")
    return Usage(*cost) if type(cost) is list else Usage()


def read_error(value: object, status: int) -> UpstreamError:
    return UpstreamError(str(value["oops"]) if isinstance(value, dict) else str(value), status=status)


def ending(event: ServerSentEvent) -> Ending:
    try:
        value = orjson.loads(event.data)
    except orjson.JSONDecodeError:
        return Ending()
    if "oops" in value:
        return Ending(True, error=read_error(value, value.get("number")))
    return Ending("end" in value, {"cost": value["cost"]} if "cost" in value else None)
