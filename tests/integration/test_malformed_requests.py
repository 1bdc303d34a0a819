"""No request makes a service fail: those generated from its own description, and a table of nasty values for all of it.

The description must be true for that: its parameters and bodies are what is generated, its replies what is checked.
"""

import asyncio
import contextlib
import itertools
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any, NamedTuple
from urllib.parse import quote

import aiohttp
import msgspec
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.transport import Response
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from tests.support.edge import Peer, Reply
from tests.support.whole_desk import OPERATOR_KEY, WholeDesk, whole_desk

from refdesk.app.embedded.stack import StackUrls
from refdesk.web.sse import EVENT_STREAM

pytestmark = pytest.mark.timeout(600)
"""A busy machine takes long to start a desk, and to generate requests."""

SHORT, LONG = 300, 5000
SEED = 20261130
REPLY_S_MAX = 30
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
PARALLEL = 8

NOBODY = "0" * 32
NASTY_TEXTS = [
    "\0",
    "a\0b",
    "9" * 5000,
    "-" + "9" * 5000,
    "0" * 5000,
    "9223372036854775808",
    "-1",
    "1.5",
    "1e999",
    "NaN",
    "٣",
    "\ud800".encode("utf-8", "surrogatepass").decode("latin-1"),
    "\u202e\u200b\ufeff",
    "%00",
    "%",
    "../../etc/passwd",
    "' OR 1=1 --",
    f"{NOBODY}@{'9' * 5000}",
    f"{NOBODY}@0",
    "index:" + "9" * 5000,
    "beside/",
    "=" * 40,
    "x" * 8000,
]
RAW_QUERIES = ["%00", "%ff%fe", "%", "%zz", "%ed%a0%80", "+", "&&&=", "a;b", "%2500", "[]", "%F0%9F%98%80"]
NASTY_HEADERS = {
    "Range": ["bytes=-", "bytes=9-1", "bytes=" + "9" * 5000 + "-", "bytes=" + "0-1," * 500, "x"],
    "If-Match": ['"' + "9" * 5000 + '"', ",", '"', "*,*", '"1",' * 500, "W/"],
    "If-None-Match": ["*", '"', "x" * 5000],
    "Last-Event-ID": ["9" * 5000, "-1", "9223372036854775808", "x", "1e9", ""],
    "traceparent": ["00-" + "0" * 32 + "-" + "0" * 16 + "-00", "x" * 5000, "00-" + "f" * 32 + "-" + "f" * 16 + "-zz"],
    "Cookie": ["=" * 2000, "a=b;" * 1000],
    "Content-Type": ["", "x", "application/json; charset=nonsense", "multipart/form-data", "text/html;" * 300],
    "Content-Length": ["-1", "9" * 5000, "0" * 5000, "1.5", "99999999999999999999"],
    "Transfer-Encoding": ["chunked, chunked", "gzip", "x"],
    "Accept": ["", "*/*;q=nonsense", "text/event-stream" * 200],
    "Authorization": ["", "Bearer", "Basic Og==", "Bearer " + "x" * 5000, "Bearer \xff\xfe", "Bearer rdk_" + "0" * 80],
    "Host": ["", "[", "::1]:x", "a" * 5000, "localhost:99999999"],
    "Origin": ["null", "http://[", "x" * 5000],
    "X-Forwarded-For": ["127.0.0.1", "x" * 5000],
    "Expect": ["100-continue", "x"],
}
NASTY_JSON: list[Any] = [
    None,
    True,
    "",
    "\0",
    "a\0b",
    10**20,
    -(10**20),
    2**63,
    -1,
    1.5,
    1e308,
    "9" * 5000,
    f"{NOBODY}@{'9' * 5000}",
    f"{NOBODY}@9223372036854775808",
    "index:" + "9" * 30,
    "documents:\0",
    [],
    ["\0"],
    [f"{NOBODY}@{'9' * 5000}"],
    [[]],
    ["x"] * 2000,
    {},
    {"\0": "\0"},
    {"document_ids": ["\0"], "tags": ["a\0b"]},
    "x" * 20_000,
    "\u202e",
]
NASTY_BODIES = [
    b"",
    b"\xff",
    b'"\\ud800"',
    b"\xef\xbb\xbf{}",
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b'{"question":' * 5_000,
    b"9" * 5000,
    b"1e400",
    b"NaN",
    b'{"question":"a","question":"b"}',
    b'{"\\u0000":1}',
    b"null",
    b"[]",
    b"0",
]
NASTY_MESSAGES = [
    b"",
    b"\xff",
    b"null",
    b'"\\ud800"',
    b"[" * 90_000,
    b'{"a":' * 15_000,
    b'{"type":"resume","answer_id":"\\u0000","after":0}',
    b'{"type":"resume","answer_id":"x","after":%s}' % (b"9" * 5000),
    b'{"type":"resume","answer_id":"x","after":-1}',
    b'{"type":"stop","answer_id":"\\u0000"}',
    b'{"type":"ask","question":"\\u0000"}',
    b'{"type":"ask","question":"x","after":["%s@%s"]}' % (NOBODY.encode(), b"9" * 5000),
    b'{"type":"ask","question":"x","request_id":"\\u0000","filters":{"tags":["\\u0000"]}}',
    b'{"type":"ask","question":"x","x":' + b"[" * 50_000,
    b'{"type":"ask","question":"x","max_output_tokens":1e400}',
]


