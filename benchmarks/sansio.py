"""Figure 6: what a decoder and an encoder cost for each event, without a socket: time, and instructions.

One event is fed at a time, as a paced stream brings them. Instructions are those of Python's bytecode: the same in
each run, so that a test can hold them.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any

from benchmarks.wire import UNPACED, answer_events
from droid2api.formats import BY_NAME, Format, chat
from droid2api.hub.events import Event
from droid2api.hub.request import Request, Target
from droid2api.wire import sse


def decode(format: Format, chunks: list[bytes]) -> list[list[Event]]:
    lines, decoder = sse.Decoder(), format.StreamDecoder(Target("model"))
    return [decoder.feed(lines.feed(chunk)) for chunk in chunks]


def encode(format: Format, batches: list[list[Event]]) -> list[bytes]:
    encoder = format.StreamEncoder(Request("model", [], stream=True), lambda: 1.7e9, lambda: "0" * 24)
    return [encoder.encode(batch) for batch in batches]


def relay(chunks: list[bytes]) -> list[bytes]:
    cutter = sse.EventCutter()
    return [cutter.feed(chunk) for chunk in chunks]


def cases() -> dict[str, Callable[[], Any]]:
    found: dict[str, Callable[[], Any]] = {}
    for name, format in BY_NAME.items():
        chunks = answer_events(UNPACED, format)
        batches = decode(format, chunks)
        found[f"{name} decode"] = partial(decode, format, chunks)
        found[f"{name} encode"] = partial(encode, format, batches)
    chunks = answer_events(UNPACED, chat)
    found["relay"] = partial(relay, chunks)
    return found


def microseconds(run: Callable[[], Any], seconds: float) -> float:
    """For each delta, in the fastest of many runs: noise only adds."""
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        began = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - began)
    return best / UNPACED.deltas * 1e6


def instructions(run: Callable[[], Any]) -> float:
    """Of bytecode, for each delta."""
    count = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        frame.f_trace_opcodes = True
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        run()
    finally:
        sys.settrace(before)
    return count / UNPACED.deltas


def measure(seconds: float) -> dict[str, dict[str, float]]:
    return {
        name: {"us": microseconds(run, seconds), "instructions": instructions(run)} for name, run in cases().items()
    }
