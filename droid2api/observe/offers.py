"""The models that a service offers, as lines for config.json: for `droid2api models --upstream NAME`."""

from __future__ import annotations

import asyncio
from urllib.parse import urlencode

import aiohttp
import orjson

from droid2api.credentials import chain
from droid2api.errors import ConfigError, CredentialError, WireError
from droid2api.formats import Format
from droid2api.formats.listing import list_url, read_list
from droid2api.outbound import Outbound, WayError
from droid2api.settings import Endpoint, Settings
from droid2api.wire.fields import Json

MOST_BYTES = 8 * 1024 * 1024
"""Of one page of a list."""
MOST_PAGES = 50


def offered(settings: Settings, name: str) -> list[Json]:
    """Each model of the service behind an endpoint, as an object of `models`, and whether it is "configured" already.

    Raises ConfigError for whatever stands in the way.
    """
    if name not in settings.endpoints:
        raise ConfigError(f"--upstream: must be one of {', '.join(settings.endpoints)}, not {name[:40]!r}.")
    endpoint = settings.endpoints[name]
    format = _format_of(settings, name)
    try:
        found = asyncio.run(_fetch(settings, endpoint, format))
    except (WayError, CredentialError) as error:
        raise ConfigError(f"{name}: {error.message if isinstance(error, CredentialError) else error}") from None
    except (aiohttp.ClientError, OSError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise ConfigError(f"{name}: {list_url(endpoint.base_url)} could not be reached ({reason}).") from None
    except WireError as error:
        raise ConfigError(f"{name}: {list_url(endpoint.base_url)} sent {error}.") from None
    where = {} if name == format.TYPE else {"endpoint": name}
    lines: list[Json] = []
    for model in found:
        label = {"name": model["name"]} if model["name"] and model["name"] != model["id"] else {}
        configured = model["id"] in settings.models
        lines.append({"line": {"id": model["id"], "type": format.TYPE, **label, **where}, "configured": configured})
    return lines


def _format_of(settings: Settings, name: str) -> Format:
    """The format that an endpoint speaks: its models', else that of its name."""
    spoken = [model.format for model in settings.models.values() if model.endpoint.name == name]
    return spoken[0] if spoken else next(format for format in settings.formats if name == format.TYPE)


async def _fetch(settings: Settings, endpoint: Endpoint, format: Format) -> list[Json]:
    models: list[Json] = []
    query: dict[str, str] = {}
    async with Outbound(settings.environment) as outbound:
        shared = chain.find_shared(settings, outbound)
        credential = chain.choose(endpoint, format.KEY_HEADER, settings.environment, shared)
        headers = {**format.upstream_headers({}), "user-agent": settings.user_agent, "accept-encoding": "identity"}
        headers |= {**await credential.get([]), **endpoint.headers}
        for _ in range(MOST_PAGES):
            page, query = read_list(await _read_page(outbound, endpoint, headers, query, settings.timeouts.connect))
            models += page
            if not query:
                break
    return models


async def _read_page(
    outbound: Outbound, endpoint: Endpoint, headers: dict[str, str], query: dict[str, str], patience: float
) -> Json:
    """Raises WireError for what is no list."""
    url = list_url(endpoint.base_url) + (f"?{urlencode(query)}" if query else "")
    async with asyncio.timeout(patience * 3):
        async with await outbound.get(url, proxy=endpoint.proxy, headers=headers) as response:
            content = b""
            async for chunk in response.content.iter_any():
                content += chunk
                if len(content) > MOST_BYTES:
                    raise WireError(f"a list of more than {MOST_BYTES} bytes")
    if response.status != 200:
        raise WireError(f"status {response.status} in place of a list of models")
    try:
        value = orjson.loads(content)
    except orjson.JSONDecodeError:
        value = None
    if type(value) is not dict:
        raise WireError("no JSON object in place of a list of models")
    return value
