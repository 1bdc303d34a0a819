"""A desk below a path: which prefix counts, and what becomes of addresses."""

from typing import Any

import pytest

from refdesk.access.clients import LOOPBACK
from refdesk.app.prefix import Prefixed


async def seen(path: str, *, public: str = "", said: str | None = None, peer: str = "127.0.0.1") -> dict[str, Any]:
    """The path and the root path that the application sees, or the status and the place that the caller is sent to."""
    found: dict[str, Any] = {}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        found.update(path=scope["path"], root=scope.get("root_path", ""))

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            found.update(status=message["status"], to=dict(message["headers"])[b"location"].decode())

    headers = [] if said is None else [(b"x-forwarded-prefix", said.encode())]
    scope = {"type": "http", "path": path, "headers": headers, "client": (peer, 1), "method": "GET"}
    await Prefixed(app, path=public, trusted=LOOPBACK)(scope, None, send)  # type: ignore[arg-type]
    return found


@pytest.mark.parametrize(
    ("path", "options", "expected"),
    [
        ("/api/x", {}, {"path": "/api/x", "root": ""}),
        ("/desk/api/x", {"public": "/desk"}, {"path": "/api/x", "root": "/desk"}),
        ("/api/x", {"public": "/desk/"}, {"path": "/api/x", "root": "/desk"}),
        ("/desktop", {"public": "/desk"}, {"path": "/desktop", "root": "/desk"}),
        ("/desk/", {"public": "/desk"}, {"path": "/", "root": "/desk"}),
        ("/desk", {"public": "/desk"}, {"status": 308, "to": "/desk/"}),
        ("/api/x", {"said": "/team/desk/"}, {"path": "/api/x", "root": "/team/desk"}),
        ("/team/desk/api/x", {"said": "/team/desk", "public": "/a"}, {"path": "/api/x", "root": "/team/desk"}),
        ("/api/x", {"said": "/desk", "peer": "192.0.2.7"}, {"path": "/api/x", "root": ""}),
        *(
            ("/api/x", {"said": wrong}, {"path": "/api/x", "root": ""})
            for wrong in ("", "desk", "//evil.example", "https://evil.example", "/a b", '/a"b', "/")
        ),
    ],
)
async def test_a_prefix_is_understood(path: str, options: dict[str, str], expected: dict[str, Any]) -> None:
    """Passed on or taken away; named by the setting, or by a proxy that is trusted and names a path."""
    assert await seen(path, **options) == expected
