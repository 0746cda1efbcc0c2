"""Settings: what is read, where from, what is refused and how."""

import os
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from droid2api import config
from droid2api.config import find_config, is_own, load, read_environment
from droid2api.errors import ConfigError, RequestError
from droid2api.hub.profiles import profile_of
from droid2api.settings import CLIENT_ID, TOKEN_URL, USER_AGENT

FACTORY = "https://api.factory.ai/api/llm"
SHIPPED = {
    "anthropic": f"{FACTORY}/a/v1/messages",
    "openai": f"{FACTORY}/o/v1/responses",
    "common": f"{FACTORY}/o/v1/chat/completions",
    "google": f"{FACTORY}/g/v1/generate",
}
ROOT = Path(__file__).parents[1]

NODE_EDITION = {
    "port": 3001,
    "model_redirects": {"claude-3-5-haiku-20241022": "claude-sonnet-4-5-20250929"},
    "endpoint": [
        {"name": "openai", "base_url": "https://app.factory.ai/api/llm/o/v1/responses"},
        {"name": "anthropic", "base_url": "https://app.factory.ai/api/llm/a/v1/messages"},
        {"name": "common", "base_url": "https://app.factory.ai/api/llm/o/v1/chat/completions"},
    ],
    "proxies": [],
    "models": [
        {
            "name": "Opus 4.1",
            "id": "claude-opus-4-1-20250805",
            "type": "anthropic",
            "reasoning": "high",
            "provider": "anthropic",
        },
        {
            "name": "Sonnet 4.5",
            "id": "claude-sonnet-4-5-20250929",
            "type": "anthropic",
            "reasoning": "auto",
            "provider": "anthropic",
        },
        {"name": "GPT-5", "id": "gpt-5-2025-08-07", "type": "openai", "reasoning": "off", "provider": "openai"},
        {"name": "GLM-4.6", "id": "glm-4.6", "type": "common", "provider": "fireworks"},
    ],
    "system_prompt": "You are Droid.\n\n",
    "user_agent": "factory-cli/0.40.2",
    "dev_mode": True,
}


@pytest.fixture
def read(tmp_path):
    """Load settings from a value, or from text as it stands in the file."""

    def read(value, environment=None):
        file = tmp_path / "config.json"
        file.write_bytes(value if isinstance(value, bytes) else orjson.dumps(value))
        return load(file, environment or {})

    return read


def model(**changes):
    return {"id": "m", "type": "openai"} | changes


# -- what is read ---------------------------------------------------------------------------------------------------


def test_node_edition(read):
    settings = read(NODE_EDITION)
    assert (settings.port, settings.host, settings.dev_mode) == (3001, "127.0.0.1", True)
    assert (settings.system_prompt, settings.user_agent) == ("You are Droid.\n\n", "factory-cli/0.40.2")
    opus = settings.route("claude-opus-4-1-20250805")
    assert (opus.name, opus.provider, opus.target.reasoning) == ("Opus 4.1", "anthropic", "high")
    assert opus.endpoint.base_url == "https://app.factory.ai/api/llm/a/v1/messages"
    assert settings.route("claude-3-5-haiku-20241022").id == "claude-sonnet-4-5-20250929"
    assert [m.format.NAME for m in settings.models.values()] == ["anthropic", "anthropic", "responses", "chat"]
    assert settings.warnings == ("proxies: is not a setting, so it is ignored.",)


def test_defaults(read):
    settings = read({})
    assert (settings.port, settings.host, settings.user_agent) == (3000, "127.0.0.1", USER_AGENT)
    assert (settings.system_prompt, settings.dev_mode, settings.models) == ("", False, {})
    assert {name: endpoint.base_url for name, endpoint in settings.endpoints.items()} == SHIPPED
    assert (settings.auth.token_url, settings.auth.client_id) == (TOKEN_URL, CLIENT_ID)
    assert not settings.warnings


def test_shipped_config():
    settings = load(ROOT / "config.json", {})
    assert not settings.warnings
    assert {m.format.TYPE for m in settings.models.values()} == {"anthropic", "openai", "common", "google"}
    assert {name: endpoint.base_url for name, endpoint in settings.endpoints.items()} == SHIPPED
    for asked in ("claude-3-5-haiku-latest", "claude-opus-4-1-20250805", "gpt-5"):
        assert settings.route(asked).id in settings.models


