"""The AI Service's api role: retrieval, the language model, answers."""

import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial

import aiohttp
import msgspec

from refdesk import __version__
from refdesk.answering.admission import Admission
from refdesk.answering.assistant import Assistant, AssistantParts
from refdesk.answering.conversations.forgetting import Forgetting
from refdesk.answering.conversations.history import History
from refdesk.answering.conversations.routes import ConversationRoutes
from refdesk.answering.curating.feedback import FeedbackStore
from refdesk.answering.erasures import Erase, Erasures
from refdesk.answering.evidence.freshness import Freshness
from refdesk.answering.evidence.gate import Gate
from refdesk.answering.evidence.reranking import Reranking
from refdesk.answering.evidence.retrieval import Retrieval
from refdesk.answering.evidence.truth import SourceOfTruth
from refdesk.answering.limits import AnswerLimits
from refdesk.answering.migrations import MIGRATIONS as ANSWERING_MIGRATIONS
from refdesk.answering.production import Writers
from refdesk.answering.quoting.extractive import Extractor
from refdesk.answering.quoting.writer import Quoting
from refdesk.answering.reuse.sharing import SharedLimits
from refdesk.answering.reuse.similar import SimilarQuestions
from refdesk.answering.routes import AnswerRoutes
from refdesk.answering.withdrawal import Withdrawals
from refdesk.app import http, samples
from refdesk.app.connection_budget import BESIDE_SEARCHES
from refdesk.app.health import Part
from refdesk.app.server import Background
from refdesk.app.services import ai_parts, parts
from refdesk.app.services.common import (
    Service,
    open_broker,
    open_database,
    open_documents,
    open_keys,
    required,
    serve_door,
)
from refdesk.app.services.doors import agents_door, door_endpoints
from refdesk.app.services.gaps import GapParts, open_gaps
from refdesk.app.services.generations import (
    choose_model,
    configured_engine,
    configured_model,
    difference,
    open_generations,
)
from refdesk.app.services.metering import Metering, open_metering
from refdesk.app.services.models import WritingModels, open_writing_models
from refdesk.app.services.operations import open_operations
from refdesk.app.services.rerankers import open_reranking
from refdesk.index.ledger.generations import READ as INDEX_READ
from refdesk.index.ledger.lineage import LineageMemory
from refdesk.index.ledger.news import IndexNews
from refdesk.index.ledger.standings import Standings
from refdesk.index.open_generations import OpenGenerations
from refdesk.index.recording import Recorder
from refdesk.indexing.dead_letters import MIGRATIONS as DEAD_LETTER_MIGRATIONS
from refdesk.indexing.dead_letters import DeadLetters
from refdesk.operations.generation_routes import GenerationRoutes
from refdesk.operations.generations import GenerationOperations
from refdesk.operations.history import MIGRATIONS as HISTORY_MIGRATIONS
from refdesk.operations.reconcile import reconcilers
from refdesk.operations.replays import Replays
from refdesk.operations.routes import OperationRoutes
from refdesk.outside.document_service import DocumentServiceClient
from refdesk.outside.embedding.packaged import Turns
from refdesk.outside.nats.broker import Broker
from refdesk.outside.postgres.database import open_pool
from refdesk.outside.postgres.pool import Pool
from refdesk.outside.tokens import CountTokens, input_tokens
from refdesk.outside.valkey.about import warn_of_shortcomings
from refdesk.outside.valkey.client import Valkey, open_valkey
from refdesk.outside.vocabularies import open_vocabularies
from refdesk.settings.tree import Settings


class Outside(msgspec.Struct, frozen=True, kw_only=True):
    """What an assistant stands on, opened. ``searches``: a connection for each search at a time; ``pool``: for the rest."""

    pool: Pool
    searches: Pool
    generations: OpenGenerations
    valkey: Valkey
    documents: DocumentServiceClient
    broker: Broker | None
    session: aiohttp.ClientSession
    models: WritingModels
    reranking: Reranking | None


class Watch(msgspec.Struct, frozen=True, kw_only=True):
    """Who knows what may be shown, and hears of what has changed."""

    truth: SourceOfTruth
    recorder: Recorder | None
    gate: Gate
    news: IndexNews


class Extras(msgspec.Struct, frozen=True):
    """What an assistant keeps beside answers: what they have used, what they did not answer, conversations."""

    metering: Metering
    gaps: GapParts
    history: History


