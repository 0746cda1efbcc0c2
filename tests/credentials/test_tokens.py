"""When a token ends."""

import base64

import orjson
import pytest

from droid2api.credentials.tokens import expiry
from tests.credentials.service import HOUR, token_with

NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("token", "expires_at"),
    [
        (token_with('{"exp": 1800000060}'), NOW + 60),
        (token_with('{"exp":1800000060.5}'), NOW + 60.5),
        ("opaque", NOW + 8 * HOUR),
        ("e30.e30.s", NOW + 8 * HOUR),
        ("a.!!!.c", NOW + 8 * HOUR),
        (token_with("[]"), NOW + 8 * HOUR),
        (token_with('{"exp": null}'), NOW + 8 * HOUR),
        (token_with('{"exp": 1e300}'), NOW + 8 * HOUR),
        (token_with('{"exp": "nan"}'), NOW + 8 * HOUR),
        (token_with('{"exp": 1800000060000}'), NOW + 8 * HOUR),
    ],
)
def test_expiry(token, expires_at):
    assert expiry(token, NOW) == expires_at


@pytest.mark.parametrize(("exp", "iat", "lasts"), [(7200, 0, 7200), (7200, 3600, 3600), (-100, -400, 300), (5, 9, 5)])
def test_a_token_that_tells_its_lifetime(exp, iat, lasts):
    claims = base64.urlsafe_b64encode(orjson.dumps({"exp": 1e9 + exp, "iat": 1e9 + iat})).decode()
    assert expiry(f"e30.{claims}.s", 1e9) == 1e9 + lasts
