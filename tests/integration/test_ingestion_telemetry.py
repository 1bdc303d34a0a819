"""What metrics and traces say of a document's way from the upload into the index: it is true, and it is bounded."""

import math
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import REGISTRY, generate_latest
from psycopg.errors import UndefinedTable
from tests.integration.documents_desk import Desk, eventually, open_desk
from tests.support.pipeline import Pipeline

from refdesk.contracts.errors import DocumentRejected
from refdesk.contracts.events import IndexApplied
from refdesk.indexing.parsing import ParserPool

TRACE = "0af7651916cd43dd8448eb211c80319c"
STEPS = ["fetch document", "parse document", "chunk document", "embed document", "store document"]
WAY = ["change refdesk.document", "send documents", "process documents", *STEPS, "process index"]
BLANK = "&nbsp;"
"""Content without any text to read."""


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def ends() -> Counter[tuple[str, str]]:
    """Events by type and outcome so far."""
    [family] = [family for family in REGISTRY.collect() if family.name == "refdesk_events_processed"]
    samples = [sample for sample in family.samples if sample.name.endswith("_total")]
    return Counter({(one.labels["type"], one.labels["outcome"]): int(one.value) for one in samples})


# metrics


async def test_metrics_of_a_known_workload_are_exact(pipeline: Pipeline) -> None:
    """Events by outcome, redeliveries, dead letters, time to search and parsing: as many as there were, and no more."""
    ends_before = ends()
    redelivered = value("refdesk_redeliveries_total", stream="DOCUMENTS")
    searchable = value("refdesk_time_to_search_seconds_count")
    parsed = value("refdesk_parse_seconds_count", type="text/markdown")
    documents = [await pipeline.documents.add(f"Zanzibar {number}") for number in range(6)]
    blank = [await pipeline.documents.add(f"Blank {number}", text=BLANK) for number in range(2)]
    await pipeline.settled()
    await pipeline.documents.call("PUT", f"/{documents[0]['id']}", json={"text": "# New\n\nThirty days."})
    await pipeline.documents.call("DELETE", f"/{documents[1]['id']}")
    await pipeline.settled()
    changed, deleted = "documents.changed", "documents.deleted"
    assert ends() - ends_before == Counter({(changed, "applied"): 7, (deleted, "applied"): 1, (changed, "given_up"): 2})
    assert value("refdesk_time_to_search_seconds_count") - searchable == 8
    assert value("refdesk_parse_seconds_count", type="text/markdown") - parsed == 9
    assert value("refdesk_redeliveries_total", stream="DOCUMENTS") == redelivered
    await pipeline.letters.measure()
    assert value("refdesk_dlq_size") == len(blank)
    text = generate_latest().decode()
    assert not [word for word in (*[one["id"] for one in documents], "Zanzibar", "Thirty") if word in text]
    assert sum(not line.startswith("#") for line in text.splitlines()) < 2000


async def test_every_repeated_delivery_is_counted_once(pipeline: Pipeline) -> None:
    """Tried, tried again, given up; after its dead letter's retry, applied."""
    before, redelivered = ends(), value("refdesk_redeliveries_total", stream="DOCUMENTS")
    document = await _given_up(pipeline)
    assert value("refdesk_redeliveries_total", stream="DOCUMENTS") - redelivered == 1
    await pipeline.call("POST", "/api/dead-letters/retry", json={"all": True})
    await pipeline.settled()
    assert (await pipeline.document(document))["state"] == "indexed"
    outcomes = {outcome: count for (_, outcome), count in (ends() - before).items()}
    assert outcomes == {"retried": 1, "given_up": 1, "applied": 1}
    assert value("refdesk_redeliveries_total", stream="DOCUMENTS") - redelivered == 1
    await pipeline.letters.measure()
    assert value("refdesk_dlq_size") == 0


