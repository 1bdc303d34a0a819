"""The forms in which people run Valkey, told apart by the address.

    redis://[user:password@]host[:6379][/db]                            one server; rediss:// with TLS
    unix:///path/to/socket[?db=1]                                       one server on this machine
    redis+sentinel://[user:password@]host[:26379][,host…]/service[/db]  the primary that Sentinels name
    redis+cluster://[user:password@]host[:6379][,host…]                 a cluster; one node is enough to find the others

All take redis-py's options (``?ssl_ca_certs=…``). ``rediss+sentinel://`` and ``rediss+cluster://`` are the same with TLS.
``?sentinel_username=…&sentinel_password=…`` is what the Sentinels themselves ask for, if they do.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit

from redis.asyncio import Connection, ConnectionPool, Redis, SSLConnection
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff

from refdesk.contracts.errors import ConfigurationError
from refdesk.outside.valkey.cluster import Cluster, Node
from refdesk.outside.valkey.errors import ConnectionBroken
from refdesk.outside.valkey.lines import Where
from refdesk.outside.valkey.servers import OneServer, Server

SUBSCRIPTION_TIMEOUT_S = 2.0
HEALTH_CHECK_INTERVAL_S = 15
SERVER_PORT, SENTINEL_PORT = 6379, 26379
UNREADABLE = "it cannot be read (in a password, write / ? # @ : as %2F %3F %23 %40 %3A)"


class _NoForm(ValueError):
    """Says what is wrong, and repeats nothing of the address: any part of it may be a password that was typed wrongly."""


@asynccontextmanager
async def open_server(url: str, *, name: str, timeout_s: float) -> AsyncIterator[Server]:
    """Raises ConfigurationError for an address that is none; nothing is connected yet."""
    async with AsyncExitStack() as stack:
        with _refused_unrepeated():
            server = _server(stack, url, name=name, timeout_s=timeout_s)
        yield server


@contextmanager
def _refused_unrepeated() -> Iterator[None]:
    """The words of a library's ValueError are not shown: they may be the address's."""
    try:
        yield
    except ValueError as error:
        why = str(error) if isinstance(error, _NoForm) else UNREADABLE
        raise ConfigurationError(
            f"REFDESK_VALKEY_URL is not an address: {why}. Give one such as redis://host:6379."
        ) from None


def _split(url: str) -> SplitResult:
    """Raises ValueError also where a password holds what ends it, so that its rest would be taken for a path."""
    parts = urlsplit(url)
    if parts.scheme != "unix" and "@" in parts.path + parts.fragment:
        raise _NoForm(UNREADABLE)
    return parts


def _server(stack: AsyncExitStack, url: str, *, name: str, timeout_s: float) -> Server:
    scheme, plus, form = _split(url).scheme.partition("+")
    if scheme not in ("redis", "rediss", "unix"):
        raise _NoForm("its scheme is none of redis://, rediss:// and unix://")
    if not plus:
        return _one_server(stack, url, name=name, timeout_s=timeout_s)
    if form == "sentinel":
        return _by_sentinels(stack, url, scheme=scheme, name=name, timeout_s=timeout_s)
    if form == "cluster":
        return _cluster(stack, url, scheme=scheme, name=name, timeout_s=timeout_s)
    raise _NoForm("it names no form of Valkey that there is, such as redis+sentinel:// and redis+cluster://")


def doors(url: str) -> list[str]:
    """Where connections can be made that this address speaks of: itself, or the address of each Sentinel or node.

    Raises ConfigurationError for an address that is none.
    """
    with _refused_unrepeated():
        parts = _split(url)
        scheme, plus, form = parts.scheme.partition("+")
        if not plus:
            _ = parts.port  # raises ValueError
            return [url]
        _, nodes, _, _ = _parts(url, port=SENTINEL_PORT if form == "sentinel" else SERVER_PORT)
    return [f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}" for host, port in nodes]


def _one_server(stack: AsyncExitStack, url: str, *, name: str, timeout_s: float) -> OneServer:
    pool = _pool(url, name=name)
    client = Redis.from_pool(pool)
    stack.push_async_callback(client.aclose)
    address: AbstractConnection = pool.make_connection()  # type: ignore[no-untyped-call]

    async def where() -> AbstractConnection:
        return address

    server = OneServer(where, client=client, name=name, timeout_s=timeout_s)
    stack.callback(server.close)
    return server


def _by_sentinels(stack: AsyncExitStack, url: str, *, scheme: str, name: str, timeout_s: float) -> OneServer:
    user, hosts, path, options = _parts(url, port=SENTINEL_PORT)
    service, _, db = path.partition("/")
    if not service:
        raise _NoForm("redis+sentinel:// needs the name of the service that is watched: redis+sentinel://host/service")
    own: dict[str, Any] = {
        word: options.pop(f"sentinel_{word}") for word in ("username", "password") if f"sentinel_{word}" in options
    }
    kwargs = _pool(f"{scheme}://{user}localhost/{db}?{urlencode(options)}", name=name).connection_kwargs
    own |= {key: value for key, value in kwargs.items() if key.startswith("ssl_")} | {"ssl": scheme == "rediss"}
    own |= {"socket_timeout": timeout_s / 2, "socket_connect_timeout": timeout_s / 2}
    sentinel = Sentinel(hosts, sentinel_kwargs=own)  # type: ignore[no-untyped-call]
    for one in sentinel.sentinels:
        stack.push_async_callback(one.aclose)
    client = sentinel.master_for(service, **kwargs, ssl=scheme == "rediss")
    stack.push_async_callback(client.aclose)

    async def where() -> AbstractConnection:
        return _connection(scheme, await sentinel.discover_master(service), kwargs)

    server = OneServer(where, client=client, name=name, timeout_s=timeout_s)
    stack.callback(server.close)
    return server


def _cluster(stack: AsyncExitStack, url: str, *, scheme: str, name: str, timeout_s: float) -> Cluster:
    user, seeds, path, options = _parts(url, port=SERVER_PORT)
    if path not in ("", "0"):
        raise _NoForm("a cluster has one database only; leave out what follows the hosts")
    kwargs = _pool(f"{scheme}://{user}localhost?{urlencode(options)}", name=name).connection_kwargs

    def where(node: Node) -> Where:
        async def look_up() -> AbstractConnection:
            return _connection(scheme, node, kwargs)

        return look_up

    def listen(node: Node) -> Redis:
        of_node = kwargs | {"host": node[0], "port": node[1]}
        return Redis.from_pool(ConnectionPool(connection_class=_connection_class(scheme), **of_node))

    cluster = Cluster(seeds, where=where, listen=listen, name=name, timeout_s=timeout_s)
    stack.callback(cluster.close)
    return cluster


def _pool(url: str, *, name: str) -> ConnectionPool:
    return ConnectionPool.from_url(
        url,
        client_name=name,
        socket_connect_timeout=SUBSCRIPTION_TIMEOUT_S,
        socket_timeout=SUBSCRIPTION_TIMEOUT_S,
        health_check_interval=HEALTH_CHECK_INTERVAL_S,
        retry=Retry(NoBackoff(), 1, supported_errors=(ConnectionBroken,)),
    )


def _connection_class(scheme: str) -> type[Connection]:
    return SSLConnection if scheme == "rediss" else Connection


def _connection(scheme: str, node: Node, kwargs: dict[str, Any]) -> Connection:
    return _connection_class(scheme)(**kwargs | {"host": node[0], "port": node[1]})


def _parts(url: str, *, port: int) -> tuple[str, list[Node], str, dict[str, str]]:
    """``user:password@`` or nothing, the hosts with their ports, the path without its first slash, the options."""
    parts = _split(url)
    user, at, hosts = parts.netloc.rpartition("@")
    nodes = [_node(host, port=port) for host in hosts.split(",")]
    return user + at, nodes, parts.path.strip("/"), dict(parse_qsl(parts.query))


def _node(text: str, *, port: int) -> Node:
    """``host``, ``host:port`` or ``[IPv6]:port``."""
    parts = urlsplit(f"//{text}")
    if not parts.hostname:
        raise _NoForm("there is no host in it, or one without a name")
    return parts.hostname, parts.port or port
