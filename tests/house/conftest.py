"""What the house's tests look at: the sources, and every address of a desk that was really put together."""

import socket
from pathlib import Path

import pytest

from refdesk.app import server
from refdesk.app.embedded.stack import StackUrls
from refdesk.app.services import common, desk
from refdesk.settings.loading import load
from refdesk.web.endpoints import Endpoint, SocketEndpoint

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def sources() -> list[Path]:
    """Every Python file of the package."""
    return sorted((ROOT / "src").rglob("*.py"))


@pytest.fixture(scope="session")
async def endpoints(servers: StackUrls, tmp_path_factory: pytest.TempPathFactory) -> list[Endpoint | SocketEndpoint]:
    """All that `refdesk desk` serves: put together on real servers, but never started."""
    taken: list[Endpoint | SocketEndpoint] = []
    settings = load(
        {
            "data_dir": tmp_path_factory.mktemp("desk"),
            "documents_url": "http://127.0.0.1:1",
            "operator_key": "house",
            "port": 0,
        },
        environ=servers.environment(),
    ).settings

    async def not_served(*_: object, sockets: list[socket.socket], **__: object) -> None:
        for listener in sockets:
            listener.close()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(common, "create_app", lambda given, **_: taken.extend(given))
        patch.setattr(server, "serve", not_served)
        await desk.serve(settings)
    return taken
