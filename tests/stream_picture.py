"""Draws docs/images/stream.svg: a stream of the demo, event by event, beside what the gateway makes of each.

`scripts/stream-picture` writes it anew; test_docs.py fails when it is not what the gateway does.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

import aiohttp

from droid2api import sse
from droid2api.conversation import Target
from droid2api.demo import Demo
from droid2api.formats import ANTHROPIC, CHAT
from droid2api.lanes import TranslateLane
from tests.harness import MODELS, serving, settings_for

PICTURE = Path(__file__).parent.parent / "docs" / "images" / "stream.svg"
MODEL = "claude-sonnet-5-5"
WORDS = "Any client can ask for any model."

WIDTH, TOP, LINE = 760, 84, 23
LEFT, RIGHT = 24, 444
LOOP, FIRST, STEP, LATER = 9.0, 0.6, 0.36, 0.12
"""Seconds: the whole, until the first event, between events, and from an event to what becomes of it. It is slowed down
for the eye: the gateway takes less than a millisecond.
"""

STYLE = """
    svg { --paper: #ffffff; --frame: #d4d4d0; --ink: #24292f; --dim: #6e7781; --word: #0550ae; --gate: #1a7f37 }
    @media (prefers-color-scheme: dark) {
      svg { --paper: #0d1117; --frame: #30363d; --ink: #e6edf3; --dim: #8b949e; --word: #79c0ff; --gate: #56d364 }
    }
    text { font: 12px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; fill: var(--ink) }
    .head { font: 600 13px system-ui, "Segoe UI", "DejaVu Sans", sans-serif }
    .note, .dim { fill: var(--dim) }
    .note { font: 12px system-ui, "Segoe UI", "DejaVu Sans", sans-serif }
    .plain { fill: var(--ink) }
    .word { fill: var(--word) }
    .gate { fill: var(--gate) }
    .said { font-size: 15px }
    @media (prefers-reduced-motion: reduce) { g, tspan { animation: none !important } }
"""


async def stream(folder: Path) -> list[tuple[str, str]]:
    """Each event of the demo's Anthropic stream, with the bytes that a Chat client gets for it, as text."""
    models = [*MODELS, {"id": MODEL, "type": "anthropic"}]
    asked = {"model": MODEL, "stream": True, "messages": [{"role": "user", "content": WORDS}]}
    request = CHAT.decode_request(asked)
    lane = TranslateLane(CHAT, settings_for(folder, "http://demo", models=models).route(MODEL), request, lambda: 0, str)
    body = ANTHROPIC.encode_request(request, Target(MODEL))
    async with (
        serving(Demo(pace=0).app()) as url,
        aiohttp.ClientSession(headers={"x-api-key": "any"}) as session,
        session.post(url + ANTHROPIC.path, json=body) as response,
    ):
        content = await response.read()
    events = [event + b"\n\n" for event in content.split(b"\n\n") if event]
    return [(event.decode(), lane.feed(event).decode()) for event in events]


def picture(events: list[tuple[str, str]]) -> str:
    frames, rows, said, y = [], [], [], TOP
    for number, (event, made) in enumerate(events):
        begin, chunks = FIRST + STEP * number, list(_data(made))
        frames.append(_frames(f"i{number}", begin))
        rows.append(_row(f"i{number}", LEFT, y, *_event(event)))
        if chunks:
            frames.append(_frames(f"o{number}", begin + LATER))
            rows.append(_row(f"o{number}", RIGHT - 46, y, "", "→", "gate"))
        for row, chunk in enumerate(chunks):
            rows.append(_row(f"o{number}", RIGHT, y + LINE * row, "data: ", *_chunk(chunk)))
            if word := _word(chunk):
                said.append(f'<tspan style="animation: o{number} {LOOP}s infinite">{escape(word)}</tspan>')
        y += LINE * max(len(chunks), 1)
    bottom = y + 4
    return f"""\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom + 52}" width="{WIDTH}" height="{bottom + 52}" \
role="img" aria-label="A stream of an Anthropic model, and what a Chat Completions client gets for each event">
  <style>{STYLE}{"".join(frames)}  </style>
  <rect x="0.5" y="0.5" width="{WIDTH - 1}" height="{bottom + 51}" rx="8" fill="var(--paper)" stroke="var(--frame)"/>
  <text class="head" x="{LEFT}" y="30">The service: Anthropic Messages</text>
  <text class="head gate" x="{RIGHT - 42}" y="30" text-anchor="middle">droid2api</text>
  <text class="head" x="{RIGHT}" y="30">The client: Chat Completions</text>
  <text class="note" x="{LEFT}" y="50">what it sends, event by event</text>
  <text class="note" x="{RIGHT}" y="50">what it gets for each, at once</text>
  <path d="M0 62H{WIDTH}M0 {bottom}H{WIDTH}" stroke="var(--frame)"/>
{"".join(rows)}\
  <text class="said" x="{LEFT}" y="{bottom + 32}" xml:space="preserve">{"".join(said)}</text>
</svg>
"""


def _frames(name: str, begin: float) -> str:
    """Nothing until `begin`; then it stays until the loop is nearly over. Without animation all is there."""
    start = begin / LOOP * 100
    hidden, shown = f"0%, {start:.1f}% {{ fill-opacity: 0 }}", f"{start + 1:.1f}%, 97% {{ fill-opacity: 1 }}"
    return f"    @keyframes {name} {{ {hidden} {shown} }}\n"


def _row(name: str, x: int, y: int, dim: str, bright: str, kind: str) -> str:
    spans = [f'<tspan class="{style}">{escape(text)}</tspan>' for text, style in ((dim, "dim"), (bright, kind)) if text]
    text = f'<text x="{x}" y="{y}" xml:space="preserve">{"".join(spans)}</text>'
    return f'  <g style="animation: {name} {LOOP}s infinite">{text}</g>\n'


def _event(event: str) -> tuple[str, str, str]:
    """Its name, what matters of its data, and how that is shown."""
    (decoded,) = sse.Decoder().feed(event.encode())
    value = json.loads(decoded.data)
    match value["type"]:
        case "message_start":
            shown: Any = {"model": value["message"]["model"]}
        case "content_block_delta":
            return f"{value['type']} ", _short({"text": value["delta"]["text"]}), "word"
        case "message_delta":
            shown = {"stop_reason": value["delta"]["stop_reason"]}
        case _:
            return value["type"], "", "plain"
    return f"{value['type']} ", _short(shown), "plain"


def _data(made: str) -> Iterator[Any]:
    for event in sse.Decoder().feed(made.encode()):
        data = event.data.decode()
        yield data if data == "[DONE]" else json.loads(data)


def _chunk(chunk: Any) -> tuple[str, str]:
    """What matters of a chunk, and how it is shown."""
    if chunk == "[DONE]":
        return chunk, "plain"
    choice = chunk["choices"][0]
    if choice["finish_reason"]:
        return _short({"finish_reason": choice["finish_reason"]}), "plain"
    delta = {name: text for name, text in choice["delta"].items() if text}
    return _short({"delta": delta}), "word" if "content" in delta else "plain"


def _word(chunk: Any) -> str:
    return "" if chunk == "[DONE]" else chunk["choices"][0]["delta"].get("content") or ""


def _short(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        PICTURE.write_text(picture(asyncio.run(stream(Path(folder)))), encoding="utf-8")
