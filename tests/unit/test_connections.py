"""What may come in before a request is one, how long it may take, and how many may come."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable

import msgspec
import pytest
from starlette.requests import HTTPConnection, Request
from starlette.types import ASGIApp
from starlette.websockets import WebSocket
from tests.support.edge import GET, Edge, listening, until
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from refdesk.contracts.access import Principal
from refdesk.contracts.errors import HeadersTooLarge
from refdesk.web.bodies import BodyClock, read_json
from refdesk.web.connections import RESERVE, ConnectionLimits, HttpConnection, SocketConnection, raw_response
from refdesk.web.endpoints import Endpoint, SocketEndpoint
from refdesk.web.http import create_app
from refdesk.web.replies import Json

HEAD_MAX = 4096
LIMITS = ConnectionLimits(head_bytes_max=HEAD_MAX, headers_max=20, head_s_max=60.0)
UPGRADE = (
    b"GET /socket HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
CHUNKED = b"POST /echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
WITH_A_KEY, WITHOUT = b"Authorization: Bearer somebody\r\n", b""


class Door:
    """An application whose answers a test holds back."""

    def __init__(self) -> None:
        self.let_go = asyncio.Event()
        self.held = 0

    async def live(self, _: Request, __: Principal) -> ASGIApp:
        return Json({"status": "ok"})

    async def hold(self, _: Request, __: Principal) -> ASGIApp:
        self.held += 1
        await self.let_go.wait()
        return Json({"status": "held"})

    async def echo(self, request: Request, _: Principal) -> ASGIApp:
        return Json(await read_json(request, dict[str, int]))

    async def socket(self, websocket: WebSocket, _: Principal) -> None:
        await websocket.accept()
        await websocket.receive()

    def app(self, clock: BodyClock) -> ASGIApp:
        async def anybody(connection: HTTPConnection) -> Principal:
            return Principal(id="somebody")

        def get(path: str, handler: Callable[..., object]) -> Endpoint:
            return Endpoint(method="GET", path=path, action="page.read", handler=handler, summary="")  # type: ignore[arg-type]

        return create_app(
            [
                get("/health/live", self.live),
                get("/hold", self.hold),
                get("/health/hold", self.hold),
                Endpoint(method="POST", path="/echo", action="page.read", handler=self.echo, summary=""),
                SocketEndpoint(path="/socket", action="page.read", handler=self.socket, summary=""),
            ],
            authenticate=anybody,
            body_clock=clock,
        )


@pytest.fixture
def door() -> Door:
    return Door()


@pytest.fixture
async def edge(door: Door, request: pytest.FixtureRequest) -> AsyncIterator[Edge]:
    """A server with ``LIMITS``, or with those that the test says."""
    changes = dict(getattr(request, "param", {}))
    clock = BodyClock(pause_s=changes.pop("pause_s", 60.0), total_s=changes.pop("total_s", 60.0))
    async with listening(door.app(clock), msgspec.structs.replace(LIMITS, **changes)) as edge:
        yield edge
        door.let_go.set()


def limits(**changes: object) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("edge", [changes], indirect=True, ids=[""])


def get(*headers: bytes, path: bytes = b"/health/live") -> bytes:
    return b"GET %s HTTP/1.1\r\nHost: localhost\r\n%s\r\n" % (path, b"".join(headers))


def padded(size: int) -> bytes:
    """A request whose line and headers have this many bytes."""
    empty = get(b"X: \r\n")
    return get(b"X: %s\r\n" % (b"a" * (size - len(empty))))


# how much


@pytest.mark.parametrize("key", [WITH_A_KEY, WITHOUT])
@pytest.mark.parametrize("size", [HEAD_MAX + 1, 1 << 20])
@pytest.mark.parametrize(
    "request_of",
    [
        lambda key, size: get(key, b"X: " + b"a" * size + b"\r\n"),
        lambda key, size: get(key, b"a" * size + b": x\r\n"),
        lambda key, size: get(key, path=b"/" + b"a" * size),
        lambda key, size: get(key, *(b"X%d: a\r\n" % n for n in range(size // 8))),
        lambda key, size: get(key)[:-2] + b"X: " + b"a" * size,
        lambda key, size: b"G" * size,
        lambda key, size: b"\r\n" * size,
        lambda key, size: UPGRADE + key + b"X: " + b"a" * size + b"\r\n\r\n",
    ],
    ids=["value", "name", "address", "many", "unfinished", "method", "empty lines", "upgrade"],
)
async def test_a_head_past_the_bound_is_refused(
    edge: Edge, key: bytes, size: int, request_of: Callable[[bytes, int], bytes]
) -> None:
    """431 as problem details (400 for what cannot become a request), on a connection that ends."""
    peer = await edge.connect()
    sending = asyncio.create_task(peer.send(request_of(key, size)))
    reply = await peer.reply()
    assert (reply.status, reply.problem) in ((431, "headers-too-large"), (400, "malformed-request"))
    assert reply.headers["connection"] == "close"
    await sending
    assert await peer.rest() == b""


@pytest.mark.parametrize("piece", [1, 100, HEAD_MAX])
async def test_the_bound_counts_exactly_however_the_bytes_arrive(edge: Edge, piece: int) -> None:
    """Also for the second request of a connection."""
    peer = await edge.connect()
    for size, status in ((HEAD_MAX, 200), (HEAD_MAX, 200), (HEAD_MAX + 1, 431)):
        data = padded(size)
        assert len(data) == size
        for start in range(0, size, piece):
            await peer.send(data[start : start + piece])
        assert (await peer.reply()).status == status


async def test_headers_are_counted(edge: Edge) -> None:
    """Few bytes each, too many all together."""
    assert (await edge.ask(get(*(b"X: a\r\n" for _ in range(19))))).status == 200
    reply = await edge.ask(get(*(b"X: a\r\n" for _ in range(20))))
    assert (reply.status, reply.problem) == (431, "headers-too-large")


@pytest.mark.parametrize(
    "body",
    [
        b"2\r\n{}\r\n0\r\nX: " + b"a" * (1 << 20) + b"\r\n\r\n",
        b"2\r\n{}\r\n0\r\n" + b"X: a\r\n" * 100 + b"\r\n",
        b"2;" + b"a" * (1 << 20) + b"\r\n{}\r\n0\r\n\r\n",
        b"2\r\n{}\r\n0;" + b"a" * (1 << 20) + b"\r\n\r\n",
    ],
    ids=["long trailer", "many trailers", "chunk extension", "last chunk's extension"],
)
async def test_what_a_body_brings_beside_its_content_is_bounded(edge: Edge, body: bytes) -> None:
    """Trailers and chunk extensions; they come from a client that sends them slowly enough to be counted."""
    peer = await edge.connect()
    await peer.send(CHUNKED)
    for start in range(0, len(body), HEAD_MAX):
        await peer.send(body[start : start + HEAD_MAX])
    assert (await peer.reply()).status == 431
    assert await peer.rest() == b""


async def test_trailers_do_not_become_headers(edge: Edge) -> None:
    """What passes the bound is dropped, and the connection goes on."""
    peer = await edge.connect()
    assert (await peer.ask(CHUNKED + b"2;ext=1\r\n{}\r\n0\r\nAuthorization: Bearer other\r\n\r\n")).body == b"{}"
    assert (await peer.ask(GET)).status == 200


async def test_a_refusal_waits_for_the_answer_before_it(edge: Edge, door: Door) -> None:
    """A second request past the bound, sent with the first, does not break into the first one's answer."""
    peer = await edge.connect()
    await peer.send(get(path=b"/hold") + padded(HEAD_MAX + 1))
    door.let_go.set()
    reply = await peer.reply()
    assert (reply.status, reply.headers["connection"]) == (200, "close")
    assert await peer.rest() == b""


