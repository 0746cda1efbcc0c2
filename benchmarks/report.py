"""Medians of the rounds, their ratios to the direct row and to nginx's, and the table."""

from __future__ import annotations

from statistics import median
from typing import Any

from benchmarks.figures import LANES, Samples

TITLES = {
    "calls_per_s": "short calls at 32 connections, 1/s",
    "call_p50_ms": "short call at 1 connection, p50 ms",
    "call_p99_ms": "short call at 1 connection, p99 ms",
    "call_cpu_us": "CPU for each short call, us",
    "unpaced_per_s": "unpaced streams at 32 connections, events/s",
    "unpaced_cpu_us": "CPU for each unpaced event, us",
    "burst_per_s": "the same, ten events a write, events/s",
    "first_p50_ms": "first token at 1 stream, p50 ms",
    "first_p99_ms": "first token at 1 stream, p99 ms",
    "event_p50_ms": "each event at 1 stream, p50 ms",
    "event_p99_ms": "each event at 1 stream, p99 ms",
    "event200_p50_ms": "each event at 200 streams, p50 ms",
    "event200_p99_ms": "each event at 200 streams, p99 ms",
    "first200_p50_ms": "first token at 200 streams, p50 ms",
    "first200_p99_ms": "first token at 200 streams, p99 ms",
    "cpu_us": "CPU for each paced event, us",
    "streams": "paced streams without a stall",
    "turns_per_s": "agent turns at 8 connections, 1/s",
    "turn_p50_ms": "agent turn at 1 connection, p50 ms",
    "images_ms": "10 MB request, p50 ms",
    "images_peak_mb": "10 MB requests, peak memory, MB",
    "cold_start_s": "cold start to the first answer, s",
    "rss_mb": "memory after the first answer, MB",
    "stream_kb": "memory for each open stream, KB",
}
RATIOS = ("calls_per_s", "call_cpu_us", "unpaced_per_s", "unpaced_cpu_us", "burst_per_s", "turns_per_s", "cpu_us")
"""Figures whose ratio to another row says the same on any machine."""
LESS_IS_BETTER = ("call_cpu_us", "unpaced_cpu_us", "cpu_us")
BASES = ("direct", "nginx", "bare")
KEPT = ("call_cpu_us", "unpaced_cpu_us", "cpu_us")
"""What the baseline holds, as ratios to aiohttp's own: CPU time says the same on a machine that does other things too,
as far as anything does. Rates are as high as upstream and load get the CPU.
"""

LANE_NAMES = [lane[0] for lane in LANES]

Medians = dict[str, dict[str, float]]
Ratios = dict[str, dict[str, dict[str, float]]]


def medians(samples: Samples) -> Medians:
    """The median of the rounds; of CPU time the least, since what else a machine does only adds to it."""
    return {
        row: {name: min(values) if name.endswith("cpu_us") else median(values) for name, values in figures.items()}
        for row, figures in samples.items()
    }


def ratios(rows: Medians) -> Ratios:
    """Figure -> base -> row -> ratio."""
    return {
        name: {
            base: {
                row: round(figures[name] / rows[base][name], 3)
                for row, figures in rows.items()
                if row not in BASES and name in figures
            }
            for base in BASES
            if name in rows.get(base, {})
        }
        for name in RATIOS
    }


def table(rows: Medians, sans_io: dict[str, dict[str, float]]) -> str:
    """Markdown: the ratios first, then the absolute figures."""
    lines: list[str] = []
    others = [row for row in rows if row not in BASES]
    lines += _head(["ratio", *others])
    for name, bases in ratios(rows).items():
        lines += [_line(f"{TITLES[name]}, of {base}", others, values) for base, values in bases.items()]
    lines += ["", *_head(["median", *rows])]
    for name, title in TITLES.items():
        values = {row: figures[name] for row, figures in rows.items() if name in figures}
        if values:
            lines.append(_line(title, list(rows), values))
    lines += ["", *_head(["without sockets, each text event", "us", "instructions"])]
    lines += [_line(name, ["us", "instructions"], cost) for name, cost in sans_io.items()]
    return "\n".join(lines)


def _head(cells: list[str]) -> list[str]:
    return [f"| {' | '.join(cells)} |", f"|---{'|---:' * (len(cells) - 1)}|"]


def _line(title: str, columns: list[str], values: dict[str, float]) -> str:
    return f"| {' | '.join([title, *(_number(values.get(column)) for column in columns)])} |"


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def baseline(measured: dict[str, Any]) -> dict[str, Any]:
    counts = {name: round(cost["instructions"]) for name, cost in measured["sans_io"].items()}
    kept = {}
    for name in KEPT:
        rows = measured["ratios"][name]["bare"]
        kept[name] = {"bare": {row: ratio for row, ratio in rows.items() if row in LANE_NAMES}}
    return {"ratios": kept, "instructions": counts}


def falls(measured: dict[str, Any], baseline: dict[str, Any], room: float) -> list[str]:
    """What is worse than in the baseline by more than `room` (0.4: 40 %). Rows of one side only are left out."""
    found = []
    for name, bases in baseline["ratios"].items():
        for base, rows in bases.items():
            for row, expected in rows.items():
                value = measured["ratios"].get(name, {}).get(base, {}).get(row)
                worse = value is not None and _is_worse(value, expected, room, less=name in LESS_IS_BETTER)
                if worse:
                    found.append(f"{row}: {TITLES[name]}, of {base}: {value}, was {expected}")
    for name, expected in baseline["instructions"].items():
        value = measured["sans_io"][name]["instructions"]
        if _is_worse(value, expected, room, less=True):
            found.append(f"{name}: {value:.0f} instructions for each event, were {expected}")
    return found


def _is_worse(value: float, expected: float, room: float, *, less: bool) -> bool:
    return value > expected / (1 - room) if less else value < expected * (1 - room)
