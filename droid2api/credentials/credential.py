"""What a credential is: whatever lets a request in at an upstream. Each endpoint has one; chain.py chooses it."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Protocol

from droid2api.wire.fields import Json

AUTHORIZATION = "authorization"
CLIENT = "client"
"""The source of a credential that is not the owner's: each client sends its own."""
DEMO = "not needed (demo)"
"""The source of the one that the embedded upstream takes."""


class Credential(Protocol):
    """A class that inherits from this one needs `source`, `get` and `secrets`; for the rest the defaults may do.

    `source` says where the credential comes from, for /health, the log and the page.
    """

    source: str

    @abstractmethod
    async def get(self, client_keys: Sequence[str]) -> Mapping[str, str]:
        """The headers that let one request in, of a client that sent `client_keys`. Raises CredentialError."""

    @abstractmethod
    def secrets(self) -> list[str]:
        """What must be in no log and no answer, since an upstream may repeat it."""

    async def renew(self, refused: Mapping[str, str]) -> bool:
        """The upstream answered 401 to these headers of `get`. True when a second try with new ones has a chance."""
        return False

    def describe(self) -> Json:
        """Source and state for /health: no part of a secret."""
        return {"source": self.source, "state": "ok"}

    async def run(self) -> None:
        """Keep it fresh. It is a background task, cancelled before `close`."""
        return

    async def close(self) -> None:
        """Nothing is asked of it afterwards."""
        return


def key_headers(key: str, header: str = AUTHORIZATION) -> dict[str, str]:
    """A key where an upstream expects it: Authorization takes a Bearer token, other headers take the key alone."""
    return {header: f"Bearer {key}" if header == AUTHORIZATION else key}
