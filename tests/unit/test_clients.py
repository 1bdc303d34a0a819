"""Who is at the other end: what counts as one client, and whom a proxy speaks for."""

import ipaddress

import pytest
from starlette.requests import Request

from refdesk.access.clients import LOOPBACK, address_of, caller, origin

PROXY = "10.0.0.5"
TRUSTED = (*LOOPBACK, ipaddress.ip_network("10.0.0.0/24"))


def call(host: str, *lines: tuple[str, str], **headers: str) -> Request:
    given = [(name.replace("_", "-").encode(), value.encode()) for name, value in (*lines, *headers.items())]
    return Request({"type": "http", "client": (host, 1), "headers": given})


def test_an_ipv6_network_is_one_client() -> None:
    """A household has a /64; an IPv4 address in IPv6's clothes is what it is."""
    first, second, other = (address_of(text) for text in ("2001:db8::1", "2001:db8::ffff:1", "2001:db8:0:1::1"))
    assert origin(first) == origin(second) != origin(other)
    assert origin(address_of("::ffff:192.0.2.1")) == origin(address_of("192.0.2.1")) == "192.0.2.1"
    assert origin(address_of(None)) == origin(address_of("testclient")) == ""


@pytest.mark.parametrize(
    ("request_", "address"),
    [
        (call("192.0.2.1"), "192.0.2.1"),
        (call("192.0.2.1", x_forwarded_for="203.0.113.7"), "192.0.2.1"),
        (call(PROXY, x_forwarded_for="203.0.113.7"), "203.0.113.7"),
        (call(PROXY, x_forwarded_for="198.51.100.1, 203.0.113.7, 10.0.0.9"), "203.0.113.7"),
        (call(PROXY, x_forwarded_for="203.0.113.7, nonsense"), PROXY),
        (call(PROXY), PROXY),
        (call(PROXY, ("x-forwarded-for", "198.51.100.1"), ("x-forwarded-for", "203.0.113.7")), "203.0.113.7"),
        (call("127.0.0.1"), None),
        (call("127.0.0.1", x_forwarded_for="203.0.113.7"), "203.0.113.7"),
        (call("127.0.0.1", via="1.1 proxy"), "127.0.0.1"),
    ],
)
def test_a_trusted_proxy_speaks_for_others_and_nobody_else_does(request_: Request, address: str | None) -> None:
    """What a stranger says of itself counts for nothing."""
    found = caller(request_, trusted=TRUSTED)
    assert (None if found is None else str(found)) == address
