"""What several of these suites ask for."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from tests.integration.nats_server import NatsServer
from tests.support.databases import own_database
from tests.support.desk import AnswerDesk, Client, Here, Process
from tests.support.pipeline import Pipeline, open_pipeline

from refdesk.app.embedded.stack import StackUrls
from refdesk.outside.embedding.packaged import PackagedEmbedder, open_packaged_embedder


@pytest.fixture(scope="session")
async def packaged_embedder(models: Path) -> AsyncIterator[PackagedEmbedder]:
    """The real model."""
    async with open_packaged_embedder(models) as embedder:
        yield embedder


@pytest.fixture
def pipeline_nats(tmp_path: Path) -> Iterator[NatsServer]:
    folder = tmp_path / "nats"
    folder.mkdir()
    server = NatsServer(folder)
    server.start()
    yield server
    server.kill()


@pytest.fixture
async def pipeline(
    servers: StackUrls,
    fresh_database: str,
    pipeline_nats: NatsServer,
    tmp_path: Path,
    packaged_embedder: PackagedEmbedder,
) -> AsyncIterator[Pipeline]:
    """A Document Service, its relay and an indexer at work, with databases and a broker of their own."""
    async with (
        own_database(servers) as index_url,
        open_pipeline(
            nats=pipeline_nats,
            documents_url=fresh_database,
            index_url=index_url,
            folder=tmp_path,
            embedder=packaged_embedder,
        ) as pipeline,
    ):
        yield pipeline


@pytest.fixture(scope="module")
async def processes(desk: AnswerDesk) -> AsyncIterator[list[Process]]:
    """Two assistants of the module's own desk."""
    async with desk.assistants(2) as processes:
        yield processes


@pytest.fixture
async def pair(processes: list[Process], desk: AnswerDesk) -> tuple[Client, Client]:
    """The same asker at two assistant processes."""
    desk.llm.reset()
    first, second = processes
    return await first.client(), await second.client()


@pytest.fixture(scope="module")
async def assistant_here(desk: AnswerDesk) -> AsyncIterator[Here]:
    """One of the module's own desk, in this process."""
    async with desk.assistant_here() as here:
        yield here


@pytest.fixture
def here(assistant_here: Here, desk: AnswerDesk) -> Here:
    desk.llm.reset()
    return assistant_here


@pytest.fixture(scope="session")
def spans() -> InMemorySpanExporter:
    """Where this process's spans go; the provider can be set once in a process."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return exporter


@pytest.fixture
def exporter(spans: InMemorySpanExporter) -> InMemorySpanExporter:
    """The test's spans, from now on."""
    spans.clear()
    return spans
