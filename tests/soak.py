"""A long time under load: a gateway and, in a process of its own, the demo upstream and many clients at once.

    scripts/soak [--minutes 10] [--streams 200] [--hostile 20]

All pairs, streamed and not; a tenth of the clients leave or read slowly, a tenth of the answers fail in the
upstream, the token is refreshed every second, and beside them others do what they can to hold the gateway up
(hostile.py). Prints a table; exit code 1 when an answer was wrong, /health was slow, memory grew, or a task, a
connection or an error in the log was left over.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import aiohttp
import orjson

from droid2api.__main__ import GARBAGE_THRESHOLD
from droid2api.demo import Demo
from droid2api.server.keys import RUNNING, RUNTIME
from tests.formats.sdk import wire_events
from tests.gateway.faults import check_envelope, stream_outcome
from tests.harness import BY_TYPE, PATHS, body_of, gateway_for, serving, settings_for
from tests.hostile import HOLD, KINDS, attack, bomb

GROWTH = 1.10, 8.0 + 2 * 24
"""Memory that may be more in the end than after the warm-up: a factor, and megabytes of noise. What a hostile body of
24 MB took, the allocator keeps for the thread that unpacked it: all threads have done so once before (see `load`), but
a body can still lie in another place than the last.
"""
WARMING = 2 * min(32, (os.cpu_count() or 1) + 4)
"""Hostile bodies at once that keep all of asyncio's threads busy."""
SLOWEST_HEALTH = 0.25
"""Seconds that /health may take, but for one answer of a hundred."""
IMPATIENT = {f"client_{what}": 0.4 * HOLD for what in ("head", "body", "send")}
PATIENCE = 60
"""Seconds after which an answer is not waited for any more: it hangs."""
WORDS = ["one", "two", "three", "vier", "fünf", "六", "七", "emoji👋🏽", "line\nfeed", "tab\tstop", 'quote"']
WORDS += ["back\\slash", "</tag>", "data:", "[DONE]", "null", "{}", "", " "]
MEGABYTE = 1 << 20


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--streams", type=int, default=200, help="how many requests at once")
    parser.add_argument("--hostile", type=int, default=20, help="how many clients beside them that mean no good")
    parser.add_argument("--load", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    seconds = arguments.minutes * 60
    if arguments.load:
        logging.disable()  # the demo is told that clients left
        return asyncio.run(load(arguments.streams, arguments.hostile, seconds))
    logging.basicConfig(level=logging.ERROR, handlers=[ERRORS])
    gc.set_threshold(GARBAGE_THRESHOLD)  # as the command line does
    return asyncio.run(soak(arguments.streams, arguments.hostile, seconds))


# -- the gateway's process ------------------------------------------------------------------------------------------


class _Errors(logging.Handler):
    """What should never be logged."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record)[-2000:])


ERRORS = _Errors()


async def soak(streams: int, hostile: int, seconds: float) -> int:
    command = [sys.executable, "-m", "tests.soak", "--load", f"--streams={streams}", f"--minutes={seconds / 60}"]
    command.append(f"--hostile={hostile}")
    pipe = asyncio.subprocess.PIPE
    loader = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, limit=MEGABYTE)
    assert loader.stdin
    assert loader.stdout
    try:
        upstream = (await loader.stdout.readline()).decode().strip()
        with tempfile.TemporaryDirectory() as folder:
            settings = settings_for(Path(folder), upstream, {"DROID_REFRESH_KEY": "demo-refresh-0"}, timeouts=IMPATIENT)
            async with gateway_for(settings) as gateway:
                await asyncio.sleep(0.5)
                idle = await asyncio.to_thread(slowest_health, gateway.url, 2)
                before = _open_files(), len(asyncio.all_tasks())
                loader.stdin.write(f"{gateway.url}\n".encode())
                memory, refreshing = [], asyncio.create_task(_refresh_all_the_time(gateway.app[RUNTIME].shared))
                health = asyncio.create_task(asyncio.to_thread(slowest_health, gateway.url, seconds))
                told = asyncio.create_task(loader.stdout.readline())
                while not told.done():
                    memory.append(_memory())
                    await asyncio.wait([told], timeout=1)
                slowest = await health
                refreshing.cancel()
                result = orjson.loads(told.result())
                await asyncio.sleep(3)  # connections that are kept alive are none of a leak: the clients have left
                after = _open_files(), len(asyncio.all_tasks())
                left = len(gateway.app[RUNNING])
        return _report(result, (idle, slowest), memory, before, after, left)
    finally:
        if loader.returncode is None:
            loader.kill()
        await loader.wait()


def slowest_health(url: str, seconds: float) -> float:
    """Of a hundred."""
    command = [sys.executable, str(Path(__file__).with_name("probe.py")), f"{url}/health", str(seconds)]
    return float(subprocess.run(command, capture_output=True, check=True, timeout=seconds + 60).stdout)


async def _refresh_all_the_time(credential) -> None:
    while True:
        await credential.refresh_now()
        await asyncio.sleep(1)


def _memory() -> float:
    """Megabytes in use; the most that ever were, where there is no /proc."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return pages * resource.getpagesize() / MEGABYTE


def _open_files() -> int:
    return len(os.listdir("/dev/fd"))


def _report(
    result, health: tuple[float, float], memory: list[float], before: tuple[int, int], after: tuple[int, int], left: int
) -> int:
    third = len(memory) // 3
    warm, end = max(memory[third : third + 5]), sum(memory[-5:]) / len(memory[-5:])
    factor, noise = GROWTH
    checks = [
        ("answers", result["answers"], result["answers"] > 0),
        ("  of them", ", ".join(f"{name} {count}" for name, count in sorted(result["kinds"].items())), True),
        ("wrong answers", len(result["wrong"]), not result["wrong"]),
        ("attacks", result["attacks"], True),
        ("/health, p99", f"{health[1]:.3f} s, {health[0]:.3f} s before", health[1] < SLOWEST_HEALTH),
        ("refreshes", result["refreshes"], result["refreshes"] >= len(memory) / 3),
        ("memory, MB", f"{warm:.1f} warm, {end:.1f} in the end", end <= warm * factor + noise),
        ("  on the way", " ".join(f"{value:.1f}" for value in memory[:: len(memory) // 10 + 1]), True),
        ("open files", f"{before[0]} before, {after[0]} after", after[0] <= before[0] + 1),  # the upstream's is kept
        ("tasks", f"{before[1]} before, {after[1]} after", after[1] <= before[1]),
        ("requests left", left, left == 0),
        ("upstream's tasks left", result["tasks"], result["tasks"] <= 0),
        ("errors in the log", len(ERRORS.lines), not ERRORS.lines),
    ]
    for name, value, good in checks:
        print(f"{name:22} {value}{'' if good else '   <-- WRONG'}")
    print(*result["wrong"][:5], *ERRORS.lines[:3], sep="\n")
    return 0 if all(good for _, _, good in checks) else 1


# -- the demo's and the clients' process ----------------------------------------------------------------------------


async def load(streams: int, hostile: int, seconds: float) -> int:
    demo = Demo(pace=0.05)
    async with serving(demo.app()) as url:
        print(url, flush=True)
        gateway = (await asyncio.to_thread(sys.stdin.readline)).strip()
        before, clients = len(asyncio.all_tasks()), Clients(gateway)
        for _ in range(3):
            clients.wrong += filter(None, await asyncio.gather(*(attack(gateway, bomb) for _ in range(WARMING))))
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            end = time.monotonic() + seconds
            work = [clients.work(session, end) for _ in range(streams)]
            attacks = [clients.attack(end) for _ in range(hostile)]
            await asyncio.gather(*work, *attacks)
        await asyncio.sleep(2)
        idle = sum("RequestHandler.start" in str(task.get_coro()) for task in asyncio.all_tasks())  # kept alive
        result = {
            "answers": clients.kinds.total(),
            "kinds": clients.kinds,
            "wrong": clients.wrong[:100],
            "attacks": clients.attacks,
            "refreshes": demo.refreshes,
            "tasks": len(asyncio.all_tasks()) - idle - before,
        }
    print(orjson.dumps(result).decode(), flush=True)
    return 0


class Clients:
    def __init__(self, gateway: str) -> None:
        self._gateway = gateway
        self.kinds: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.attacks = 0

    async def attack(self, end: float) -> None:
        while time.monotonic() < end:
            kind = random.choice(KINDS)
            if wrong := await attack(self._gateway, kind):
                self.wrong.append(f"{kind.__name__}: {wrong}")
            self.attacks += 1
            await asyncio.sleep(random.random())

    async def work(self, session: aiohttp.ClientSession, end: float) -> None:
        while time.monotonic() < end:
            kinds = {"good": 80, "leaves at once": 3, "leaves midway": 4, "reads slowly": 3, "fault": 10}
            (kind,) = random.choices(list(kinds), list(kinds.values()))
            client, upstream, stream = random.choice(list(PATHS)), random.choice(list(BY_TYPE)), random.random() < 0.7
            try:
                async with asyncio.timeout(PATIENCE):
                    await self._ask(session, kind, client, upstream, stream)
            except Exception as error:
                self.wrong.append(f"{kind}: {client} {upstream} stream={stream}: {error!r:.1000}")
            self.kinds[kind] += 1

    async def _ask(self, session: aiohttp.ClientSession, kind: str, client: str, upstream: str, stream: bool) -> None:
        said = " ".join(random.choices(WORDS, k=random.randint(1, 40))).strip() or "nothing"
        fault = ""
        if kind == "fault":
            fault = random.choice(["break", "overload", "fail 500"] if stream else ["overload", "fail 500"])
            said += f" {fault}"
        body = body_of(client, upstream, said, stream=stream) | ({"max_tokens": 1000} if client == "anthropic" else {})
        asking = session.post(self._gateway + PATHS[client], json=body)
        if kind == "leaves at once":
            task = asyncio.ensure_future(asking)
            await asyncio.wait([task], timeout=random.random() * 0.1)
            task.cancel()
            for response in await asyncio.gather(task, return_exceptions=True):
                if isinstance(response, aiohttp.ClientResponse):
                    response.close()
            return
        async with asking as response:
            if kind == "leaves midway":
                await response.content.read(random.randint(1, 2000))
                response.close()
                return
            if kind == "reads slowly":
                content = b""
                while part := await response.content.read(500):
                    content += part
                    await asyncio.sleep(random.random() * 0.3)
            else:
                content = await response.read()
            check(client, response.status, response.content_type, content, said, fault)


def check(client: str, status: int, kind: str, content: bytes, said: str, fault: str) -> None:
    """Raises AssertionError for an answer that is not what the demo says to `said`."""
    told = content[-600:]
    if fault and status != 200:
        assert status == {"fail 500": 500, "overload": 529, "break": 502}[fault], (status, told)
        check_envelope(client, content)
        return
    assert status == 200, (status, told)
    streamed = kind == "text/event-stream"
    text = _streamed_text(client, content) if streamed else _whole_text(client, orjson.loads(content))
    if fault:
        assert streamed, told
        assert stream_outcome(client, content) == "error", told
        assert said.startswith(text), (said, text)
        return
    assert not streamed or stream_outcome(client, content) == "regular", told
    assert text == said, (said, text)


def _streamed_text(client: str, content: bytes) -> str:
    text = ""
    for event in wire_events(content):
        value = {} if event.data == b"[DONE]" else orjson.loads(event.data)
        if client == "common":
            text += "".join(choice["delta"].get("content") or "" for choice in value.get("choices") or ())
        elif client == "google":
            text += _google_text(value)
        elif value.get("type") == "response.output_text.delta":
            text += value["delta"]
        elif value.get("type") == "content_block_delta":
            text += value["delta"]["text"]
    return text


def _google_text(value) -> str:
    candidates = value.get("candidates") or ()
    parts = [part for candidate in candidates for part in candidate.get("content", {}).get("parts", ())]
    return "".join(part.get("text", "") for part in parts if not part.get("thought"))


def _whole_text(client: str, value) -> str:
    if client == "common":
        return value["choices"][0]["message"]["content"]
    if client == "google":
        return _google_text(value)
    parts = value["content"] if client == "anthropic" else value["output"][0]["content"]
    return "".join(part["text"] for part in parts)


if __name__ == "__main__":
    sys.exit(main())
