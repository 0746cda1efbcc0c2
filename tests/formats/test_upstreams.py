"""Streams built out of the dialects' pieces: a failure with words or the whole content, never a success with less."""

from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from . import dialect_anthropic, dialect_chat, dialect_responses
from .dialect import FRAMES, Built, Chooser, framed
from .judge import check
from .mending import is_mended, marks
from .readers import read_stream
from .wire import read_stream as decode_stream

DIALECTS = {"chat": dialect_chat, "anthropic": dialect_anthropic, "responses": dialect_responses}
QUIRKS = {format: dialect.QUIRKS | FRAMES for format, dialect in DIALECTS.items()}
few = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
known = settings(few, phases=[Phase.generate])  # what is known to fail need not be made small


@st.composite
def upstreams(draw: Any, format: str, quirk: str | None = None) -> tuple[Built, bytes, list[str]]:
    """What was built, its bytes and the quirks that it has: any mixture of those of its format, `quirk` always."""
    choose = Chooser(draw, QUIRKS[format], quirk)
    built = DIALECTS[format].build(choose)
    return built, framed(choose, built.events), choose.chosen


def every_quirk(*, marked: bool) -> list[Any]:
    return [
        pytest.param(format, name, id=f"{format}-{name}", marks=marks(name, quirk.kind) if marked else [])
        for format, quirks in QUIRKS.items()
        for name, quirk in quirks.items()
    ]


@pytest.mark.parametrize(("format", "quirk"), every_quirk(marked=True))
def test_decoders(format, quirk):
    @(few if is_mended(quirk, QUIRKS[format][quirk].kind) else known)
    @given(upstreams(format, quirk), st.data())
    def check_decoder(upstream, data):
        built, stream, _ = upstream
        place = data.draw(st.integers(0, len(stream)))
        check(format, built.said, decode_stream(format, [stream[:place], stream[place:]]), may_fail=built.may_fail)

    check_decoder()


@pytest.mark.parametrize(("format", "quirk"), every_quirk(marked=False))
def test_readers(format, quirk):
    """The readers that judge the recordings find what was built."""

    @few
    @given(upstreams(format, quirk))
    def check_reader(upstream):
        built, stream, _ = upstream
        read, said = read_stream(format, stream), built.said
        if said.error is None and said.ended:
            for call in read.calls:
                call.id = call.id if any(call.id == other.id for other in said.calls) else ""
            assert read == said

    check_reader()
