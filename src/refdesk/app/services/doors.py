"""The doors for other people's clients, as the settings have them."""

from refdesk.answering.assistant import Assistant
from refdesk.answering.evidence.gate import Gate
from refdesk.answering.indexed_documents import IndexedDocuments
from refdesk.answering.reuse.sharing import SharedLimits
from refdesk.doors.mcp.routes import McpRoutes
from refdesk.doors.mcp.tools import Tools
from refdesk.doors.openai.answers import OpenAiAnswers
from refdesk.doors.openai.chat import ChatRoutes
from refdesk.doors.openai.chat_requests import ChatLimits
from refdesk.doors.openai.embeddings import EmbeddingRoutes
from refdesk.doors.openai.models import model_endpoints
from refdesk.doors.protected_resource import Issuer, metadata_endpoints
from refdesk.index.open_generations import OpenGenerations
from refdesk.settings.tree import Settings
from refdesk.web.endpoints import Endpoint

NO_SCOPES = ("openid", "offline_access")


def door_endpoints(settings: Settings, assistant: Assistant, generations: OpenGenerations) -> list[Endpoint]:
    chat = ChatRoutes(
        OpenAiAnswers(assistant, send_timeout_s=settings.connections.send_timeout_s),
        limits=_chat_limits(settings),
        with_list=settings.chat.sources_in_text,
    )
    embeddings = EmbeddingRoutes(
        assistant,
        generations,
        texts_max=settings.embedding_calls.texts_max,
        bytes_max=settings.embedding_calls.body_bytes_max,
        limits=_embedding_limits(settings),
    )
    return [
        *chat.endpoints(),
        *model_endpoints(),
        *embeddings.endpoints(),
        *metadata_endpoints(_issuer(settings)),
    ]


def agents_door(assistant: Assistant, generations: OpenGenerations, gate: Gate) -> McpRoutes:
    """The one for agents, which has something to run."""
    return McpRoutes(Tools(assistant, IndexedDocuments(assistant, generations=generations, gate=gate)))


def _issuer(settings: Settings) -> Issuer | None:
    """Agents ask for an access token alone: not for an ID token, nor to stay signed in."""
    if settings.provider.issuer is None:
        return None
    return Issuer(
        settings.provider.issuer, tuple(scope for scope in settings.provider.scopes.split() if scope not in NO_SCOPES)
    )


def _chat_limits(settings: Settings) -> ChatLimits:
    return ChatLimits(
        turns_max=settings.chat.history_turns_max,
        characters_max=settings.chat.history_characters_max,
        style_characters_max=settings.chat.style_characters_max,
        output_tokens_max=settings.questions.output_tokens_max,
    )


def _embedding_limits(settings: Settings) -> SharedLimits:
    return SharedLimits(
        at_once_max=settings.embedding_calls.concurrent_max,
        waiting_max=settings.searches.waiting_retrievals_max,
        waiting_principals_max=settings.admission.waiting_principals_max,
        wait_s_max=settings.searches.retrieval_wait_s_max,
        work="calls to embed",
        settings="REFDESK_CONCURRENT_EMBEDDINGS_MAX and REFDESK_WAITING_RETRIEVALS_MAX",
    )
