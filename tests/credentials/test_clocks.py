"""Clocks that are wrong, jump, or stand still."""

import base64
import os
import time
from dataclasses import dataclass

import orjson
import pytest
from aiohttp import web

from droid2api.credentials import schedule, token_endpoint
from tests.credentials.service import HOUR, Service, access, rotating_for


@dataclass
class Clock:
    """What the credential sees as time; `wrong` is how far the wall clock is off, `later` what has passed on both."""

    wrong: float = 0
    later: float = 0

    def time(self):
        return time.time() + self.wrong + self.later

    def monotonic(self):
        return time.monotonic() + self.later


def patch_time(monkeypatch, clock):
    for module in (schedule, token_endpoint):
        monkeypatch.setattr(module, "time", clock)


def dated(clock, with_iat):
    """A token endpoint with the right time."""

    async def answer():
        now = time.time() + clock.later
        claims = orjson.dumps({"exp": int(now + 8 * HOUR)} | ({"iat": int(now)} if with_iat else {}))
        token = f"e30.{base64.urlsafe_b64encode(claims).decode().rstrip('=')}.{os.urandom(4).hex()}"
        return web.json_response({"access_token": token, "refresh_token": os.urandom(4).hex()})

    return answer


DAY = 24 * HOUR


@pytest.mark.parametrize("with_iat", [True, False])
@pytest.mark.parametrize("jump", [-365 * DAY, -DAY, -HOUR, HOUR, 7.9 * HOUR, DAY, 365 * DAY])
@pytest.mark.parametrize("first", [True, False], ids=["wrong from the start", "jumps"])
async def test_a_wrong_clock_makes_no_storm_and_no_endless_token(tmp_path, monkeypatch, jump, with_iat, first):
    clock = Clock(wrong=jump if first else 0)
    patch_time(monkeypatch, clock)
    service = Service(token_answer=dated(clock, with_iat))
    async with rotating_for(tmp_path, service, 1) as [rotating]:
        await access(rotating)
        clock.wrong = jump
        for _ in range(5):
            await access(rotating)
        assert len(service.calls) <= 2
        if with_iat or len(service.calls) == 2:
            assert rotating._schedule.delay() > 0.5 * HOUR
        assert rotating._schedule.delay() <= 6 * HOUR  # whatever the token seems to say
        clock.later = 8 * HOUR + 60
        if with_iat or (jump <= HOUR and not first):
            calls = len(service.calls)
            for _ in range(5):
                await access(rotating)
            assert len(service.calls) == calls + 1


async def test_a_laptop_that_slept(tmp_path, monkeypatch):
    """The monotonic clock stood still."""
    clock = Clock()
    patch_time(monkeypatch, clock)
    service = Service(token_answer=dated(clock, True))
    async with rotating_for(tmp_path, service, 1) as [rotating]:
        await access(rotating)
        clock.wrong = 9 * HOUR
        await access(rotating)
        assert len(service.calls) == 2
