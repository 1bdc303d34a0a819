"""The settings of people who sign in: the identity provider, and sessions."""

from typing import Annotated

from msgspec import Meta

from refdesk.app.settings.accounts import Accounts
from refdesk.app.settings.kinds import Count, Seconds
from refdesk.contracts.access import Role


class SigningIn(Accounts, frozen=True, kw_only=True):
    """A part of `Settings`, upon the one before it. ``oidc_issuer`` selects it."""

    # signing in (unset: keys alone)
    oidc_issuer: Annotated[str, Meta(pattern=r"^https?://[^\s/?#]+[^\s?#]*$")] | None = None
    """An OpenID Connect provider that people sign in with ([signing in](../howto/sign-in.md)), exactly as it calls itself:
    https://login.example.org/realms/staff."""
    oidc_client_id: str | None = None
    """What that provider calls this desk."""
    oidc_client_secret: str | None = None
    """The desk's secret there. Unset: it is a public client."""
    oidc_scopes: str = "openid profile email"
    """What is asked for. Add `offline_access`, or a scope for groups, where the provider wants that."""
    oidc_prompt: str | None = None
    """What the provider is to ask of people: `consent`, where it wants that for `offline_access`; `select_account`; `login`."""
    oidc_groups_claim: str = "groups"
    """The claim that has a person's groups, of the ID token or the user info; `realm_access.roles` looks into an object."""
    oidc_groups: str | None = None
    """The desk's groups by the provider's: `Staff HR=hr, legal=legal`, with `*` all others by their own names, too; or a JSON
    object. Unset: all by their own names."""
    oidc_roles: str | None = None
    """Roles by the provider's groups: `Desk admins=administrator, Authors=writer`; of several, the first. Or a JSON object."""
    oidc_role: Role = "asker"
    """The role of people whom `oidc_roles` gives none."""
    oidc_audience: str | None = None
    """Who access tokens of that provider must be for to be taken as keys (`aud`); several separated by commas. Unset: none
    is taken."""
    oidc_algorithms: str = "RS256,PS256,ES256,EdDSA,Ed25519"
    """How its tokens may be signed."""
    oidc_leeway_s: Annotated[float, Meta(ge=0, le=300)] = 30.0
    """How much its clock and ours may differ."""
    oidc_timeout_s: Annotated[float, Meta(gt=0, le=30)] = 5.0
    """How long one call to it may take. HTTP_PROXY, HTTPS_PROXY and NO_PROXY count."""
    oidc_reply_bytes_max: Count = 1 << 20
    """The largest reply that is taken from it."""
    oidc_keys_age_s_max: Seconds = 3600.0
    """How old what it publishes, its keys among them, may be before it is fetched again."""
    oidc_keys_pause_s: Annotated[float, Meta(gt=0)] = 30.0
    """The least time between two fetches, however many tokens with unknown keys come."""
    oidc_recheck_s: Annotated[float, Meta(gt=0)] = 300.0
    """How old what it said of a person may be: within this time whoever lost a group, or was taken out, loses it here."""
    oidc_unrenewable_s_max: Annotated[float, Meta(gt=0)] = 3600.0
    """How long a session lasts for which it gave no refresh token, so that it cannot be asked again."""
    oidc_silence_s_max: Seconds = 900.0
    """How much longer sessions go on while it does not answer."""
    session_idle_s_max: Annotated[float, Meta(gt=0)] = 8 * 3600.0
    """How long a session may be unused before it ends."""
    session_s_max: Annotated[float, Meta(gt=0)] = 7 * 24 * 3600.0
    """How long a session lasts at the most."""
    sessions_per_principal_max: Count = 50
    """Sessions of one person; one more ends the oldest."""
    sign_in_s_max: Annotated[float, Meta(gt=0)] = 600.0
    """How long a sign-in may take, from the page to the provider and back."""
