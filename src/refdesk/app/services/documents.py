"""The Document Service: its database, its content, its outbox, its door. Nothing of the AI side."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from refdesk.app.services.common import Service, open_broker, open_database, open_keys, ping, required, serve_door
from refdesk.app.settings import Settings
from refdesk.documents.changes import Limits
from refdesk.documents.feed import DocumentFeed
from refdesk.documents.outbox import Outbox
from refdesk.documents.relay import Relay, RelaySettings
from refdesk.documents.routes import endpoints
from refdesk.documents.service import DocumentService
from refdesk.documents.states import StateConsumer
from refdesk.documents.store import MIGRATIONS, DocumentStore
from refdesk.outside.blobs import Blobs
from refdesk.outside.jetstream_purging import Purging
from refdesk.outside.nats_monitoring import FsyncWatch

CONNECTIONS_MAX = 10


@asynccontextmanager
async def open_service(settings: Settings) -> AsyncIterator[Service]:
    url = required(settings, "documents_database_url")
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(
            open_database(
                settings,
                "documents_database_url",
                name="refdesk documents",
                size_max=CONNECTIONS_MAX,
                migrations=[MIGRATIONS],
            )
        )
        broker = await stack.enter_async_context(open_broker(settings, name="documents"))
        store, outbox = DocumentStore(pool, queue_counted_max=settings.queue_counted_max), Outbox(pool)
        service = DocumentService(
            store,
            blobs=Blobs(settings.content_path),
            limits=Limits(
                upload_bytes_max=settings.upload_bytes_max,
                upload_s_max=settings.upload_seconds_max,
                upload_pause_s_max=settings.upload_pause_seconds_max,
                revocation_wait_s=settings.revocation_wait_s,
            ),
        )
        feed = DocumentFeed(store, database_url=url)
        relay = Relay(outbox, broker=broker, database_url=url, settings=RelaySettings(lease_s=settings.relay_lease_s))
        fsync = FsyncWatch(settings.nats_monitoring_url)
        purging = Purging(broker, absent_s_max=settings.stream_reader_absent_s_max)
        states = StateConsumer(store, broker=broker, lease_s=settings.event_lease_s)
        yield Service(
            endpoints=endpoints(service, feed=feed),
            background=[feed.run, relay.run, states.run, purging.run, service.keep_tidy, fsync.warn],
            probes={"documents database": lambda: ping(pool)},
            facts={"NATS on disk before acknowledging": fsync.say},
            measures=[service.measure, fsync.measure, purging.measure],
        )


async def serve(settings: Settings) -> None:
    """Runs until SIGINT or SIGTERM."""
    async with open_keys(settings) as keys, open_service(settings) as service:
        await serve_door(settings, keys, [service])
