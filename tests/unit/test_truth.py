"""When the Document Service counts as silent for everybody, against a real socket."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress

import pytest

from refdesk.answering.evidence.truth import LookRefused, Shown, SourceOfTruth
from refdesk.contracts.access import EVERYONE, Scope
from refdesk.outside.document_service import open_document_service

SCOPE = Scope(readers=(EVERYONE,))
WORD = (
    b'{"as_of":"2026-01-01T00:00:00Z","index_lag_seconds":0,"standings":[{"document_id":"a","version":2}],"epoch":"7"}'
)


class DocumentService:
    """Replies with ``status``; the bodies that it was sent."""

    def __init__(self) -> None:
        self.status, self.bodies = 200, list[bytes]()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer), suppress(asyncio.IncompleteReadError):  # the client has left
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
                self.bodies.append(await reader.readexactly(length))
                body = WORD if self.status == 200 else b'{"title":"no"}'
                writer.write(b"HTTP/1.1 %d -\r\nContent-Length: %d\r\n\r\n%s" % (self.status, len(body), body))


@asynccontextmanager
async def source() -> AsyncIterator[tuple[SourceOfTruth, DocumentService]]:
    service = DocumentService()
    server = await asyncio.start_server(service.answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    async with server, open_document_service(url, operator_key="key", content_bytes_max=1) as documents:
        yield SourceOfTruth(documents, timeout_s=5.0), service


async def versions(truth: SourceOfTruth) -> dict[str, int] | None:
    word = await truth.standing([Shown("a", 1)], scope=SCOPE)
    return None if word is None else word.versions


@pytest.mark.parametrize("status", [400, 401, 413, 422, 429])
async def test_a_refused_look_fails_alone(status: int) -> None:
    """One asker cannot make the service count as silent for the others."""
    async with source() as (truth, service):
        service.status = status
        with pytest.raises(LookRefused) as refused:
            await versions(truth)
        assert refused.value.status == 500
        service.status = 200
        assert await versions(truth) == {"a": 2}


@pytest.mark.parametrize("status", [302, 500, 503])
async def test_a_service_that_is_not_well_is_silent(status: int) -> None:
    """For everybody, without another look."""
    async with source() as (truth, service):
        service.status = status
        assert await versions(truth) is None
        service.status = 200
        assert await versions(truth) is None
        assert len(service.bodies) == 1


async def test_a_refusal_does_not_end_the_looks_at_a_silent_service() -> None:
    """It is asked on until it answers."""
    async with source() as (truth, service), asyncio.timeout(20):
        service.status = 503
        assert await versions(truth) is None
        service.status = 422
        looking = asyncio.create_task(truth.run())
        while len(service.bodies) < 2:
            await asyncio.wait([looking], timeout=0.01)
        service.status = 200
        while await versions(truth) is None:
            await asyncio.wait([looking], timeout=0.01)
        assert not looking.done()
        looking.cancel()