async def test_the_lag_is_the_age_of_the_oldest_change_in_the_table(fresh_database: str, tmp_path: Path) -> None:
    """It rises while nothing is indexed, also when no event waits any more, survives a restart, and ends at 0."""
    async with open_desk(fresh_database, tmp_path / "blobs") as desk:
        document = await desk.add()
        await desk.add("Later")
        await desk.query(
            "UPDATE documents SET pending_since = pending_since - interval '60 s' WHERE id = %s", document["id"]
        )
        await assert_lag_is_true(desk, at_least=60)
        assert value("refdesk_outbox_pending") == 2
        [(age_s,)] = await desk.query(
            "SELECT extract(epoch FROM clock_timestamp() - min(created_at))::float8 FROM outbox"
        )
        assert 0 < value("refdesk_outbox_oldest_age_seconds") <= age_s
        await desk.query("DELETE FROM outbox")
    async with open_desk(fresh_database, tmp_path / "blobs") as desk:
        await assert_lag_is_true(desk, at_least=60)
        assert (value("refdesk_outbox_pending"), value("refdesk_outbox_oldest_age_seconds")) == (0, 0)
        for row in await desk.query("SELECT id, version FROM documents"):
            await desk.store.apply_indexed(applied(*row))
        await desk.service.measure()
        assert value("refdesk_index_lag_seconds") == 0


async def assert_lag_is_true(desk: Desk, *, at_least: float) -> None:
    """Between what the table says before and after."""
    lag = "SELECT extract(epoch FROM clock_timestamp() - min(pending_since))::float8 FROM documents"
    [(before,)] = await desk.query(lag)
    await desk.service.measure()
    [(after,)] = await desk.query(lag)
    assert at_least <= before <= value("refdesk_index_lag_seconds") <= after


async def test_what_cannot_be_looked_up_is_not_told(fresh_database: str, tmp_path: Path) -> None:
    """An old value would be a lie."""
    async with open_desk(fresh_database, tmp_path / "blobs") as desk:
        await desk.service.measure()
        await desk.query("ALTER TABLE documents RENAME TO elsewhere")
        with pytest.raises(UndefinedTable):
            await desk.service.measure()
        assert math.isnan(value("refdesk_index_lag_seconds")) and math.isnan(value("refdesk_outbox_pending"))


async def test_a_strange_type_makes_no_series_of_its_own() -> None:
    """Whatever somebody calls it."""
    before = value("refdesk_parse_seconds_count", type="other")
    async with ParserPool() as parsers:
        for number in range(2):
            with pytest.raises(DocumentRejected):
                await parsers.parse(b"\x00", f"application/strange-{number}")
    assert value("refdesk_parse_seconds_count", type="other") - before == 2


# one trace


async def test_an_upload_and_its_indexing_are_one_trace(pipeline: Pipeline, exporter: InMemorySpanExporter) -> None:
    """From the caller's span to the document's new state, every span with its parent; no text and no id in it."""
    document = await _traced(pipeline)
    await pipeline.settled()
    spans = await eventually(lambda: _way(exporter))
    times = Counter(span.name for span in spans)
    news = times.pop("process index")
    assert times == Counter(WAY[:-1])
    assert news >= 1, "the new state, and before it that an indexer is still at work where the machine is slow"
    by_id = {span.context.span_id: span for span in spans}
    parents = {span.name: by_id[span.parent.span_id].name for span in spans if span.parent.span_id in by_id}
    assert parents == {
        "send documents": "change refdesk.document",
        "process documents": "change refdesk.document",
        **dict.fromkeys(STEPS, "process documents"),
        "process index": "process documents",
    }
    recorded = str([(span.name, dict(span.attributes or {})) for span in spans])
    assert document not in recorded and "Thirty" not in recorded
    assert [span.attributes["refdesk.outcome"] for span in spans if span.name == "process documents"] == ["applied"]


async def test_a_redelivery_stays_in_the_trace(pipeline: Pipeline, exporter: InMemorySpanExporter) -> None:
    """Each delivery is a span of it; a repeated one links to where it began. So too after a dead letter's retry."""
    await _given_up(pipeline)
    await pipeline.call("POST", "/api/dead-letters/retry", json={"all": True})
    await eventually(lambda: _outcomes(exporter) == ["retried", "given_up", "applied"])
    [change] = _named(exporter, "change refdesk.document")
    deliveries = _named(exporter, "process documents")
    assert {span.parent.span_id for span in deliveries if span.parent} == {change.context.span_id}
    links = [[link.context.span_id for link in span.links] for span in deliveries]
    assert links == [[], [change.context.span_id], []]


