"""Who is at the other end of a connection: an address, a network, or a proxy that speaks for many."""

import ipaddress

from starlette.requests import HTTPConnection

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1"))
PROXY_HEADERS = (
    *("forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-forwarded-prefix"),
    *("x-real-ip", "via"),
)
IPV6_CLIENT_BITS = 64
"""What one client is given of IPv6 (RFC 6177): its addresses count as one."""


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
    lines = connection.headers.getlist("x-forwarded-for")  # a proxy may add a line of its own to what it was sent
    named = [address_of(text.strip()) for text in ",".join(lines).split(",")]
    behind = next((client for client in reversed(named) if not is_among(client, trusted)), None)
    straight = not any(name in connection.headers for name in PROXY_HEADERS)
    return None if straight and is_among(address, LOOPBACK) else behind or address
