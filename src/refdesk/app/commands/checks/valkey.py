"""Valkey, or Redis."""

from refdesk.app.commands.checks.findings import Finding, Findings
from refdesk.app.settings import Loaded
from refdesk.contracts.errors import ConfigurationError
from refdesk.outside.valkey import ValkeyError, open_valkey


async def check_valkey(loaded: Loaded) -> Findings:
    url = loaded.settings.valkey_url
    if url is None:
        return
    try:
        async with open_valkey(url, name="doctor") as valkey:
            about = await valkey.redis.info("server")
        yield Finding("ok", "Valkey", f"answers, version {about.get('valkey_version') or about.get('redis_version')}")
    except ConfigurationError as error:
        yield Finding("FAIL", "Valkey", "its URL cannot be read", error.message)
    except (ValkeyError, OSError, ValueError) as error:
        yield Finding("FAIL", "Valkey", f"does not answer: {error}", "Start that server, or mend REFDESK_VALKEY_URL.")
