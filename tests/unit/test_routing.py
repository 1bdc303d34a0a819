"""Which endpoint a request comes to."""

import pytest
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket

from refdesk.web.routing import Routing


class Saying:
    """An application of one word, and of its parameters."""

    def __init__(self, word: str) -> None:
        self._word = word

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            parameters = scope.get("path_params", {})
            await PlainTextResponse(" ".join([self._word, *parameters.values()]))(scope, receive, send)
            return
        socket = WebSocket(scope, receive, send)
        await socket.accept()
        await socket.send_text(self._word)
        await socket.close()


@pytest.fixture
def client() -> TestClient:
    routing = Routing(default=Saying("nothing"))
    routing.add("http", "/documents/{id}", Saying("one"))
    routing.add("http", "/documents/backlog", Saying("backlog"))
    routing.add("http", "/answers", Saying("answers"))
    routing.add("websocket", "/answers", Saying("socket"))
    routing.add("websocket", "/answers/{id}", Saying("socket of one"))
    return TestClient(routing)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/answers", "answers"),
        ("/documents/7", "one 7"),
        ("/documents/backlog", "backlog"),
        ("/answers/", "nothing"),
        ("/answers%0A", "nothing"),
        ("/", "nothing"),
    ],
)
def test_a_request_comes_to_its_endpoint(client: TestClient, path: str, said: str) -> None:
    """A whole address comes before a pattern that has it, too, whichever was added first."""
    assert client.get(path).text == said


@pytest.mark.parametrize(("path", "said"), [("/answers", "socket"), ("/answers/7", "socket of one"), ("/", "nothing")])
def test_a_websocket_comes_to_its_own(client: TestClient, path: str, said: str) -> None:
    """At the same address as an endpoint of HTTP."""
    with client.websocket_connect(path) as socket:
        assert socket.receive_text() == said
