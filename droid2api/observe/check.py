"""Whether the gateway could do its work here and now: for `droid2api check`.

Nothing is changed and no token is refreshed, unless that is asked for.
"""

from __future__ import annotations

import asyncio
import errno
import os
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import dotenv
import orjson

from droid2api.config import home
from droid2api.credentials import chain
from droid2api.credentials.credential import CLIENT, DEMO, Credential
from droid2api.credentials.rotating import RotatingCredential
from droid2api.credentials.tokens import StoreError, Tokens
from droid2api.errors import CredentialError
from droid2api.observe.explain import note_on, profile_of_model, profile_to_text
from droid2api.observe.masking import masked_url, secret_headers
from droid2api.observe.setups import local_url
from droid2api.outbound import Outbound, WayError
from droid2api.proxies import without_password
from droid2api.server.guard import Guard
from droid2api.settings import Settings
from droid2api.wire.fields import Json

HEALTH_TIMEOUT = 3.0
"""Seconds that whoever has the port may take to say whether it is this gateway."""

_LOG_IN = "set FACTORY_API_KEY, or log in again with a CLI that writes this file"
_SECRETS = frozenset("FACTORY_API_KEY DROID_REFRESH_KEY DROID2API_KEYS DROID2API_REDIS_URL".split())


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `todo` is what the owner must do about it, "" where all is well."""

    name: str
    text: str
    todo: str = ""

    @property
    def ok(self) -> bool:
        return not self.todo

    def __str__(self) -> str:
        state, todo = ("ok", "") if self.ok else ("problem", f" -> {self.todo}")
        return f"{state:<8} {self.name:<11} {self.text}{todo}"


async def check(settings: Settings, *, refresh: bool = False, folder: Path | None = None) -> list[Finding]:
    """All findings, problems and good ones. `folder` is where the .env is (the working folder).

    With `refresh` the token is renewed, and kept as the gateway keeps it. Raises ConfigError.
    """
    async with Outbound(settings.environment) as outbound:
        shared = chain.find_shared(settings, outbound)
        try:
            credential = [finding async for finding in _credential(settings, shared, refresh)]
        finally:
            await shared.close()
        endpoints = {model.endpoint.base_url: model.endpoint for model in settings.models.values()}
        ways = [(f"endpoint {each.name}", url, each.proxy) for url, each in endpoints.items()]
        if isinstance(shared, RotatingCredential) and shared.renewable:
            ways.append(("token service", settings.auth.token_url, settings.auth.proxy))
        reached = await asyncio.gather(*(_reach(outbound, *way, settings) for way in ways))
    port = await _port(settings)
    exposed = _exposed(settings, shared)
    files = _files(settings, folder or Path.cwd())
    return [*_config(settings), *credential, *reached, *_models(settings), port, *exposed, *files]


# -- settings -------------------------------------------------------------------------------------------------------


def _config(settings: Settings) -> Iterator[Finding]:
    text = f"{settings.source}: {len(settings.models)} models, {len(settings.redirects)} redirects"
    yield Finding("config", text, "" if settings.models else 'add one to "models"')
    for warning in settings.warnings:
        yield Finding("config", warning, "mend it or take it out")


def _models(settings: Settings) -> Iterator[Finding]:
    for model in settings.models.values():
        note = f"; {note}" if (note := note_on(model)) else ""
        yield Finding("model", f"{model.id}: {profile_to_text(profile_of_model(model))}{note}")


def _exposed(settings: Settings, shared: Credential) -> Iterator[Finding]:
    endpoints = [model.endpoint for model in settings.models.values()]
    own_keys = any(endpoint.api_key_env or endpoint.holds_secret for endpoint in endpoints)
    if Guard(settings, own_keys or shared.source != CLIENT).is_open:
        text = f"whoever can reach {settings.host} can use your credential"
        yield Finding("access", text, "set DROID2API_KEYS, or listen on 127.0.0.1")


# -- credential -----------------------------------------------------------------------------------------------------


async def _credential(settings: Settings, shared: Credential, refresh: bool) -> AsyncIterator[Finding]:
    endpoints = {model.endpoint.name: model.endpoint for model in settings.models.values()}.values()
    for endpoint in endpoints:
        if name := endpoint.api_key_env:
            todo = "" if settings.environment.get(name, "").strip() else f"set {name}, or put it into .env"
            yield Finding("credential", f"{name} for endpoint {endpoint.name}{' is not set' if todo else ''}", todo)
    if any(not endpoint.api_key_env for endpoint in endpoints):
        yield await _shared_credential(settings, shared, refresh)


async def _shared_credential(settings: Settings, shared: Credential, refresh: bool) -> Finding:
    if isinstance(shared, RotatingCredential):
        return await _rotating_credential(shared, refresh)
    if shared.source == CLIENT:
        file = home(settings.environment) / ".factory" / "auth.json"
        if file.exists():
            return Finding("credential", f"{file} holds no token that can be read", _LOG_IN)
        return Finding("credential", "none is configured: each client must send its own key, or set FACTORY_API_KEY")
    return Finding("credential", f"{shared.source}: a fixed key, never refreshed")


async def _rotating_credential(credential: RotatingCredential, refresh: bool) -> Finding:
    source = credential.source
    try:
        if refresh and credential.renewable:
            await credential.refresh_now()
        tokens = await credential.stored()
    except (CredentialError, StoreError) as error:
        return Finding("credential", f"{source}: {error}", f"log in again and renew {source} if this goes on")
    if problem := credential.describe().get("problem"):
        return Finding("credential", f"{source}: {problem}", "mend the place where tokens are kept")
    return _token(source, tokens, credential.renewable)


def _token(source: str, tokens: Tokens | None, refreshes: bool) -> Finding:
    if tokens is None or not tokens.access:
        return Finding("credential", f"{source}: no access token yet; the start gets one (or --refresh)")
    age, left = time.time() - tokens.received_at, tokens.expires_at - time.time()
    if left > 0:
        return Finding("credential", f"{source}: {_span(age)} old, ends in {_span(left)}")
    text = f"{source}: the access token ended {_span(-left)} ago"
    if refreshes:
        return Finding("credential", f"{text}; the start renews it (or --refresh)")
    return Finding("credential", f"{text}, and there is no refresh token", _LOG_IN)


def _span(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} days"


# -- network --------------------------------------------------------------------------------------------------------


async def _reach(outbound: Outbound, name: str, url: str, proxy: str, settings: Settings) -> Finding:
    """A GET without any credential: whatever status comes, the way there is open."""
    place, patience = masked_url(url), settings.timeouts.connect
    todo = "check the network, and the URL in config.json"
    headers = {"user-agent": settings.user_agent}
    try:
        async with asyncio.timeout(patience):
            async with await outbound.get(url.partition("?")[0], proxy=proxy, headers=headers) as response:
                way = f" through {without_password(proxy)}" if proxy else ""
                return Finding(name, f"{place} answers{way} ({response.status})")
    except WayError as error:
        return Finding(name, f"{place}: {error}", "check the proxy and the certificates of this machine")
    except aiohttp.ClientConnectorDNSError:
        return Finding(name, f"{place}: the name {urlsplit(url).hostname} is not known", todo)
    except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError) as error:
        return Finding(name, f"{place}: TLS failed ({type(error).__name__})", "check the certificate and the clock")
    except TimeoutError:
        return Finding(name, f"{place}: no answer in {patience:g} seconds", todo)
    except (aiohttp.ClientError, OSError) as error:
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else type(error).__name__
        return Finding(name, f"{place}: {reason}", todo)


async def _port(settings: Settings) -> Finding:
    host, port = settings.host, settings.port
    where = f"{host} port {port}"
    try:
        server = await asyncio.get_running_loop().create_server(asyncio.Protocol, host, port, start_serving=False)
    except OSError as error:
        number = error.errno or 0  # negative: a name that was not found
        if number != errno.EADDRINUSE:
            reason = os.strerror(number) if number > 0 else error.strerror or str(error)
            return Finding("port", f"{where}: {reason}", "choose another with --host or --port")
        return await _whose_port(settings, where)
    server.close()
    await server.wait_closed()
    return Finding("port", f"{where} is free")


async def _whose_port(settings: Settings, where: str) -> Finding:
    """The port is taken, which is well if this gateway has it."""
    health = await read_health(local_url(settings))
    if not health:
        return Finding("port", f"{where} is taken by another program", "choose another with --port or PORT")
    credential = health["credential"]
    if type(credential) is dict and credential.get("state") == "failing":
        return Finding("port", f"{where}: this gateway runs there, but {credential.get('problem')}", "see its log")
    demo = type(credential) is dict and credential.get("source") == DEMO
    kind = ", as a demo that says your words back" if demo else ""
    return Finding("port", f"{where}: this gateway ({health['version']}) runs there already{kind}")


async def read_health(url: str) -> Json | None:
    """What the gateway at `url` says of itself; {} where another program answers, None where nothing does."""
    health: object = None
    try:
        timeout = aiohttp.ClientTimeout(total=HEALTH_TIMEOUT)
        async with aiohttp.ClientSession(timeout=timeout) as session, session.get(f"{url}/health") as response:
            health = orjson.loads(await response.content.read(1 << 16))
    except aiohttp.ClientConnectorError:
        return None
    except (aiohttp.ClientError, TimeoutError, OSError, orjson.JSONDecodeError):
        pass
    is_ours = type(health) is dict and {"version", "credential", "uptime_seconds"} <= health.keys()
    return health if type(health) is dict and is_ours else {}


# -- files ----------------------------------------------------------------------------------------------------------


def _files(settings: Settings, folder: Path) -> Iterator[Finding]:
    """Files that hold secrets, each once; on Windows a mode says nothing."""
    if os.name != "posix":
        return
    for file in _secret_files(settings, folder):
        try:
            mode = file.stat().st_mode & 0o777
        except OSError:  # it is not there, or in a folder of another user
            continue
        todo = f"chmod 600 {file}" if mode & 0o077 else ""
        who = "others may read it or write to it" if todo else "only you may read it"
        yield Finding("file", f"{file} (mode {mode:03o}): {who}", todo)


def _secret_files(settings: Settings, folder: Path) -> Iterator[Path]:
    names = _SECRETS | {endpoint.api_key_env for endpoint in settings.endpoints.values()}
    environment = folder / ".env"
    if environment.is_file() and any(
        value for name, value in dotenv.dotenv_values(environment).items() if name in names
    ):
        yield environment
    config = orjson.loads(settings.source.read_bytes().removeprefix(b"\xef\xbb\xbf"))
    if config.get("api_keys") or any(secret_headers(endpoint) for endpoint in settings.endpoints.values()):
        yield settings.source
    yield settings.data_folder / "auth.json"
    yield home(settings.environment) / ".factory" / "auth.json"
