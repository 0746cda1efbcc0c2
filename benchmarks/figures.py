"""The figures 1 to 5: each measures one row, as often as there are rounds, the rows in turn."""

from __future__ import annotations

import socket
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import servers, wire
from benchmarks.servers import Load, Server
from benchmarks.wire import Scenario
from droid2api.demo import answer_path
from droid2api.formats import Format, anthropic, chat, gemini, responses

Samples = dict[str, dict[str, list[float]]]
"""Row -> figure -> a value for each round."""


@dataclass(frozen=True)
class Row:
    """Who is asked, in which format; a `plain` row takes the upstream's own paths, as a proxy that knows no models.

    `limited` is a row that takes part in the small figures only. `servers` are a process for each scenario, where one
    cannot serve them all.
    """

    name: str
    port: int
    client: Format = chat
    upstream: Format = chat
    plain: bool = False
    server: Server | None = None
    limited: bool = False
    servers: Mapping[str, Server] = field(default_factory=dict)

    def cpu(self, scenario: Scenario) -> float | None:
        """Seconds of CPU that the row's process has used; None for what is no process of this run."""
        server = self.servers.get(scenario.name, self.server)
        return server.cpu() if server else None

    def job(self, scenario: Scenario, make_body: Callable[..., bytes] | None = None) -> dict[str, Any]:
        model = wire.model_id(self.upstream, scenario)
        body = make_body(self.client, model) if make_body else wire.small_request(self.client, model, scenario.stream)
        path = f"/{scenario.name}{answer_path(self.client)}" if self.plain else answer_path(self.client)
        server = self.servers.get(scenario.name)
        return {"port": server.port if server else self.port, "path": path, "body": body.decode()}


LANES = (
    ("relay chat", chat, chat),
    ("relay anthropic", anthropic, anthropic),
    ("relay gemini", gemini, gemini),
    ("chat->anthropic", chat, anthropic),
    ("anthropic->openai", anthropic, responses),
    ("anthropic->chat", anthropic, chat),
)
"""The gateway's rows: name, client format, upstream format."""


@dataclass(frozen=True)
class Plan:
    """How long and how often. `levels` are the numbers of streams among which the largest without a stall is sought."""

    rounds: int
    seconds: float
    colds: int
    held: int
    levels: tuple[int, ...]


FULL = Plan(rounds=3, seconds=1.0, colds=5, held=500, levels=tuple(range(100, 1001, 100)))
QUICK = Plan(rounds=2, seconds=0.3, colds=2, held=200, levels=())


