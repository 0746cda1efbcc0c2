"""Credentials that nobody renews: a key of the owner's, and the client's own."""

from collections.abc import Mapping, Sequence

from droid2api.credentials.credential import AUTHORIZATION, CLIENT, Credential, key_headers
from droid2api.errors import CredentialError

NO_CREDENTIAL = (
    "No credential: set FACTORY_API_KEY or DROID_REFRESH_KEY, give the endpoint an api_key_env in config.json, or send "
    "your key as Authorization: Bearer or x-api-key. A login of Factory's CLI counts only as ~/.factory/auth.json, "
    "which newer versions do not write."
)


class FixedKey(Credential):
    """A key that goes into `header` of each request."""

    def __init__(self, source: str, key: str, header: str = AUTHORIZATION) -> None:
        self.source = source
        self._key = key
        self._header = header

    async def get(self, client_keys: Sequence[str]) -> Mapping[str, str]:
        return key_headers(self._key, self._header)

    def secrets(self) -> list[str]:
        return [self._key]


class MissingKey(Credential):
    """Stands for the key of an endpoint whose `api_key_env` names a variable that is not set."""

    def __init__(self, variable: str, endpoint: str) -> None:
        self.source = variable
        self._endpoint = endpoint

    async def get(self, client_keys: Sequence[str]) -> Mapping[str, str]:
        raise CredentialError(
            f"The environment variable {self.source}, which has the key of endpoint {self._endpoint!r}, "
            "is not set. Set it and start again.",
        )

    def secrets(self) -> list[str]:
        return []


class ClientKey(Credential):
    """Passes on what the client sent."""

    source = CLIENT

    async def get(self, client_keys: Sequence[str]) -> Mapping[str, str]:
        if not client_keys:
            raise CredentialError(NO_CREDENTIAL)
        return key_headers(client_keys[0])

    def secrets(self) -> list[str]:
        return []
