"""A renewed token that an upstream refuses too: to renew it for each request would be a storm of refreshes."""

import logging
import time

from droid2api.errors import CredentialError

log = logging.getLogger("droid2api.auth")

PAUSE = 300.0
"""Seconds in which a token that took the place of a refused one is not renewed for being refused too."""


class Refusal:
    """The last token that was refused: which one took its place, and whether that was refused too."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._successor = ""
        self._pause_ends = 0.0
        self._problem = ""

    def replaced_by(self, access: str) -> None:
        """This token took the place of a refused one."""
        if access != self._successor:
            self._successor, self._problem = access, ""
            self._pause_ends = time.monotonic() + PAUSE

    def concerns(self, access: str) -> bool:
        """Whether this token took the place of a refused one a short time ago."""
        return access == self._successor and time.monotonic() < self._pause_ends

    def problem(self, access: str) -> str:
        """Why this token is not renewed; "" when it may be."""
        return self._problem if self.concerns(access) else ""

    def repeated(self) -> CredentialError:
        """The token that took the place of a refused one was refused too."""
        if not self._problem:
            text = (
                f"An upstream refused the token of {self._source} and the one that replaced it. It is not renewed "
                f"again for {PAUSE / 60:g} minutes. If this goes on, log in again."
            )
            log.warning("%s", text)
            self._problem = text
        return CredentialError(self._problem)
