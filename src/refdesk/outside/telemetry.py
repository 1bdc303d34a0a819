"""Every metric's name, in one place. Prometheus form, base units, no ids in labels; a golden test holds the names.

The ``gen_ai`` names are OpenTelemetry's semantic conventions for generative AI (status: development) in Prometheus spelling.
"""

import math
import platform
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TypeVar

from prometheus_client import Counter, Gauge, Histogram, Info

from refdesk import __version__
from refdesk.contracts.answers import Usage
from refdesk.contracts.errors import InvalidRequest, Overloaded, TooManyRequests
from refdesk.outside import tracing

OPERATION_BUCKETS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
"""Seconds; the buckets the conventions ask for."""
TOKEN_BUCKETS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576)

PROVIDER = "openai"
"""What speaks OpenAI's wire format, whoever runs it: the conventions name the format."""
WORKFLOW = "refdesk.answer"
SLOW_READER = "slow-reader"

Labelled = TypeVar("Labelled", Counter, Gauge, Histogram)

_MODEL = ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model")

workflow_duration = Histogram(
    "gen_ai_workflow_duration_seconds",
    "From a question to the end of its answer, or to the answer it shares, or to its refusal",
    ("gen_ai_workflow_name", "error_type"),
    buckets=OPERATION_BUCKETS,
)
operation_duration = Histogram(
    "gen_ai_client_operation_duration_seconds",
    "Duration of a call to a model: one that answers, or one that embeds a question",
    (*_MODEL, "error_type"),
    buckets=OPERATION_BUCKETS,
)
token_usage = Histogram(
    "gen_ai_client_token_usage_tokens",
    "Tokens as the provider counted them; absent when it did not say",
    (*_MODEL, "gen_ai_token_type"),
    buckets=TOKEN_BUCKETS,
)
time_to_first_chunk = Histogram(
    "gen_ai_client_operation_time_to_first_chunk_seconds",
    "From the call to the first text",
    _MODEL,
    buckets=OPERATION_BUCKETS,
)
time_per_output_chunk = Histogram(
    "gen_ai_client_operation_time_per_output_chunk_seconds",
    "Mean gap between the texts of one answer",
    _MODEL,
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5),
)
unexpected_errors = Counter(
    "refdesk_unexpected_errors_total",
    "Faults of our own, caught at the border of a request or a loop; the log has each",
    ("where",),
)
cache_requests = Counter(
    "refdesk_cache_requests_total", "Questions by what the cache made of them", ("layer", "outcome")
)
singleflight_waiters = Gauge("refdesk_singleflight_waiters", "Askers that follow an answer somebody else started")
llm_attempts = Counter(
    "refdesk_llm_attempts_total", "Calls to a model by how they ended", ("provider", "model", "outcome")
)
llm_circuit_state = Gauge("refdesk_llm_circuit_state", "0 closed, 1 half open, 2 open", ("provider", "model"))
sentences = Counter(
    "refdesk_sentences_total", "Sentences of answers by how they compare with what they cite", ("support",)
)
unknown_citations = Counter(
    "refdesk_unknown_citations_total", "Citations of passages that the model was not given; they are removed"
)
history_writes = Counter(
    "refdesk_history_writes_total", "Answers to keep in conversations, by what became of it", ("outcome",)
)
history_erased = Counter("refdesk_history_erased_total", "Kept answers erased with a document that they stood on")
stream_aborts = Counter(
    "refdesk_stream_aborts_total", "Answers that ended before they were complete, and readers cut off", ("reason",)
)
admission = Counter(
    "refdesk_admission_total",
    "Questions given a place at the model, or refused: for want of room, by a limit, or as not valid",
    ("decision", "reason"),
)
shared_lookups = Counter(
    "refdesk_shared_lookups_total",
    "Questions that shared an equal one's search, or its look at what has changed",
    ("kind",),
)
rerankings = Counter(
    "refdesk_rerankings_total",
    "Searches by what became of their reranking: ok, slow, away, paused (left alone after a failure)",
    ("outcome",),
)
acl_denied = Counter(
    "refdesk_acl_denied_total", "Passages and answers withheld from somebody who may not read them, or not any more"
)
audit_lost = Counter(
    "refdesk_audit_lost_total",
    "Entries of the audit log that were not written: too many were waiting, or the process ended",
)
audit_waiting = Gauge("refdesk_audit_waiting", "Entries of the audit log that wait to be written")
connections_refused = Counter(
    "refdesk_connections_refused_total",
    "Connections refused before a request was whole: too large, too slow, not HTTP, or one too many",
    ("reason",),
)
access_checks = Counter(
    "refdesk_access_checks_total",
    "Looks at who may read, by whose word: documents, record (the Document Service was silent), refused (nobody could say)",
    ("by",),
)
lineage_doubts = Counter(
    "refdesk_lineage_doubts_total",
    "Restored databases that were noticed: restored (documents), rewound (index), foreign; none: in order again",
    ("doubt",),
)
truth_silent = Gauge("refdesk_truth_silent", "1 while the Document Service does not answer this assistant")
inflight = Gauge("refdesk_inflight", "Answers waiting for the model or being written", ("kind",))
time_to_first_token = Histogram(
    "refdesk_time_to_first_token_seconds", "From a question to the first word of its answer", buckets=OPERATION_BUCKETS
)
answers = Counter(
    "refdesk_answers_total",
    "Answers written by this process by how they ended: a finish_reason, or an error's code",
    ("outcome",),
)
gaps = Gauge("refdesk_gaps", "Groups of questions that the documents do not answer, by the table", ("state",))
feedback = Counter("refdesk_feedback_total", "Answers that were rated", ("rating",))
queue_wait = Histogram(
    "refdesk_queue_wait_seconds", "From the question to its turn at the model", buckets=OPERATION_BUCKETS
)
budget_reserved = Gauge("refdesk_budget_reserved_tokens", "Tokens set aside by this process and not settled yet")
budget_unchecked = Counter(
    "refdesk_budget_unchecked_total", "Questions and searches let through because Valkey did not answer"
)
usage_answers = Counter(
    "refdesk_usage_answers_total",
    "Answers that were booked: written, or shared; and follow-ups written out in full (rewriting)",
    ("kind",),
)
usage_tokens = Counter("refdesk_usage_tokens_total", "Tokens that were booked", ("model", "direction"))
usage_cost = Counter(
    "refdesk_usage_cost_total", "Costs that were booked, where there is a price", ("model", "currency")
)
usage_lost = Counter(
    "refdesk_usage_lost_total",
    "Answers of processes that died which nobody could book: nothing was known of them any more",
)
valkey_up = Gauge(
    "refdesk_valkey_up", "1: Valkey answers and takes writes; 0: it does not, and answers go on without it"
)
outbox_pending = Gauge("refdesk_outbox_pending", "Events that wait to be published, by the table")
outbox_oldest_age = Gauge("refdesk_outbox_oldest_age_seconds", "Age of the oldest of them, by the table")
index_lag = Gauge(
    "refdesk_index_lag_seconds", "Age of the oldest change that is committed and not searchable, by the table"
)
time_to_search = Histogram(
    "refdesk_time_to_search_seconds",
    "From a change to its being searchable, as the Document Service hears of it",
    buckets=(0.05, 0.1, 0.15, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 300, 1800, 7200),
)
broker_fsync_on_ack = Gauge(
    "refdesk_broker_fsync_on_ack", "1: NATS has a message on disk before it acknowledges it; 0: not; NaN: not known"
)
documents = Gauge("refdesk_documents", "Documents by state, by the table", ("state",))
stream_fullness = Gauge(
    "refdesk_stream_fullness",
    "Part of a NATS stream's room that is taken: at 1 it takes nothing more, and changes wait in the outbox",
    ("stream",),
)
stream_purged = Counter(
    "refdesk_stream_purged_messages_total",
    "Messages that left a NATS stream because every reader has acknowledged them",
    ("stream",),
)
events_processed = Counter(
    "refdesk_events_processed_total", "Events by how the indexer ended them", ("type", "outcome")
)
redeliveries = Counter("refdesk_redeliveries_total", "Messages that were delivered before", ("stream",))
dlq_size = Gauge("refdesk_dlq_size", "Open dead letters, by the table")
parse_seconds = Histogram(
    "refdesk_parse_seconds",
    "Reading one document or one scanned page, the wait for a parser apart",
    ("type",),
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
parse_killed = Counter("refdesk_parse_killed_total", "Parser processes that ended on a document", ("reason",))
build = Info("build", "Version, Python and service of this process")
contents_missing = Gauge("refdesk_contents_missing", "Contents that documents refer to and the content directory lacks")
content_free = Gauge("refdesk_content_free_bytes", "Bytes that are free where contents are kept")
index_drift = Gauge(
    "refdesk_index_drift_documents", "Documents that differed when index and documents were last compared", ("kind",)
)
index_generation = Gauge("refdesk_index_generation", "The generation of the index that is searched")
index_generation_behind = Gauge(
    "refdesk_index_generation_behind_documents",
    "Documents that the generation beside it lacks; 0 when it lacks none or there is none",
)
reembedded_chunks = Counter("refdesk_reembedded_chunks_total", "Chunks written to the generation beside the active one")
retrieval_results = Histogram(
    "refdesk_retrieval_results", "Passages found for a question", buckets=(0, 1, 2, 4, 8, 16, 32, 64)
)


@cache
def labelled(metric: Labelled, *labels: str) -> Labelled:
    """The metric with these labels, for what every question counts: looking it up anew costs as much as counting."""
    return metric.labels(*labels)


class Workflow:
    """One question on its way to its answer: a span and its duration."""

    def __init__(self, conversation_id: str | None = None) -> None:
        self.span = tracing.start(
            tracing.ANSWER,
            attributes={
                "gen_ai.operation.name": "invoke_workflow",
                "gen_ai.workflow.name": WORKFLOW,
                **({} if conversation_id is None else {"gen_ai.conversation.id": conversation_id}),
            },
        )
        self._started = time.monotonic()
        self._ended = self._handed_over = False

    @contextmanager
    def underway(self) -> Iterator["Workflow"]:
        """Its span is the current one inside; it ends with the block, unless it was handed over to whoever ends it."""
        with tracing.current(self.span):
            try:
                yield self
            except BaseException as error:
                self.end(error=error)
                raise
        if not self._handed_over:
            self.end()

    def hand_over(self) -> None:
        """Somebody else ends it, after the block."""
        self._handed_over = True

    def end(self, *, error: BaseException | None = None) -> None:
        """Ending twice is harmless."""
        if self._ended:
            return
        self._ended = True
        tracing.end(self.span, error=error)
        labelled(workflow_duration, WORKFLOW, _error_type(error)).observe(time.monotonic() - self._started)


@contextmanager
def refusing(reason: str | None = None) -> Iterator[None]:
    """Counts a question that is refused inside, under the reason or else the error's code."""
    try:
        yield
    except (InvalidRequest, TooManyRequests, Overloaded) as error:
        labelled(admission, "refused", reason or error.code).inc()
        raise


@contextmanager
def refusing_a_place() -> Iterator[None]:
    """Counts a question that finds no place: because the desk is full, or because its principal has a share already."""
    try:
        yield
    except (TooManyRequests, Overloaded) as error:
        labelled(admission, "refused", "capacity" if isinstance(error, Overloaded) else "principal").inc()
        raise


@contextmanager
def embedding(model: str, *, provider: str) -> Iterator[None]:
    """Measures the embedding of a question."""
    attributes = {
        "gen_ai.operation.name": "embeddings",
        "gen_ai.provider.name": provider,
        "gen_ai.request.model": model,
    }
    started, failure = time.monotonic(), None
    try:
        with tracing.span(f"{tracing.EMBEDDINGS} {model}", kind=tracing.SpanKind.CLIENT, attributes=attributes):
            yield
    except BaseException as error:
        failure = error
        raise
    finally:
        labels = labelled(operation_duration, "embeddings", provider, model, _error_type(failure))
        labels.observe(time.monotonic() - started)


@contextmanager
def known_or_nan(*gauges: Gauge) -> Iterator[None]:
    """Looks up what the gauges shall show; when that fails they show nothing, rather than what was true once."""
    try:
        yield
    except BaseException:
        for gauge in gauges:
            gauge.set(math.nan)
        raise


def describe_build(service: str) -> None:
    build.info({"version": __version__, "python": platform.python_version(), "service": service})


class Chat:
    """A request to one model with all its attempts: one span, from the first attempt to the end of the last.

    An attempt that fails is an event in it; the span itself has failed when the last one has.
    """

    def __init__(self, model: str, *, output_tokens_max: int, server: tuple[str, int]) -> None:
        address, port = server
        self.model = model
        self._attributes: tracing.Attributes = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": PROVIDER,
            "gen_ai.request.model": model,
            "gen_ai.request.stream": True,
            "gen_ai.request.max_tokens": output_tokens_max,
            "server.address": address,
            "server.port": port,
        }
        self._span: tracing.Span | None = None
        self._started = 0.0
        self._attempts = 0
        self._failure: Exception | None = None

    def __enter__(self) -> "Chat":
        return self

    def __exit__(self, *_: object) -> None:
        if self._span is not None:
            tracing.end(self._span, error=self._failure)

    def begin(self) -> None:
        """One more attempt. A request that nobody has attempted leaves no span."""
        self._attempts += 1
        self._failure = None
        if self._span is None:
            self._started = time.monotonic()
            self._span = tracing.start(
                f"{tracing.CHAT} {self.model}", kind=tracing.SpanKind.CLIENT, attributes=self._attributes
            )

    def failed(self, error: Exception) -> None:
        self._failure = error
        if self._span is not None:
            attributes: tracing.Attributes = {"error.type": _error_type(error), "refdesk.attempt": self._attempts}
            self._span.add_event(tracing.ATTEMPT_FAILED, attributes)

    def first_chunk(self, at: float) -> None:
        """``at``: by ``time.monotonic``."""
        self.tell("gen_ai.response.time_to_first_chunk", at - self._started)

    def tell(self, name: str, value: str | int | float | Sequence[str] | None) -> None:
        """An attribute of the reply, as far as it is known."""
        if self._span is not None and value is not None:
            self._span.set_attribute(name, value)


