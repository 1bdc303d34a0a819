"""Spans, named once and here, after OpenTelemetry's conventions for generative AI (status: development).

Without a configured exporter every span is a no-op. The text of questions, passages and answers is never recorded.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec

from opentelemetry import context, propagate, trace
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode

from refdesk.contracts.errors import ConfigurationError

__all__ = [
    "Span",
    "SpanKind",
    "configure",
    "continued",
    "current_traceparent",
    "end",
    "note",
    "processing",
    "sending",
    "span",
    "start",
]

ANSWER = "invoke_workflow refdesk.answer"
DATA_SOURCE = "refdesk.index"
RETRIEVAL = f"retrieval {DATA_SOURCE}"
EMBEDDINGS = "embeddings"
CHAT = "chat"
ATTEMPT_FAILED = "attempt failed"
"""An event in a chat span: the request was tried again, or given up."""
CHANGE_DOCUMENT = "change refdesk.document"
SEND_DOCUMENTS = "send documents"
PROCESS_DOCUMENTS = "process documents"
PROCESS_INDEX = "process index"
STEP = "document"
"""After the name of a step of indexing: `parse document`."""

_tracer = trace.get_tracer("refdesk")
"""Of whichever provider is set, once one is."""

Attributes = Mapping[str, str | int | float | bool]


def configure(otlp_url: str | None, *, service: str) -> None:
    """Sends spans to an OTLP/HTTP collector at ``otlp_url``; None leaves them unrecorded.

    Raises ConfigurationError when the `tracing` extra is not installed.
    """
    if otlp_url is None:
        return
    if find_spec("opentelemetry.sdk") is None:
        raise ConfigurationError(
            "REFDESK_OTLP_URL is set, but OpenTelemetry's SDK is missing: pip install 'refdesk[tracing]'."
        )
    sdk = import_module("opentelemetry.sdk.trace")
    export = import_module("opentelemetry.sdk.trace.export")
    resources = import_module("opentelemetry.sdk.resources")
    otlp = import_module("opentelemetry.exporter.otlp.proto.http.trace_exporter")
    provider = sdk.TracerProvider(resource=resources.Resource.create({"service.name": f"refdesk-{service}"}))
    exporter = otlp.OTLPSpanExporter(endpoint=f"{otlp_url.rstrip('/')}/v1/traces")
    provider.add_span_processor(export.BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)


def start(
    name: str,
    *,
    kind: SpanKind = SpanKind.INTERNAL,
    attributes: Attributes | None = None,
    links: Sequence[Link] = (),
) -> Span:
    """A span that is ended by ``end``; a child of the current one."""
    return _tracer.start_span(name, kind=kind, attributes=attributes, links=links)


def end(span: Span, *, error: BaseException | None = None) -> None:
    """Ending twice is harmless."""
    if error is not None:
        span.set_attribute("error.type", getattr(error, "code", type(error).__name__))
        span.set_status(Status(StatusCode.ERROR))
    span.end()


@contextmanager
def current(span: Span) -> Iterator[None]:
    """Makes the span the parent of what begins inside; does not end it. One that is not of any trace is no parent."""
    if not span.get_span_context().is_valid:
        yield
        return
    with trace.use_span(span, end_on_exit=False, record_exception=False, set_status_on_exception=False):
        yield


@contextmanager
def span(
    name: str,
    *,
    kind: SpanKind = SpanKind.INTERNAL,
    attributes: Attributes | None = None,
    links: Sequence[Link] = (),
) -> Iterator[Span]:
    """A span around a block; an exception becomes its ``error.type``, its message stays out."""
    opened = start(name, kind=kind, attributes=attributes, links=links)
    try:
        with current(opened):
            yield opened
    except BaseException as error:
        end(opened, error=error)
        raise
    end(opened)


@contextmanager
def continued(traceparent: str | None) -> Iterator[None]:
    """Makes a W3C ``traceparent`` from outside the parent of what begins inside; nothing changes when there is none."""
    if traceparent is None:
        yield
        return
    token = context.attach(propagate.extract({"traceparent": traceparent}))
    try:
        yield
    finally:
        context.detach(token)


@contextmanager
def sending(name: str, traceparent: str | None, *, stream: str) -> Iterator[None]:
    """A span around handing an event to the broker, in the event's trace; none where the event has no trace."""
    if traceparent is None:
        yield
        return
    with continued(traceparent), span(name, kind=SpanKind.PRODUCER, attributes=_messaging(stream, "send")):
        yield


@contextmanager
def processing(name: str, traceparent: str | None, *, stream: str, deliveries: int) -> Iterator[None]:
    """A span around one delivery of an event, in the event's trace; a repeated delivery also links to where it began."""
    attributes = {**_messaging(stream, "process"), "messaging.message.delivery_count": deliveries}
    with continued(traceparent):
        origin = trace.get_current_span().get_span_context()
        links = [Link(origin)] if deliveries > 1 and origin.is_valid else []
        with span(name, kind=SpanKind.CONSUMER, attributes=attributes, links=links):
            yield


def note(name: str, value: str | int | float | bool) -> None:
    """Adds an attribute to the current span."""
    trace.get_current_span().set_attribute(name, value)


def _messaging(stream: str, operation: str) -> dict[str, str | int]:
    return {
        "messaging.system": "nats",
        "messaging.operation.type": operation,
        "messaging.destination.name": stream,
    }


def current_traceparent() -> str | None:
    """The current span as a ``traceparent``; None when nothing is traced."""
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return carrier.get("traceparent")
