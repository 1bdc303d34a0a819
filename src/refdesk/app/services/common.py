"""What every service shares: required settings, the keys that people call with, the door they come through."""

import ipaddress
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib import import_module
from importlib.resources.abc import Traversable
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

import msgspec
from starlette.types import ASGIApp

from refdesk.access.audit import Audit
from refdesk.access.authentication import Authentication, Insight, is_local
from refdesk.access.clients import LOOPBACK, Network
from refdesk.access.first_key import adopt_key_file
from refdesk.access.keys import READ as KEYS_READ
from refdesk.access.keys import ApiKeys, open_api_keys
from refdesk.access.permissions import Permissions
from refdesk.access.wrong_keys import WrongKeys
from refdesk.app import http, server
from refdesk.app.audit_routes import audit_endpoints
from refdesk.app.health import Fact, Health, Part, health_endpoints
from refdesk.app.hosts import named
from refdesk.app.http import Measure
from refdesk.app.key_routes import key_endpoints
from refdesk.app.prefix import Prefixed
from refdesk.app.services import parts
from refdesk.app.services.auditing import open_audit
from refdesk.app.sign_in_routes import sign_in_endpoints
from refdesk.app.tls import Certificate
from refdesk.contracts.errors import ConfigurationError
from refdesk.operations.peers import Peers
from refdesk.outside.document_service import DocumentServiceClient, open_document_service
from refdesk.outside.nats.broker import Broker
from refdesk.outside.postgres.database import migrate, open_pool, require_database
from refdesk.outside.postgres.pool import Pool
from refdesk.settings.tree import PREFIX, Settings
from refdesk.web.bodies import BodyClock
from refdesk.web.connections import ConnectionLimits
from refdesk.web.endpoints import Endpoint, SocketEndpoint
from refdesk.web.http import create_app

if TYPE_CHECKING:
    from refdesk.app.sign_in import SignIn

LOOPBACK_ADDRESS = "127.0.0.1"


def variable(name: str) -> str:
    """A setting as the environment has it."""
    return PREFIX + name.upper()


def required(settings: Settings, name: str) -> str:
    """The value of a setting that this service cannot do without; raises ConfigurationError naming it."""
    value = settings.value(name)
    if not value:
        raise ConfigurationError(
            f"{variable(name)} is not set. `refdesk up` sets it by itself; a service that is started alone needs it."
        )
    return str(value)


@asynccontextmanager
async def open_keys(settings: Settings) -> AsyncIterator[ApiKeys]:
    """The keys that people call with; the one of REFDESK_BOOTSTRAP_KEY_FILE is among them from now on."""
    setting = variable("access_database_url" if settings.databases.access_url else "documents_database_url")
    async with open_api_keys(
        access_url(settings),
        setting=setting,
        wait_s=settings.databases.wait_s,
        connections_max=settings.pools.access_connections_max,
        rotation_grace_s=settings.keys.key_rotation_grace_s,
    ) as keys:
        if settings.keys.bootstrap_key_file is not None:
            await adopt_key_file(keys, settings.keys.bootstrap_key_file)
        yield keys


def access_url(settings: Settings) -> str:
    """Where the keys are."""
    return settings.databases.access_url or required(settings, "documents_database_url")


@asynccontextmanager
async def open_database(
    settings: Settings, setting: str, *, name: str, size_max: int, migrations: Sequence[Traversable]
) -> AsyncIterator[Pool]:
    """Connections to the database that a setting names, its tables made and up to date.

    ``name`` is what the server shows. Raises ConfigurationError when that is no database, or one that refuses us.
    """
    url = required(settings, setting)
    await require_database(url, setting=variable(setting), wait_s=settings.databases.wait_s)
    async with open_pool(url, name=name, size_max=size_max) as pool:
        for folder in migrations:
            await migrate(pool, folder)
        yield pool


def open_broker(settings: Settings, *, name: str) -> AbstractAsyncContextManager[Broker]:
    """Connected to NATS for the length of the block."""
    return Broker.connect(required(settings, "nats_url"), name=name, streams=settings.streams)


