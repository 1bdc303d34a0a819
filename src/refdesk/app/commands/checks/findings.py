"""What a check of `refdesk doctor` says, one line a finding, and the call that several checks make."""

from collections.abc import AsyncGenerator, Callable
from typing import Any, Literal

import aiohttp
import msgspec

from refdesk.settings.loading import Loaded

CONNECT_TIMEOUT_S = 3
CALL_TIMEOUT_S = 4.0
SHOWN_CHARACTERS_MAX = 400

Level = Literal["ok", "warn", "FAIL"]


class Finding(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a check found: ``what`` is the case, ``mend`` says what to do about it."""

    level: Level
    name: str
    what: str
    mend: str = ""

    def __str__(self) -> str:
        line = f"{self.level:<4} {self.name}: {' '.join(self.what.split())[:SHOWN_CHARACTERS_MAX]}"
        return f"{line} – {self.mend}" if self.mend else line


Findings = AsyncGenerator[Finding, None]
Check = Callable[[Loaded], Findings]


async def call(url: str, *, key: str | None = None, json: Any = None) -> tuple[int, Any]:
    """The status and the decoded JSON reply (None when it is something else); 0 and the reason when nothing answers."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    method = "GET" if json is None else "POST"
    timeout = aiohttp.ClientTimeout(total=CALL_TIMEOUT_S)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.request(method, url, headers=headers, json=json) as response,
        ):
            return response.status, _decoded(await response.read())
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        return 0, str(error) or type(error).__name__


def _decoded(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except msgspec.DecodeError:
        return None
