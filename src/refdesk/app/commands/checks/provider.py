"""The identity provider, when one is named: whether people can sign in with it."""

from collections.abc import Iterator

from refdesk.access.cookies import cookies_for
from refdesk.access.oidc.provider import Metadata
from refdesk.app.commands.checks.findings import Finding, Findings
from refdesk.app.sign_in import algorithms, mapped, open_provider, public_url
from refdesk.contracts.errors import ConfigurationError
from refdesk.outside.oidc_provider import ProviderSilent
from refdesk.settings.loading import Loaded
from refdesk.settings.tree import Settings

NAME = "identity provider"


async def check_provider(loaded: Loaded) -> Findings:
    """Its description and its keys are fetched; nobody is signed in, so its secret is not tried."""
    settings = loaded.settings
    if settings.provider.issuer is None:
        return
    try:
        cookies = cookies_for(public_url(settings))
        mapped(settings)
        algorithms(settings)
        async with open_provider(settings) as provider:
            await provider.look()
            metadata = await provider.metadata()
    except ConfigurationError as error:
        yield Finding("FAIL", NAME, "nobody can sign in", error.message)
    except ProviderSilent as error:
        yield Finding("FAIL", NAME, error.message, "Start that server, or mend REFDESK_OIDC_ISSUER.")
    else:
        yield Finding("ok", NAME, f"{metadata.issuer} answers; people come back to {cookies.base}/auth/callback")
        for finding in _remarks(settings, metadata, host=provider.host):
            yield finding


def _remarks(settings: Settings, metadata: Metadata, *, host: str) -> Iterator[Finding]:
    """What does not keep anybody out."""
    if metadata.code_challenge_methods_supported is None:
        yield Finding("warn", "code challenges", f"{host} does not say that it checks them", "See its manual.")
    if "offline_access" not in settings.provider.scopes.split():
        lasts = f"{settings.provider.unrenewable_s_max:g} s"
        said = f"where {host} gives none without offline_access (REFDESK_OIDC_SCOPES), sessions last {lasts}"
        yield Finding("ok", "refresh tokens", said)