class Call:
    """One attempt at a request, measured after the fact: nothing here costs anything per token."""

    def __init__(self, chat: Chat) -> None:
        self._labels = ("chat", PROVIDER, chat.model)
        self._chat = chat
        self._started = time.monotonic()
        self._first: float | None = None
        self._last = 0.0
        self._chunks = 0
        chat.begin()

    def said(self, chunks: int) -> None:
        self._last = time.monotonic()
        if self._first is None:
            self._first = self._last
        self._chunks += chunks

    def ended(
        self,
        usage: Usage | None,
        *,
        finish_reason: str | None,
        model: str | None,
        response_id: str | None,
    ) -> None:
        """What the provider said of it, as far as it did: what is unknown is not recorded."""
        if usage is not None:
            labelled(token_usage, *self._labels, "input").observe(usage.input_tokens)
            labelled(token_usage, *self._labels, "output").observe(usage.output_tokens)
            self._chat.tell("gen_ai.usage.input_tokens", usage.input_tokens)
            self._chat.tell("gen_ai.usage.output_tokens", usage.output_tokens)
        self._chat.tell("gen_ai.response.model", model)
        self._chat.tell("gen_ai.response.id", response_id)
        self._chat.tell("gen_ai.response.finish_reasons", None if finish_reason is None else (finish_reason,))

    @contextmanager
    def measured(self) -> Iterator[None]:
        outcome = "cancelled"
        try:
            yield
            outcome = "ok"
        except Exception as error:
            outcome = _error_type(error)
            self._chat.failed(error)
            raise
        finally:
            self._record(outcome)

    def _record(self, outcome: str) -> None:
        labelled(llm_attempts, PROVIDER, self._chat.model, outcome).inc()
        error_type = "" if outcome in ("ok", "cancelled") else outcome
        labelled(operation_duration, *self._labels, error_type).observe(time.monotonic() - self._started)
        if self._first is not None:
            labelled(time_to_first_chunk, *self._labels).observe(self._first - self._started)
            self._chat.first_chunk(self._first)
            if self._chunks > 1:
                gap = (self._last - self._first) / (self._chunks - 1)
                labelled(time_per_output_chunk, *self._labels).observe(gap)


def _error_type(error: BaseException | None) -> str:
    return "" if error is None else str(getattr(error, "code", type(error).__name__))
