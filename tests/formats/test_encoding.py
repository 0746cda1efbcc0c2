"""Encoding is a function: what goes in stays as it is, and the same goes in and comes out each time (property 7)."""

import copy

from hypothesis import given, settings
from hypothesis import strategies as st

from droid2api.errors import RequestError
from droid2api.formats import BY_NAME
from droid2api.hub.encoded import Encoded
from droid2api.hub.history import normalize

from .bodies import target
from .recordings import REQUESTS, each_format, each_request
from .strategies import mutated


def targets(format):
    return [
        target(format, id, reasoning=reasoning, fast=True, max_tokens=64000)
        for id in ("gpt-5-mini", "claude-sonnet-4-5", "claude-opus-5", "deepseek-v4-pro", "gemini-3-pro")
        for reasoning in ("auto", "off", "high")
    ]


def check(client, body, upstream):
    """The request, the client's body and an encoded body stay what they are, whatever is done with another."""
    original = copy.deepcopy(body)
    try:
        decoded = BY_NAME[client].decode_request(body)
        before = copy.deepcopy(decoded)
        request = normalize(decoded)
        normalized = copy.deepcopy(request)
        first = {each: BY_NAME[upstream].encode_request(request, each) for each in targets(upstream)}
    except RequestError:
        assert body == original
        return
    kept = copy.deepcopy(first)
    for each, encoded in first.items():
        BY_NAME[upstream].apply_model_settings(Encoded(encoded.body), {}, each, "Be kind.")
        assert BY_NAME[upstream].encode_request(request, each) == kept[each]
    assert request == normalized
    assert decoded == before
    assert body == original


@each_request
def test_recorded_requests(recording):
    for format in BY_NAME:
        check(recording.format, recording.json, format)


@each_format
@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_generated_requests(format, data):
    recording = data.draw(st.sampled_from(REQUESTS))
    body = data.draw(mutated(recording.json))
    if type(body) is dict:
        check(recording.format, body, format)


@each_request
def test_settings_write_to_the_body_only(recording):
    """In the relay lane the body is the client's own."""
    check_settings(recording.format, recording.json)


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_settings_write_to_the_body_only_if_generated(data):
    recording = data.draw(st.sampled_from(REQUESTS))
    body = data.draw(mutated(recording.json))
    if type(body) is dict:
        check_settings(recording.format, body)


def check_settings(format, body):
    original = copy.deepcopy(body)
    for each in targets(format):
        BY_NAME[format].apply_model_settings(Encoded(dict(body)), {}, each, "Be kind.")
    assert body == original
