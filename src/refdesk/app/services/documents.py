"""The Document Service: its database, its content, its outbox, its door. Nothing of the AI side."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial

from refdesk.access.keys import ApiKeys
from refdesk.app.services import parts
from refdesk.app.services.common import Service, open_broker, open_database, open_keys, required, serve_door
from refdesk.app.services.page_drawing import open_drawing
from refdesk.documents import comparing_routes, erasure_routes, sync_routes
from refdesk.documents.changes import Limits
from refdesk.documents.comparing import Comparisons
from refdesk.documents.content_check import ContentCheck
from refdesk.documents.content_record import ContentRecord
from refdesk.documents.contents import Contents
from refdesk.documents.erasure import Erasure
from refdesk.documents.feed import DocumentFeed
from refdesk.documents.look_routes import LookRoutes
from refdesk.documents.looks import Looks
from refdesk.documents.outbox import Outbox
from refdesk.documents.quotas import UploadQuotas
from refdesk.documents.relay import Relay, RelaySettings
from refdesk.documents.routes import endpoints
from refdesk.documents.service import DocumentService
from refdesk.documents.states import StateConsumer
from refdesk.documents.store import MIGRATIONS, READ, DocumentStore
from refdesk.documents.syncs import Syncs
from refdesk.outside.blobs import Blobs
from refdesk.outside.nats.monitoring import FsyncWatch
from refdesk.outside.nats.purging import Purging
from refdesk.outside.postgres.database import open_pool
from refdesk.outside.postgres.pool import Pool
from refdesk.settings.tree import Settings


@asynccontextmanager
async def open_service(settings: Settings, keys: ApiKeys) -> AsyncIterator[Service]:
    """``keys`` say whom a reader's name means."""
    url = required(settings, "documents_database_url")
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        background = await enter(_open_background(settings))
        reads, writes = [await enter(pool) for pool in _pools_of_people(settings, url)]
        broker = await enter(open_broker(settings, name="documents"))
        counted_max = settings.changes.queue_counted_max
        store = DocumentStore(reads, writes=writes, queue_counted_max=counted_max)
        beside = DocumentStore(background, queue_counted_max=counted_max)
        outbox = Outbox(background)
        record = ContentRecord(background)
        blobs = Blobs(settings.places.content_path, identity=await record.claim(settings.places.content_path))
        limits = _limits(settings)
        contents = Contents(blobs, store=beside, record=record, limits=limits)
        service = DocumentService(store, beside=beside, contents=contents, limits=limits, principal_named=keys.named)
        drawing = await enter(open_drawing(settings))
        looks = Looks(service, drawing, limits=settings.page_images)
        check = ContentCheck(record, blobs, retell=service.retell)
        erasure = Erasure(background, blobs)
        feed = DocumentFeed(beside, database_url=url, limits=settings.feed)
        relay = Relay(
            outbox, broker=broker, database_url=url, settings=RelaySettings(lease_s=settings.changes.relay_lease_s)
        )
        fsync = FsyncWatch(settings.nats.monitoring_url)
        purging = Purging(broker, absent_s_max=settings.streams.reader_absent_s_max)
        states = StateConsumer(beside, broker=broker, lease_s=settings.changes.event_lease_s)
        database = parts.database("documents database", url, read=READ, writes=True, pools=[reads, writes, background])
        yield Service(
            endpoints=[
                *sync_routes.endpoints(Syncs(background, limits=settings.syncs)),
                *LookRoutes(looks, width_max=settings.page_images.width_max).endpoints(),
                *erasure_routes.endpoints(erasure),
                *comparing_routes.endpoints(Comparisons(service, drawing.read)),
                *endpoints(service, feed=feed, check=check, quotas=UploadQuotas(settings.upload_limits)),
            ],
            leave=feed.leave,
            background=[
                feed.run,
                relay.run,
                states.run,
                purging.run,
                contents.keep_tidy,
                erasure.run,
                partial(check.run, interval_s=settings.changes.content_check_interval_s),
                fsync.warn,
            ],
            parts=[
                await enter(database),
                parts.content(blobs, upload_bytes_max=settings.uploads.bytes_max),
                parts.nats(broker, needed=False),  # changes wait in the outbox
            ],
            facts={"NATS on disk before acknowledging": fsync.say},
            measures=[service.measure, fsync.measure, purging.measure],
        )


def _open_background(settings: Settings) -> AbstractAsyncContextManager[Pool]:
    """For work that nobody waits for; makes the tables."""
    return open_database(
        settings,
        "documents_database_url",
        name="refdesk documents background",
        size_max=settings.pools.documents_background_connections_max,
        migrations=[MIGRATIONS],
    )


def _pools_of_people(settings: Settings, url: str) -> list[AbstractAsyncContextManager[Pool]]:
    """For their reads and for their changes: neither can starve the other, or work that nobody waits for."""
    sizes = {
        "refdesk documents reads": settings.pools.documents_read_connections_max,
        "refdesk documents writes": settings.pools.documents_write_connections_max,
    }
    return [open_pool(url, name=name, size_max=size_max) for name, size_max in sizes.items()]


def _limits(settings: Settings) -> Limits:
    return Limits(
        upload_bytes_max=settings.uploads.bytes_max,
        upload_s_max=settings.uploads.seconds_max,
        upload_pause_s_max=settings.uploads.pause_seconds_max,
        revocation_wait_s=settings.changes.revocation_wait_s,
        versions_kept=settings.changes.version_contents_kept,
    )


async def serve(settings: Settings) -> None:
    """Runs until SIGINT or SIGTERM."""
    async with open_keys(settings) as keys, open_service(settings, keys) as service:
        await serve_door(settings, keys, [service])
