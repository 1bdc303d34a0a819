"""A Refdesk that runs: its parts as it sees them itself, and whether it knows our key."""

from collections.abc import Mapping

from refdesk.app.commands.checks.findings import Finding, Findings, Level, call
from refdesk.app.commands.client import operator_key_of, ports_of_this_account
from refdesk.settings.loading import Loaded
from refdesk.settings.tree import Settings


async def check_running(loaded: Loaded) -> Findings:
    """The Refdesk at REFDESK_URL, else one that this account has started: its parts, its model, whether it knows our key."""
    url = _address(loaded)
    status, reply = await call(
        f"{url}/health/ready?verbose", key=loaded.settings.client.api_key or operator_key_of(url)
    )
    if status == 0 or not isinstance(reply, Mapping) or "status" not in reply:
        level: Level = "warn" if loaded.origins["url"] == "default" else "FAIL"
        what = f"none at {url}" if status == 0 else f"what answers at {url} is not Refdesk"
        yield Finding(level, "running Refdesk", what, "Start it with `refdesk up`, or set REFDESK_URL.")
        return
    yield Finding("ok", "running Refdesk", f"answers at {url}")
    facts = dict(reply.get("facts", {}))
    for part, state in reply.get("parts", {}).items():
        mend = "" if state == "ok" else "Mend that part; Refdesk finds it again by itself."
        fact = facts.pop(part, state)  # what is known of it says more than that it is well
        yield Finding(_level(part, reply), f"running Refdesk, {part}", fact if state == "ok" else state, mend)
    for what, fact in facts.items():
        yield Finding("ok", f"running Refdesk, {what}", fact)
    yield await _own_key(url, loaded.settings)


def _address(loaded: Loaded) -> str:
    """Where nobody has set one, that of the only Refdesk of this account, on whatever port it is."""
    url, ports = loaded.settings.client.url.rstrip("/"), ports_of_this_account()
    is_elsewhere = loaded.origins["url"] == "default" and len(ports) == 1 and operator_key_of(url) is None
    return f"http://127.0.0.1:{ports[0]}" if is_elsewhere else url


async def check_documents_url(loaded: Loaded) -> Findings:
    url = loaded.settings.services.documents_url
    if url is None:
        return
    if await is_refdesk(url.rstrip("/")):
        yield Finding("ok", "Document Service", "answers")
    else:
        mend = "Start `refdesk documents` there, or mend REFDESK_DOCUMENTS_URL."
        yield Finding("FAIL", "Document Service", "does not answer", mend)


def _level(part: str, reply: Mapping[str, list[str]]) -> Level:
    """What is degraded goes on."""
    return "FAIL" if part in reply.get("unavailable", ()) else "warn" if part in reply.get("degraded", ()) else "ok"


async def _own_key(url: str, settings: Settings) -> Finding:
    """Any door lists keys to administrators, tells others that they are none, and refuses whom it does not know."""
    status, _ = await call(f"{url}/api/keys", key=settings.client.api_key or operator_key_of(url))
    if status in (200, 403):
        return Finding("ok", "your key", "is taken" + (", as an administrator's" if status == 200 else ""))
    mend = "Set REFDESK_API_KEY to a key that an administrator made with `refdesk keys create NAME`."
    return Finding("FAIL", "your key", f"is not taken ({status})", mend)


async def is_refdesk(url: str) -> bool:
    status, reply = await call(f"{url}/health/live")
    return status == 200 and reply == {"status": "ok"}
