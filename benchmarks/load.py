"""The load: reads jobs as lines of JSON from stdin, answers each with a line. `python -m benchmarks.load`.

Of an answer it reads the status, where it ends, and the moments that its deltas hold; nothing is parsed besides.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
from statistics import quantiles
from typing import Any, cast

import orjson

from benchmarks.servers import new_loop
from benchmarks.wire import STAMP, http_request

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_LAST_CHUNK = b"\r\n0\r\n\r\n"


class Client(asyncio.Protocol):
    """One connection, one request at a time. `first` and `gap` are of the answer's stamped deltas, in seconds."""

    def __init__(self) -> None:
        self._head: bytes | None = b""
        self._missing: int | None = 0
        self._tail = b""
        self._done: asyncio.Future[None] | None = None
        self._sent = self._newest = 0.0
        self.first = asyncio.get_running_loop().create_future()
        self.delays: list[float] = []
        self.first_delay = self.gap = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # TCP has no other

    def connection_lost(self, error: Exception | None) -> None:
        if self._done and not self._done.done():
            self._done.set_exception(ConnectionError(f"connection lost in the middle of an answer ({error})"))

    def ask(self, request: bytes) -> asyncio.Future[None]:
        self._head, self._tail, self._newest = b"", b"", 0.0
        self._done = asyncio.get_running_loop().create_future()
        self._sent = time.monotonic()
        self.transport.write(request)
        return self._done

    def data_received(self, data: bytes) -> None:
        if self._head is not None:
            self._head += data
            head, end, data = self._head.partition(b"\r\n\r\n")
            if not end:
                return
            if not head.startswith(b"HTTP/1.1 200"):
                self._end(ConnectionError(f"{head!r} {data[:500]!r}"))
                return
            self._head = None
            length = _LENGTH.search(head)
            self._missing = int(length.group(1)) if length else None
        if self._missing is not None:
            self._missing -= len(data)
            if self._missing == 0:
                self._end()
            return
        if stamps := STAMP.findall(data):
            self._note(stamps)
        self._tail = (self._tail + data)[-7:]
        if self._tail == _LAST_CHUNK:
            self._end()

    def _note(self, stamps: list[bytes]) -> None:
        now = time.monotonic()
        if self._newest:
            self.gap = max(self.gap, now - self._newest)
        else:
            self.first_delay = now - self._sent
            if not self.first.done():
                self.first.set_result(None)
        self._newest = now
        self.delays += [now - float(stamp) for stamp in stamps]

    def _end(self, error: Exception | None = None) -> None:
        if self._done and not self._done.done():
            if error:
                self._done.set_exception(error)
            else:
                self._done.set_result(None)


async def connect(port: int) -> Client:
    _, client = await asyncio.get_running_loop().create_connection(Client, "127.0.0.1", port)
    return client


async def repeat(port: int, path: str, body: bytes, connections: int, seconds: float) -> dict[str, Any]:
    """Ask again and again on each connection, after one request each to warm up."""
    clients = [await connect(port) for _ in range(connections)]
    request = http_request(path, body)
    await asyncio.gather(*(client.ask(request) for client in clients))
    latencies: list[float] = []
    firsts: list[float] = []
    began = time.monotonic()

    async def run(client: Client) -> None:
        while (sent := time.monotonic()) < began + seconds:
            await client.ask(request)
            latencies.append(time.monotonic() - sent)
            firsts.append(client.first_delay)

    await asyncio.gather(*(run(client) for client in clients))
    elapsed = time.monotonic() - began
    for client in clients:
        client.transport.close()
    delays = [delay for client in clients for delay in client.delays]
    spreads = {"latency": spread(latencies), "first": spread(firsts), "delay": spread(delays)}
    return {"count": len(latencies), "seconds": elapsed, **spreads}


async def streams(
    port: int, path: str, body: bytes, connections: int, seconds: float, rounds: int = 1
) -> dict[str, Any]:
    """`rounds` streams on each connection, the first ones begun evenly over `seconds`."""
    clients = [await connect(port) for _ in range(connections)]
    request = http_request(path, body)
    loop = asyncio.get_running_loop()
    began = loop.time()

    async def run(number: int, client: Client) -> None:
        await asyncio.sleep(began + seconds * number / connections - loop.time())
        for _ in range(rounds):
            await client.ask(request)

    await asyncio.gather(*(run(number, client) for number, client in enumerate(clients)))
    for client in clients:
        client.transport.close()
    delays = [delay for client in clients for delay in client.delays]
    firsts = [client.first_delay for client in clients]
    gap = max(client.gap for client in clients)
    return {"count": len(delays), "delay": spread(delays), "first": spread(firsts), "gap": gap}


_held: list[Client] = []


async def hold(port: int, path: str, body: bytes, connections: int) -> dict[str, Any]:
    """Begin streams, and leave them open until `drop`."""
    request = http_request(path, body)
    for _ in range(connections):
        client = await connect(port)
        client.ask(request)
        _held.append(client)
    await asyncio.wait_for(asyncio.gather(*(client.first for client in _held)), 20)
    return {"count": len(_held)}


async def drop(**_: Any) -> dict[str, Any]:
    for client in _held:
        client._done = None
        client.transport.abort()
    _held.clear()
    await asyncio.sleep(0.2)
    return {}


def spread(seconds: list[float]) -> list[float]:
    """[p50, p99] in milliseconds."""
    if len(seconds) < 2:
        return [value * 1000 for value in seconds * 2]
    cuts = quantiles(seconds, n=100, method="inclusive")
    return [cuts[49] * 1000, cuts[98] * 1000]


JOBS = {"repeat": repeat, "streams": streams, "hold": hold, "drop": drop}


def main() -> None:
    with asyncio.Runner(loop_factory=new_loop) as runner:
        for line in sys.stdin.buffer:
            job = orjson.loads(line)
            if "body" in job:
                job["body"] = job["body"].encode()
            try:
                result = runner.run(JOBS[job.pop("job")](**job))
            except (OSError, TimeoutError) as error:
                result = {"error": f"{type(error).__name__}: {error}"}
            sys.stdout.buffer.write(orjson.dumps(result) + b"\n")
            sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