def test_an_endpoint_of_the_owners(read):
    own = {
        "name": "local",
        "base_url": "http://127.0.0.1:8000/v1/chat/completions/",
        "headers": {"X-Team": "a"},
        "api_key_env": "LOCAL_KEY",
    }
    settings = read({"endpoint": [own], "models": [model(type="common", endpoint="local")]})
    endpoint = settings.models["m"].endpoint
    assert endpoint.base_url == "http://127.0.0.1:8000/v1/chat/completions"
    assert (endpoint.headers, endpoint.api_key_env) == ({"X-Team": "a"}, "LOCAL_KEY")
    assert settings.endpoints["anthropic"].base_url == SHIPPED["anthropic"]


def test_a_byte_order_mark_is_no_error(read):
    assert read(b'\xef\xbb\xbf{"port": 4000}').port == 4000


@pytest.mark.parametrize(
    ("value", "warning"),
    [
        ({"colour": 1}, "colour: is not a setting"),
        ({"endpoint": [{"name": "openai", "base_url": "http://a", "url": ""}]}, "endpoint[0].url: is not a setting"),
        ({"models": [model(reasoning_level="high")]}, "models[0].reasoning_level: is not a setting"),
        ({"auth": {"secret": "x"}}, "auth.secret: is not a setting"),
        ({"models": [model(price={"input": 1, "output": 1, "x": 1})]}, "models[0].price.x: is not a setting"),
        ({"timeouts": {"total": 1}}, "timeouts.total: is not a setting"),
        ({"models": [model(), model(type="common")]}, "models[1].id: 'm' is given twice; the first one counts"),
        ({"model_redirects": {"a": "b"}}, "model_redirects.a: 'b' is no configured model"),
        ({"auth": {"hosts": ["a", "http://b"]}}, "auth.hosts[1]: 'http://b' is no name of a host"),
        ({"allowed_hosts": ["b.example/"]}, "allowed_hosts[0]: 'b.example/' is no name of a host"),
        ({"allowed_origins": ["https://a.example", "null", "*"]}, "allowed_origins[2]: '*' is no origin, such as"),
        ({"allowed_origins": ["https://a.example/"]}, "allowed_origins[0]: 'https://a.example/' is no origin, such as"),
    ],
)
def test_what_is_odd_is_warned_of(read, value, warning):
    (told,) = read(value).warnings
    assert told.startswith(warning)


# -- what is refused ------------------------------------------------------------------------------------------------