async def test_a_broken_body_ends_the_request_that_waits_for_it(edge: Edge) -> None:
    """400 in place of its answer."""
    reply = await edge.ask(CHUNKED + b"nonsense\r\n")
    assert (reply.status, reply.problem) == (400, "malformed-request")


async def test_requests_do_not_pile_up_on_a_connection(edge: Edge, door: Door) -> None:
    """Sent by the ten thousand without reading, few are taken; those are answered."""
    peer = await edge.connect()
    await peer.send(get(path=b"/hold") * 10_000)
    door.let_go.set()
    assert 1 <= (await peer.rest()).count(b"HTTP/1.1 200") <= 17
    assert door.held <= 17


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (b"Cookie: " + b"a" * 9000 + b"\r\n\r\n", 431),
        (b"\r\n", 101),
        (b"Content-Length: 5\r\n\r\nhello", 400),
    ],
    ids=["a line that the WebSocket's own parser does not take", "a good one", "a body"],
)
@limits(head_bytes_max=32 * 1024)
async def test_a_handshake_is_answered_whatever_is_wrong_with_it(edge: Edge, lines: bytes, status: int) -> None:
    """Two parsers read it; what the second refuses does not wait for ever."""
    assert (await edge.ask(UPGRADE + lines)).status == status


# how long


