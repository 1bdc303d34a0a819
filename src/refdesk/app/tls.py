"""TLS on our own port: a certificate and its key from files, read again when they change.

What renews a certificate writes two files, one after the other; so a pair that does not fit is tried again, and the one before
serves meanwhile. Connections that are open go on with the certificate that they began with.
"""

import asyncio
import logging
import ssl
from pathlib import Path

from refdesk.contracts.errors import ConfigurationError

logger = logging.getLogger(__name__)

LOOK_S = 10.0
"""How often the files are looked at."""


class Certificate:
    """Raises ConfigurationError where the files are no certificate and its key. ``run`` keeps ``context`` current."""

    def __init__(self, certificate: Path, key: Path) -> None:
        self._files = (certificate, key)
        self._read = self._state()
        try:
            self.context = self._current = self._load()
        except (OSError, ssl.SSLError) as error:
            raise ConfigurationError(
                f"REFDESK_TLS_CERTIFICATE={certificate} and REFDESK_TLS_KEY={key} are not a certificate and its key: "
                f"{_words(error)}. Give two PEM files that this user may read; the certificate with its chain."
            ) from error
        self.context.sni_callback = self._hand_on

    async def run(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            self.look()

    def look(self) -> None:
        """Take the files as they are now, if they have changed and fit."""
        state = self._state()
        if state == self._read or None in state:
            return
        try:
            self._current = self._load()
        except (OSError, ssl.SSLError) as error:
            logger.warning("the new certificate is not taken yet: %s", _words(error))
            return
        self._read = state
        logger.info("the certificate in %s is served from now on", self._files[0])

    def _load(self) -> ssl.SSLContext:
        certificate, key = self._files
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(certificate, key, password=_no_password)
        return context

    def _hand_on(self, connection: ssl.SSLObject, _: str, __: ssl.SSLContext) -> None:
        """A handshake that has begun goes on with the newest. (A context keeps a certificate of each kind of key that it was
        given, so the one that listens cannot take another.)"""
        connection.context = self._current

    def _state(self) -> tuple[tuple[int, int] | None, ...]:
        return tuple(_stamp(file) for file in self._files)


def _stamp(file: Path) -> tuple[int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino


def _no_password() -> str:
    """Of a key that is encrypted: OpenSSL would ask the terminal."""
    raise ssl.SSLError("the key is encrypted; give one without a password")


def _words(error: Exception) -> str:
    return getattr(error, "strerror", None) or getattr(error, "reason", None) or str(error)
