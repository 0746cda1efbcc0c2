"""Which proxy a URL goes through: config.json, the environment, the system; and what of it is never told."""

import urllib.request

import orjson
import pytest

from droid2api.config import load
from droid2api.errors import ConfigError, RequestError
from droid2api.proxies import checked_proxy, find_proxy, password_of, without_password

SERVICE = "https://api.example.com/v1"
ONE, TWO = "http://one:3128", "http://two:3128"


@pytest.mark.parametrize(
    ("url", "configured", "environment", "expected"),
    [
        (SERVICE, "", {}, ""),
        (SERVICE, ONE, {}, ONE),
        (SERVICE, ONE, {"HTTPS_PROXY": TWO}, ONE),
        (SERVICE, ONE, {"NO_PROXY": "*"}, ONE),
        (SERVICE, "direct", {"HTTPS_PROXY": TWO}, ""),
        (SERVICE, "", {"HTTPS_PROXY": ONE}, ONE),
        (SERVICE, "", {"https_proxy": ONE, "HTTPS_PROXY": TWO}, ONE),
        (SERVICE, "", {"HTTP_PROXY": ONE}, ""),
        (SERVICE, "", {"HTTP_PROXY": ONE, "ALL_PROXY": TWO}, TWO),
        (SERVICE, "", {"HTTPS_PROXY": ONE, "ALL_PROXY": TWO}, ONE),
        (SERVICE, "", {"HTTPS_PROXY": "", "all_proxy": "socks5://s:1"}, "socks5://s:1"),
        (SERVICE, "", {"ALL_PROXY": "socks://s:1/"}, "socks5://s:1"),
        (SERVICE, "", {"HTTPS_PROXY": "one:3128"}, ONE),
        (SERVICE, "", {"HTTPS_PROXY": f"{ONE}/"}, ONE),
        ("http://api.example.com/v1", "", {"HTTP_PROXY": ONE, "HTTPS_PROXY": TWO}, ONE),
        ("http://api.example.com/v1", "", {"HTTP_PROXY": ONE, "REQUEST_METHOD": "GET"}, ""),
        ("http://api.example.com/v1", "", {"http_proxy": ONE, "REQUEST_METHOD": "GET"}, ONE),
        (SERVICE, "", {"HTTPS_PROXY": ONE, "NO_PROXY": "other.com, example.com"}, ""),
        (SERVICE, "", {"HTTPS_PROXY": ONE, "no_proxy": ".example.com"}, ""),
        (SERVICE, "", {"HTTPS_PROXY": ONE, "NO_PROXY": "*"}, ""),
        (SERVICE, "", {"HTTPS_PROXY": ONE, "NO_PROXY": "ample.com"}, ONE),
        (
            f"{SERVICE}:8443".replace("/v1:8443", ":8443/v1"),
            "",
            {"HTTPS_PROXY": ONE, "NO_PROXY": "api.example.com:8443"},
            "",
        ),
        ("https://a.example/v1", "", {"HTTPS_PROXY": ONE, "NO_PROXY": "a.example:8443"}, ONE),
        ("http://127.0.0.1:9/v1", ONE, {"HTTP_PROXY": TWO}, ""),
        ("http://[::1]:9/v1", ONE, {}, ""),
        ("http://localhost:9/v1", "", {"ALL_PROXY": ONE}, ""),
        ("http://box.localhost/v1", ONE, {}, ""),
    ],
)
def test_which_proxy(url, configured, environment, expected):
    assert find_proxy(url, configured, environment) == expected


@pytest.mark.parametrize("bypassed", [False, True])
def test_the_systems_settings_come_last(monkeypatch, bypassed):
    """As on macOS and Windows."""
    monkeypatch.setattr(urllib.request, "getproxies_registry", lambda: {"https": ONE}, raising=False)
    monkeypatch.setattr(urllib.request, "proxy_bypass", lambda host: bypassed and host == "api.example.com")
    assert find_proxy(SERVICE, "", {}) == ("" if bypassed else ONE)
    assert find_proxy(SERVICE, "", {"HTTPS_PROXY": TWO}) == TWO
    assert find_proxy(SERVICE, "direct", {}) == ""


WRONG = [
    "ftp://one",
    "http://",
    "http://one:x",
    "http://one:0",
    "http://o ne",
    "http://one/path",
    "socks4://one",
    "DIRECT",
    "none",
    "",
]


@pytest.mark.parametrize("value", WRONG)
def test_what_is_no_proxy(value):
    with pytest.raises(RequestError, match=r'^where: must be "direct" or the URL of a proxy'):
        checked_proxy(value, "where")


def test_a_password_is_never_told():
    proxy = "socks5://me:s3cret@one:1080"
    assert without_password(proxy) == "socks5://***@one:1080"
    assert without_password(ONE) == ONE
    assert password_of(proxy) == ["me:s3cret", "s3cret"]
    assert password_of(ONE) == []
    with pytest.raises(RequestError) as refused:
        checked_proxy("ftp://me:s3cret@one", "proxy")
    assert "s3cret" not in refused.value.message


# -- from the settings ----------------------------------------------------------------------------------------------


def settings(tmp_path, environment, **config):
    endpoint = [{"name": "common", "base_url": "https://api.example.com/v1/chat/completions", "api_key_env": "K"}]
    value = {"endpoint": endpoint, "models": [{"id": "m", "type": "common"}, {"id": "c", "type": "anthropic"}]} | config
    file = tmp_path / "config.json"
    file.write_bytes(orjson.dumps(value))
    return load(file, environment)


def test_each_endpoint_and_the_token_service_have_theirs(tmp_path):
    own = [{"name": "common", "base_url": "https://api.example.com/v1", "api_key_env": "K", "proxy": "direct"}]
    read = settings(tmp_path, {"HTTPS_PROXY": TWO}, proxy="http://me:s3cret@one:3128", endpoint=own)
    assert read.models["m"].endpoint.proxy == ""
    assert read.models["c"].endpoint.proxy == read.auth.proxy == "http://me:s3cret@one:3128"
    assert "s3cret" not in repr(read)


@pytest.mark.parametrize(
    ("config", "environment", "where"),
    [
        ({"proxy": "one:3128"}, {"HTTPS_PROXY": "ftp://one"}, None),
        ({"proxy": "ftp://one"}, {}, "proxy"),
        ({"proxy": 1}, {}, "proxy"),
        ({}, {"HTTPS_PROXY": "ftp://me:s3cret@one"}, "HTTPS_PROXY"),
        ({"endpoint": [{"name": "openai", "base_url": SERVICE, "proxy": "x://y"}]}, {}, r"endpoint\[0\].proxy"),
    ],
)
def test_a_wrong_one_stops_the_start(tmp_path, config, environment, where):
    if where is None:
        assert settings(tmp_path, environment, **config).auth.proxy == "http://one:3128"
        return
    with pytest.raises(ConfigError, match=rf"config\.json: {where}: must be") as refused:
        settings(tmp_path, environment, **config)
    assert "s3cret" not in str(refused.value)
