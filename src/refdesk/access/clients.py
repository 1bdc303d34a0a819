"""Who is at the other end of a connection: an address, a network, or a proxy that speaks for many."""

import ipaddress
from functools import lru_cache

from starlette.requests import HTTPConnection

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1"))
PROXY_HEADERS = frozenset(
    (
        *(b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"x-forwarded-prefix"),
        *(b"x-real-ip", b"via"),
    )
)
ADDRESSES_REMEMBERED = 4096
"""That are not read again. The same clients come all the time."""
IPV6_CLIENT_BITS = 64
"""What one client is given of IPv6 (RFC 6177): its addresses count as one."""


@lru_cache(maxsize=ADDRESSES_REMEMBERED)
def address_of(host: str | None) -> Address | None:
    """None for what is no address, as on a Unix socket; an IPv4 address in IPv6's clothes is what it is."""
    try:
        address = ipaddress.ip_address(host or "")
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def origin(address: Address | None) -> str:
    """What counts as one client: an IPv4 address, or an IPv6 network as one household has it."""
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((int(address), IPV6_CLIENT_BITS), strict=False))
    return str(address or "")


def is_among(address: Address | None, networks: tuple[Network, ...]) -> bool:
    return address is not None and any(address in network for network in networks)


def caller(connection: HTTPConnection, *, trusted: tuple[Network, ...]) -> Address | None:
    """The client's address: that of the connection or, where a trusted proxy speaks, the last one it names that is none.

    None for callers without an address, and for those straight from this machine.
    """
    address = address_of(connection.client.host if connection.client else None)
    if not is_among(address, trusted):
        return address
    if is_straight(connection):
        return None if is_among(address, LOOPBACK) else address
    lines = connection.headers.getlist("x-forwarded-for")  # a proxy may add a line of its own to what it was sent
    named = [address_of(text.strip()) for text in ",".join(lines).split(",")]
    return next((client for client in reversed(named) if not is_among(client, trusted)), None) or address


def is_straight(connection: HTTPConnection) -> bool:
    """Whether no proxy says that it speaks for somebody."""
    return PROXY_HEADERS.isdisjoint(name for name, _ in connection.scope["headers"])
