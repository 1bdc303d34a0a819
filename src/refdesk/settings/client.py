"""The command line as a client of a running Refdesk."""

from typing import Annotated

import msgspec
from msgspec import Meta


class Client(msgspec.Struct, frozen=True, kw_only=True):
    """The command line as a client."""

    url: str = "http://127.0.0.1:8080"
    """The running Refdesk that `refdesk add`, `ask` and the others talk to."""
    api_key: str | None = None
    """The key they send. Unset: the operator's, when this account started that Refdesk."""
    sync_deleted_share_max: Annotated[float, Meta(ge=0, le=1)] = 0.5
    """The share of a source's documents that one `refdesk sync` may delete; beyond it, it changes nothing."""