ENDPOINT = {"name": "openai", "base_url": "http://127.0.0.1"}
WRONG = [
    ({"port": "3000"}, "port: must be an integer, not a string"),
    ({"port": True}, "port: must be an integer, not true or false"),
    ({"port": 70000}, "port: must be from 0 to 65535"),
    ({"port": -1}, "port: must be from 0 to 65535"),
    ({"host": 1}, "host: must be a string"),
    ({"system_prompt": ["a"]}, "system_prompt: must be a string, not a list"),
    ({"api_keys": ["a", ""]}, "api_keys[1]: must not be empty"),
    ({"user_agent": 7}, "user_agent: must be a string"),
    ({"user_agent": "a\r\nx-evil: 1"}, "user_agent: must not hold control characters"),
    ({"dev_mode": "yes"}, "dev_mode: must be true or false"),
    ({"endpoint": {}}, "endpoint: must be a list"),
    ({"endpoint": ["openai"]}, "endpoint[0]: must be an object"),
    ({"endpoint": [{"base_url": "http://a"}]}, "endpoint[0].name: is required"),
    ({"endpoint": [{"name": "openai"}]}, "endpoint[0].base_url: is required"),
    ({"endpoint": [ENDPOINT, ENDPOINT | {"name": "opneai"}]}, "endpoint[1].name: must be one of"),
    ({"endpoint": [ENDPOINT | {"base_url": "api.factory.ai"}]}, "endpoint[0].base_url: must be an http or https URL"),
    ({"endpoint": [ENDPOINT | {"base_url": "ftp://a"}]}, "endpoint[0].base_url: must be an http or https URL"),
    ({"endpoint": [ENDPOINT | {"base_url": "http://:80"}]}, "endpoint[0].base_url: must be an http or https URL"),
    ({"endpoint": [ENDPOINT | {"base_url": "http://[::1"}]}, "endpoint[0].base_url: must be an http or https URL"),
    ({"endpoint": [ENDPOINT | {"base_url": "http://a:99999"}]}, "endpoint[0].base_url: must be an http or https URL"),
    ({"endpoint": [ENDPOINT | {"base_url": "http://a..b/"}]}, "endpoint[0].base_url: must be an http or https URL"),
    ({"endpoint": [ENDPOINT | {"base_url": f"http://{'a' * 64}.b"}]}, "endpoint[0].base_url: must be an http or https"),
    ({"endpoint": [ENDPOINT | {"base_url": "http://a b"}]}, "endpoint[0].base_url: must be an http or https URL"),
    ({"endpoint": [ENDPOINT | {"base_url": "http://u:p@a"}]}, "endpoint[0].base_url: must not hold a user or password"),
    ({"endpoint": [ENDPOINT | {"headers": ["a"]}]}, "endpoint[0].headers: must be an object"),
    ({"endpoint": [ENDPOINT | {"headers": {"a": 1}}]}, "endpoint[0].headers.a: must be a string"),
    ({"endpoint": [ENDPOINT | {"headers": {"a": "b\nc"}}]}, "endpoint[0].headers.a: must not hold control characters"),
    ({"endpoint": [ENDPOINT | {"headers": {"a b": "c"}}]}, "endpoint[0].headers: 'a b' is no name of a header"),
    ({"endpoint": [ENDPOINT | {"api_key_env": 1}]}, "endpoint[0].api_key_env: must be a string"),
    ({"models": {}}, "models: must be a list"),
    ({"models": ["gpt-5"]}, "models[0]: must be an object"),
    ({"models": [{"type": "openai"}]}, "models[0].id: is required"),
    ({"models": [model(id="")]}, "models[0].id: must not be empty"),
    ({"models": [{"id": "m"}]}, "models[0].type: is required"),
    ({"models": [model(), model(id="n", type="OpenAI")]}, "models[1].type: must be one of"),
    ({"models": [model(reasoning="extreme")]}, "models[0].reasoning: must be one of auto, off, low, medium, high"),
    ({"models": [model(reasoning=3)]}, "models[0].reasoning: must be a string"),
    ({"models": [model(thinking="much")]}, "models[0].thinking: must be one of budget, adaptive"),
    ({"models": [model(profile="plain")]}, "models[0].profile: must be an object, not a string."),
    ({"models": [model(profile={"of": "none"})]}, "models[0].profile.of: is no field of a profile. Fields: efforts, "),
    (
        {"models": [model(profile={"ids": "all"})]},
        "models[0].profile.ids: must be one of kept, safe, nine, not 'all'.",
    ),
    ({"models": [model(fast="yes")]}, "models[0].fast: must be true or false"),
    ({"models": [model(endpoint="nowhere")]}, "models[0].endpoint: 'nowhere' is no configured endpoint"),
    ({"models": [model(max_tokens=0)]}, "models[0].max_tokens: must be 1 or more, not 0."),
    ({"models": [model(max_tokens="many")]}, "models[0].max_tokens: must be an integer"),
    ({"models": [model(name=1)]}, "models[0].name: must be a string"),
    ({"models": [model(provider=1)]}, "models[0].provider: must be a string"),
    ({"models": [model(provider="a\nb")]}, "models[0].provider: must not hold control characters"),
    ({"models": [model(retries=-1)]}, "models[0].retries: must be from 0 to 10, not -1."),
    ({"models": [model(retries="2")]}, "models[0].retries: must be an integer"),
    ({"models": [model(body=[])]}, "models[0].body: must be an object, not a list."),
    ({"models": [model(body={"model": "x"})]}, "models[0].body.model: cannot be set here"),
    ({"models": [model(body={"stream": None})]}, "models[0].body.stream: cannot be set here"),
    ({"models": [model(cache=True)]}, "models[0].cache: must be a string"),
    ({"models": [model(cache="on")]}, "models[0].cache: must be one of auto, off, not 'on'."),
    ({"models": [model(price=1)]}, "models[0].price: must be an object, not an integer."),
    ({"models": [model(price={"input": 1})]}, "models[0].price.output: is required and must be a number."),
    ({"models": [model(price={"input": -1, "output": 1})]}, "models[0].price.input: must be 0 or more, not -1."),
    ({"models": [model(price={"input": "1", "output": 1})]}, "models[0].price.input: must be a number"),
    ({"models": [model(fallback=1)]}, "models[0].fallback: must be a string"),
    ({"models": [model(fallback="m")]}, "models: the fallback of 'm' must be one of the others: none."),
    ({"models": [model(fallback="x"), model(id="n")]}, "models: the fallback of 'm' must be one of the others: n."),
    ({"model_redirects": []}, "model_redirects: must be an object"),
    ({"model_redirects": {"a": 1}}, "model_redirects.a: must be a string"),
    ({"auth": "x"}, "auth: must be an object"),
    ({"auth": {"hosts": "a"}}, "auth.hosts: must be a list"),
    ({"auth": {"hosts": [1]}}, "auth.hosts[0]: must be a string"),
    ({"auth": {"token_url": "x"}}, "auth.token_url: must be an http or https URL"),
    ({"auth": {"client_id": 1}}, "auth.client_id: must be a string"),
    ({"timeouts": {"idle": 0}}, "timeouts.idle: must be more than 0"),
    ({"timeouts": {"connect": "10"}}, "timeouts.connect: must be a number"),
    ([], "must be a JSON object"),
]


