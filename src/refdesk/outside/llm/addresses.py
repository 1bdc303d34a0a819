"""Where a language model is, in the forms that people write its address.

Each of these names the same server: ``http://host:8000``, ``http://host:8000/v1/``, ``http://host:8000/v1/chat/completions``. A
query (``?api-version=…``) is kept. ``user:password@`` is sent as Basic authorization, and shown nowhere.
"""

import base64
import re
from urllib.parse import unquote, urlsplit

import msgspec

from refdesk.contracts.errors import ConfigurationError

CALL = "/chat/completions"
MODELS = "/models"
_ENDINGS = (CALL, MODELS)
_VERSION = re.compile(r"/(?:v\d++(?:(?:alpha|beta)\d*+)?|openai)$")
SCHEMES = ("http", "https")


class ModelAddress(msgspec.Struct, frozen=True, kw_only=True):
    """``shown`` and ``root`` hold no credentials and no query."""

    root: str
    """Scheme, host and port."""
    paths: tuple[str, ...]
    """Where the API may begin, the likeliest first."""
    query: str = ""
    """With its question mark."""
    authorization: str | None = None

    @property
    def shown(self) -> str:
        return f"{self.root}{self.paths[0]}"


def model_address(url: str) -> ModelAddress:
    """Raises ConfigurationError, without the address's secrets, when that is not one."""
    try:
        parts = urlsplit(url.strip())
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigurationError(f"REFDESK_LLM_URL is not an address: {error}.") from error
    if parts.scheme not in SCHEMES or not host:
        raise ConfigurationError(
            "REFDESK_LLM_URL is not an address: it must begin with http:// or https:// and a host."
        )
    user_info, _, authority = parts.netloc.rpartition("@")
    path = re.sub("/{2,}", "/", parts.path).rstrip("/")
    for ending in _ENDINGS:
        path = path.removesuffix(ending).rstrip("/")
    return ModelAddress(
        root=f"{parts.scheme}://{authority}",
        paths=_paths(path),
        query=f"?{parts.query}" if parts.query else "",
        authorization=_basic(user_info) if user_info else None,
    )


def _paths(path: str) -> tuple[str, ...]:
    if not path:
        return ("/v1", "")
    return (path,) if _VERSION.search(path) else (path, f"{path}/v1")


def _basic(user_info: str) -> str:
    user, _, password = user_info.partition(":")
    return "Basic " + base64.b64encode(f"{unquote(user)}:{unquote(password)}".encode()).decode("ascii")
