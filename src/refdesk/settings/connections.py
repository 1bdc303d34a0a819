"""What connections may cost."""

from typing import Annotated

import msgspec
from msgspec import Meta

from refdesk.settings.kinds import Count, Seconds


class Connections(msgspec.Struct, frozen=True, kw_only=True):
    """Connections and requests."""

    send_timeout_s: Seconds = 10.0
    """How long a reader may take nothing of what is sent before their connection is cut."""
    headers_bytes_max: Annotated[int, Meta(ge=1024)] = 32 * 1024
    """The request line and headers of a request together."""
    headers_max: Annotated[int, Meta(ge=16, le=128)] = 100
    """Headers of a request."""
    headers_seconds_max: Annotated[float, Meta(gt=0)] = 10.0
    """How long a request's headers may take, from the connection's beginning or their first byte."""
    body_seconds_max: Annotated[float, Meta(gt=0)] = 30.0
    """How long a JSON body may take; uploads have a time of their own."""
    body_pause_seconds_max: Annotated[float, Meta(gt=0)] = 10.0
    """How long it may stand still."""
    keep_alive_s: Annotated[float, Meta(gt=0)] = 30.0
    """How long a connection without a request is kept."""
    connections_max: Count = 4000
    """Connections one process may have. Raises the limit of open files as far as the system lets it."""
    per_client_max: Count = msgspec.field(default=400, name="connections_per_client_max")
    """Connections from one address (of IPv6: one /64). Loopback and trusted proxies may use all of them."""
    socket_idle_seconds_max: Annotated[float, Meta(gt=0)] = 600.0
    """How long a WebSocket may ask nothing and follow no answer."""