@pytest.mark.parametrize(("value", "message"), WRONG, ids=[message for _, message in WRONG])
def test_what_is_wrong_is_refused(read, tmp_path, value, message):
    with pytest.raises(ConfigError) as refused:
        read(value)
    assert str(refused.value).startswith(f"{tmp_path / 'config.json'}: {message}")


def test_broken_json_names_the_line(read):
    with pytest.raises(ConfigError, match=r"config\.json: line 3, column \d+: "):
        read(b'{\n  "port": 3000,\n  models: []\n}')
    with pytest.raises(ConfigError, match=r"config\.json: line 1"):
        read(b"")


@pytest.mark.parametrize("path", ["nowhere.json", "."])
def test_a_file_that_cannot_be_read(tmp_path, path):
    with pytest.raises(ConfigError, match="cannot be read: "):
        load(tmp_path / path, {})


# -- the environment ------------------------------------------------------------------------------------------------


def test_environment_overrides(read, tmp_path):
    environment = {"PORT": "4321", "HOST": "::1", "DROID2API_DATA": str(tmp_path / "state")}
    settings = read({"port": 3000, "host": "127.0.0.1"}, environment)
    assert (settings.port, settings.host, settings.data_folder) == (4321, "::1", tmp_path / "state")


@pytest.mark.parametrize("port", ["http", "70000", "-1", "3000.5"])
def test_wrong_port_in_the_environment(read, port):
    with pytest.raises(ConfigError, match=r"PORT: must be a port number"):
        read({}, {"PORT": port})


def test_data_folder(read, tmp_path, monkeypatch):
    assert read({}).data_folder == tmp_path / "data"
    # the copy in an installed package: nothing is written there
    monkeypatch.setattr(config, "__file__", str(tmp_path / "config.py"))
    assert read({}, {"HOME": str(tmp_path / "home")}).data_folder == tmp_path / "home" / ".droid2api"


def test_where_the_config_is_looked_for(tmp_path, monkeypatch):
    environment = {"DROID2API_CONFIG": "from-environment.json"}
    package, here = tmp_path / "droid2api", tmp_path / "here"
    package.mkdir()
    here.mkdir()
    monkeypatch.setattr(config, "__file__", str(package / "config.py"))
    monkeypatch.chdir(here)
    assert find_config(None, {}) == tmp_path / "config.json"  # a checkout, from another folder
    (package / "config.json").touch()
    assert find_config(None, {}) == package / "config.json"
    (here / "config.json").touch()
    assert find_config(None, {}) == Path("config.json")
    assert find_config(None, environment) == Path("from-environment.json")
    assert find_config("given.json", environment) == Path("given.json")


# -- profiles -------------------------------------------------------------------------------------------------------


