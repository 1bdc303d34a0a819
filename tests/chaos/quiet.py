"""Quiescence: nothing is under way anywhere, looked at in the order in which a change travels."""

from tests.chaos.cluster import Cluster
from tests.support.running import until

from refdesk.contracts.events import DOCUMENTS_STREAM, INDEX_STREAM
from refdesk.outside.nats.broker import Broker, Consumer, ConsumerSettings

CONSUMERS = {"indexer": (DOCUMENTS_STREAM, "documents.>"), "documents": (INDEX_STREAM, "index.>")}


async def settled(cluster: Cluster, *, within_s: float) -> None:
    """Quiet, and no document pending."""
    await quiet(cluster, within_s=within_s)

    async def nothing_pending() -> bool:
        return bool((await _backlog(cluster))["documents_pending"] == 0)

    await until(nothing_pending, what="no document is pending", within_s=within_s)


async def quiet(cluster: Cluster, *, within_s: float) -> None:
    """The outbox is empty, and both streams are consumed and acknowledged to their ends."""

    async def nothing_waits() -> bool:
        return bool((await _backlog(cluster))["outbox_pending"] == 0)

    await until(nothing_waits, what="the outbox is empty", within_s=within_s)
    async with Broker.connect(cluster.urls.nats_url, name="chaos") as broker:
        for durable, (stream, subjects) in CONSUMERS.items():
            consumer = broker.consumer(ConsumerSettings(stream=stream, durable=durable, filter_subjects=(subjects,)))

            async def consumed(consumer: Consumer = consumer) -> bool:
                return bool(await consumer.pending_count() == 0)

            await until(consumed, what=f"consumer {durable} has nothing left", within_s=within_s)


async def _backlog(cluster: Cluster) -> dict[str, int]:
    found: dict[str, int] = await cluster.read("/api/documents/backlog")
    return found
