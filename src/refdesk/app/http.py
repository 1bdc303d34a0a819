"""What every service serves beside its own endpoints: metrics, the description of the API, the web page."""

import asyncio
import hashlib
import logging
import mimetypes
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest
from prometheus_client.metrics_core import Metric
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.types import ASGIApp

from refdesk.contracts.access import Principal
from refdesk.operations.peers import Peers, Seen, beside
from refdesk.web import openapi
from refdesk.web.endpoints import Endpoint
from refdesk.web.replies import DATA_HEADERS, Json

logger = logging.getLogger(__name__)

MEASURE_TIMEOUT_S = 2.0

Measure = Callable[[], Awaitable[None]]

_PAGE_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


class Examples(msgspec.Struct, frozen=True):
    questions: list[str]


def metrics_endpoint(
    measures: Sequence[Measure] = (), *, open_to: Callable[[HTTPConnection], bool], peers: Peers | None = None
) -> Endpoint:
    """``measures`` look up what is not counted in this process; each sets its own gauges, to NaN when it cannot. What ``peers``
    tell stands beside its own."""

    async def metrics(request: Request, principal: Principal) -> ASGIApp:
        _, seen = await asyncio.gather(measured(measures), peers.metrics() if peers else _nobody())
        text = await asyncio.to_thread(_exposition, seen) if seen else generate_latest()
        return Response(text, media_type=CONTENT_TYPE_LATEST, headers=DATA_HEADERS)

    return Endpoint(
        method="GET",
        path="/metrics",
        action="metrics.read",
        open_to=open_to,
        handler=metrics,
        summary="Prometheus metrics",
        media_types=("text/plain",),
    )


class _Together:
    """A registry of what is there already."""

    def __init__(self, families: Sequence[Metric]) -> None:
        self._families = families

    def collect(self) -> Sequence[Metric]:
        return self._families


def own_metrics() -> list[Metric]:
    """What this process has counted."""
    return list(REGISTRY.collect())


def _exposition(seen: Sequence[Seen]) -> bytes:
    together: Any = _Together(beside(own_metrics(), seen))
    return generate_latest(together)


async def _nobody() -> list[Seen]:
    return []


async def measured(measures: Sequence[Measure]) -> None:
    """Has each of them set its gauges."""
    await asyncio.gather(*(_measured(measure) for measure in measures))


async def _measured(measure: Measure) -> None:
    """What cannot be looked up leaves the other metrics alone."""
    try:
        async with asyncio.timeout(MEASURE_TIMEOUT_S):
            await measure()
    except Exception as error:  # noqa: BLE001 (the request's border: metrics must come when something is broken)
        logger.warning("cannot measure for /metrics: %r", error)


def openapi_endpoint(endpoints: Iterable[Endpoint], *, open_to: Callable[[HTTPConnection], bool]) -> Endpoint:
    async def show(request: Request, principal: Principal) -> ASGIApp:
        return Json(description)

    own = Endpoint(
        method="GET",
        path="/openapi.json",
        action="description.read",
        open_to=open_to,
        handler=show,
        summary="This description",
        response=dict[str, Any],
    )
    description = openapi.describe([*endpoints, own])
    return own


def page_endpoints(examples: Callable[[], list[str]]) -> list[Endpoint]:
    """The web page, read once from the package; ``examples`` are the questions that it suggests."""
    files = _files_below(resources.files("refdesk.app") / "page", "")
    pages = [_file_endpoint("/" if path == "index.html" else f"/web/{path}", file) for path, file in files]
    return [*pages, _examples_endpoint(examples)]


def _files_below(folder: Traversable, prefix: str) -> Iterator[tuple[str, Traversable]]:
    """Each file with its path inside the folder."""
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _files_below(entry, f"{prefix}{entry.name}/")
        else:
            yield f"{prefix}{entry.name}", entry


def _file_endpoint(path: str, file: Traversable) -> Endpoint:
    body = file.read_bytes()
    etag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
    media_type = mimetypes.guess_type(file.name)[0] or "application/octet-stream"

    async def serve(request: Request, principal: Principal) -> ASGIApp:
        headers = {**_PAGE_HEADERS, "ETag": etag}
        if request.headers.get("if-none-match") == etag:
            return Response(status_code=304, headers=headers)
        return Response(body, media_type=media_type, headers=headers)

    return Endpoint(method="GET", path=path, action="page.read", handler=serve, summary="The web page")


def _examples_endpoint(examples: Callable[[], list[str]]) -> Endpoint:
    async def show(request: Request, principal: Principal) -> ASGIApp:
        return Json(Examples(examples()))

    return Endpoint(
        method="GET",
        path="/api/examples",
        action="examples.read",
        handler=show,
        summary="Questions to begin with",
        response=Examples,
    )
