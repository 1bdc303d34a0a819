"""Valkey or Redis, when one is given: whether it answers, takes writes, is new enough and drops the right things when full."""

from refdesk.app.commands.checks.findings import CALL_TIMEOUT_S, Finding, Findings
from refdesk.contracts.errors import ConfigurationError
from refdesk.outside.valkey.about import read_about
from refdesk.outside.valkey.client import ValkeyError, open_valkey
from refdesk.outside.valkey.errors import Refusal
from refdesk.settings.loading import Loaded


async def check_valkey(loaded: Loaded) -> Findings:
    url = loaded.settings.valkey.url
    if url is None:
        return
    try:
        async with open_valkey(url, name="doctor", timeout_s=CALL_TIMEOUT_S) as valkey:
            about = await read_about(valkey)
            await valkey.probe()
    except Refusal as error:
        yield Finding("FAIL", "Valkey", f"answers, and refuses: {error}")
    except ConfigurationError as error:
        yield Finding("FAIL", "Valkey", "its URL cannot be read", error.message)
    except (ValkeyError, OSError) as error:
        yield Finding("FAIL", "Valkey", f"does not answer: {error}", "Start that server, or mend REFDESK_VALKEY_URL.")
    else:
        yield Finding("ok", "Valkey", f"answers and takes writes, {about.product} {about.version}")
        for shortcoming in about.shortcomings():
            yield Finding("warn", "Valkey", shortcoming.what, shortcoming.mend)
