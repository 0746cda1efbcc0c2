"""`models --upstream`: what a service offers, in whose shape ever, as lines for config.json."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from droid2api.config import load
from droid2api.errors import ConfigError
from droid2api.formats.listing import list_url, read_list
from droid2api.observe import offers
from droid2api.observe.offers import offered

from .test_commands import command as command_fixture

command = command_fixture
OPENAI = {"object": "list", "data": [{"id": "a", "object": "model"}, {"id": "org/b"}]}
GEMINI = {
    "models": [
        {"name": "models/gemini-x", "displayName": "Gemini X", "supportedGenerationMethods": ["generateContent"]},
        {"name": "models/embed", "supportedGenerationMethods": ["embedContent"]},
    ]
}


@pytest.mark.parametrize(
    ("base", "url"),
    [
        ("https://a/v1/chat/completions", "https://a/v1/models"),
        ("https://a/v1/responses?key=1", "https://a/v1/models"),
        ("https://a/v1/messages", "https://a/v1/models"),
        ("https://a/v1beta", "https://a/v1beta/models"),
    ],
)
def test_where_a_list_is(base, url):
    assert list_url(base) == url


class Service(ThreadingHTTPServer):
    """Gives `pages` by the query."""

    def __init__(self, pages, status=200):
        self.pages, self.status, self.asked = pages, status, []
        super().__init__(("127.0.0.1", 0), Handler)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        path, _, query = self.path.partition("?")
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.asked.append((path, query, headers))
        page = self.server.pages.get(query, {"data": []})
        content = page if type(page) is bytes else json.dumps(page).encode()
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def serve():
    running = []

    def start(pages, status=200):
        service = Service(pages, status)
        thread = threading.Thread(target=service.serve_forever)
        thread.start()
        running.append((service, thread))
        return service, f"http://127.0.0.1:{service.server_port}"

    yield start
    for service, thread in running:
        service.shutdown()
        service.server_close()
        thread.join()


def settings(tmp_path, kind, url, path, name=None, **more):
    endpoint = {"name": name or kind, "base_url": url + path, "api_key_env": "OWN"} | more
    models = [{"id": "a", "type": kind, "endpoint": name or kind}]
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"endpoint": [endpoint], "models": models}))
    return load(file, {"OWN": "test-key-own", "HOME": str(tmp_path)})


def test_openais_shape(tmp_path, serve):
    service, url = serve({"": OPENAI})
    found = offered(settings(tmp_path, "common", url, "/v1/chat/completions"), "common")
    assert [(one["line"], one["configured"]) for one in found] == [
        ({"id": "a", "type": "common"}, True),
        ({"id": "org/b", "type": "common"}, False),
    ]
    ((path, _, headers),) = service.asked
    assert (path, headers["authorization"]) == ("/v1/models", "Bearer test-key-own")


def test_anthropics_shape_with_pages(tmp_path, serve):
    first = {"data": [{"id": "c1", "display_name": "C One"}], "has_more": True, "last_id": "c1"}
    last = {"data": [{"id": "c2", "display_name": "C Two"}], "has_more": False, "last_id": "c2"}
    service, url = serve({"": first, "after_id=c1": last})
    found = offered(settings(tmp_path, "anthropic", url, "/v1/messages", "mine"), "mine")
    lines = [one["line"] for one in found]
    assert lines == [
        {"id": "c1", "type": "anthropic", "name": "C One", "endpoint": "mine"},
        {"id": "c2", "type": "anthropic", "name": "C Two", "endpoint": "mine"},
    ]
    headers = service.asked[0][2]
    assert (headers["x-api-key"], "anthropic-version" in headers) == ("test-key-own", True)


def test_geminis_shape_with_pages(tmp_path, serve):
    more = {"models": [{"name": "models/y"}]}
    service, url = serve({"": GEMINI | {"nextPageToken": "t2"}, "pageToken=t2": more})
    found = offered(settings(tmp_path, "google", url, "/v1beta"), "google")
    assert [one["line"]["id"] for one in found] == ["gemini-x", "y"]
    assert service.asked[0][2]["x-goog-api-key"] == "test-key-own"


def test_what_is_printed_can_be_pasted(tmp_path, serve, command, monkeypatch, capsys):
    _, url = serve({"": OPENAI})
    made = settings(tmp_path, "common", url, "/v1/chat/completions")
    monkeypatch.setenv("OWN", "test-key-own")
    code, out, errors = command.run("models", "--upstream", "common", "--config", str(made.source))
    assert (code, errors) == (0, "# 2 models, 1 configured already. Copy what you want into `models`.\n")
    assert json.loads(f"[{out.rstrip().rstrip(',')}]") == [
        {"id": "a", "type": "common"},
        {"id": "org/b", "type": "common"},
    ]


@pytest.mark.parametrize(
    ("pages", "status", "said"),
    [
        ({"": b"<html>"}, 200, "sent no JSON object"),
        ({"": b"[]"}, 200, "sent no JSON object"),
        ({"": {"object": "list"}}, 200, "sent a list of models that has none"),
        ({"": {"data": [{}]}}, 200, "whose id is no text"),
        ({"": {"data": "x"}}, 200, "whose data is no list"),
        ({"": b"{}"}, 404, "sent status 404"),
        ({"": b"x" * 2000}, 200, "more than 1000 bytes"),
    ],
)
def test_what_is_no_list_is_said(tmp_path, serve, monkeypatch, pages, status, said):
    monkeypatch.setattr(offers, "MOST_BYTES", 1000)
    _, url = serve(pages, status)
    with pytest.raises(ConfigError, match=said):
        offered(settings(tmp_path, "common", url, "/v1/chat/completions"), "common")


def test_pages_have_an_end(tmp_path, serve):
    endless = {"data": [{"id": "x"}], "has_more": True, "last_id": "x"}
    service, url = serve({"": endless, "after_id=x": endless})
    assert len(offered(settings(tmp_path, "anthropic", url, "/v1/messages"), "anthropic")) == offers.MOST_PAGES
    assert len(service.asked) == offers.MOST_PAGES


def test_wrong_names_keys_and_places(tmp_path, serve):
    _, url = serve({"": OPENAI})
    made = settings(tmp_path, "common", url, "/v1/chat/completions")
    with pytest.raises(ConfigError, match=r"--upstream: must be one of .*common.*, not 'nowhere'"):
        offered(made, "nowhere")
    closed = settings(tmp_path, "common", "http://127.0.0.1:1", "/v1/chat/completions")
    with pytest.raises(ConfigError, match="could not be reached"):
        offered(closed, "common")
    keyless = load(made.source, {"HOME": str(tmp_path)})
    with pytest.raises(ConfigError, match="OWN"):
        offered(keyless, "common")


@pytest.mark.parametrize("methods", [None, 5, "generateContent", {}])
def test_methods_that_are_no_list(methods):
    page = {"models": [{"name": "models/m", "supportedGenerationMethods": methods}]}
    assert read_list(page) == ([{"id": "m", "name": ""}], {})
