"""A Refdesk that runs: its parts as it sees them itself, and whether it knows our key."""

from collections.abc import Mapping

from refdesk.app.commands.checks.findings import Finding, Findings, Level, call
from refdesk.app.commands.client import operator_key_of
from refdesk.app.settings import Loaded, Settings


async def check_running(loaded: Loaded) -> Findings:
    """The Refdesk at REFDESK_URL: its parts, and whether it knows our key."""
    url = loaded.settings.url.rstrip("/")
    status, reply = await call(f"{url}/health/ready?verbose", key=loaded.settings.api_key or operator_key_of(url))
    if status == 0 or not isinstance(reply, Mapping) or "status" not in reply:
        level: Level = "warn" if loaded.origins["url"] == "default" else "FAIL"
        what = f"none at {url}" if status == 0 else f"what answers at {url} is not Refdesk"
        yield Finding(level, "running Refdesk", what, "Start it with `refdesk up`, or set REFDESK_URL.")
        return
    for part, state in reply.get("parts", {}).items():
        mend = "" if state == "ok" else "Mend that part; Refdesk finds it again by itself."
        yield Finding(_level(part, reply), f"running Refdesk, {part}", state, mend)
    yield await _own_key(url, loaded.settings)


async def check_documents_url(loaded: Loaded) -> Findings:
    url = loaded.settings.documents_url
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
    status, _ = await call(f"{url}/api/keys", key=settings.api_key or operator_key_of(url))
    if status in (200, 403):
        return Finding("ok", "your key", "is taken" + (", as an administrator's" if status == 200 else ""))
    mend = "Set REFDESK_API_KEY to a key that an administrator made with `refdesk keys create NAME`."
    return Finding("FAIL", "your key", f"is not taken ({status})", mend)


async def is_refdesk(url: str) -> bool:
    status, reply = await call(f"{url}/health/live")
    return status == 200 and reply == {"status": "ok"}