def test_a_models_profile_is_of_its_host_and_id(read):
    endpoints = [
        {"name": "common", "base_url": "https://API.Groq.com:443/openai/v1/chat/completions", "api_key_env": "KEY"},
        {"name": "local", "base_url": "http://[::1]:8000/v1/chat/completions"},
    ]
    models = [model(id="qwen/qwen3-32b", type="common"), model(id="house", type="common", endpoint="local")]
    settings = read({"endpoint": endpoints, "models": models})
    groq, local = (settings.models[id].target.profile for id in ("qwen/qwen3-32b", "house"))
    assert groq == profile_of("api.groq.com", "qwen/qwen3-32b", "chat")
    assert groq.efforts == ("default",)
    assert local == profile_of("::1", "house", "chat")


def test_what_a_config_says_wins_over_what_is_known(read):
    given = {"efforts": ["low", "max"], "off": "none", "prefill": True, "max_output_tokens": None}
    settings = read({"models": [model(id="claude-opus-5-5", type="anthropic", profile=given)]})
    target = settings.models["claude-opus-5-5"].target
    known = profile_of("api.factory.ai", "claude-opus-5-5", "anthropic")
    assert target.profile == replace(known, efforts=("low", "max"), off="none", prefill=True, max_output_tokens=None)
    assert known != target.profile


@pytest.mark.parametrize(
    ("id", "given", "thinking"),
    [
        ("claude-opus-5-5", {}, "adaptive"),
        ("claude-opus-4-5", {}, "budget"),
        ("claude-7", {}, "budget"),
        ("claude-7", {"profile": {"thinking": "adaptive"}}, "adaptive"),
        ("claude-opus-5-5", {"thinking": "budget"}, "budget"),
        ("claude-opus-5-5", {"thinking": "budget", "profile": {"thinking": "adaptive"}}, "budget"),
    ],
)
def test_thinking_of_a_model_wins(read, id, given, thinking):
    target = read({"models": [model(id=id, type="anthropic", **given)]}).models[id].target
    assert target.profile.thinking == thinking


# -- routes ---------------------------------------------------------------------------------------------------------

REDIRECTED = {
    "models": [model(id="big"), model(id="small"), model(id="org/big")],
    "model_redirects": {
        "claude-*": "big",
        "claude-3-5-haiku*": "small",
        "claude-exact": "small",
        "gpt-[45]": "big",
        "big": "small",
        "org/*": "small",
        "stale": "gone",
        "own[1m]": "small",
    },
}


@pytest.mark.parametrize(
    ("asked", "model_id"),
    [
        ("small", "small"),
        ("big", "small"),  # an exact redirect wins over a configured model
        ("org/big", "org/big"),  # which wins over a pattern
        ("org/other", "small"),
        ("claude-exact", "small"),  # exact wins over a pattern
        ("claude-3-5-haiku-20241022", "big"),  # the first pattern that fits wins
        ("gpt-4", "big"),
        ("small[1m]", "small"),
        ("big[1m]", "small"),
        ("claude-1[1m]", "big"),
        ("own[1m]", "small"),
        ("gpt-6", None),
        ("CLAUDE-1", None),
        ("stale", None),
        ("", None),
    ],
)
def test_redirects(read, asked, model_id):
    settings = read(REDIRECTED)
    if model_id:
        assert settings.route(asked).id == model_id
        return
    with pytest.raises(RequestError) as refused:
        settings.route(asked)
    assert (refused.value.status, refused.value.code, refused.value.param) == (404, "model_not_found", "model")
    assert "Configured models: big, small, org/big." in refused.value.message


def test_the_environment_is_not_shown(read):
    assert "a-secret-key" not in repr(read({}, {"FACTORY_API_KEY": "a-secret-key"}))


# -- who gets Factory's credential ----------------------------------------------------------------------------------


def at(url, **more):
    endpoint = {"name": "common", "base_url": url} | more
    return {"endpoint": [endpoint], "models": [model(type="common")]}


