"""Which credential an endpoint has: the first one that exists.

    the endpoint's own key > FACTORY_API_KEY > DROID_REFRESH_KEY > ~/.factory/auth.json > the client's own

All but the first are one object that the endpoints without a key of their own share.
"""

import logging
from collections.abc import Mapping

from droid2api.config import home
from droid2api.credentials.credential import CLIENT, DEMO, Credential
from droid2api.credentials.file_store import FileStore
from droid2api.credentials.fixed import ClientKey, FixedKey, MissingKey
from droid2api.credentials.rotating import RotatingCredential
from droid2api.credentials.token_endpoint import TokenEndpoint
from droid2api.credentials.tokens import NO_LOGIN, Tokens, TokenStore
from droid2api.errors import ConfigError
from droid2api.outbound import Outbound
from droid2api.settings import TOKEN_URL, Endpoint, Settings

log = logging.getLogger("droid2api.auth")


def choose(endpoint: Endpoint, key_header: str, environment: Mapping[str, str], shared: Credential) -> Credential:
    """The endpoint's own key, which goes into the header `key_header`, else what the endpoints share."""
    variable = endpoint.api_key_env
    if not variable:
        return shared
    key = environment.get(variable, "").strip()
    return FixedKey(variable, key, key_header) if key else MissingKey(variable, endpoint.name)


def find_shared(settings: Settings, outbound: Outbound) -> Credential:
    """What the endpoints without a key of their own share. Raises ConfigError."""
    environment = settings.environment
    if key := environment.get("FACTORY_API_KEY", "").strip():
        return FixedKey(DEMO if settings.demo else "FACTORY_API_KEY", key)
    redis_url = environment.get("DROID2API_REDIS_URL", "").strip()
    if key := environment.get("DROID_REFRESH_KEY", "").strip():
        first = Tokens("", key)
        if redis_url:
            return _rotating("DROID_REFRESH_KEY", _open_redis(redis_url, key), first, settings, outbound)
        file = FileStore(settings.data_folder / "auth.json", key)
        return _rotating("DROID_REFRESH_KEY", file, file.load() or first, settings, outbound)
    file = FileStore(home(environment) / ".factory" / "auth.json")
    if (tokens := file.load()) and tokens != NO_LOGIN:
        if redis_url:
            log.warning("DROID2API_REDIS_URL is not used: it shares the token of a DROID_REFRESH_KEY only.")
        return _rotating("~/.factory/auth.json", file, tokens, settings, outbound)
    return ClientKey()


def is_unchanged(shared: Credential, before: Settings, after: Settings) -> bool:
    """Whether `find_shared` would find the same under other settings. Where there is none, or none any more, somebody
    may have logged in since.
    """
    if shared.source == CLIENT or (isinstance(shared, RotatingCredential) and not shared.has_login):
        return False
    return _places(before) == _places(after)


def _places(settings: Settings) -> list[object]:
    """All that decides what the endpoints share."""
    names = ("FACTORY_API_KEY", "DROID_REFRESH_KEY", "DROID2API_REDIS_URL")
    given = [settings.environment.get(name, "") for name in names]
    auth = (settings.auth.token_url, settings.auth.client_id, settings.auth.proxy)
    return [*given, home(settings.environment), settings.data_folder, auth]


def _rotating(source: str, store: TokenStore, tokens: Tokens, settings: Settings, outbound: Outbound) -> Credential:
    """Raises ConfigError when a file that only lies in the working folder would send the refresh token elsewhere."""
    if settings.auth.token_url != TOKEN_URL:
        if not settings.own:
            raise ConfigError(
                f"{settings.source}: auth.token_url: a refresh token is sent there only if you chose this file: "
                "give it with --config or DROID2API_CONFIG."
            )
        log.info("The refresh token is sent to %s (auth.token_url).", settings.auth.token_url.partition("?")[0])
    endpoint = TokenEndpoint(outbound, settings.auth.token_url, settings.auth.client_id, source, settings.auth.proxy)
    return RotatingCredential(source, store, tokens, endpoint)


def _open_redis(url: str, key: str) -> TokenStore:
    try:
        from droid2api.credentials.redis_store import RedisStore  # only here: the package is an extra
    except ImportError:
        raise ConfigError("DROID2API_REDIS_URL needs the redis package: pip install 'droid2api[redis]'.") from None
    return RedisStore(url, key)
