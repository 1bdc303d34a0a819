"""Signing in, put together of the settings: the provider, sessions, and who may do what.

The sessions are in the database of the keys. Nothing is asked of the provider before somebody comes: a desk starts without it,
and keys open it meanwhile.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec

from refdesk.access.cookies import cookies_for
from refdesk.access.keys import ApiKeys
from refdesk.access.oidc.api_tokens import ApiTokens
from refdesk.access.oidc.attempts import Attempts
from refdesk.access.oidc.identities import Identities
from refdesk.access.oidc.people import Mapped, read_groups, read_roles
from refdesk.access.oidc.provider import Provider, ProviderSettings
from refdesk.access.oidc.rechecks import Rechecks
from refdesk.access.oidc.signing_in import SigningIn
from refdesk.access.oidc.tokens import ASYMMETRIC, TokenChecks
from refdesk.access.people import People
from refdesk.access.sessions import Sessions
from refdesk.app.health import Part
from refdesk.app.proxies import proxy_for
from refdesk.contracts.addresses import is_loopback
from refdesk.contracts.errors import ConfigurationError
from refdesk.outside.oidc_provider import open_provider_calls
from refdesk.settings.tree import PREFIX, Settings


class SignIn(msgspec.Struct, frozen=True):
    """``part``: how the provider does."""

    people: People
    provider: Provider
    part: Part


@asynccontextmanager
async def open_sign_in(settings: Settings, keys: ApiKeys) -> AsyncIterator[SignIn]:
    """With the provider of REFDESK_OIDC_ISSUER. Raises ConfigurationError for settings that let nobody sign in."""
    cookies = cookies_for(public_url(settings))
    async with open_provider(settings) as provider:
        audiences = _listed(settings.provider.audience)
        checks = TokenChecks(
            provider, algorithms=algorithms(settings), audiences=audiences, leeway_s=settings.provider.leeway_s
        )
        identities = Identities(provider, checks, mapped(settings))
        sessions = Sessions(keys.pool, settings.sessions)
        rechecks = Rechecks(provider, identities, sessions, settings.provider)
        signing_in = SigningIn(
            provider,
            checks=checks,
            identities=identities,
            sessions=sessions,
            attempts=Attempts(s_max=settings.provider.sign_in_s_max),
            base=cookies.base,
        )
        people = People(
            cookies=cookies,
            sessions=sessions,
            rechecks=rechecks,
            signing_in=signing_in,
            tokens=ApiTokens(checks, identities) if audiences else None,
        )
        try:
            yield SignIn(people, provider, Part("identity provider", provider.look, needed=False))
        finally:
            await rechecks.close()


@asynccontextmanager
async def open_provider(settings: Settings) -> AsyncIterator[Provider]:
    """The provider of REFDESK_OIDC_ISSUER. Raises ConfigurationError when it does not know us by a name."""
    issuer, client_id = settings.provider.issuer or "", settings.provider.client_id
    if not client_id:
        raise ConfigurationError(
            f"{PREFIX}OIDC_CLIENT_ID is not set. Register this desk at {issuer}, and set what it is called there."
        )
    async with open_provider_calls(
        issuer,
        timeout_s=settings.provider.timeout_s,
        reply_bytes_max=settings.provider.reply_bytes_max,
        proxy_for=proxy_for,
    ) as calls:
        yield Provider(
            calls,
            ProviderSettings(
                issuer=issuer,
                client_id=client_id,
                client_secret=settings.provider.client_secret,
                scopes=_scopes(settings),
                prompt=settings.provider.prompt,
                keys_age_s_max=settings.provider.keys_age_s_max,
                keys_pause_s=settings.provider.keys_pause_s,
                silence_s_max=settings.provider.silence_s_max,
            ),
        )


def mapped(settings: Settings) -> Mapped:
    """How claims become groups and roles. Raises ConfigurationError."""
    return Mapped(
        claim=settings.provider.groups_claim,
        groups=read_groups(settings.provider.groups, setting=f"{PREFIX}OIDC_GROUPS"),
        roles=read_roles(settings.provider.roles, setting=f"{PREFIX}OIDC_ROLES"),
        role=settings.provider.role,
    )


def public_url(settings: Settings) -> str:
    """Where people find this desk. Raises ConfigurationError where that cannot be known."""
    if settings.address.public_url is not None:
        return settings.address.public_url
    if not is_loopback(settings.address.host):
        raise ConfigurationError(
            f"{PREFIX}PUBLIC_URL is not set: the identity provider sends people back to it. Set the https address of this desk."
        )
    host = f"[{settings.address.host}]" if ":" in settings.address.host else settings.address.host
    return f"{'http' if settings.address.tls_certificate is None else 'https'}://{host}:{settings.address.port}"


def _scopes(settings: Settings) -> str:
    scopes = settings.provider.scopes.split()
    return " ".join(scopes if "openid" in scopes else ["openid", *scopes])


def algorithms(settings: Settings) -> list[str]:
    """Raises ConfigurationError for one by which anybody could sign."""
    names = _listed(settings.provider.algorithms)
    wrong = [name for name in names if name not in ASYMMETRIC]
    if wrong or not names:
        raise ConfigurationError(
            f"{PREFIX}OIDC_ALGORITHMS={settings.provider.algorithms!r} is not valid: choose of {', '.join(sorted(ASYMMETRIC))}."
        )
    return names


def _listed(text: str | None) -> list[str]:
    return [part.strip() for part in (text or "").split(",") if part.strip()]
