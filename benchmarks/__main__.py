"""The command: `python -m benchmarks`."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import os
import platform
import sys
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson

from benchmarks import peers, report, sansio, servers
from benchmarks.figures import FULL, LANES, QUICK, Bench, Row, cold_start, memory
from benchmarks.servers import Server
from droid2api.formats import anthropic, chat

BASELINE = Path(__file__).with_name("baseline.json")


def main() -> None:
    arguments = _parser().parse_args()
    result = run(arguments)
    print(f"{result['date']}, {result['cores']} cores, Python {result['python']}, {result['loop']}\n")
    print(report.table(result["rows"], result["sans_io"]))
    if arguments.json:
        Path(arguments.json).write_bytes(orjson.dumps(result, option=orjson.OPT_INDENT_2))
    if arguments.baseline:
        BASELINE.write_bytes(orjson.dumps(report.baseline(result), option=orjson.OPT_INDENT_2) + b"\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks", description="What the gateway adds, measured side by side.")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, no search for stalls: under a minute")
    parser.add_argument(
        "--peer",
        action="append",
        default=[],
        metavar="PEER",
        help="another row: nginx (shown anyway when installed), rolter=PROGRAM, smg=PROGRAM, litellm=PYTHON (of a venv "
        "that has litellm[proxy]), or the URL of a gateway (--upstream-port)",
    )
    parser.add_argument("--loops", action="store_true", help="the gateway's rows without uvloop too")
    parser.add_argument("--upstream-port", type=int, default=0, help="a fixed port, for the peer at a URL")
    parser.add_argument("--json", metavar="FILE", help="write everything there, each round's values too")
    parser.add_argument("--baseline", action="store_true", help=f"write {BASELINE.name} beside this module anew")
    return parser


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    plan = QUICK if arguments.quick else FULL
    with contextlib.ExitStack() as running:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory()))
        upstream = running.enter_context(servers.upstream(arguments.upstream_port))
        load = running.enter_context(servers.load())
        rows = [Row("direct", upstream.port, plain=True)]
        if "nginx" in arguments.peer or peers.nginx_path():
            server = running.enter_context(peers.nginx(folder, upstream.port))
            rows.append(Row("nginx", server.port, plain=True, server=server))
        server = running.enter_context(peers.bare(upstream.port))
        rows.append(Row("bare", server.port, plain=True, server=server))
        server = running.enter_context(servers.gateway(_made(folder / "gateway"), upstream.port))
        rows += _gateway_rows(server, "")
        if arguments.loops:
            plain = servers.gateway(_made(folder / "plain"), upstream.port, plain_loop=True)
            rows += _gateway_rows(running.enter_context(plain), " (asyncio)")
        for peer in arguments.peer:
            rows += _peer_rows(peer, running, folder, upstream.port)
        bench = Bench(load, rows, plan)
        _tell("cold start and memory")
        cold_start(bench, _made(folder / "cold"), upstream.port, name="relay chat")
        if arguments.loops:
            cold_start(bench, folder / "cold", upstream.port, name="relay chat (asyncio)", plain_loop=True)
        memory(bench, upstream.port)
        bench.run(_tell)
    _tell("without sockets")
    medians = report.medians(bench.samples)
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "loop": "uvloop" if servers.has_uvloop() else "asyncio",
        "rows": {row.name: medians[row.name] for row in rows},
        "ratios": report.ratios(medians),
        "sans_io": sansio.measure(0.05 if arguments.quick else 0.3),
        "samples": bench.samples,
    }


def _gateway_rows(server: Server, suffix: str) -> list[Row]:
    """A row with a suffix is for comparison only, and left out where a figure takes long."""
    return [
        Row(f"{name}{suffix}", server.port, client, upstream, server=server, limited=bool(suffix))
        for name, client, upstream in LANES
    ]


def _peer_rows(peer: str, running: contextlib.ExitStack, folder: Path, upstream_port: int) -> list[Row]:
    """The rows of another gateway, which is started here unless it is a URL."""
    name, _, program = peer.partition("=")
    match name:
        case "nginx":
            return []
        case "litellm":
            server = running.enter_context(
                peers.litellm(program or sys.executable, _made(folder / name), upstream_port)
            )
            return [Row(name, server.port, server=server, limited=True)]
        case "rolter":
            server = running.enter_context(peers.rolter(program or name, _made(folder / name), upstream_port))
            lanes = (("relay chat", chat), ("anthropic->chat", anthropic))
            return [Row(f"{name} {lane}", server.port, client, server=server, limited=True) for lane, client in lanes]
        case "smg":
            found = running.enter_context(peers.smg(program or name, _made(folder / name), upstream_port))
            return [Row(f"{name} relay chat", 0, servers=found, limited=True)]
    return [Row(peer, urlsplit(peer).port or 80)]


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _tell(text: str) -> None:
    print(f"{text} ...", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