@dataclass
class Bench:
    load: Load
    rows: list[Row]
    plan: Plan
    samples: Samples = field(default_factory=dict)

    def note(self, row: str, **values: float) -> None:
        for name, value in values.items():
            self.samples.setdefault(row, {}).setdefault(name, []).append(value)

    def run(self, tell: Callable[[str], None]) -> None:
        figures = [self.calls, self.unpaced, self.first_token, self.paced, self.turn]
        for number in range(self.plan.rounds):
            for figure in figures:
                tell(f"round {number + 1} of {self.plan.rounds}: {figure.__name__}")
                for row in self.rows:
                    figure(row)
        for row in self.rows:
            tell(f"images: {row.name}")
            self.images(row)
        if self.plan.levels:
            self.stalls(tell)

    def cost(self, row: Row, scenario: Scenario, job: str, **fields: Any) -> tuple[dict[str, Any], float | None]:
        """What the load says of a job, and the microseconds of CPU that the row's process took for each answer."""
        before = row.cpu(scenario)
        done = self.load.run(job, **row.job(scenario), **fields)
        after = row.cpu(scenario)
        return done, None if before is None or after is None else (after - before) / done["count"] * 1e6

    def calls(self, row: Row) -> None:
        job = row.job(wire.SHORT)
        many, cpu = self.cost(row, wire.SHORT, "repeat", connections=32, seconds=self.plan.seconds)
        if cpu is not None:
            self.note(row.name, call_cpu_us=cpu)
        one = self.load.run("repeat", **job, connections=1, seconds=self.plan.seconds / 2)
        p50, p99 = one["latency"]
        self.note(row.name, calls_per_s=many["count"] / many["seconds"], call_p50_ms=p50, call_p99_ms=p99)

    def unpaced(self, row: Row) -> None:
        """As services send, a write for each event: the direct row is the most that upstream and load can do.

        In bursts the two can do much more, so that it shows how fast the row itself is.
        """
        for name, scenario in (("unpaced_per_s", wire.UNPACED), ("burst_per_s", wire.BURST)):
            done, cpu = self.cost(row, scenario, "repeat", connections=32, seconds=self.plan.seconds)
            self.note(row.name, **{name: done["count"] * scenario.deltas / done["seconds"]})
            if cpu is not None and scenario is wire.UNPACED:
                self.note(row.name, unpaced_cpu_us=cpu / scenario.deltas)

    def first_token(self, row: Row) -> None:
        done = self.load.run("repeat", **row.job(wire.BRIEF), connections=1, seconds=self.plan.seconds * 1.5)
        self.note(row.name, first_p50_ms=done["first"][0], first_p99_ms=done["first"][1])
        self.note(row.name, event_p50_ms=done["delay"][0], event_p99_ms=done["delay"][1])

    def paced(self, row: Row) -> None:
        many, cpu = self.cost(row, wire.PACED, "streams", connections=200, seconds=0.3)
        self.note(row.name, event200_p50_ms=many["delay"][0], event200_p99_ms=many["delay"][1])
        self.note(row.name, first200_p50_ms=many["first"][0], first200_p99_ms=many["first"][1])
        if cpu is not None:
            self.note(row.name, cpu_us=cpu)

    def turn(self, row: Row) -> None:
        job = row.job(wire.TURN, wire.agent_request)
        done = self.load.run("repeat", **job, connections=8, seconds=self.plan.seconds)
        one = self.load.run("repeat", **job, connections=1, seconds=self.plan.seconds / 2)
        self.note(row.name, turns_per_s=done["count"] / done["seconds"], turn_p50_ms=one["latency"][0])

    def images(self, row: Row) -> None:
        done = self.load.run("repeat", **row.job(wire.SHORT, wire.image_request), connections=1, seconds=0.5)
        self.note(row.name, images_ms=done["latency"][0])

    def stalls(self, tell: Callable[[str], None]) -> None:
        """The largest level at which no gap is over 100 ms longer than the direct run's, by halving."""
        direct: dict[int, float] = {}
        for row in self.rows[1:]:
            if row.limited:
                continue
            good, bad = 0, len(self.plan.levels)
            probe = bad - 1
            while good < bad:
                level = self.plan.levels[probe]
                if level not in direct:
                    direct[level] = self._gap(self.rows[0], level)
                gap = self._gap(row, level)
                tell(f"{row.name}: {level} streams, largest gap {gap * 1000:.0f} ms, direct {direct[level] * 1000:.0f}")
                if gap <= direct[level] + 0.1:
                    good = probe + 1
                else:
                    bad = probe
                probe = (good + bad) // 2
            self.note(row.name, streams=self.plan.levels[good - 1] if good else 0)

    def _gap(self, row: Row, level: int) -> float:
        done = self.load.run("streams", **row.job(wire.PACED), connections=level, seconds=1.28, rounds=2)
        return float(done["gap"])


# -- a gateway of its own for each ----------------------------------------------------------------------------------


def cold_start(bench: Bench, folder: Path, upstream_port: int, *, name: str, plain_loop: bool = False) -> None:
    """From the start of the process to its first answer; then the memory that it has."""
    for _ in range(bench.plan.colds):
        began = time.monotonic()
        with servers.gateway(folder, upstream_port, plain_loop=plain_loop) as server:
            body = wire.small_request(chat, wire.model_id(chat, wire.SHORT), stream=False)
            with socket.create_connection(("127.0.0.1", server.port)) as client:
                client.sendall(wire.http_request(answer_path(chat), body))
                if b" 200 " not in client.recv(100):
                    raise RuntimeError("the first call failed")
            bench.note(name, cold_start_s=time.monotonic() - began, rss_mb=server.memory() / 1024)


def memory(bench: Bench, upstream_port: int) -> None:
    """KB that each open stream adds, and the peak with 10 MB requests, in a gateway that did nothing before."""
    for name, client, upstream in LANES:
        with tempfile.TemporaryDirectory() as folder, servers.gateway(Path(folder), upstream_port) as server:
            row = Row(name, server.port, client, upstream)
            bench.load.run("repeat", **row.job(wire.UNPACED), connections=4, seconds=0.1)
            before = server.memory()
            bench.load.run("hold", **row.job(wire.SLOW), connections=bench.plan.held)
            bench.note(name, stream_kb=(server.memory() - before) / bench.plan.held)
            bench.load.run("drop")
            bench.load.run("repeat", **row.job(wire.SHORT, wire.image_request), connections=1, seconds=0.2)
            bench.note(name, images_peak_mb=server.memory("VmHWM") / 1024)
