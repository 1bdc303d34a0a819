"""A proxy for HTTP on the way to a service: plain requests name their whole address to it, TLS goes through a tunnel."""

import base64
from urllib.parse import unquote, urlsplit

from refdesk.contracts.errors import ConfigurationError

PORTS = {"http": 80, "https": 443}


class Proxy:
    """``host`` and ``port`` are where it listens; ``secure``: it is spoken to in TLS."""

    def __init__(self, url: str) -> None:
        try:
            parts = urlsplit(url if "://" in url else f"http://{url}")
            port = parts.port
        except ValueError as error:
            raise ConfigurationError(
                f"The proxy that HTTP_PROXY or HTTPS_PROXY names is no address: {error}."
            ) from error
        if parts.scheme not in PORTS or not parts.hostname:
            raise ConfigurationError(
                f"The proxy that HTTP_PROXY or HTTPS_PROXY names is one for {parts.scheme}; Refdesk uses proxies for http only. "
                "Name one, or add the model's host to NO_PROXY."
            )
        self.host, self.port = parts.hostname, port or PORTS[parts.scheme]
        self.secure = parts.scheme == "https"
        self.headers: dict[str, str] = {}
        if parts.username is not None:
            user_info = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            self.headers["Proxy-Authorization"] = "Basic " + base64.b64encode(user_info.encode()).decode("ascii")

    @property
    def shown(self) -> str:
        """For people, without credentials."""
        return f"{self.host}:{self.port}"