@limits(head_s_max=0.2)
async def test_who_sends_nothing_leaves(edge: Edge) -> None:
    """Without a word: a browser opens connections in advance, and would take it for the answer to what it sends next."""
    peers = [await edge.connect() for _ in range(50)]
    assert [await peer.rest() for peer in peers] == [b""] * 50


@pytest.mark.parametrize("beginning", [GET[:1], GET[:-2], UPGRADE])
@limits(head_s_max=0.2)
async def test_who_does_not_finish_a_head_is_told_and_leaves(edge: Edge, beginning: bytes) -> None:
    """Also when its bytes keep coming."""
    peer = await edge.connect()
    await peer.send(beginning)
    reply = await peer.reply()
    assert (reply.status, reply.problem, reply.headers["connection"]) == (408, "request-too-slow", "close")


@limits(head_s_max=0.2)
async def test_the_second_head_of_a_connection_has_a_deadline_too(edge: Edge) -> None:
    """It begins with its first byte."""
    peer = await edge.connect()
    assert (await peer.ask(GET)).status == 200
    await peer.send(GET[:10])
    assert (await peer.reply()).status == 408


@limits(head_s_max=0.2)
async def test_an_answer_may_take_longer_than_a_head(edge: Edge, door: Door) -> None:
    """Deadlines are for who sends, not for who waits."""
    answered = asyncio.create_task(edge.ask(get(path=b"/hold")))
    silent = await edge.connect()
    assert await silent.rest() == b""  # which takes as long as a head may
    assert not answered.done()
    door.let_go.set()
    assert (await answered).status == 200


@limits(keep_alive_s=0.2, head_s_max=0.4)
async def test_a_connection_without_a_request_ends(edge: Edge) -> None:
    """After keep-alive's time."""
    peer = await edge.connect()
    assert (await peer.ask(GET)).status == 200
    assert await peer.rest() == b""