@pytest.mark.parametrize(
    "value",
    [
        at("https://factory.ai/v1"),
        at("https://API.Factory.ai/v1"),
        at("https://eu.api.factory.ai./v1"),
        at("http://localhost:8000/v1"),
        at("http://box.localhost/v1"),
        at("http://127.0.0.9:8000/v1"),
        at("http://[::1]:8000/v1"),
        at("https://models.example/v1", api_key_env="OWN_KEY"),
        at("https://models.example/v1", headers={"authorization": "Bearer own"}),
        at("https://models.example/v1") | {"auth": {"hosts": ["Models.example"]}},
        at("http://192.168.1.7/v1") | {"auth": {"hosts": ["192.168.1.7"]}},
        at("https://models.example/v1") | {"models": []},  # nobody is sent there
    ],
)
def test_who_may_have_factorys_credential(read, value):
    assert read(value)


@pytest.mark.parametrize(
    "host",
    [
        "models.example",
        "notfactory.ai",
        "factory.ai.example",
        "evil;.factory.ai",
        "192.168.1.7",
        "0.0.0.0",
        "localhost.example",
        "sub.allowed.example",
    ],
)
def test_who_may_not(read, host):
    with pytest.raises(ConfigError) as error:
        read(at(f"https://{host}/v1", headers={"x-api-key": "own"}) | {"auth": {"hosts": ["allowed.example"]}})
    text = str(error.value)
    assert f"Factory's credential is not for the host {host}" in text
    assert "api_key_env" in text
    assert "auth.hosts" in text


# -- keys -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["FACTORY_API_KEY", "DROID_REFRESH_KEY", "OWN_KEY"])
@pytest.mark.parametrize(
    "key", ["planted-a\nb", "planted-a\r\nx-evil: 1", "planted-a\0b", "planted-a\x7f", "planted-\udcff"]
)
def test_a_key_that_would_end_a_header(tmp_path, name, key):
    file = tmp_path / "config.json"
    file.write_bytes(orjson.dumps(at("https://models.example/v1", api_key_env="OWN_KEY")))
    with pytest.raises(ConfigError) as error:
        load(file, {name: key})
    assert str(error.value) == f"{name}: must not hold control characters."
    assert load(file, {name: " key\r\n"})  # around it they do no harm: they are cut off


def test_whose_config_it_is(tmp_path, monkeypatch):
    """A folder that somebody gave to the user does not speak for the user, nor does its .env."""
    package = tmp_path / "site" / "droid2api"
    package.mkdir(parents=True)
    monkeypatch.setattr("droid2api.config.__file__", str(package / "config.py"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DROID2API_CONFIG", raising=False)
    for path in (package / "config.json", package.parent / "config.json"):
        assert is_own(path, None)
    assert not is_own(Path("config.json"), None)
    assert is_own(Path("config.json"), "config.json")
    monkeypatch.setenv("DROID2API_CONFIG", "config.json")
    assert is_own(Path("config.json"), None)
    monkeypatch.delenv("DROID2API_CONFIG")
    monkeypatch.chdir(package.parent)
    assert is_own(Path("config.json"), None)  # a checkout, from its own folder


@pytest.mark.parametrize("host", [f"{'a' * 63}.example", "a.example.", "[::1]", "b\u00fccher.example"])
def test_hosts_that_are_hosts(read, host):
    endpoint = {"name": "openai", "base_url": f"http://{host}:8080/v1", "api_key_env": "KEY"}
    assert read({"endpoint": [endpoint]}).endpoints["openai"].base_url == endpoint["base_url"]


@pytest.mark.parametrize("name", ["config.json", ".env"])
def test_a_pipe_is_refused_and_not_waited_for(tmp_path, name):
    os.mkfifo(tmp_path / name)
    with pytest.raises(ConfigError, match="it is a pipe, not a file"):
        (load if name == "config.json" else read_environment)(tmp_path / name)


def test_commas_are_no_keys(read):
    for given in (",", " , ,"):
        with pytest.raises(ConfigError, match="DROID2API_KEYS: holds only commas"):
            read({}, {"DROID2API_KEYS": given})
    assert read({"api_keys": ["k"]}, {"DROID2API_KEYS": " "}).api_keys == ("k",)


@pytest.mark.parametrize("hosts", [["*"], ["a.example", "*.*"], ["*.team.example"]])
def test_hosts_of_any_name_without_a_key_are_warned_of(read, hosts):
    warned = any("DNS rebinding" in warning for warning in read({"allowed_hosts": hosts}).warnings)
    assert warned is (hosts != ["*.team.example"])
    assert not read({"allowed_hosts": hosts, "api_keys": ["k"]}).warnings
