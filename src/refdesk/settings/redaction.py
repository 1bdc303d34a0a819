"""Settings as people may see them: secrets, and whatever may be one inside an address, as dots."""

import re
from typing import Any

SECRETS = frozenset(
    {
        "operator_key",
        "api_key",
        "metrics_token",
        "llm_api_key",
        "embedding_api_key",
        "embedding_previous_api_key",
        "rerank_api_key",
        "qdrant_api_key",
        "oidc_client_secret",
    }
)
"""Shown as dots by `refdesk doctor`; so are passwords inside URLs."""

DOTS = "••••••"
_USER_INFO = re.compile(r"^([a-z][a-z0-9+.-]*://)?(.*)@", re.IGNORECASE | re.DOTALL)
_NAMED_SECRET = re.compile(r"((?:password|secret|token|key)\s*+=\s*+)('(?:[^'\\]|\\.)*+'|[^&\s]++)", re.IGNORECASE)


def shown(name: str, value: Any) -> str:
    """The setting's value for people: a secret, and whatever may be one inside a URL, as dots."""
    text = "" if value is None else str(value)
    if name in SECRETS:
        return DOTS if text else ""
    if not name.endswith(("url", "urls")):
        return text
    return _NAMED_SECRET.sub(rf"\1{DOTS}", _USER_INFO.sub(_without_secret, text))


def _without_secret(match: re.Match[str]) -> str:
    """``user:password@`` keeps the user; a user alone may be a token, as NATS has them."""
    user, colon, _ = match[2].partition(":")
    return f"{match[1] or ''}{user if colon else ''}{colon}{DOTS}@"