@pytest.mark.parametrize("body", [b"", b"{"])
@limits(pause_s=0.2)
async def test_a_json_body_that_stalls_is_told_and_leaves(edge: Edge, body: bytes) -> None:
    """One byte, then silence."""
    peer = await edge.connect()
    reply = await peer.ask(b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n" + body)
    assert (reply.status, reply.problem, reply.headers["connection"]) == (408, "request-too-slow", "close")
    assert await peer.rest() == b""


@limits(pause_s=60.0, total_s=0.3)
async def test_a_json_body_that_drips_is_told_and_leaves(edge: Edge) -> None:
    """Never still, never done."""
    peer = await edge.connect()
    await peer.send(b"POST /echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
    reply = asyncio.create_task(peer.reply())
    while not reply.done():
        await peer.send(b"1\r\n \r\n")
        await asyncio.wait([reply], timeout=0.02)
    assert (reply.result().status, reply.result().problem) == (408, "request-too-slow")


@limits(head_s_max=0.2)
async def test_a_body_that_nobody_reads_does_not_hold_its_connection(edge: Edge) -> None:
    """It is answered, and has a head's time to come to its end."""
    peer = await edge.connect()
    reply = await peer.ask(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n")
    assert reply.status == 200
    assert await peer.rest() == b""


@limits(leave_s=0.2, head_s_max=0.4)
async def test_who_was_refused_and_stays_is_put_out(edge: Edge) -> None:
    """What they still send is read for a short while only."""
    peer = await edge.connect()
    await peer.ask(padded(HEAD_MAX + 1))
    await until(lambda: edge.connections == 0)


# how many


@limits(connections_max=10)
async def test_whoever_waits_makes_room_for_who_comes(edge: Edge) -> None:
    """Half-open connections, ten times as many as there is room for, and a new client is served."""
    silent = [await edge.connect() for _ in range(100)]
    assert (await edge.ask(GET)).status == 200
    assert await silent[0].rest() == b""
    assert edge.connections <= 10


@limits(connections_max=10)
async def test_where_all_are_busy_health_is_answered_and_others_are_refused(edge: Edge, door: Door) -> None:
    """503 with Retry-After; and answers under way go on."""
    busy = [await edge.connect() for _ in range(10)]
    for peer in busy:
        await peer.send(get(path=b"/hold"))
    await until(lambda: door.held == 10)
    assert (await edge.ask(GET)).status == 200
    refused = await edge.ask(get(path=b"/hold"))
    assert (refused.status, refused.problem, refused.headers["connection"]) == (503, "overloaded", "close")
    assert refused.headers["retry-after"] == "5"
    door.let_go.set()
    assert [(await peer.reply()).status for peer in busy] == [200] * 10
    assert (await edge.ask(get(path=b"/hold"))).status == 200


@limits(connections_max=10)
async def test_beyond_the_reserve_connections_are_refused_at_once(edge: Edge, door: Door) -> None:
    """Before they have asked anything, where nobody waits who could leave for them."""
    for _ in range(10 + RESERVE):
        peer = await edge.connect()
        await peer.send(get(path=b"/health/hold"))
    await until(lambda: door.held == 10 + RESERVE)
    reply = await (await edge.connect()).reply()
    assert (reply.status, reply.problem) == (503, "overloaded")


@limits(per_client_max=3, trusted=())
async def test_one_client_does_not_take_all_places(edge: Edge) -> None:
    """Refused at once, while another client is served; what was closed may be opened again."""
    first = [await edge.connect() for _ in range(3)]
    assert (await (await edge.connect()).reply()).status == 503
    other = await edge.connect(source="127.0.0.2")
    assert (await other.ask(GET)).status == 200
    first[0].close()
    await until(lambda: edge.connections <= 3)
    assert (await edge.ask(GET)).status == 200


@limits(per_client_max=2, trusted=())
async def test_a_websocket_counts_and_is_given_back(edge: Edge) -> None:
    """The connection changes its protocol on the way."""
    for _ in range(5):
        peer = await edge.connect()
        assert (await peer.ask(UPGRADE + b"\r\n")).status == 101
        other = await edge.connect()
        assert (await other.ask(GET)).status == 200
        assert (await edge.ask(GET)).status == 503
        peer.close()
        other.close()
        await until(lambda: edge.connections == 0)


# what it leans on


@pytest.mark.parametrize(
    ("ours", "theirs"), [(HttpConnection, HttpToolsProtocol), (SocketConnection, WebSocketsSansIOProtocol)]
)
def test_uvicorn_is_as_it_was_when_it_was_extended(ours: type, theirs: type) -> None:
    """Every method that is overridden exists there with the same parameters. Else: compare with the new uvicorn."""
    own = {"__init__", "refuse", "expire", "make_room"}
    for name, method in vars(ours).items():
        if inspect.isfunction(method) and name not in own and not name.startswith("_"):
            assert list(inspect.signature(getattr(theirs, name)).parameters) == list(
                inspect.signature(method).parameters
            ), name


def test_uvicorn_has_what_is_used_of_it() -> None:
    """Attributes that no annotation promises."""
    http = inspect.getsource(HttpToolsProtocol)
    for attribute in ("self.parser", "self.pipeline", "self.cycle", "self.flow", "self.url", "self.client"):
        assert f"{attribute}:" in http or f"{attribute} =" in http, attribute
    for name in ("_should_upgrade", "_unset_keepalive_if_required", "handle_websocket_upgrade"):
        assert callable(getattr(HttpToolsProtocol, name)), name
    cycle = inspect.getsource(RequestResponseCycle)
    for attribute in ("keep_alive", "disconnected", "message_event", "response_started", "response_complete"):
        assert f"self.{attribute} =" in cycle, attribute
    assert "self.handshake_initiated" in inspect.getsource(WebSocketsSansIOProtocol)


def test_a_refusal_before_a_request_is_in_the_form_of_its_address() -> None:
    """As far as the address is known: OpenAI's clients are told in OpenAI's words that their headers are too large."""
    error = HeadersTooLarge("Send fewer.", limit=1)
    head, _, body = raw_response(error, path="/v1/models").partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 431 ")
    assert msgspec.json.decode(body)["error"]["code"] == "headers-too-large"
    for path in ("", "/api/search"):
        assert (
            msgspec.json.decode(raw_response(error, path=path).partition(b"\r\n\r\n")[2])["type"] == "headers-too-large"
        )