@pytest.fixture(scope="module")
async def desk(servers: StackUrls, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[WholeDesk]:
    async with whole_desk(servers, tmp_path_factory.mktemp("whole")) as desk:
        yield desk
        log = desk.log.read_text(errors="replace")
    assert "Traceback" not in log, log[log.index("Traceback") - 500 :][:5000]


@pytest.fixture(scope="module")
async def described(desk: WholeDesk) -> dict[str, Any]:
    found: dict[str, Any] = await desk.call("GET", "/openapi.json")
    return found


# generated


@pytest.mark.parametrize("count", [SHORT, pytest.param(LONG, marks=[pytest.mark.long, pytest.mark.timeout(3600)])])
async def test_no_generated_request_makes_a_service_fail(
    desk: WholeDesk, described: dict[str, Any], count: int
) -> None:
    """Valid ones and invalid ones, of every route; and the replies are as described."""
    schema = schemathesis.openapi.from_dict(described)
    operations = [result.ok() for result in schema.get_all_operations()]
    modes = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
    each = -(-count // (len(operations) * len(modes)))
    sent = 0

    def send_all() -> None:
        nonlocal sent
        with requests.Session() as session:
            for operation, mode in itertools.product(operations, modes):
                sent += _send_generated(operation, mode, session, desk.url, count=each)

    await asyncio.to_thread(send_all)
    assert sent >= count * 0.8


def _send_generated(operation: Any, mode: GenerationMode, session: requests.Session, url: str, *, count: int) -> int:
    """How many were sent: an operation without parameters has few."""
    sent = 0

    @seed(SEED)
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def send(case: Case) -> None:
        nonlocal sent
        sent += 1
        _send(case, session, url)

    with contextlib.suppress(Unsatisfiable):  # nothing can be wrong with a request that takes nothing
        send()
    return sent


def _send(case: Case, session: requests.Session, url: str) -> None:
    arguments = case.as_transport_kwargs(base_url=url)
    arguments["headers"]["Authorization"] = f"Bearer {OPERATOR_KEY}"
    response = session.request(**arguments, stream=True, timeout=REPLY_S_MAX, allow_redirects=False)
    with response:
        if response.headers.get("content-type", "").startswith(EVENT_STREAM):
            return
        case.validate_response(Response.from_requests(response, verify=False), checks=CHECKS)


# by hand


class Nasty(NamedTuple):
    """A request as bytes, and what is nasty in it."""

    what: str
    data: bytes


def _request(method: str, path: str, *headers: str, body: bytes = b"") -> bytes:
    given = {name.lower() for name, _, _ in (header.partition(":") for header in headers)}
    defaults = [
        f"Authorization: Bearer {OPERATOR_KEY}",
        "Host: localhost",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    ]
    lines = [*headers, *(line for line in defaults if line.partition(":")[0].lower() not in given)]
    return "\r\n".join([f"{method} {path} HTTP/1.1", *lines, "", ""]).encode("latin-1", "replace") + body


def _nasty_requests(described: dict[str, Any]) -> Iterator[Nasty]:
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            yield from _nasty_parameters(method.upper(), path, operation["parameters"])
            yield from _nasty_bodies(method.upper(), path, operation, described)
            plain = re.sub(r"{\w+}", NOBODY, path)
            for name, values in NASTY_HEADERS.items():
                for value in values:
                    yield Nasty(f"{method} {path} {name}", _request(method.upper(), plain, f"{name}: {value}"))


def _nasty_parameters(method: str, path: str, parameters: list[dict[str, Any]]) -> Iterator[Nasty]:
    plain = re.sub(r"{\w+}", NOBODY, path)
    for parameter in parameters:
        name, what = parameter["name"], f"{method} {path} {parameter['name']}"
        escaped = [quote(text, safe="") for text in NASTY_TEXTS] + RAW_QUERIES
        match parameter["in"]:
            case "path":
                for text in escaped:
                    target = re.sub(r"{\w+}", NOBODY, path.replace(f"{{{name}}}", text))
                    yield Nasty(what, _request(method, target))
            case "query":
                yield from (Nasty(what, _request(method, f"{plain}?{name}={text}")) for text in escaped)
            case "header":
                shown = (text.replace("\0", "") for text in NASTY_TEXTS)
                yield from (Nasty(what, _request(method, plain, f"{name}: {text}")) for text in shown)


def _nasty_bodies(method: str, path: str, operation: dict[str, Any], described: dict[str, Any]) -> Iterator[Nasty]:
    content = operation.get("requestBody", {}).get("content", {})
    if "application/json" not in content:
        return
    plain, what = re.sub(r"{\w+}", NOBODY, path), f"{method} {path} body"
    yield from (Nasty(what, _request(method, plain, body=body)) for body in NASTY_BODIES)
    kind = described["components"]["schemas"][content["application/json"]["schema"]["$ref"].rpartition("/")[2]]
    good = dict.fromkeys(kind.get("required", []), "x")
    for name, value in itertools.product(kind["properties"], NASTY_JSON):
        body = msgspec.json.encode(good | {name: value})
        yield Nasty(f"{what} {name}", _request(method, plain, body=body))
    if "multipart/form-data" in content:
        yield from _nasty_forms(method, plain, what)


def _nasty_forms(method: str, path: str, what: str) -> Iterator[Nasty]:
    def form(*parts: bytes, boundary: str = "b") -> Nasty:
        body = b"".join(b"--b\r\nContent-Disposition: form-data; " + part for part in parts) + b"--b--\r\n"
        return Nasty(what, _request(method, path, f"Content-Type: multipart/form-data; boundary={boundary}", body=body))

    fields = ("title", "readers", "tags", "external_id", "url", "file", "\0", "x" * 3000)
    for name, text in itertools.product(fields, NASTY_TEXTS):
        yield form(b'name="%s"\r\n\r\n%s\r\n' % (name.encode(), text.encode()))
    for text in NASTY_TEXTS:
        safe = text.replace("\r", "").replace("\n", "").replace('"', "").encode()
        yield form(b'name="file"; filename="%s"\r\nContent-Type: %s\r\n\r\nhello\r\n' % (safe, safe))
    for boundary in ("", "x", "\xff", "b" * 300):
        yield form(b'name="title"\r\n\r\nx\r\n', boundary=boundary)


@pytest.mark.parametrize("every", [13, pytest.param(1, marks=[pytest.mark.long, pytest.mark.timeout(3600)])])
async def test_no_nasty_value_makes_a_service_fail(desk: WholeDesk, described: dict[str, Any], every: int) -> None:
    """Each of the table's values in each parameter, header, field and body of each route; in short, every thirteenth of them."""
    waiting = list(itertools.islice(_nasty_requests(described), 0, None, every))
    failed: list[tuple[str, Reply]] = []

    async def send() -> None:
        while waiting:
            nasty = waiting.pop()
            peer = Peer(*await asyncio.open_connection("127.0.0.1", desk.port))
            reply = await peer.ask(nasty.data)
            if reply.status >= 500:
                failed.append((nasty.what, reply))
            peer.close()

    await asyncio.gather(*(send() for _ in range(PARALLEL)))
    assert failed == []


async def test_no_nasty_message_ends_a_websocket_or_a_service(desk: WholeDesk) -> None:
    """Each is refused with an error of its own, and the connection goes on; sent as bytes, it ends with a reason."""
    headers = {"Authorization": f"Bearer {OPERATOR_KEY}"}
    async with desk.session.ws_connect(f"{desk.url}/api/answers/ws", headers=headers) as websocket:
        for message in NASTY_MESSAGES:
            if (text := message.decode(errors="ignore")) == "":
                text = "\ufffd"
            await websocket.send_str(text)
            reply = await websocket.receive_json(timeout=REPLY_S_MAX)
            assert reply["event"] == "error", (message[:100], reply)
            assert reply["data"]["status"] < 500, (message[:100], reply)
    for message in NASTY_MESSAGES:
        async with desk.session.ws_connect(f"{desk.url}/api/answers/ws", headers=headers) as websocket:
            await websocket.send_bytes(message)
            last = await websocket.receive(timeout=REPLY_S_MAX)
            assert (last.type, last.data, last.extra) == (
                aiohttp.WSMsgType.CLOSE,
                1003,
                "A message is JSON, sent as text.",
            )
