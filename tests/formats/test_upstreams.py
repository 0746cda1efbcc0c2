"""Streams built out of the dialects' pieces: a failure with words or the whole content, never a success with less."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from . import dialect_anthropic, dialect_chat, dialect_responses
from .dialect import FRAMES, Built, Chooser, framed
from .judge import check
from .readers import read_stream
from .wire import read_stream as decode_stream

DIALECTS = {"chat": dialect_chat, "anthropic": dialect_anthropic, "responses": dialect_responses}
QUIRKS = {format: dialect.QUIRKS | FRAMES for format, dialect in DIALECTS.items()}
few = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
many = settings(few, max_examples=50)


@st.composite
def upstreams(draw: Any, format: str, quirk: str | None = None) -> tuple[Built, bytes, list[str]]:
    """What was built, its bytes and the quirks that it has: any mixture of those of its format, `quirk` always."""
    choose = Chooser(draw, QUIRKS[format], quirk)
    built = DIALECTS[format].build(choose)
    return built, framed(choose, built.events), choose.chosen


each_format = pytest.mark.parametrize("format", DIALECTS)
each_quirk = pytest.mark.parametrize(
    ("format", "quirk"),
    [pytest.param(format, name, id=f"{format}-{name}") for format, quirks in QUIRKS.items() for name in quirks],
)


def check_decoder(format: str, upstream: tuple[Built, bytes, list[str]], place: float) -> None:
    """The decoder finds what was built, wherever the stream is split."""
    built, stream, _ = upstream
    cut = int(place * len(stream))
    check(format, built.said, decode_stream(format, [stream[:cut], stream[cut:]]), may_fail=built.may_fail)


@pytest.mark.slow
@each_quirk
def test_each_quirk(format, quirk):
    @few
    @given(upstreams(format, quirk), st.floats(0, 1))
    def check_it(upstream, place):
        check_decoder(format, upstream, place)

    check_it()


@each_format
@many
@given(data=st.data(), place=st.floats(0, 1))
def test_any_mixture(format, data, place):
    check_decoder(format, data.draw(upstreams(format)), place)


@each_format
@many
@given(data=st.data())
def test_readers(format, data):
    """The readers that judge the recordings find what was built, with quirks that the decoders cannot read yet too."""
    quirk = data.draw(st.sampled_from(sorted(QUIRKS[format])))
    built, stream, _ = data.draw(upstreams(format, quirk))
    read, said = read_stream(format, stream), built.said
    if said.error is not None:
        unknown_word = not said.error and read.meaning(format) is None
        assert read.error == said.error or unknown_word
    elif not said.ended:
        assert not read.ended
    else:
        for call, other in zip(read.calls, said.calls, strict=True):
            call.id = other.id and call.id  # "": whatever is unique
        assert read == said
