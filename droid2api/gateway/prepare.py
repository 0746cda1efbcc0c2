"""Makes the upstream's request out of a client's: for answers in both lanes, for counted tokens and for `explain`.

relay       client and upstream speak the same format: of the body only model, system prompt and reasoning change
translate   the client's body is decoded, put into an order that every upstream takes, and encoded for this one
"""

from __future__ import annotations

import random
import uuid
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from multidict import CIMultiDict

from droid2api.errors import RequestError
from droid2api.formats import Format
from droid2api.formats.routes import Action, ClientCall
from droid2api.hub.encoded import Encoded
from droid2api.hub.history import normalize
from droid2api.hub.request import Request, Tool
from droid2api.settings import Model, Settings
from droid2api.wire.fields import Json, merged


@dataclass(slots=True)
class Prepared:
    """What goes to `url`, but for the credential.

    `request` is what the client meant; None in the relay lane, where nobody reads it. `tool_names`, `local_stop`,
    `dropped` and `repaired` are as in hub.encoded.Encoded.
    """

    model: Model
    url: str
    headers: CIMultiDict[str]
    body: Json
    request: Request | None = None
    tool_names: dict[str, Tool] = field(default_factory=dict)
    local_stop: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    repaired: Counter[str] = field(default_factory=Counter)


def read_model(settings: Settings, format: Format, call: ClientCall) -> str:
    """The id that a client asks for. Raises RequestError that says which there are."""
    try:
        return format.read_model(call)
    except RequestError as error:
        error.message += f" Configured models: {', '.join(settings.models) or 'none'}."
        raise


def prepare(
    settings: Settings,
    model: Model,
    format: Format,
    call: ClientCall,
    client_headers: Mapping[str, str],
    action: Action = "answer",
) -> Prepared:
    """Raises RequestError for what the client must mend. `call.body` is written to in the relay lane.

    With the action "count_tokens", which is for the relay lane only, what costs tokens is as for an answer.
    """
    target = model.target if action == "answer" else replace(model.target, reasoning="auto", fast=False)
    headers = request_headers(settings, model, client_headers)
    request: Request | None = None
    if format is model.format:
        encoded = Encoded(call.body)
        stream = format.wants_stream(call) or False
    else:
        request = normalize(decode(format, call))
        encoded = model.format.encode_request(request, model.target)
        stream = bool(request.stream)
    model.format.apply_model_settings(encoded, headers, target, settings.system_prompt)
    body = encoded.body
    if model.body and action == "answer":  # who counts tokens takes fewer fields
        body = merged(body, model.body)
    return Prepared(
        model,
        model.format.upstream_url(model.endpoint.base_url, target, action, stream, body),
        headers,
        body,
        request,
        encoded.tool_names,
        encoded.local_stop,
        encoded.dropped,
        encoded.repaired,
    )


def decode(format: Format, call: ClientCall) -> Request:
    """What a call means, its path included. Raises RequestError."""
    return replace(format.decode_request(call.body), model=format.read_model(call), stream=format.wants_stream(call))


def request_headers(settings: Settings, model: Model, client: Mapping[str, str]) -> CIMultiDict[str]:
    """What the upstream is told besides the credential: the client's API headers, our own, the service's."""
    headers: CIMultiDict[str] = CIMultiDict()
    for name, value in client.items():
        lowered = name.lower()
        if lowered.startswith("x-stainless-"):  # what SDKs tell of themselves
            headers[lowered] = f"{headers[lowered]},{value}" if lowered in headers else value
    headers.update(model.format.upstream_headers(client))
    headers["user-agent"] = settings.user_agent
    headers["content-type"] = "application/json"
    headers["accept-encoding"] = "identity"  # compression would hold events back
    if not model.endpoint.api_key_env:  # on the gateway's own credential chain: the service is Factory
        headers["x-factory-client"] = "cli"
        for name in ("x-session-id", "x-assistant-message-id"):
            # an id that guards nothing needs no system call
            headers[name] = client.get(name) or str(uuid.UUID(int=random.getrandbits(128), version=4))
        if model.provider:
            headers["x-api-provider"] = model.provider
    return headers