@asynccontextmanager
async def open_service(settings: Settings) -> AsyncIterator[Service]:
    vocabularies = open_vocabularies(settings.language_model.tokenizer)
    async with AsyncExitStack() as stack:
        outside = await _open_outside(stack, settings, vocabularies)
        watch = _watch(settings, outside)
        history = History(outside.pool, turns_max=settings.conversations.turns_max)
        metering = open_metering(settings, outside.pool, outside.valkey)
        feedback = FeedbackStore(outside.pool)
        gaps = _gaps(settings, outside, watch, feedback)
        extras = Extras(metering, gaps, history)
        assistant = Assistant(_assistant_parts(settings, outside, watch, vocabularies, extras))
        routes = AnswerRoutes(
            assistant=assistant,
            generations=outside.generations,
            gate=watch.gate,
            feedback=feedback,
            browsing=assistant.browsing,
            send_timeout_s=settings.connections.send_timeout_s,
            idle_s_max=settings.connections.socket_idle_seconds_max,
        )
        letters = DeadLetters(outside.pool)
        agents = agents_door(assistant, outside.generations, watch.gate)
        places = {
            "answers": assistant.erase,
            "conversations": history.erase,
            "feedback": feedback.erase,
            "gaps": gaps.finding.erase,
        }
        yield Service(
            endpoints=[
                *routes.endpoints(),
                *ConversationRoutes(assistant.browsing, turns_max=settings.conversations.turns_max).endpoints(),
                *metering.routes().endpoints(),
                *gaps.routes.endpoints(),
                *_operations(letters, outside).endpoints(),
                *_generation_routes(settings, outside).endpoints(),
                *door_endpoints(settings, assistant, outside.generations),
                *agents.endpoints(),
                *http.page_endpoints(lambda: samples.examples(settings.places.data_dir)),
            ],
            sockets=[routes.socket()],
            background=[
                assistant.run,
                gaps.tidy,
                agents.run,
                *_erasures(outside, places=places),
                *_background(outside, watch),
                _forgetting(settings, outside, watch, history).run,
            ],
            parts=await _open_parts(stack, settings, outside),
            facts=dict(outside.models.facts),
            measures=[letters.measure, gaps.finding.measure],
            operations=partial(
                open_operations, settings, pool=outside.pool, session=outside.session, assistant=assistant
            ),
            leave=assistant.leaving.leave,
            close=assistant.close,
        )


async def serve(settings: Settings) -> None:
    """Runs until SIGINT or SIGTERM."""
    async with open_keys(settings) as keys, open_service(settings) as service:
        await serve_door(settings, keys, [service])


async def _open_outside(stack: AsyncExitStack, settings: Settings, vocabularies: Sequence[CountTokens]) -> Outside:
    enter = stack.enter_async_context
    pool, searches = await enter(_open_index(settings)), await enter(_open_searches(settings))
    return Outside(
        pool=pool,
        searches=searches,
        generations=await enter(open_generations(searches, settings, turns=Turns())),
        valkey=await enter(_open_valkey(settings)),
        documents=await enter(open_documents(settings)),
        broker=await enter(open_broker(settings, name="assistant")) if settings.nats.url else None,
        session=await enter(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))),
        models=await enter(open_writing_models(settings, vocabularies)),
        reranking=await enter(open_reranking(settings)),
    )


def _watch(settings: Settings, outside: Outside) -> Watch:
    truth, generations = (
        SourceOfTruth(outside.documents, timeout_s=settings.questions.truth_timeout_s),
        outside.generations,
    )
    standings, broker = Standings(outside.pool), outside.broker
    recorder = Recorder(broker, standings=standings, generations=generations) if broker else None
    return Watch(
        truth=truth,
        recorder=recorder,
        gate=Gate(truth=truth, standings=standings, recorder=recorder, generations=generations),
        news=IndexNews(required(settings, "index_database_url")),
    )


def _gaps(settings: Settings, outside: Outside, watch: Watch, feedback: FeedbackStore) -> GapParts:
    generations, gate, news = outside.generations, watch.gate, watch.news
    return open_gaps(settings, outside.pool, feedback=feedback, generations=generations, gate=gate, news=news)


def _assistant_parts(
    settings: Settings, outside: Outside, watch: Watch, vocabularies: Sequence[CountTokens], extras: Extras
) -> AssistantParts:
    generations, valkey, gate = outside.generations, outside.valkey, watch.gate
    metering = extras.metering
    quoting = Quoting(Extractor(generations.encode), certainty_min=settings.answers.certainty_min)
    return AssistantParts(
        retrieval=Retrieval(
            generations=generations,
            truth=watch.truth,
            gate=gate,
            limits=_retrieval_limits(settings),
            reranking=outside.reranking,
            desk_url=(settings.address.public_url or "").rstrip("/"),
        ),
        freshness=Freshness(
            generations=generations,
            news=watch.news,
            gate=gate,
            waiting_max=settings.questions.waiting_for_documents_per_principal_max,
        ),
        withdrawals=Withdrawals(gate, news=watch.news),
        writers=Writers(outside.models.writer or quoting, quoting),
        rewriter=outside.models.rewriter,
        similar=_similar_questions(settings, valkey),
        valkey=valkey,
        budget=metering.budget,
        usage=metering.usage,
        prices=metering.prices,
        booking=metering.times,
        gaps=extras.gaps.finding,
        admission=Admission(settings.admission),
        limits=_answer_limits(settings, vocabularies),
        shape=shape_of(settings),
        retention_s=settings.keeping.answer_retention_s,
        graces=settings.graces,
        history=extras.history,
        keeps=settings.conversations.kept,
        unwritten_max=settings.conversations.answers_unwritten_max,
    )