def open_documents(settings: Settings) -> AbstractAsyncContextManager[DocumentServiceClient]:
    """The Document Service, as the AI Service asks it."""
    return open_document_service(
        required(settings, "documents_url"),
        operator_key=required(settings, "operator_key"),
        content_bytes_max=settings.uploads.bytes_max,
    )


def connection_limits(settings: Settings) -> ConnectionLimits:
    """Raises ConfigurationError when a trusted proxy is no address."""
    return ConnectionLimits(
        head_bytes_max=settings.connections.headers_bytes_max,
        headers_max=settings.connections.headers_max,
        head_s_max=settings.connections.headers_seconds_max,
        keep_alive_s=settings.connections.keep_alive_s,
        connections_max=settings.connections.connections_max,
        per_client_max=settings.connections.per_client_max,
        trusted=trusted_networks(settings),
    )


def trusted_networks(settings: Settings) -> tuple[Network, ...]:
    """This machine and the trusted proxies. Raises ConfigurationError for what is neither an address nor a network."""
    given = [text.strip() for text in (settings.address.trusted_proxies or "").split(",") if text.strip()]
    try:
        return (*LOOPBACK, *(ipaddress.ip_network(text) for text in given))
    except ValueError as error:
        raise ConfigurationError(
            f"{PREFIX}TRUSTED_PROXIES={settings.address.trusted_proxies!r} is not valid: {error}. Give addresses or networks, "
            "separated by commas."
        ) from error


def public_path(settings: Settings) -> str:
    """The path below which people find this desk; empty where it is at the root of its address."""
    return urlsplit(settings.address.public_url or "").path.rstrip("/")


def secure_sockets(settings: Settings) -> server.Secure | None:
    """The port, where it speaks TLS. Raises ConfigurationError."""
    certificate, key = settings.address.tls_certificate, settings.address.tls_key
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        missing = "tls_certificate" if certificate is None else "tls_key"
        raise ConfigurationError(f"{variable(missing)} is not set: TLS needs a certificate and its key.")
    ready = Certificate(certificate.expanduser(), key.expanduser())
    listener = server.bind(
        settings.address.host, settings.address.port, send_timeout_s=settings.connections.send_timeout_s
    )
    return server.Secure([listener], ready, settings.connections.headers_seconds_max)


def plain_sockets(settings: Settings) -> list[socket.socket]:
    """The port, where it speaks plain HTTP; beside one that speaks TLS, the one for Refdesk's own services."""
    if settings.address.tls_certificate is None:
        return [
            server.bind(
                settings.address.host, settings.address.port, send_timeout_s=settings.connections.send_timeout_s
            )
        ]
    if settings.address.plain_port is None:
        return []
    return [
        server.bind(LOOPBACK_ADDRESS, settings.address.plain_port, send_timeout_s=settings.connections.send_timeout_s)
    ]


def body_clock(settings: Settings) -> BodyClock:
    return BodyClock(total_s=settings.connections.body_seconds_max, pause_s=settings.connections.body_pause_seconds_max)


async def nothing_to_close() -> None:
    """The ``close`` of a service that holds nothing open."""


def nothing_to_leave() -> None:
    """The ``leave`` of a service whose streams all have an end."""


class Operations(msgspec.Struct, frozen=True, kw_only=True):
    """What shows how the desk does, and has done."""

    endpoints: list[Endpoint]
    background: list[server.Background]
    peers: Peers


class Service(msgspec.Struct, frozen=True, kw_only=True):
    """A service put together: its addresses, its work in the background, its parts and measures.

    ``leave`` ends what waits for news, at once; ``close`` ends what is left, in a hurry.
    """

    endpoints: list[Endpoint]
    sockets: list[SocketEndpoint] = []
    background: list[server.Background]
    parts: list[Part]
    facts: dict[str, Fact] = {}
    measures: list[Measure] = []
    operations: Callable[[Health, Sequence[Measure]], Operations] | None = None
    """Given the health and the measures of all that is at this door."""
    leave: Callable[[], None] = nothing_to_leave
    close: server.Background = nothing_to_close


