"""Mistakes of this program while an answer passes: a traceback in the log, and a clean end for the client."""

import logging

import orjson
import pytest

from droid2api.gateway.pump import OWN_FAULT
from droid2api.server.keys import OBSERVERS
from droid2api.wire import sse
from tests.formats.recordings import OWN
from tests.harness import BODIES, BY_TYPE, FORMAT_OF, PATHS, RING, Scripted, scripted_gateway

MISTAKE = "planted: 'NoneType' object has no attribute 'get'"


class Watch:
    """An observer that keeps how exchanges ended."""

    def __init__(self):
        self.ended_with = []

    def began(self, exchange):
        pass

    def ended(self, exchange):
        self.ended_with.append((exchange.end, exchange.error, exchange.status))


def plant(monkeypatch, type, after):
    """A mistake in the decoder of the type: it is made after so many events."""
    decoder = FORMAT_OF[type].StreamDecoder
    read, count = decoder.read_value, 0

    def broken(self, value):
        nonlocal count
        count += 1
        if count > after:
            raise AttributeError(MISTAKE)
        read(self, value)

    monkeypatch.setattr(decoder, "read_value", broken)


def said(text):
    """The text that a mistake is found by in the log, but no client may see."""
    return MISTAKE in text


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("after", [0, 5])
@pytest.mark.parametrize(("client", "upstream"), RING)
async def test_a_mistake_in_a_decoder_is_ours(tmp_path, monkeypatch, caplog, client, upstream, after, stream):
    name = FORMAT_OF[upstream].NAME
    events = (OWN / name / "text.sse").read_bytes().replace(b"\r\n", b"\n").split(b"\n\n")
    plant(monkeypatch, upstream, min(after, len(events) - 2))
    script = Scripted(chunks=[event + b"\n\n" for event in events if event], pause=0.01)
    watch = Watch()
    async with scripted_gateway(tmp_path, script) as gateway:
        observers = gateway.app[OBSERVERS]
        observers.append(watch)
        body = BODIES[PATHS[client]] | {"model": BY_TYPE[upstream], "stream": stream}
        status, _, content = await gateway.ask(PATHS[client], body)
    begun = stream and after
    assert status == (200 if begun else 500)
    assert OWN_FAULT in content.decode()
    assert not said(content.decode())
    if begun:
        error = sse.decode(content)[-1]
        assert OWN_FAULT in error.data.decode()
        assert not [event for event in sse.decode(content) if is_regular_end(client, event)]
    else:
        assert "error" in orjson.loads(content)
    assert watch.ended_with == [("gateway error", OWN_FAULT, status)]
    assert [record for record in caplog.records if record.levelno == logging.ERROR and record.exc_info]
    assert said(caplog.text)


def is_regular_end(client, event):
    ending = FORMAT_OF[client].ending(event)
    return ending.done and not ending.error


@pytest.mark.parametrize("type", PATHS)
async def test_what_cannot_be_read_is_the_upstreams_fault(tmp_path, caplog, type):
    """The same place, but the wire is to blame: no traceback."""
    client = "anthropic" if type == "common" else "common"
    script = Scripted(chunks=[b'data: {"type":5,"choices":5}\n\n', b"data: nonsense\n\n"])
    watch = Watch()
    async with scripted_gateway(tmp_path, script) as gateway:
        observers = gateway.app[OBSERVERS]
        observers.append(watch)
        body = BODIES[PATHS[client]] | {"model": BY_TYPE[type], "stream": True}
        status, _, _ = await gateway.ask(PATHS[client], body)
    assert status == 502
    assert watch.ended_with[0][0] == "upstream error"
    assert not [record for record in caplog.records if record.exc_info]
