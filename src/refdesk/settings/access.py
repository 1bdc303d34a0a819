"""Who comes in: keys, people who sign in, and the log of what they do."""

from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from refdesk.contracts.access import Role
from refdesk.settings.kinds import Count, Seconds, prefixed


class Keys(msgspec.Struct, frozen=True, kw_only=True):
    """API keys."""

    bootstrap_key_file: Path | None = None
    """A file with a key of `refdesk keys generate`, such as a mounted secret. Made an administrator's, unless it is known."""
    key_rotation_grace_s: Annotated[float, Meta(ge=0, le=7 * 24 * 3600)] = 0.0
    """How long an API key still opens after `refdesk keys rotate` has made another in its place. 0: not at all."""
    wrong_keys_per_minute_max: Count = 30
    """Wrong keys that one address may send in a minute before it must wait (429). This machine is exempt."""
    access_silence_s_max: Annotated[float, Meta(ge=1)] = 4.0
    """How long streams and sockets stay open while the database of the API keys does not answer; then they end."""
    metrics_token: str | None = None
    """What a scraper on another machine sends as `Authorization: Bearer` for `/metrics` and `/health/ready?verbose`."""


class AuditLog(msgspec.Struct, frozen=True, kw_only=True, rename=prefixed("audit_")):
    """The audit log."""

    retention_days: Count = 365
    """How long entries of the audit log are kept."""
    queue_max: Count = 10_000
    """Entries that may wait in one process while the database of the API keys is away. Further ones are lost, and counted."""


class IdentityProvider(msgspec.Struct, frozen=True, kw_only=True, rename=prefixed("oidc_")):
    """Signing in.

    Without an issuer, people come in by keys alone.
    """

    issuer: Annotated[str, Meta(pattern=r"^https?://[^\s/?#]+[^\s?#]*$")] | None = None
    """An OpenID Connect provider that people sign in with ([signing in](../howto/sign-in.md)), exactly as it calls itself:
    https://login.example.org/realms/staff."""
    client_id: str | None = None
    """What that provider calls this desk."""
    client_secret: str | None = None
    """The desk's secret there. Unset: it is a public client."""
    scopes: str = "openid profile email"
    """What is asked for. Add `offline_access`, or a scope for groups, where the provider wants that."""
    prompt: str | None = None
    """What the provider is to ask of people: `consent`, where it wants that for `offline_access`; `select_account`; `login`."""
    groups_claim: str = "groups"
    """The claim that has a person's groups, of the ID token or the user info; `realm_access.roles` looks into an object."""
    groups: str | None = None
    """The desk's groups by the provider's: `Staff HR=hr, legal=legal`, with `*` all others by their own names, too; or a JSON
    object. Unset: all by their own names."""
    roles: str | None = None
    """Roles by the provider's groups: `Desk admins=administrator, Authors=writer`; of several, the first. Or a JSON object."""
    role: Role = "asker"
    """The role of people whom `oidc_roles` gives none."""
    audience: str | None = None
    """Who access tokens of that provider must be for to be taken as keys (`aud`); several separated by commas. Unset: none
    is taken."""
    algorithms: str = "RS256,PS256,ES256,EdDSA,Ed25519"
    """How its tokens may be signed."""
    leeway_s: Annotated[float, Meta(ge=0, le=300)] = 30.0
    """How much its clock and ours may differ."""
    timeout_s: Annotated[float, Meta(gt=0, le=30)] = 5.0
    """How long one call to it may take. HTTP_PROXY, HTTPS_PROXY and NO_PROXY count."""
    reply_bytes_max: Count = 1 << 20
    """The largest reply that is taken from it."""
    keys_age_s_max: Seconds = 3600.0
    """How old what it publishes, its keys among them, may be before it is fetched again."""
    keys_pause_s: Annotated[float, Meta(gt=0)] = 30.0
    """The least time between two fetches, however many tokens with unknown keys come."""
    recheck_s: Annotated[float, Meta(gt=0)] = 300.0
    """How old what it said of a person may be: within this time whoever lost a group, or was taken out, loses it here."""
    unrenewable_s_max: Annotated[float, Meta(gt=0)] = 3600.0
    """How long a session lasts for which it gave no refresh token, so that it cannot be asked again."""
    silence_s_max: Seconds = 900.0
    """How much longer sessions go on while it does not answer."""
    sign_in_s_max: Annotated[float, Meta(gt=0)] = msgspec.field(default=600.0, name="sign_in_s_max")
    """How long a sign-in may take, from the page to the provider and back."""


class SessionLimits(msgspec.Struct, frozen=True, kw_only=True, rename=prefixed("session_")):
    """Sessions of people who have signed in."""

    idle_s_max: Annotated[float, Meta(gt=0)] = 8 * 3600.0
    """How long a session may be unused before it ends."""
    s_max: Annotated[float, Meta(gt=0)] = 7 * 24 * 3600.0
    """How long a session lasts at the most."""
    per_principal_max: Count = msgspec.field(default=50, name="sessions_per_principal_max")
    """Sessions of one person; one more ends the oldest."""