async def test_what_is_told_again_stays_in_the_trace(pipeline: Pipeline, exporter: InMemorySpanExporter) -> None:
    """A broker has lost the events: they are new ones, the trace is the change's."""
    await _traced(pipeline)
    await pipeline.settled()
    await pipeline.documents.outbox.retell(pending_only=False)
    await eventually(lambda: _outcomes(exporter) == ["applied", "unchanged"])
    [change] = _named(exporter, "change refdesk.document")
    told = _named(exporter, "process documents")
    assert {span.parent.span_id for span in told if span.parent} == {change.context.span_id}


@pytest.mark.parametrize("operations", [30, pytest.param(1000, marks=[pytest.mark.long, pytest.mark.timeout(300)])])
async def test_no_operation_falls_out_of_its_trace(
    pipeline: Pipeline, exporter: InMemorySpanExporter, operations: int
) -> None:
    """Created, replaced and deleted: every span of indexing hangs below the request that caused it."""
    documents = [await pipeline.documents.add(f"Number {number}") for number in range(operations // 3)]
    for document in documents:
        await pipeline.documents.call("PUT", f"/{document['id']}", json={"text": "# New\n\nThirty days."})
    for document in documents:
        await pipeline.documents.call("DELETE", f"/{document['id']}")
    await pipeline.settled(within_s=240)

    def ended() -> list[ReadableSpan] | None:
        spans = list(exporter.get_finished_spans())
        done = sum(span.name == "process documents" for span in spans)
        return spans if done >= 3 * len(documents) else None

    spans = await eventually(ended)
    by_id = {span.context.span_id: span for span in spans}
    orphans = [span.name for span in spans if span.parent is not None and span.parent.span_id not in by_id]
    roots = Counter(span.name for span in spans if span.parent is None)
    print(f"{3 * len(documents)} operations, {len(spans)} spans, {len(orphans)} orphans")  # noqa: T201
    assert orphans == []
    assert roots == {"change refdesk.document": 3 * len(documents)}


def applied(document_id: str, version: int) -> IndexApplied:
    return IndexApplied(
        document_id=document_id, version=version, chunks=1, generation="g", seconds={}, occurred_at=datetime.now(UTC)
    )


async def _given_up(pipeline: Pipeline) -> str:
    """A traced document that failed as often as it may, while the index was broken."""
    await pipeline.corrupt("ALTER TABLE documents RENAME TO elsewhere")
    document = await _traced(pipeline)

    async def failed() -> bool:
        return bool((await pipeline.document(document))["state"] == "failed")

    await eventually(failed)
    await pipeline.corrupt("ALTER TABLE elsewhere RENAME TO documents")
    return document


async def _traced(pipeline: Pipeline) -> str:
    """The id of a document that somebody uploads in a trace of their own."""
    text = {"title": "Leave", "text": "# Leave\n\nThirty days."}
    headers = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
    reply = await pipeline.documents.call("POST", json=text, headers=headers)
    document_id: str = reply.json["id"]
    return document_id


def _spans(exporter: InMemorySpanExporter) -> list[ReadableSpan]:
    """Those of the uploader's trace, as they ended."""
    return [span for span in exporter.get_finished_spans() if f"{span.context.trace_id:032x}" == TRACE]


def _way(exporter: InMemorySpanExporter) -> list[ReadableSpan] | None:
    """The spans, once there is one of each kind."""
    spans = _spans(exporter)
    return spans if {span.name for span in spans} >= set(WAY) else None


def _named(exporter: InMemorySpanExporter, name: str) -> list[ReadableSpan]:
    return [span for span in _spans(exporter) if span.name == name]


def _outcomes(exporter: InMemorySpanExporter) -> list[str]:
    return [str((span.attributes or {})["refdesk.outcome"]) for span in _named(exporter, "process documents")]
