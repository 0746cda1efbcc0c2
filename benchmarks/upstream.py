"""The upstream: answers POST /SCENARIO/PATH with bytes made beforehand. `python -m benchmarks.upstream [PORT]`.

It reads no body and builds no answer: of a paced stream only the moment of sending is put into each delta.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
from dataclasses import dataclass, field
from typing import cast

from benchmarks.servers import new_loop
from benchmarks.wire import SCENARIOS, Scenario, answer_events, answer_json, split_stamp
from droid2api.demo import answer_path
from droid2api.formats import BY_NAME, Format, gemini

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


@dataclass
class Answer:
    """`chunks` go out at once, a write for each; then each of `paced` after another `pace` seconds; then `rest`."""

    pace: float
    chunks: list[bytes] = field(default_factory=list)
    paced: list[tuple[bytes, bytes]] = field(default_factory=list)
    rest: bytes = b""


def prepare(scenario: Scenario, format: Format) -> Answer:
    if not scenario.stream:
        body = answer_json(scenario, format)
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        return Answer(0, [head.encode() + body])
    answer = Answer(scenario.pace, [_STREAM_HEAD])
    for event in answer_events(scenario, format):
        chunk = b"%x\r\n%b\r\n" % (len(event), event)
        is_delta = b"delta" in event or format is gemini
        parts = split_stamp(chunk) if scenario.pace and is_delta and not answer.rest else None
        if parts and len(answer.paced) < scenario.deltas:
            answer.paced.append(parts)
        elif answer.paced:
            answer.rest += chunk
        else:
            answer.chunks.append(chunk)
    if answer.paced:
        answer.rest += b"0\r\n\r\n"
    else:
        answer.chunks.append(b"0\r\n\r\n")
        answer.chunks = _together(answer.chunks, scenario.together)
    return answer


def _together(chunks: list[bytes], size: int) -> list[bytes]:
    return [b"".join(chunks[start : start + size]) for start in range(0, len(chunks), size)]


ANSWERS = {
    f"/{scenario.name}{answer_path(format)}".encode(): prepare(scenario, format)
    for scenario in SCENARIOS.values()
    for format in BY_NAME.values()
}

NOT_FOUND = Answer(0, [b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"])


class Upstream(asyncio.Protocol):
    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._head = b""
        self._missing = 0
        self._answer = Answer(0)
        self._next = 0
        self._due = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # TCP has no other

    def connection_lost(self, error: Exception | None) -> None:
        if self._timer:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        if not self._missing:
            self._head += data
            head, end, body = self._head.partition(b"\r\n\r\n")
            if not end:
                return
            length = _LENGTH.search(head)
            self._answer = ANSWERS.get(head.split(b" ", 2)[1], NOT_FOUND)  # peers look for more than was asked
            self._head, self._missing, data = b"", int(length.group(1)) if length else 0, body
        self._missing -= len(data)
        if not self._missing:
            self._begin()

    def _begin(self) -> None:
        for chunk in self._answer.chunks:
            self._transport.write(chunk)
        if self._answer.paced:
            self._next, self._due = 0, self._loop.time()
            self._send_next()

    def _send_next(self) -> None:
        answer = self._answer
        if self._next == len(answer.paced):
            self._transport.write(answer.rest)
            return
        before, after = answer.paced[self._next]
        self._transport.write(b"%b%017.6f%b" % (before, time.monotonic(), after))
        self._next += 1
        self._due += answer.pace
        self._timer = self._loop.call_at(self._due, self._send_next)


async def serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", port, backlog=2048)
    print(f"upstream listens on http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(serve(int(sys.argv[1]) if len(sys.argv) > 1 else 0))