@asynccontextmanager
async def open_sign_in(settings: Settings, keys: ApiKeys) -> AsyncIterator["SignIn | None"]:
    """Where people sign in; its libraries are loaded only where REFDESK_OIDC_ISSUER names a provider."""
    if settings.provider.issuer is None:
        yield None
        return
    opening = import_module("refdesk.app.sign_in").open_sign_in(settings, keys)
    async with cast(AbstractAsyncContextManager["SignIn"], opening) as sign_in:
        yield sign_in


async def serve_door(settings: Settings, keys: ApiKeys, services: list[Service]) -> None:
    """The services on one address, with what every door has: health, metrics, keys, the API's description."""
    url = access_url(settings)
    async with (
        open_sign_in(settings, keys) as sign_in,
        parts.database("access database", url, read=KEYS_READ, writes=False, pools=[keys.pool]) as access,
        open_audit(settings, url=url, trusted=trusted_networks(settings)) as audit,
    ):
        if sign_in is None:
            await server.refuse_open_door(keys, host=settings.address.host)
        await _serve(settings, keys, services, access, sign_in, audit)


def _distinct(given: list[Part]) -> list[Part]:
    """One of each name: the one that is needed, where two services at one address see a part differently."""
    by_name = {part.name: part for part in sorted(given, key=lambda part: part.needed)}
    return [part for part in given if by_name[part.name] is part]


def _addressed(app: ASGIApp, settings: Settings) -> ASGIApp:
    """The application under the names, and below the path, by which people find it."""
    path, trusted = public_path(settings), trusted_networks(settings)
    return Prefixed(named(app, settings), path=path, trusted=trusted, public_url=settings.address.public_url)


async def _serve(
    settings: Settings, keys: ApiKeys, services: list[Service], access: Part, sign_in: "SignIn | None", audit: Audit
) -> None:
    own = [endpoint for service in services for endpoint in service.endpoints]
    provider = [] if sign_in is None else [sign_in.part]
    health = Health(_distinct([access, *provider, *(part for service in services for part in service.parts)]))
    facts = {name: fact for service in services for name, fact in service.facts.items()}
    measures = [measure for service in services for measure in service.measures]
    authenticate = Authentication(
        keys,
        operator_key=required(settings, "operator_key"),
        wrong_keys=WrongKeys(per_minute_max=settings.keys.wrong_keys_per_minute_max),
        trusted=trusted_networks(settings),
        people=None if sign_in is None else sign_in.people,
    )
    insight = Insight(authenticate, metrics_token=settings.keys.metrics_token)
    shown = [service.operations(health, measures) for service in services if service.operations is not None]
    listed = [
        *own,
        *(endpoint for one in shown for endpoint in one.endpoints),
        *key_endpoints(keys),
        *sign_in_endpoints(sign_in),
        *audit_endpoints(audit),
        *health_endpoints(health, facts=facts, insight=insight),
        http.metrics_endpoint(measures, open_to=insight.without_key, peers=next((one.peers for one in shown), None)),
    ]
    permissions = Permissions(
        keys,
        database_url=access_url(settings),
        silence_s_max=settings.keys.access_silence_s_max,
        people=None if sign_in is None else sign_in.people,
    )
    app = create_app(
        [
            *listed,
            http.openapi_endpoint(listed, open_to=is_local),
            *(socket for service in services for socket in service.sockets),
        ],
        authenticate=authenticate,
        body_clock=body_clock(settings),
        permit=permissions,
        audit=audit,
    )
    secure = secure_sockets(settings)
    await server.serve(
        _addressed(app, settings),
        sockets=plain_sockets(settings),
        secure=secure,
        limits=connection_limits(settings),
        background=[
            *([] if secure is None else [secure.certificate.run]),
            *(health.run, permissions.run, keys.uses.run, audit.run),
            *(work for service in services for work in service.background),
            *(work for one in shown for work in one.background),
        ],
        on_stop=[service.leave for service in services],
        on_hurry=[service.close for service in services],
    )
