"""The AI Service's indexer role: from events to searchable chunks. Its only door is health and metrics."""

from contextlib import AbstractAsyncContextManager, AsyncExitStack

import aiohttp
from starlette.types import ASGIApp

from refdesk.access.authentication import Insight, OperatorAlone
from refdesk.app import http, server
from refdesk.app.health import Health, Part, health_endpoints
from refdesk.app.hosts import named
from refdesk.app.services import ai_parts, parts
from refdesk.app.services.common import connection_limits, open_broker, open_database, open_documents, required
from refdesk.app.services.generations import open_generations
from refdesk.app.services.parsers import parsing_limits
from refdesk.index.ledger.generations import READ as INDEX_READ
from refdesk.index.ledger.lineage import LineageMemory
from refdesk.index.ledger.standings import Standings
from refdesk.index.recording import Recorder
from refdesk.indexing.active_generation import IndexingParts, LiveIndexing
from refdesk.indexing.dead_letters import MIGRATIONS as DEAD_LETTER_MIGRATIONS
from refdesk.indexing.dead_letters import DeadLetters
from refdesk.indexing.parsing import ParserPool
from refdesk.indexing.priority import stand_back
from refdesk.indexing.reembedding import Reembedding
from refdesk.indexing.worker import Worker, WorkerSettings
from refdesk.operations.lineage import Lineage
from refdesk.operations.reconcile import AT_ONCE, Schedule, reconcilers
from refdesk.outside.embedding.packaged import TEXTS_PER_THREAD, Turns
from refdesk.outside.nats.broker import Broker
from refdesk.outside.postgres.pool import Pool
from refdesk.settings.tree import Settings
from refdesk.web.http import create_app


async def serve(settings: Settings) -> None:
    """Runs until SIGINT or SIGTERM."""
    stand_back(settings.indexing.niceness)  # before there are threads and parsers: they inherit it
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        pool = await enter(_open_index(settings))
        turns = Turns(threads=settings.embedding.threads, texts=TEXTS_PER_THREAD)
        generations = await enter(open_generations(pool, settings, turns=turns))
        broker = await enter(open_broker(settings, name="indexer"))
        recorder = Recorder(broker, standings=Standings(pool), generations=generations)
        documents = await enter(open_documents(settings))
        session = await enter(aiohttp.ClientSession())
        parsers = await enter(ParserPool(limits=parsing_limits(settings), sizes=settings.parsers))
        sources = IndexingParts(documents, parsers, settings.indexing.chunks_max, settings.lanes)
        indexing = LiveIndexing(generations, sources)
        letters = DeadLetters(pool, log_characters_max=settings.indexing.dead_letter_log_characters_max)
        worker = _worker(settings, broker, indexing, letters)
        reembedding = Reembedding(
            generations, indexing=indexing, documents=documents, concurrency=settings.indexing.concurrency
        )
        memory = LineageMemory(pool)
        lineage = Lineage(
            memory,
            broker=broker,
            generations=generations,
            documents=documents,
            reconcilers=reconcilers(generations, documents, patience=AT_ONCE),
        )
        schedule = Schedule(
            pool,
            reconcilers(generations, documents),
            memory=memory,
            interval_s=settings.indexing.reconcile_interval_s,
        )
        database, address = await enter(_index_database(settings, pool)), settings.address
        health = Health(
            [
                database,
                parts.nats(broker, needed=True),
                ai_parts.lineage(memory),
                *ai_parts.qdrant(generations, settings),
                ai_parts.document_service(documents, needed=True),
                *ai_parts.embedding_model(session, settings),
            ]
        )
        await server.serve(
            _app(settings, health, measures=[letters.measure]),
            sockets=[server.bind(address.host, address.port, send_timeout_s=settings.connections.send_timeout_s)],
            limits=connection_limits(settings),
            background=[
                health.run,
                worker.run,
                recorder.run,
                lineage.run,
                generations.run,
                reembedding.run,
                schedule.run,
            ],
        )


def _open_index(settings: Settings) -> AbstractAsyncContextManager[Pool]:
    """The AI Service's database, with what this role keeps there."""
    return open_database(
        settings,
        "index_database_url",
        name="refdesk indexer",
        size_max=settings.pools.indexer_connections_max,
        migrations=[DEAD_LETTER_MIGRATIONS],
    )


def _index_database(settings: Settings, pool: Pool) -> AbstractAsyncContextManager[Part]:
    url = required(settings, "index_database_url")
    return parts.database("index database", url, read=INDEX_READ, writes=True, pools=[pool])


def _app(settings: Settings, health: Health, *, measures: list[http.Measure]) -> ASGIApp:
    """Health and metrics: to this machine, to a scraper and to the operator."""
    authenticate = OperatorAlone(required(settings, "operator_key"))
    insight = Insight(authenticate, metrics_token=settings.keys.metrics_token)
    metrics = http.metrics_endpoint(measures, open_to=insight.without_key)
    app = create_app([*health_endpoints(health, insight=insight), metrics], authenticate=authenticate)
    return named(app, settings)


def _worker(settings: Settings, broker: Broker, indexing: LiveIndexing, letters: DeadLetters) -> Worker:
    limits = WorkerSettings(
        concurrency=settings.indexing.concurrency,
        aside_max=settings.indexing.aside_max,
        attempts_max=settings.indexing.attempts_max,
        ack_wait_s=settings.changes.event_lease_s,
        outage_pause_s_max=settings.indexing.outage_pause_s_max,
    )
    return Worker(broker=broker, indexing=indexing, embeddings=indexing, dead_letters=letters, settings=limits)