def _forgetting(settings: Settings, outside: Outside, watch: Watch, history: History) -> Forgetting:
    return Forgetting(
        history,
        truth=watch.truth,
        standings=Standings(outside.pool),
        news=watch.news,
        retention=settings.conversations,
    )


def _erasures(outside: Outside, *, places: Mapping[str, Erase]) -> list[Background]:
    """Without NATS nobody tells of deletions: what was said from a document is withheld, and goes when it is old."""
    if outside.broker is None:
        return []
    return [Erasures(outside.broker, places=places, generations=outside.generations).run]


def _background(outside: Outside, watch: Watch) -> list[Background]:
    return [
        outside.generations.run,
        watch.news.run,
        watch.truth.run,
        *([watch.recorder.run] if watch.recorder else []),
        *outside.models.background,
        partial(warn_of_shortcomings, outside.valkey),
    ]


def _open_index(settings: Settings) -> AbstractAsyncContextManager[Pool]:
    """The AI Service's database, with what this role keeps there."""
    return open_database(
        settings,
        "index_database_url",
        name="refdesk assistant",
        size_max=settings.pools.assistant_connections_max,
        migrations=[ANSWERING_MIGRATIONS, DEAD_LETTER_MIGRATIONS, HISTORY_MIGRATIONS],
    )


def _open_searches(settings: Settings) -> AbstractAsyncContextManager[Pool]:
    return open_pool(
        required(settings, "index_database_url"),
        name="refdesk assistant searches",
        size_max=settings.searches.concurrent_retrievals_max + BESIDE_SEARCHES,
    )


def _open_valkey(settings: Settings) -> AbstractAsyncContextManager[Valkey]:
    return open_valkey(required(settings, "valkey_url"), name="assistant", timeout_s=settings.valkey.timeout_s)


async def _open_parts(stack: AsyncExitStack, settings: Settings, outside: Outside) -> list[Part]:
    """Without what is not needed answers go on: by the index and its record alone, without a memory, from quotes."""
    url, pools = required(settings, "index_database_url"), [outside.searches, outside.pool]
    index = parts.database("index database", url, read=INDEX_READ, writes=False, pools=pools)
    return [
        await stack.enter_async_context(index),
        ai_parts.valkey(outside.valkey),
        *([parts.nats(outside.broker, needed=False)] if outside.broker else []),
        ai_parts.document_service(outside.documents, needed=False),
        ai_parts.lineage(LineageMemory(outside.searches)),
        *ai_parts.embedding_model(outside.session, settings),
        *outside.models.parts,
        *ai_parts.reranker(outside.reranking),
        *ai_parts.qdrant(outside.generations, settings),
    ]


def _similar_questions(settings: Settings, valkey: Valkey) -> SimilarQuestions | None:
    if settings.keeping.similarity_min is None:
        return None
    return SimilarQuestions(
        valkey, similarity_min=settings.keeping.similarity_min, retention_s=settings.keeping.answer_retention_s
    )


def _operations(letters: DeadLetters, outside: Outside) -> OperationRoutes:
    return OperationRoutes(
        letters=letters,
        replays=Replays(letters, documents=outside.documents),
        reconcilers=reconcilers(outside.generations, outside.documents),
    )


def _generation_routes(settings: Settings, outside: Outside) -> GenerationRoutes:
    operations = GenerationOperations(
        outside.generations,
        choose_model=partial(choose_model, settings),
        configured_model=configured_model(settings),
        configured_engine=configured_engine(settings),
        compare_settings=partial(difference, settings),
    )
    return GenerationRoutes(operations)


def _retrieval_limits(settings: Settings) -> SharedLimits:
    return SharedLimits(
        at_once_max=settings.searches.concurrent_retrievals_max,
        waiting_max=settings.searches.waiting_retrievals_max,
        waiting_principals_max=settings.admission.waiting_principals_max,
        wait_s_max=settings.searches.retrieval_wait_s_max,
    )


SHAPING = ("answers", "language_model", "reranking")
"""The groups of settings that shape answers: what is read, in which order, and who writes.

The embedding model is the index's own.
"""


def shape_of(settings: Settings) -> str:
    """A name for all that shapes an answer beside its question: other settings, or another release, answer anew.

    A digest, for addresses may hold passwords.
    """
    groups = [getattr(settings, name) for name in SHAPING]
    return hashlib.sha256(msgspec.json.encode([__version__, *groups])).hexdigest()


def _answer_limits(settings: Settings, vocabularies: Sequence[CountTokens]) -> AnswerLimits:
    """A question is measured as the first model counts."""
    return AnswerLimits(
        question_tokens_max=settings.questions.question_tokens_max,
        output_tokens_max=settings.questions.output_tokens_max,
        output_tokens_default=settings.questions.output_tokens_default,
        context_tokens_max=settings.language_model.context_tokens_max,
        wait_seconds_max=settings.questions.wait_seconds_max,
        count_tokens=vocabularies[0] if vocabularies else input_tokens,
    )
